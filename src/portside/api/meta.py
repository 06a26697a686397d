"""ObjectMeta: validation, immutables and what a server keeps on update. Texts follow apimachinery's validation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, required, too_long

Json = dict[str, Any]
Errors = list[FieldError]

IMMUTABLE = "field is immutable"
ANNOTATIONS_LIMIT = 256 * 1024
# Finalizers that need no domain.
STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})
_GOOD_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?){0,3}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z"
)
_GOOD_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")


def validate_labels(labels: Json | None, path: str) -> Errors:
    """Keys are qualified names, values label values. Keys in order, as a JSON object is printed sorted upstream."""
    if not labels:
        return []
    errors: Errors = []
    for key, value in labels.items():
        if not _GOOD_KEY.match(key):
            errors += [invalid_value(path, key, p) for p in names.qualified_name(key)]
        if not _GOOD_VALUE.match(value):
            errors += [invalid_value(path, value, p) for p in names.label_value(value)]
    # Two labels with one bad value are one error.
    return list(dict.fromkeys(errors)) if len(errors) > 1 else errors


def validate_annotations(annotations: Json | None, path: str) -> Errors:
    """Keys are qualified names whatever their case; all together at most 256 KiB."""
    if not annotations:
        return []
    errors: Errors = []
    size = 0
    for key, value in annotations.items():
        if not _GOOD_KEY.match(key):
            errors += [invalid_value(path, key, p) for p in names.qualified_name(key.lower())]
        size += len(key.encode()) + len(value.encode())
    if size > ANNOTATIONS_LIMIT:
        errors.append(too_long(path, ANNOTATIONS_LIMIT))
    return errors


def _reference(ref: Json) -> Json:
    """An owner reference as Go encodes it: fixed order, required fields always there."""
    shown: Json = {k: ref.get(k, "") for k in ("apiVersion", "kind", "name", "uid")}
    for key in ("controller", "blockOwnerDeletion"):
        if ref.get(key) is not None:
            shown[key] = ref[key]
    return shown


def validate_owners(refs: list[Json] | None, path: str) -> Errors:
    """Every reference complete, no Event, at most one controller."""
    if not refs:
        return []
    errors: Errors = []
    controller: Json | None = None
    for i, ref in enumerate(refs):
        errors += _validate_owner(ref, f"{path}[{i}]")
        if ref.get("controller"):
            if controller is not None:
                errors.append(
                    invalid_value(
                        path,
                        [_reference(r) for r in refs],
                        'Only one reference can have Controller set to true. Found "true" in references for '
                        f"{controller.get('kind', '')}/{controller.get('name', '')} and "
                        f"{ref.get('kind', '')}/{ref.get('name', '')}",
                    )
                )
            else:
                controller = ref
    return errors


def _validate_owner(ref: Json, path: str) -> Errors:
    errors: Errors = []
    version = str(ref.get("apiVersion") or "")
    if not version:
        errors.append(required(f"{path}.apiVersion", "must not be empty"))
    elif version.count("/") > 1:
        errors.append(invalid_value(f"{path}.apiVersion", version, "must be <group>/<version> or <version>"))
    for key in ("kind", "name", "uid"):
        if not ref.get(key):
            errors.append(required(f"{path}.{key}", "must not be empty"))
    if version == "v1" and ref.get("kind") == "Event":
        errors.append(invalid_value(path, _reference(ref), "/v1, Kind=Event is disallowed from being an owner"))
    return errors


def validate_finalizers(finalizers: list[str] | None, path: str) -> Errors:
    """Qualified names that exclude each other where they must."""
    if not finalizers:
        return []
    errors: Errors = []
    for finalizer in finalizers:
        errors += [invalid_value(path, finalizer, p) for p in names.qualified_name(finalizer)]
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid_value(path, finalizers, text))
    for i, finalizer in enumerate(finalizers):
        if finalizer not in STANDARD_FINALIZERS and "/" not in finalizer:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid_value(f"{path}[{i}]", finalizer, text))
    return errors


def validate(
    obj: Json, namespaced: bool, name_rule: Callable[[str, bool], list[str]], path: str = "metadata"
) -> Errors:
    """Everything that is wrong with an object's metadata on creation, in upstream's order."""
    meta = obj.get("metadata") or {}
    errors: Errors = []
    prefix = meta.get("generateName")
    if prefix:
        errors += [invalid_value(f"{path}.generateName", prefix, p) for p in name_rule(prefix, True)]
    name = meta.get("name")
    if not name:
        errors.append(required(f"{path}.name", "name or generateName is required"))
    else:
        errors += [invalid_value(f"{path}.name", name, p) for p in name_rule(name, False)]
    namespace = meta.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required(f"{path}.namespace"))
        else:
            errors += [invalid_value(f"{path}.namespace", namespace, p) for p in names.dns_label(namespace)]
    elif namespace:
        errors.append(forbidden_field(f"{path}.namespace", "not allowed on this type"))
    return errors + _validate_shared(meta, path)


def _validate_shared(meta: Json, path: str) -> Errors:
    """What is checked on every write."""
    errors: Errors = []
    if int(meta.get("generation") or 0) < 0:
        errors.append(invalid_value(f"{path}.generation", meta["generation"], "must be greater than or equal to 0"))
    if "labels" in meta:
        errors += validate_labels(meta["labels"], f"{path}.labels")
    if "annotations" in meta:
        errors += validate_annotations(meta["annotations"], f"{path}.annotations")
    if "ownerReferences" in meta:
        errors += validate_owners(meta["ownerReferences"], f"{path}.ownerReferences")
    if "finalizers" in meta:
        errors += validate_finalizers(meta["finalizers"], f"{path}.finalizers")
    return errors


def validate_update(obj: Json, old: Json, path: str = "metadata") -> Errors:
    """Metadata of a replacement: what is checked on every write, finalizers of a dying object, and the immutables."""
    new_meta, old_meta = obj.get("metadata") or {}, old.get("metadata") or {}
    errors = _validate_shared(new_meta, path)
    if old_meta.get("deletionTimestamp"):
        known = old_meta.get("finalizers") or []
        added = sorted({f for f in new_meta.get("finalizers") or [] if f not in known})
        if added:
            listed = ", ".join(f'"{f}"' for f in added)
            errors.append(
                forbidden_field(
                    f"{path}.finalizers",
                    "no new finalizers can be added if the object is being deleted, found new finalizers "
                    f"[]string{{{listed}}}",
                )
            )
    for key in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if new_meta.get(key) != old_meta.get(key):
            errors.append(invalid_value(f"{path}.{key}", new_meta.get(key), IMMUTABLE))
    return errors


def keep_generation(obj: Json, old: Json) -> None:
    """A client cannot set metadata.generation on update."""
    kept = old["metadata"].get("generation")
    if kept is None:
        obj["metadata"].pop("generation", None)
    else:
        obj["metadata"]["generation"] = kept


def keep_identity(obj: Json, old: Json) -> None:
    """Fills what a client may leave out or may not change silently: creation, deletion, uid when absent."""
    new_meta, old_meta = obj["metadata"], old["metadata"]
    if "creationTimestamp" in old_meta:
        new_meta["creationTimestamp"] = old_meta["creationTimestamp"]
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        if new_meta.get(key) is None and old_meta.get(key) is not None:
            new_meta[key] = old_meta[key]
    if not new_meta.get("uid") and old_meta.get("uid"):
        new_meta["uid"] = old_meta["uid"]
    if not new_meta.get("namespace") and old_meta.get("namespace"):
        new_meta["namespace"] = old_meta["namespace"]
    new_meta.pop("selfLink", None)


_NOT_CONTENT = frozenset({"apiVersion", "kind", "metadata", "status"})


def content_changed(obj: Json, old: Json) -> bool:
    """Whether anything but metadata and status differs, absent and empty being the same at the top."""
    for key in obj.keys() | old.keys():
        if key not in _NOT_CONTENT and (obj.get(key) or None) != (old.get(key) or None):
            return True
    return False


def annotations_changed(obj: Json, old: Json) -> bool:
    return (obj["metadata"].get("annotations") or {}) != (old["metadata"].get("annotations") or {})
