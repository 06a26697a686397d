"""Applies manifest files as kubectl would (server-side apply) and tells when what they made is ready."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portside.api.status import ApiError
from portside.cli.api import Api, Refused
from portside.cli.steps import CliError

Json = dict[str, Any]

MAX_FILE = 16 * 1024 * 1024  # bytes of one manifest file
FIRST = (
    "Namespace",
    "CustomResourceDefinition",
    "StorageClass",
    "PriorityClass",
    "ServiceAccount",
    "ConfigMap",
    "Secret",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file. ``where`` is file:document for messages."""

    where: str
    body: Json

    @property
    def title(self) -> str:
        return f"{self.body['kind'].lower()}/{self.body['metadata']['name']}"

    @property
    def question(self) -> str:
        """The command that tells why it is not well."""
        return _question(self.body)


def _question(body: Json) -> str:
    meta = body["metadata"]
    space = f" -n {meta['namespace']}" if meta.get("namespace", "default") != "default" else ""
    return f"portside why {body['kind'].lower()}/{meta['name']}{space}"


def files_of(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Name and text of every file named; a folder stands for its .yaml, .yml and .json files, - for standard input."""
    for argument in arguments:
        if argument == "-":
            yield "stdin", sys.stdin.read(MAX_FILE)
            continue
        path = Path(argument)
        found = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json")) if path.is_dir() else [path]
        for file in found:
            try:
                if file.stat().st_size > MAX_FILE:
                    raise CliError(f"{file} is larger than {MAX_FILE // 2**20} MiB", todo="split the file", code=6)
                yield str(file), file.read_text()
            except OSError as error:
                raise CliError(
                    f"{file} can't be read", why=error.strerror or "", todo="check the path", code=6
                ) from error
            except UnicodeDecodeError as error:
                raise CliError(
                    f"{file} is not UTF-8 text", why=str(error), todo="save the file as UTF-8", code=6
                ) from error


def load(arguments: list[str]) -> list[Manifest]:
    """Every object of the files, in the order in which it is safe to create them. Raises CliError before anything is sent."""
    from portside.api.decode_yaml import parse_documents

    found: list[Manifest] = []
    for name, text in files_of(arguments):
        try:
            for number, (document, problems) in enumerate(parse_documents(text.encode()), 1):
                where = f"{name}:{number}"
                if problems:
                    raise CliError(
                        f"{where}: a field is given twice",
                        why="; ".join(problems),
                        todo="keep one of them; nothing was applied",
                        code=6,
                    )
                found += [_checked(item, where) for item in _items(document)]
        except ApiError as error:
            raise CliError(
                f"{name} is not valid YAML",
                why=error.message.removeprefix("error converting YAML to JSON: yaml: "),
                todo="mend the file; nothing was applied",
                code=6,
            ) from error
    return sorted(found, key=lambda m: FIRST.index(m.body["kind"]) if m.body["kind"] in FIRST else len(FIRST))


def _items(document: Any) -> list[Any]:
    """The objects of a document: none in an empty one, several in a List."""
    if document is None:
        return []
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        return list(document.get("items") or ())
    return [document]


def _checked(item: Any, where: str) -> Manifest:
    if not isinstance(item, dict):
        raise CliError(f"{where}: not an object", todo="each document must be a mapping; nothing was applied", code=6)
    for field in ("apiVersion", "kind"):
        if not isinstance(item.get(field), str):
            raise CliError(f"{where}: {field} is missing", todo="nothing was applied", code=6)
    name = item["metadata"].get("name") if isinstance(item.get("metadata"), dict) else None
    if name is None or name == "":
        raise CliError(f"{where}: {item['kind']}: metadata.name is missing", todo="nothing was applied", code=6)
    if not isinstance(name, str):
        raise CliError(
            f"{where}: {item['kind']}: metadata.name is {json.dumps(name)}, not text",
            why="YAML reads words such as y, n, on and 1 as booleans and numbers",
            todo="put the name in quotes; nothing was applied",
            code=6,
        )
    return Manifest(where, item)


class Applier:
    """Finds each kind's path by discovery and applies objects as field manager ``portside``."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.found: dict[tuple[str, str], tuple[str, bool]] = {}

    def path(self, manifest: Manifest) -> str:
        """The object's URL. Raises CliError for a kind the cluster does not have."""
        body = manifest.body
        version, kind = body["apiVersion"], body["kind"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in self.found:
            try:
                for resource in self.api.send("GET", root)["resources"]:
                    if "/" not in resource["name"]:
                        self.found[(version, resource["kind"])] = (resource["name"], resource["namespaced"])
            except Refused as error:
                if error.code != 404:
                    raise
        entry = self.found.get((version, kind))
        if entry is None:
            raise CliError(
                f'{manifest.where}: no matches for kind "{kind}" in version "{version}"',
                todo="install its CustomResourceDefinition first",
                code=6,
            )
        plural, namespaced = entry
        name = body["metadata"]["name"]
        if namespaced:
            return f"{root}/namespaces/{body['metadata'].get('namespace') or 'default'}/{plural}/{name}"
        return f"{root}/{plural}/{name}"

    def check(self, manifests: list[Manifest]) -> None:
        """Send everything as a dry run, so that a refusal leaves nothing half-applied. Objects whose namespace or kind the
        same files create can't be tried beforehand."""
        made = {m.body["metadata"]["name"] for m in manifests if m.body["kind"] == "Namespace"}
        fresh = {
            (f"{m.body['spec']['group']}", m.body["spec"]["names"]["kind"])
            for m in manifests
            if m.body["kind"] == "CustomResourceDefinition"
        }
        for manifest in manifests:
            if (
                manifest.body["metadata"].get("namespace") in made
                or (manifest.body["apiVersion"].split("/")[0], manifest.body["kind"]) in fresh
            ):
                continue
            self._send(manifest, "&dryRun=All")

    def apply(self, manifest: Manifest) -> Json:
        return self._send(manifest, "")

    def _send(self, manifest: Manifest, more: str) -> Json:
        path = f"{self.path(manifest)}?fieldManager=portside&force=true&fieldValidation=Strict{more}"
        try:
            return self.api.send(
                "PATCH", path, json.dumps(manifest.body).encode(), "application/apply-patch+yaml", timeout=30.0
            )
        except Refused as error:
            raise CliError(
                f"{manifest.where}: {manifest.title} was refused",
                why=str(error),
                todo="mend the manifest" + ("; nothing was applied" if more else ""),
                code=6,
            ) from error

    def current(self, manifest: Manifest) -> Json:
        return self.api.send("GET", self.path(manifest))


def unready(live: Json) -> str:
    """Why the object is not ready yet, "" when it is. By kstatus' rules: observedGeneration first, then each kind's own."""
    kind, spec, status = live["kind"], live.get("spec") or {}, live.get("status") or {}
    generation = (live.get("metadata") or {}).get("generation", 0)
    if (
        kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
        and status.get("observedGeneration", 0) < generation
    ):
        return "waiting for its controller"
    if kind in ("Deployment", "StatefulSet", "ReplicaSet"):
        want = spec.get("replicas", 1)
        updated = status.get("updatedReplicas", 0) if kind == "Deployment" else want
        ready = status.get("availableReplicas", 0) if kind == "Deployment" else status.get("readyReplicas", 0)
        if updated < want or ready < want or (kind == "Deployment" and status.get("replicas", 0) > want):
            return f"{min(ready, updated)} of {want} pods ready"
    elif kind == "DaemonSet":
        want, ready = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
        if ready < want or status.get("updatedNumberScheduled", 0) < want:
            return f"{ready} of {want} pods ready"
    elif kind == "Job":
        done = {c["type"]: c for c in status.get("conditions") or () if c["status"] == "True"}
        if "Failed" in done:
            raise CliError(
                f"job {live['metadata']['name']} failed",
                why=done["Failed"].get("message", ""),
                todo=f"ask: {_question(live)}",
                code=7,
            )
        if not {"Complete", "SuccessCriteriaMet", "Suspended"} & done.keys():
            return f"{status.get('succeeded', 0)} of {spec.get('completions', 1)} completions"
    elif kind == "Pod":
        if status.get("phase") == "Failed":
            raise CliError(
                f"pod {live['metadata']['name']} failed",
                todo=f"ask: {_question(live)}",
                code=7,
            )
        if status.get("phase") != "Succeeded" and not any(
            c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()
        ):
            return _pod_reason(live)
    elif kind == "PersistentVolumeClaim" and status.get("phase") not in (None, "Bound", "Pending"):
        return f"claim is {status.get('phase')}"
    return ""


def _pod_reason(pod: Json) -> str:
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            return f"{container['name']}: {waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip()
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", "not scheduled"))
    return str(status.get("phase", "Pending"))
