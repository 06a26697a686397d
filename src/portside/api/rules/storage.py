"""storage.k8s.io: classes, CSI drivers and nodes, capacities, attachments."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from portside.api.kinds import BY_KIND
from portside.api.rules import resources
from portside.api.rules.registry import STATUS_ONLY, Context, Rules
from portside.api.selector import validate_object

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "storage.k8s.io"
_IMMUTABLE = "field is immutable"
_TOKENS = (
    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging "
    "of tokens in volume attributes"
)
_FS_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLES = ("Persistent", "Ephemeral")
_DRIVER = {
    "attachRequired": True,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "podInfoOnMount": False,
    "preventPodSchedulingIfMissing": False,
    "requiresRepublish": False,
    "seLinuxMount": False,
    "storageCapacity": False,
}
PARAMETERS_COUNT, PARAMETERS_SIZE = 512, 256 * 1024
ID_SIZE, CSI_NAME_SIZE = 256, 63


def default_class(obj: Json) -> None:
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def _qualified(text: str, path: str) -> Errors:
    if not text:
        return [required(path)]
    return [invalid_value(path, text.lower(), p) for p in names.qualified_name(text.lower())]


def _parameters(parameters: Json, path: str = "parameters", *, needed: bool = False) -> Errors:
    if needed and not parameters:
        return [required(path, "must contain at least one key/value pair")]
    errors: Errors = []
    if len(parameters) > PARAMETERS_COUNT:
        return [too_long(path, PARAMETERS_COUNT)]
    if "" in parameters:
        errors.append(invalid_value(path, "", "field can not be empty."))
    if sum(len(k) + len(v) for k, v in parameters.items()) > PARAMETERS_SIZE:
        errors.append(too_long(path, PARAMETERS_SIZE))
    return errors


def _topologies(terms: list[Json]) -> Errors:
    errors: Errors = []
    seen: list[Any] = []
    for i, term in enumerate(terms):
        at, keys = f"allowedTopologies[{i}].matchLabelExpressions", set()
        for j, e in enumerate(term.get("matchLabelExpressions") or ()):
            here, key, values = f"{at}[{j}]", e.get("key") or "", e.get("values") or []
            if not values:
                errors.append(required(f"{here}.values"))
            for k, value in enumerate(values):
                if value in values[:k]:
                    errors.append(duplicate(f"{here}.values[{k}]", value))
            errors += [invalid_value(f"{here}.key", key, p) for p in names.qualified_name(key)]
            if key in keys:
                errors.append(duplicate(f"{here}.key", key))
            keys.add(key)
        shape = {e.get("key"): sorted(e.get("values") or ()) for e in term.get("matchLabelExpressions") or ()}
        if (i and not shape) or shape in seen:
            errors.append(duplicate(at, ""))
        seen.append(shape)
    return errors


def validate_class(obj: Json, ctx: Context) -> Errors:
    provisioner, policy, mode = obj.get("provisioner") or "", obj.get("reclaimPolicy"), obj.get("volumeBindingMode")
    errors: Errors = []
    if provisioner:
        errors += [invalid_value("provisioner", provisioner, p) for p in names.qualified_name(provisioner.lower())]
    errors += _parameters(obj.get("parameters") or {})
    if policy not in ("Delete", "Retain"):
        errors.append(not_supported("reclaimPolicy", policy, ("Delete", "Retain")))
    if mode not in ("Immediate", "WaitForFirstConsumer"):
        errors.append(not_supported("volumeBindingMode", mode, ("Immediate", "WaitForFirstConsumer")))
    errors += _topologies(obj.get("allowedTopologies") or [])
    return errors if provisioner else [*errors, required("provisioner")]


def _update_class(obj: Json, old: Json, ctx: Context) -> Errors:
    changed = [
        invalid_value(f, None, _IMMUTABLE)
        for f in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
        if (obj.get(f) or None) != (old.get(f) or None)
    ]
    order = ("provisioner", "reclaimPolicy", "parameters", "volumeBindingMode")
    return sorted(changed, key=lambda e: order.index(e.field)) or validate_class(obj, ctx)


def default_driver(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    for field, value in _DRIVER.items():
        spec.setdefault(field, value)
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def _csi_name(name: str, path: str) -> Errors:
    if not name:
        return [required(path)]
    errors = [too_long(path, CSI_NAME_SIZE)] if len(name) > CSI_NAME_SIZE else []
    return errors + [invalid_value(path, name, p) for p in names.is_subdomain(name.lower())]


def validate_driver(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    policy = spec.get("fsGroupPolicy")
    if policy not in _FS_POLICIES:
        errors.append(not_supported("spec.fsGroupPolicy", policy, _FS_POLICIES))
    seen: set[str] = set()
    for i, token in enumerate(spec.get("tokenRequests") or ()):
        at, audience, lasts = f"spec.tokenRequests[{i}]", token.get("audience") or "", token.get("expirationSeconds")
        if audience in seen:
            errors.append(duplicate(f"{at}.audience", audience))
        seen.add(audience)
        if lasts is not None and lasts < 600:
            text = "may not specify a duration less than 10 minutes"
            errors.append(invalid_value(f"{at}.expirationSeconds", lasts, text))
        elif lasts is not None and lasts > 2**32:
            text = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid_value(f"{at}.expirationSeconds", lasts, text))
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in _LIFECYCLES:
            errors.append(not_supported("spec.volumeLifecycleModes", mode, _LIFECYCLES))
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < 10:
        text = "must be greater than or equal to 10 seconds"
        errors.append(invalid_value("spec.nodeAllocatableUpdatePeriodSeconds", period, text))
    return errors


def _update_driver(obj: Json, old: Json, ctx: Context) -> Errors:
    errors, spec, before = validate_driver(obj, ctx), obj.get("spec") or {}, old.get("spec") or {}
    for field, path in (("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")):
        if spec.get(field) != before.get(field):
            errors.append(invalid_value(f"spec.{path}", spec.get(field), _IMMUTABLE))
    return errors


def _prepare_driver(obj: Json, old: Json, ctx: Context) -> None:
    """Upstream counts a driver's generations from its first change on."""
    if obj.get("spec") != old.get("spec"):
        obj["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1


def _warn_driver(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    spec = obj.get("spec") or {}
    unset = spec.get("serviceAccountTokenInSecrets") is None
    return [_TOKENS] if spec.get("tokenRequests") and unset else []


def default_node(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("drivers", None)


def _node_driver(driver: Json, at: str, seen: set[str]) -> Errors:
    name, node = driver.get("name") or "", driver.get("nodeID") or ""
    errors = _csi_name(name, f"{at}.name")
    if not node:
        errors.append(required(f"{at}.nodeID"))
    elif len(node) > ID_SIZE:
        errors.append(invalid_value(f"{at}.nodeID", node, f"must be {ID_SIZE} characters or less"))
    count = (driver.get("allocatable") or {}).get("count")
    if count is not None and count < 0:
        errors.append(invalid_value(f"{at}.allocatable.count", count, "must be greater than or equal to 0"))
    if name and name in seen:
        errors.append(duplicate(f"{at}.name", name))
    seen.add(name)
    keys: set[str] = set()
    for key in driver.get("topologyKeys") or ():
        if not key:
            errors.append(required(at))
        if key in keys:
            errors.append(duplicate(at, key))
        keys.add(key)
        errors += [invalid_value(at, key, p) for p in names.qualified_name(key)]
    return errors


def validate_node(obj: Json, ctx: Context) -> Errors:
    seen: set[str] = set()
    drivers = (obj.get("spec") or {}).get("drivers") or ()
    return [e for i, d in enumerate(drivers) for e in _node_driver(d, f"spec.drivers[{i}]", seen)]


def _update_node(obj: Json, old: Json, ctx: Context) -> Errors:
    errors = validate_node(obj, ctx)
    before = {d.get("name"): d for d in (old.get("spec") or {}).get("drivers") or ()}
    for driver in (obj.get("spec") or {}).get("drivers") or ():
        had = before.get(driver.get("name"))
        if had is not None and {**had, "allocatable": None} != {**driver, "allocatable": None}:
            shown = {
                "Name": driver.get("name", ""),
                "NodeID": driver.get("nodeID", ""),
                "TopologyKeys": driver.get("topologyKeys"),
                "Allocatable": None,
            }
            errors.append(invalid_value("spec.drivers", shown, _IMMUTABLE))
    return errors


def default_capacity(obj: Json) -> None:
    for field in ("capacity", "maximumVolumeSize"):
        if obj.get(field) is not None:
            obj[field] = resources.shown(obj[field])


def validate_capacity(obj: Json, ctx: Context) -> Errors:
    name = obj.get("storageClassName") or ""
    errors = validate_object(obj.get("nodeTopology"), "nodeTopology")
    errors += [invalid_value("storageClassName", name, p) for p in names.is_subdomain(name)]
    if obj.get("capacity") is not None:
        errors += resources.not_negative(obj["capacity"], "capacity")
    return errors


def _update_capacity(obj: Json, old: Json, ctx: Context) -> Errors:
    return [
        invalid_value(f, obj.get(f), _IMMUTABLE)
        for f in ("nodeTopology", "storageClassName")
        if (obj.get(f) or None) != (old.get(f) or None)
    ]


def validate_attributes(obj: Json, ctx: Context) -> Errors:
    return _qualified(obj.get("driverName") or "", "driverName") + _parameters(obj.get("parameters") or {}, needed=True)


def _update_attributes(obj: Json, old: Json, ctx: Context) -> Errors:
    return [
        forbidden_field(f, f"updates to {f} are forbidden.")
        for f in ("driverName", "parameters")
        if (obj.get(f) or None) != (old.get(f) or None)
    ]


def default_attachment(obj: Json) -> None:
    obj.setdefault("spec", {}).setdefault("source", {})
    obj.setdefault("status", {}).setdefault("attached", False)


def _create_attachment(obj: Json, ctx: Context) -> None:
    obj["status"] = {"attached": False}


def _update_attachment_status(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {"attached": False}


def validate_attachment(obj: Json, ctx: Context) -> Errors:
    spec, errors = obj.get("spec") or {}, []
    errors += _qualified(spec.get("attacher") or "", "spec.attacher") if spec.get("attacher") else []
    source, node = spec.get("source") or {}, spec.get("nodeName") or ""
    inline, name = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and name is None:
        errors.append(required("spec.source", "must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
    elif inline is not None and name is not None:
        text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
        errors.append(forbidden_field("spec.source", text))
    elif name is not None:
        errors += _need_name(name, "spec.source.persistentVolumeName")
    errors += [invalid_value("spec.nodeName", node, p) for p in names.dns_subdomain(node)]
    return errors if spec.get("attacher") else [*errors, required("spec.attacher")]


def _need_name(name: str, path: str) -> Errors:
    if not name:
        return [required(path, "must specify non empty persistentVolumeName")]
    return [invalid_value(path, name, p) for p in names.dns_subdomain(name)]


def _update_attachment(obj: Json, old: Json, ctx: Context) -> Errors:
    if obj.get("spec") == old.get("spec"):
        return []
    return [*validate_attachment(obj, ctx), invalid_value("spec", None, _IMMUTABLE)]


def _rules(kind: str, **more: Any) -> Rules:
    return Rules(BY_KIND[GROUP, "v1", kind], returns_object_on_delete=True, **more)


RULES = {
    ("v1", "StorageClass"): _rules(
        "StorageClass", default=default_class, validate=validate_class, validate_update=_update_class
    ),
    ("v1", "CSIDriver"): _rules(
        "CSIDriver",
        default=default_driver,
        prepare_update=_prepare_driver,
        validate=validate_driver,
        validate_update=_update_driver,
        warnings=_warn_driver,
        unconditional_update=False,
    ),
    ("v1", "CSINode"): _rules(
        "CSINode",
        default=default_node,
        validate=validate_node,
        validate_update=_update_node,
        unconditional_update=False,
        subresources={"status": STATUS_ONLY},
    ),
    ("v1", "CSIStorageCapacity"): _rules(
        "CSIStorageCapacity",
        default=default_capacity,
        validate=validate_capacity,
        validate_update=_update_capacity,
        unconditional_update=False,
    ),
    ("v1", "VolumeAttributesClass"): _rules(
        "VolumeAttributesClass", validate=validate_attributes, validate_update=_update_attributes
    ),
    ("v1", "VolumeAttachment"): _rules(
        "VolumeAttachment",
        default=default_attachment,
        prepare_create=_create_attachment,
        prepare_update=_update_attachment_status,
        validate=validate_attachment,
        validate_update=_update_attachment,
        unconditional_update=False,
        subresources={"status": STATUS_ONLY},
    ),
}
