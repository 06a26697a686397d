"""The recorded conversations of the real server: every create and change of a workload, answered by the rules alone.

No server runs here: decode, default, the few things admission always adds, rules. What needs a server is left out.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from portside.api.kinds import KINDS, Kind
from portside.api.patch import json_patch, merge_patch, strategic_merge
from portside.api.rules.registry import Context, rules_for
from portside.api.schema import schema_for
from portside.api.status import ApiError, invalid

Json = dict[str, Any]
GOLDEN = Path(__file__).parents[5] / "shared" / "golden"
UID = "11111111-2222-3333-4444-555555555555"
WORKLOADS = ("Pod", "PodTemplate", "ReplicationController", "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet")
WORKLOADS += ("ControllerRevision", "Job", "CronJob")
FILES = (
    *("pods/defaults-containers", "pods/defaults-volumes", "pods/pod-level-resources", "pods/qos-class", "pods/resize"),
    *("pods/podtemplate", "pods/status", "pods/status-more", "pods/switched-off-fields", "pods/update-gated"),
    *("pods/update-refused", "pods/update-tolerations", "pods/validate-env", "pods/validate-pod-spec"),
    *("pods/validate-probes-lifecycle", "pods/validate-scheduling", "pods/validate-security-context"),
    *("pods/validate-volumes", "groups/daemonset", "groups/deployment-defaults", "groups/deployment-update"),
    *("groups/job-defaults", "groups/job-invalid", "groups/job-update", "groups/statefulset-defaults"),
    *("groups/statefulset-invalid", "groups/cronjob-schedules", "groups/cronjob-update", "groups/controllerrevision"),
)
TOLERATIONS = [
    {"effect": "NoExecute", "key": f"node.kubernetes.io/{k}", "operator": "Exists", "tolerationSeconds": 300}
    for k in ("not-ready", "unreachable")
]


class Step:
    """One request of a scenario file."""

    def __init__(self, text: str) -> None:
        head, _, body = text.partition("\n\n")
        lines = head.split("\n")
        self.name = lines[0].strip()
        self.marks = {m[1]: m[2].strip() for line in lines if (m := re.match(r"#\s*@(\w+)\s*(.*)", line))}
        rest = [line for line in lines[1:] if line.strip() and not line.startswith("#")]
        self.method, _, self.path = rest[0].partition(" ") if rest else ("", "", "")
        self.media = next((line.split(":", 1)[1].strip() for line in rest[1:] if line.startswith("Content-Type")), "")
        self.body = body.strip().replace("{uid}", UID)


def route(path: str) -> tuple[Kind, list[str]] | None:
    """The workload kind of a path and what follows its plural."""
    for kind in KINDS:
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        base = f"{root}/namespaces/{{ns}}/{kind.plural}"
        if kind.kind in WORKLOADS and (path == base or path.startswith(base + "/")):
            return kind, path[len(base) + 1 :].split("/") if len(path) > len(base) else []
    return None


def admit(obj: Json, kind: Kind, create: bool) -> None:
    """What every pod of the recording got from admission."""
    if kind.kind != "Pod":
        return
    spec = obj["spec"]
    if create:
        spec["serviceAccount"] = spec.setdefault("serviceAccountName", "default")
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    for item in TOLERATIONS:
        if not any(
            t.get("key", item["key"]) == item["key"] and t.get("effect", "NoExecute") == "NoExecute"
            for t in tolerations
        ):
            tolerations.append(dict(item))


class Replay:
    """The objects of one scenario, changed by rules alone."""

    def __init__(self, namespace: str) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.namespace = namespace
        self.context = Context(now="2026-01-01T00:00:00Z", namespace=namespace)

    def answer(self, step: Step) -> tuple[int, Json] | None:
        """Code and body, or None for what only a server can answer."""
        found = route(step.path.partition("?")[0])
        if found is None or "includeObject" in step.path:
            return None
        kind, rest = found
        try:
            if step.method == "POST" and not rest:
                return self._create(kind, step)
            if step.method in ("PATCH", "PUT") and rest and (kind.kind, rest[0]) in self.objects:
                return self._change(kind, rest, step)
        except ApiError as error:
            return error.code, error.status
        if step.method == "DELETE" and len(rest) == 1:
            self.objects.pop((kind.kind, rest[0]), None)
        return None

    def _create(self, kind: Kind, step: Step) -> tuple[int, Json] | None:
        rules = rules_for(kind.group, kind.version, kind.kind)
        obj = json.loads(step.body)
        schema_for(kind).decode(obj)
        obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, **obj}
        rules.default(obj)
        meta = obj["metadata"] = {**obj["metadata"], "namespace": self.namespace, "uid": UID}
        meta["creationTimestamp"] = self.context.now
        if "name" not in meta or (kind.kind, meta["name"]) in self.objects:
            return None
        admit(obj, kind, create=True)
        errors = rules.before_create(obj, self.context)
        if errors:
            return 422, invalid(kind.kind, meta["name"], errors, kind.group).status
        if "dryRun" not in step.path:
            self.objects[kind.kind, meta["name"]] = copy.deepcopy(obj)
        return 201, obj

    def _change(self, kind: Kind, rest: list[str], step: Step) -> tuple[int, Json] | None:
        rules, sub = rules_for(kind.group, kind.version, kind.kind), rest[1] if len(rest) > 1 else ""
        old = copy.deepcopy(self.objects[kind.kind, rest[0]])
        if "apply" in step.media or "resourceVersion" in step.body or sub not in ("", "status", "resize"):
            return None
        sent = json.loads(step.body)
        if step.method == "PUT":
            obj = sent
        elif "json-patch" in step.media:
            obj = json_patch(copy.deepcopy(old), sent)
        elif "strategic" in step.media:
            obj = strategic_merge(copy.deepcopy(old), sent, schema_for(kind))
        else:
            obj = merge_patch(copy.deepcopy(old), sent)
        schema_for(kind).decode(obj)
        obj["metadata"] = {"namespace": self.namespace, "uid": UID, **obj["metadata"]}
        if (obj["metadata"].get("name"), obj["metadata"]["namespace"]) != (rest[0], self.namespace):
            return None
        rules.default(obj)
        if not sub:
            admit(obj, kind, create=False)
        args = (obj, old, self.context)
        errors = rules.before_sub_update(sub, *args) if sub else rules.before_update(*args)
        if errors:
            return 422, invalid(kind.kind, rest[0], errors, kind.group).status
        if "dryRun" not in step.path:
            self.objects[kind.kind, rest[0]] = copy.deepcopy(obj)
        return 200, obj


def masked(value: Any, namespace: str) -> Any:
    """What differs from run to run, as the recording marks it."""
    text = json.dumps(value).replace("{ns}", namespace).replace(namespace, "<ns>")
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>", text)
    text = re.sub(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', '"<time>"', text)
    return json.loads(re.sub(r"\b(10\.\d+\.\d+\.\d+|127\.0\.0\.1|192\.168\.\d+\.\d+)\b", "<ip>", text))


def at(value: Any, path: str) -> list[Any]:
    """All values at a dotted path with ``*``."""
    found = [value]
    for part in path.split("."):
        step: list[Any] = []
        for item in found:
            if part == "*":
                step += item if isinstance(item, list) else list(item.values()) if isinstance(item, dict) else []
            elif isinstance(item, list) and part.isdigit():
                step += item[int(part) : int(part) + 1]
            elif isinstance(item, dict) and part in item:
                step.append(item[part])
        found = step
    return found


def without_server_fields(body: Any) -> Any:
    if isinstance(body, dict) and isinstance(body.get("metadata"), dict):
        unwanted = ("managedFields", "creationTimestamp", "uid", "resourceVersion")
        body = {**body, "metadata": {k: v for k, v in body["metadata"].items() if k not in unwanted}}
    return body


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recordings (../shared/golden) are not here")
@pytest.mark.parametrize("name", FILES)
def test_answers_are_the_recorded_ones(name: str) -> None:
    recorded = {a["step"]: a for a in json.loads((GOLDEN / f"{name}.answers.json").read_text())}
    steps = [Step(t) for t in re.split(r"^###", (GOLDEN / f"{name}.http").read_text(), flags=re.M)[1:]]
    namespace = f"g-{name.replace('/', '-')}"
    replay, compared, differing = Replay(namespace), 0, []
    for step in steps:
        got, want = replay.answer(step), recorded[step.name]
        if got is None or "unchecked" in step.marks or "eventually" in step.marks or want["status"] == 403:
            continue
        body = without_server_fields(got[1])
        for path in filter(None, step.marks.get("ignore", "").split(",")):
            parent, _, last = path.strip().rpartition(".")
            for holder in at(body, parent) if parent else [body]:
                holder.pop(last, None)
        if "only" in step.marks:
            body = {p.strip(): at(body, p.strip()) for p in step.marks["only"].split(",")}
        compared += 1
        if (got[0], masked(body, namespace)) != (want["status"], without_server_fields(want["body"])):
            differing.append(step.name)
    assert compared >= 5
    assert differing == []
