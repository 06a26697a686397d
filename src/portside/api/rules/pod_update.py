"""What an update of a pod may change. The refusal shows a unified diff of upstream's internal spec."""

from __future__ import annotations

import difflib
from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value
from portside.api.rules.pod_annotations import MIRROR
from portside.api.rules.pod_shape import dump, dump_pod_spec, go_json

Json = dict[str, Any]
Errors = list[FieldError]

_FIELDS = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
    "(allow it to be set to 1 if it was previously negative)"
)
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def spec_diff(old: Json, new: Json) -> str:
    """Unified diff of two specs as upstream prints it: internal names, one space of indentation."""
    return shape_diff(dump_pod_spec(old), dump_pod_spec(new))


def shape_diff(old: Json, new: Json) -> str:
    """Unified diff of two dumped objects."""
    before = go_json(old, 1).splitlines(keepends=True)
    after = go_json(new, 1).splitlines(keepends=True)
    lines = list(difflib.unified_diff(before, after, n=3))[2:]
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def validate_annotation_update(new: Json, old: Json) -> Errors:
    """The mirror annotation stays as it is."""
    mine, theirs = new["metadata"].get("annotations") or {}, old["metadata"].get("annotations") or {}
    where = f"metadata.annotations[{MIRROR}]"
    if MIRROR in theirs and mine.get(MIRROR) != theirs[MIRROR]:
        return [forbidden_field(where, "may not remove or update mirror pod annotation")]
    if MIRROR in mine and MIRROR not in theirs:
        return [forbidden_field(where, "may not add mirror pod annotation")]
    return []


def _deadline(new: Json, old: Json) -> Errors:
    mine, theirs = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    where = "spec.activeDeadlineSeconds"
    if mine is None:
        text = "must not update from a positive integer to nil value"
        return [] if theirs is None else [invalid_value(where, None, text)]
    if not 0 <= mine <= 2147483647:
        return [invalid_value(where, mine, "must be between 0 and 2147483647, inclusive")]
    if theirs is not None and theirs < mine:
        return [invalid_value(where, mine, "must be less than or equal to previous value")]
    return []


def _tolerations(new: Json, old: Json) -> Errors:
    def bare(item: Json) -> Json:
        return {k: v for k, v in item.items() if k != "tolerationSeconds"}

    mine = [bare(t) for t in new.get("tolerations") or ()]
    if any(bare(t) not in mine for t in old.get("tolerations") or ()):
        text = "existing toleration can not be modified except its tolerationSeconds"
        return [forbidden_field("spec.tolerations", text)]
    return []


def _gates(new: Json, old: Json) -> Errors:
    known = {g.get("name") for g in old.get("schedulingGates") or ()}
    errors: Errors = []
    for i, gate in enumerate(new.get("schedulingGates") or ()):
        name = gate.get("name")
        if name not in known:
            text = f"only deletion is allowed, but found new scheduling gate '{name}'"
            errors.append(forbidden_field(f"spec.schedulingGates[{i}].name", text))
    return errors


def _node_selector(new: Json, old: Json) -> Errors:
    mine, theirs = new.get("nodeSelector"), old.get("nodeSelector") or {}
    if all((mine or {}).get(k) == v for k, v in theirs.items()):
        return []
    text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    return [invalid_value("spec.nodeSelector", mine or None, text)]


def _only_added(mine: Json, theirs: Json) -> bool:
    for key in ("matchExpressions", "matchFields"):
        before, after = theirs.get(key) or [], mine.get(key) or []
        if len(after) < len(before) or any(item not in after for item in before):
            return False
    return bool(mine.get("matchExpressions") or mine.get("matchFields"))


def _node_affinity(new: Json, old: Json) -> Errors:
    theirs = ((old.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    if theirs is None:
        return []
    mine = ((new.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}
    before, after = theirs.get("nodeSelectorTerms") or [], mine.get("nodeSelectorTerms") or []
    where = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    if before and len(before) != len(after):
        text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [invalid_value(where, [dump(t, "NodeSelectorTerm") for t in after] or None, text)]
    text = "only additions are allowed (no mutations or deletions)"
    return [
        invalid_value(f"{where}[{i}]", dump(after[i], "NodeSelectorTerm"), text)
        for i in range(len(before))
        if not _only_added(after[i], before[i])
    ]


def _gated(munged: Json, new: Json, old: Json) -> Errors:
    """A gated pod's node selector and node affinity may be narrowed; changes are taken out of ``munged``."""
    errors: Errors = []
    if new.get("nodeSelector") != old.get("nodeSelector"):
        errors += _node_selector(new, old)
        _put(munged, "nodeSelector", old.get("nodeSelector"))
    mine, theirs = new.get("affinity"), old.get("affinity")
    if (mine or {}).get("nodeAffinity") != (theirs or {}).get("nodeAffinity"):
        errors += _node_affinity(new, old)
        affinity = dict(mine or {})
        _put(affinity, "nodeAffinity", (theirs or {}).get("nodeAffinity"))
        _put(munged, "affinity", affinity if affinity or theirs is not None else None)
    return errors


def _put(target: Json, key: str, value: Any) -> None:
    if value is None:
        target.pop(key, None)
    else:
        target[key] = value


def _munged(new: Json, old: Json) -> Json:
    """The new spec with every field that may change set back to the old one."""
    munged = dict(new)
    for kind in ("containers", "initContainers"):
        if old.get(kind):
            pairs = zip(new.get(kind) or (), old[kind], strict=False)
            munged[kind] = [{**mine, "image": theirs.get("image", "")} for mine, theirs in pairs]
    for key in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        _put(munged, key, old.get(key))
    if (old.get("terminationGracePeriodSeconds") or 0) < 0 and new.get("terminationGracePeriodSeconds") == 1:
        munged["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    return munged


def validate_pod_update(pod: Json, old: Json, errors: Errors) -> Errors:
    """``errors``: those of the new pod on its own; they come first."""
    new, before = pod["spec"], old["spec"]
    errors = errors + validate_annotation_update(pod, old)
    for kind in ("containers", "initContainers"):
        if len(new.get(kind) or ()) != len(before.get(kind) or ()):
            text = "pod updates may not add or remove containers"
            return [*errors, forbidden_field(f"spec.{kind}", text)]
    errors += _deadline(new, before) + _tolerations(new, before) + _gates(new, before)
    if new == before:
        return errors
    munged = _munged(new, before)
    if before.get("schedulingGates"):
        errors += _gated(munged, new, before)
    for container, mine in zip(munged["containers"], new["containers"], strict=False):
        if not container["image"] and not mine.get("image"):
            container.pop("image")
    if munged != before:
        text = f"pod updates may not change fields other than {_FIELDS}\n{spec_diff(before, munged)}"
        errors.append(forbidden_field("spec", text))
    return errors
