"""Pods from files: each manifest in the node's folder becomes a mirror pod in the API, which the node then runs.

A file that changes replaces its pod, a file that goes ends it, and a pod deleted through the API comes back.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from portside.agent.names import MIRROR_ANNOTATION, SOURCE_ANNOTATION
from portside.api.status import ApiError
from portside.base.clock import SYSTEM, Clock, rfc3339
from portside.client.protocol import Client, Resource

Json = dict[str, Any]
log = logging.getLogger(__name__)
PODS: Resource = ("", "v1", "pods")
HASH_ANNOTATION, SEEN_ANNOTATION = "kubernetes.io/config.hash", "kubernetes.io/config.seen"
SOURCE = "file"
SUFFIXES = (".yaml", ".yml", ".json")
EVERY = 2.0  # seconds between looks into the folder
MAX_FILE, MAX_FILES = 1 << 20, 64  # bytes, files
NOT_FROM_FILES = ("serviceAccountName", "serviceAccount", "ephemeralContainers")


class BadManifest(Exception):
    """A file that is no pod; the text says why."""


def digest(text: bytes, name: str) -> str:
    return hashlib.md5(name.encode() + b"\0" + text, usedforsecurity=False).hexdigest()


def parsed(text: bytes, name: str) -> Json:
    """The pod of a manifest. Raises BadManifest."""
    import yaml

    try:
        body = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as problem:
        raise BadManifest(f"{name}: {problem}") from None
    if not isinstance(body, dict) or body.get("kind") != "Pod" or body.get("apiVersion") != "v1":
        raise BadManifest(f"{name}: not a v1 Pod")
    if not isinstance(body.get("spec"), dict) or not (body.get("metadata") or {}).get("name"):
        raise BadManifest(f"{name}: a pod needs metadata.name and spec")
    return body


def mirror(body: Json, mark: str, *, node: str, node_uid: str, now: float) -> Json:
    """The pod as it is put into the API: named after the node and owned by it."""
    meta = body["metadata"]
    annotations = (meta.get("annotations") or {}) | {
        HASH_ANNOTATION: mark,
        MIRROR_ANNOTATION: mark,
        SOURCE_ANNOTATION: SOURCE,
        SEEN_ANNOTATION: rfc3339(now),
    }
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
    spec = {k: v for k, v in body["spec"].items() if k not in NOT_FROM_FILES}
    spec["nodeName"] = node
    spec["tolerations"] = [*(spec.get("tolerations") or ()), {"operator": "Exists", "effect": "NoExecute"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-{node}",
            "namespace": meta.get("namespace") or "default",
            "labels": meta.get("labels") or {},
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def plan(wanted: dict[tuple[str, str], Json], present: Iterable[Json]) -> tuple[list[Json], list[Json]]:
    """(pods to create, pods to delete) by namespace and name. A pod under deletion is waited for."""
    here = {(p["metadata"]["namespace"], p["metadata"]["name"]): p for p in present}
    create = [pod for key, pod in wanted.items() if key not in here]

    def stale(key: tuple[str, str], pod: Json) -> bool:
        told = pod["metadata"]["annotations"].get(MIRROR_ANNOTATION)
        return key not in wanted or wanted[key]["metadata"]["annotations"][MIRROR_ANNOTATION] != told

    delete = [p for key, p in here.items() if not p["metadata"].get("deletionTimestamp") and stale(key, p)]
    return create, delete


def from_files(pod: Json) -> bool:
    """Whether a pod of the API is one of ours."""
    annotations = pod["metadata"].get("annotations") or {}
    return MIRROR_ANNOTATION in annotations and annotations.get(SOURCE_ANNOTATION) == SOURCE


class StaticPods:
    """Keeps the mirror pods equal to the folder."""

    def __init__(
        self,
        folder: Path,
        client: Client,
        node: str,
        *,
        node_uid: Callable[[], str],
        present: Callable[[], Iterable[Json]],
        say: Callable[[str, str, str], None],
        clock: Clock = SYSTEM,
    ) -> None:
        self._folder, self._client, self._node = folder, client, node
        self._node_uid, self._present, self._say, self._clock = node_uid, present, say, clock
        self._told: set[str] = set()
        self._read: dict[Path, tuple[tuple[int, int], Json]] = {}  # (mtime, size) and pod of each good file

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except (ApiError, OSError, TimeoutError) as problem:
                log.warning("static pods: %s", problem)
            await self._clock.sleep(EVERY)

    async def look(self) -> None:
        """One round."""
        wanted = await asyncio.to_thread(self._wanted)
        create, delete = plan(wanted, filter(from_files, self._present()))
        for pod in delete:
            meta = pod["metadata"]
            await self._client.delete(
                PODS, meta["name"], namespace=meta["namespace"], options={"preconditions": {"uid": meta["uid"]}}
            )
        for pod in create:
            try:
                await self._client.create(PODS, pod, namespace=pod["metadata"]["namespace"])
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    self._complain(f"{pod['metadata']['name']}: {error}")

    def _complain(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("static pod %s", text)
            self._say("Warning", "FailedStaticPod", text)

    def _wanted(self) -> dict[tuple[str, str], Json]:
        if not self._folder.is_dir():
            return {}
        files = sorted(p for p in self._folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
        found = {}
        for path in files[:MAX_FILES]:
            try:
                pod = self._pod(path)
            except (BadManifest, OSError) as problem:
                self._complain(str(problem))
                continue
            found[pod["metadata"]["namespace"], pod["metadata"]["name"]] = pod
        return found

    def _pod(self, path: Path) -> Json:
        """The mirror pod of a file, read again only when it changed. Raises BadManifest, OSError."""
        told = path.stat()
        known = self._read.get(path)
        if known is not None and known[0] == (told.st_mtime_ns, told.st_size):
            return known[1]
        if told.st_size > MAX_FILE:
            raise BadManifest(f"{path.name}: larger than {MAX_FILE} bytes")
        text = path.read_bytes()
        body, mark = parsed(text, path.name), digest(text, path.name)
        pod = mirror(body, mark, node=self._node, node_uid=self._node_uid(), now=self._clock.now())
        self._read[path] = ((told.st_mtime_ns, told.st_size), pod)
        return pod
