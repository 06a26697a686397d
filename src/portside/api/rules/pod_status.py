"""The pod's status: the fields Go always writes, what a status write keeps, and its validation."""

from __future__ import annotations

import ipaddress
from typing import Any

from portside.api import meta, names, quantity
from portside.api.field import FieldError, duplicate, forbidden_field, internal_error, invalid_value, not_supported
from portside.api.rules.pod_spec import validate_ip
from portside.api.rules.pod_update import validate_annotation_update
from portside.api.rules.registry import Context, SubRules

Json = dict[str, Any]
Errors = list[FieldError]

_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_NOT_NEGATIVE = "must be a non-negative integer"
_DROP_EMPTY = ("message", "reason", "phase", "hostIP", "podIP", "nominatedNodeName", "resize", "qosClass")
_DROP_LISTS = (
    "conditions",
    "containerStatuses",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "podIPs",
    "hostIPs",
)
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def _tidy_state(state: Json) -> None:
    if state.get("running") is not None:
        state["running"].setdefault("startedAt", None)
    ended = state.get("terminated")
    if ended is not None:
        ended.setdefault("exitCode", 0)
        ended.setdefault("startedAt", None)
        ended.setdefault("finishedAt", None)
    for part in (state.get("waiting"), ended):
        for key in ("reason", "message", "containerID", "signal"):
            if part is not None and key in part and not part[key]:
                del part[key]


def tidy_status(status: Json) -> None:
    """Adds what Go writes even when it is zero, drops what it leaves out, in place."""
    for key in (*_DROP_EMPTY, *_DROP_LISTS):
        if key in status and not status[key]:
            del status[key]
    for condition in status.get("conditions") or ():
        condition.setdefault("lastProbeTime", None)
        condition.setdefault("lastTransitionTime", None)
        condition.setdefault("status", "")
        for key in ("reason", "message", "observedGeneration"):
            if key in condition and not condition[key]:
                del condition[key]
    for kind in _STATUSES:
        for item in status.get(kind) or ():
            for key, zero in (("name", ""), ("ready", False), ("restartCount", 0), ("image", ""), ("imageID", "")):
                item.setdefault(key, zero)
            for key in ("state", "lastState"):
                if item.get(key) is None:
                    item[key] = {}
                _tidy_state(item[key])
            if "containerID" in item and not item["containerID"]:
                del item["containerID"]
            resources = item.get("resources") or {}
            for held in (resources.get("requests"), resources.get("limits"), item.get("allocatedResources")):
                if held:
                    held.update({name: quantity.canonical(text) for name, text in held.items()})


def prepare_status(pod: Json, old: Json, ctx: Context) -> None:
    """Spec, owners and deletion stay; labels may change; the QoS class and the observed generation do not vanish."""
    pod["spec"] = old["spec"]
    status = pod.get("status")
    if status is None:
        status = pod["status"] = {}
    before = old.get("status") or {}
    if not status.get("qosClass") and before.get("qosClass"):
        status["qosClass"] = before["qosClass"]
    owners = old["metadata"].get("ownerReferences")
    if owners:
        pod["metadata"]["ownerReferences"] = owners
    else:
        pod["metadata"].pop("ownerReferences", None)
    meta.keep_identity(pod, old)
    # podIP and hostIP lead their lists: whichever is given fills the other.
    for one, many in (("podIP", "podIPs"), ("hostIP", "hostIPs")):
        entries, single = status.get(many) or [], status.get(one)
        if single and not entries:
            status[many] = [{"ip": single}]
        elif entries and not single:
            status[one] = entries[0].get("ip", "")
        elif single and entries and entries[0].get("ip") != single and one == "podIP":
            status[many] = [{"ip": single}]
    tidy_status(status)


def _family(text: str) -> int:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return 0


def _addresses(status: Json, many: str) -> Errors:
    entries = [e.get("ip", "") for e in status.get(many) or ()]
    if not entries:
        return []
    where = f"status.{many}"
    errors: Errors = []
    for i, address in enumerate(entries):
        errors += validate_ip(address, f"{where}[{i}]")
    if many == "hostIPs" and status.get("hostIP") != entries[0]:
        errors.insert(0, invalid_value(f"{where}[0].ip", entries[0], "must be equal to `hostIP`"))
    if len(entries) > 1:
        families = [_family(e) for e in entries]
        if 0 in families:
            first = families.index(0)
            lenient = entries[first].replace(".", "").isdigit()
            if not lenient:
                text = f"failed to check for dual stack with error:invalid IP[{first}]: {entries[first]}"
                errors.append(internal_error(where, text))
        dual = len(entries) == 2 and set(families) == {4, 6}
        if not dual:
            shown = [{"IP": e} for e in entries]
            errors.append(invalid_value(where, shown, "may specify no more than one IP for each IP family"))
    return errors


def _transitions(new: Json, old: Json, spec: Json) -> Errors:
    """A container that ended for good does not start again."""
    errors: Errors = []
    policy = spec.get("restartPolicy")
    for kind in ("initContainerStatuses", "containerStatuses"):
        source = "initContainers" if kind.startswith("init") else "containers"
        containers = {c.get("name"): c for c in spec.get(source) or ()}
        before = {s.get("name"): s for s in old.get(kind) or ()}
        for i, item in enumerate(new.get(kind) or ()):
            name = item.get("name")
            was = before.get(name)
            ended = ((was or {}).get("state") or {}).get("terminated")
            if ended is None or (item.get("state") or {}).get("terminated") is not None:
                continue
            own = (containers.get(name) or {}).get("restartPolicy") or policy
            if (containers.get(name) or {}).get("restartPolicyRules"):
                continue
            code = ended.get("exitCode") or 0
            init = source == "initContainers"
            if own == "Always" and (not init or (containers.get(name) or {}).get("restartPolicy") == "Always"):
                continue
            if code != 0 and own in ("OnFailure", "Always"):
                continue
            text = "may not be transitioned to non-terminated state"
            errors.append(forbidden_field(f"status.{kind}[{i}].state", text))
    return errors


def _user(item: Json, path: str) -> Errors:
    user = (item.get("user") or {}).get("linux")
    if user is None:
        return []
    errors: Errors = []
    if not 0 <= (user.get("uid") or 0) <= 4294967295:
        errors.append(invalid_value(f"{path}.uid", user["uid"], "must be between 0 and 4294967295, inclusive"))
    text = "must be between 0 and 2147483647, inclusive"
    if not 0 <= (user.get("gid") or 0) <= 2147483647:
        errors.append(invalid_value(f"{path}.gid", user["gid"], text))
    for i, group in enumerate(user.get("supplementalGroups") or ()):
        if not 0 <= group <= 2147483647:
            errors.append(invalid_value(f"{path}.supplementalGroups[{i}]", group, text))
    return errors


def _allocated(item: Json, container: Json, path: str) -> Errors:
    errors: Errors = []
    claims = (container.get("resources") or {}).get("claims") or ()
    allowed = {f"claim:{c['name']}/{c['request']}" if c.get("request") else f"claim:{c.get('name')}" for c in claims}
    limits = (container.get("resources") or {}).get("limits") or {}
    seen: set[str] = set()
    for i, status in enumerate(item.get("allocatedResourcesStatus") or ()):
        where, name = f"{path}[{i}]", status.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{where}.name", name))
        seen.add(name)
        if name.startswith("claim:") and name not in allowed:
            text = (
                "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when "
                "container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty"
            )
            errors.append(invalid_value(f"{where}.name", name, text))
        elif not name.startswith("claim:") and name not in limits:
            text = "must match one of the container's resource requirements"
            errors.append(invalid_value(f"{where}.name", name, text))
        ids: set[str] = set()
        for r, resource in enumerate(status.get("resources") or ()):
            ident, health = resource.get("resourceID") or "", resource.get("health") or ""
            if ident in ids:
                errors.append(duplicate(f"{where}.resources[{r}].resourceID", ident))
            ids.add(ident)
            if health not in _HEALTH:
                errors.append(not_supported(f"{where}.resources[{r}].health", health, _HEALTH))
    return errors


def _claims(status: Json, spec: Json) -> Errors:
    errors: Errors = []
    declared = {c.get("name") for c in spec.get("resourceClaims") or ()}
    for i, item in enumerate(status.get("resourceClaimStatuses") or ()):
        where, name = f"status.resourceClaimStatuses[{i}]", item.get("name") or ""
        if name not in declared:
            text = "must match the name of an entry in `spec.resourceClaims`"
            errors.append(invalid_value(f"{where}.name", name, text))
        claim = item.get("resourceClaimName")
        if claim:
            errors += [invalid_value(f"{where}.resourceClaimName", claim, p) for p in names.is_subdomain(claim)]
    return errors


def validate_status(pod: Json, old: Json, ctx: Context) -> Errors:
    """All errors of a status write, in upstream's order."""
    errors = validate_annotation_update(pod, old)
    status, before, spec = pod.get("status") or {}, old.get("status") or {}, pod["spec"]
    for i, condition in enumerate(status.get("conditions") or ()):
        if (condition.get("observedGeneration") or 0) < 0:
            where = f"status.conditions[{i}].observedGeneration"
            errors.append(invalid_value(where, condition["observedGeneration"], _NOT_NEGATIVE))
    if (status.get("observedGeneration") or 0) < 0:
        errors.append(invalid_value("status.observedGeneration", status["observedGeneration"], _NOT_NEGATIVE))
    nominated = status.get("nominatedNodeName")
    if nominated:
        where = "status.nominatedNodeName"
        errors += [invalid_value(where, nominated, p) for p in names.is_subdomain(nominated)]
        if nominated != before.get("nominatedNodeName") and spec.get("nodeName"):
            text = "may not be set on pods that are already bound to a node"
            errors.append(forbidden_field(where, text))
    errors += _transitions(status, before, spec)
    if before.get("qosClass") and status.get("qosClass") != before["qosClass"]:
        errors.append(invalid_value("status.qosClass", status.get("qosClass"), meta.IMMUTABLE))
    errors += _addresses(status, "podIPs") + _addresses(status, "hostIPs") + _claims(status, spec)
    containers = {c.get("name"): c for k in ("containers", "initContainers") for c in spec.get(k) or ()}
    for kind in ("containerStatuses", "initContainerStatuses"):
        for i, item in enumerate(status.get(kind) or ()):
            container = containers.get(item.get("name"), {})
            errors += _allocated(item, container, f"status.{kind}[{i}].allocatedResourcesStatus")
    for kind in _STATUSES:
        for i, item in enumerate(status.get(kind) or ()):
            errors += _user(item, f"status.{kind}[{i}].user.linux")
    return errors


STATUS = SubRules(prepare_update=prepare_status, validate_update=validate_status)
