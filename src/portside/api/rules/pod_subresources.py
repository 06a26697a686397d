"""Writes to pods/ephemeralcontainers and pods/resize: each changes its own part of the spec and nothing else."""

from __future__ import annotations

import copy
import difflib
from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value
from portside.api.rules.pod_annotations import MIRROR
from portside.api.rules.pod_resources import qos_class
from portside.api.rules.pod_shape import dump, go_json
from portside.api.rules.pod_spec import validate_pod_spec
from portside.api.rules.registry import Context, SubRules

Json = dict[str, Any]
Errors = list[FieldError]


def _keep_all_but_spec(pod: Json, old: Json) -> Json:
    """Puts the old object's content in place and returns the client's spec."""
    sent: Json = pod.get("spec") or {}
    version = pod["metadata"].get("resourceVersion")
    kept = pod["metadata"].get("managedFields")
    pod.clear()
    pod.update(copy.deepcopy(old))
    if version is not None:
        pod["metadata"]["resourceVersion"] = version
    if kept is not None:
        pod["metadata"]["managedFields"] = kept
    return sent


def _raise_generation(pod: Json, old: Json) -> None:
    if pod["spec"] != old["spec"]:
        pod["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1


def prepare_ephemeral(pod: Json, old: Json, ctx: Context) -> None:
    sent = _keep_all_but_spec(pod, old)
    if sent.get("ephemeralContainers"):
        pod["spec"]["ephemeralContainers"] = sent["ephemeralContainers"]
    else:
        pod["spec"].pop("ephemeralContainers", None)
    _raise_generation(pod, old)


def _container_diff(old: Json, new: Json) -> str:
    before = go_json(dump(old, "EphemeralContainer"), 1).splitlines(keepends=True)
    after = go_json(dump(new, "EphemeralContainer"), 1).splitlines(keepends=True)
    lines = list(difflib.unified_diff(before, after, n=3))[2:]
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def validate_ephemeral(pod: Json, old: Json, ctx: Context) -> Errors:
    """Static pods take none; those that are there stay as they are."""
    errors = validate_pod_spec(pod["spec"], "spec", is_pod=True)
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        errors.append(forbidden_field("[]", "static pods do not support ephemeral containers"))
        return errors
    mine = {c.get("name"): c for c in pod["spec"].get("ephemeralContainers") or ()}
    for container in old["spec"].get("ephemeralContainers") or ():
        name = container.get("name")
        if name not in mine:
            text = f'existing ephemeral containers "{name}" may not be removed\n'
            errors.append(forbidden_field("spec.ephemeralContainers", text))
        elif mine[name] != container:
            text = (
                f'existing ephemeral containers "{name}" may not be changed\n{_container_diff(container, mine[name])}'
            )
            errors.append(forbidden_field("spec.ephemeralContainers", text))
    return errors


def prepare_resize(pod: Json, old: Json, ctx: Context) -> None:
    """Takes the resources and resize policies sent; everything else of the pod stays."""
    sent = _keep_all_but_spec(pod, old)
    spec = pod["spec"]
    for kind in ("containers", "initContainers"):
        if [c.get("name") for c in sent.get(kind) or ()] != [c.get("name") for c in spec.get(kind) or ()]:
            if kind in sent:
                spec[kind] = sent[kind]
            else:
                spec.pop(kind, None)
            continue
        for container, wanted in zip(spec.get(kind) or (), sent.get(kind) or (), strict=True):
            for key in ("resources", "resizePolicy"):
                if key in wanted:
                    container[key] = wanted[key]
                else:
                    container.pop(key, None)
    if "resources" in sent:
        spec["resources"] = sent["resources"]
    else:
        spec.pop("resources", None)
    _raise_generation(pod, old)


def _mutable(new: Json | None, old: Json | None) -> bool:
    """Only cpu and memory differ."""
    for kind in ("limits", "requests"):
        mine, theirs = (new or {}).get(kind) or {}, (old or {}).get(kind) or {}
        if any(mine.get(n) != theirs.get(n) for n in mine.keys() | theirs.keys() if n not in ("cpu", "memory")):
            return False
    return (new or {}).get("claims") == (old or {}).get("claims")


def _removed(new: Json | None, old: Json | None, kind: str) -> bool:
    """Whether ``new`` lacks a limit or request (``kind``) that there was."""
    return bool(((old or {}).get(kind) or {}).keys() - ((new or {}).get(kind) or {}).keys())


def _removals(new: Json | None, old: Json | None, path: str, whose: str = "") -> Errors:
    return [
        forbidden_field(f"{path}.resources.{kind}", f"{whose}resource {kind} cannot be removed")
        for kind in ("requests", "limits")
        if _removed(new, old, kind)
    ]


def _resource_changes(spec: Json, before: Json) -> Errors:
    errors = _removals(spec.get("resources"), before.get("resources"), "spec", "pod-level ")
    allowed = _mutable(spec.get("resources"), before.get("resources"))
    for kind in ("initContainers", "containers"):
        for i, (mine, theirs) in enumerate(zip(spec.get(kind) or (), before.get(kind) or (), strict=True)):
            errors += _removals(mine.get("resources"), theirs.get("resources"), f"spec.{kind}[{i}]")
            allowed = allowed and _mutable(mine.get("resources"), theirs.get("resources"))
    policies = [c.get("resizePolicy") for k in ("containers", "initContainers") for c in spec.get(k) or ()]
    earlier = [c.get("resizePolicy") for k in ("containers", "initContainers") for c in before.get(k) or ()]
    if not allowed or policies != earlier:
        errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))
    return errors


def validate_resize(pod: Json, old: Json, ctx: Context) -> Errors:
    spec, before = pod["spec"], old["spec"]
    errors = validate_pod_spec(spec, "spec", is_pod=True)
    if MIRROR in (old["metadata"].get("annotations") or {}):
        return [*errors, forbidden_field("[]", "static pods cannot be resized")]
    if (before.get("os") or {}).get("name") == "windows":
        return [*errors, forbidden_field("[]", "windows pods cannot be resized")]
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or ()) != len(before.get(kind) or ()):
            text = "containers may not be added or removed on resize"
            return [*errors, forbidden_field(f"spec.{kind}", text)]
    # The class is told by the status; a spec changed here must come to the same.
    was = (old.get("status") or {}).get("qosClass") or qos_class(before)
    if qos_class(spec) != was:
        errors.append(invalid_value("spec", was, "Pod QOS Class may not change as a result of resizing"))
    return errors + _resource_changes(spec, before)


EPHEMERAL = SubRules(prepare_update=prepare_ephemeral, validate_update=validate_ephemeral)
RESIZE = SubRules(prepare_update=prepare_resize, validate_update=validate_resize)
