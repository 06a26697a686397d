"""Claims inside other objects: the template of an ephemeral volume and the claims of a StatefulSet."""

from __future__ import annotations

from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.meta import validate_annotations, validate_labels
from portside.api.rules.pod_affinity import validate_label_selector

Json = dict[str, Any]
Errors = list[FieldError]

_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")


def _data_source(source: Json | None, path: str) -> Errors:
    if source is None:
        return []
    errors = [required(f"{path}.{name}") for name in ("name", "kind") if not source.get(name)]
    group, kind = source.get("apiGroup") or "", source.get("kind") or ""
    if not group and kind and kind != "PersistentVolumeClaim":
        errors.append(
            invalid_value(f"{path}.kind", kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
        )
    return errors


def validate_claim_spec(spec: Json, path: str) -> Errors:
    """The spec of a claim, in upstream's order."""
    modes = spec.get("accessModes") or []
    errors: Errors = []
    if not modes:
        errors.append(required(f"{path}.accessModes", "at least 1 access mode is required"))
    errors += validate_label_selector(spec.get("selector"), f"{path}.selector")
    errors += [not_supported(f"{path}.accessModes", m, _MODES) for m in modes if m not in _MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden_field(f"{path}.accessModes", text))
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    where = f"{path}.resources[storage]"
    if size is None:
        errors.append(required(where))
    elif quantity.parse(size) <= 0:
        errors.append(invalid_value(where, quantity.canonical(size), "must be greater than zero"))
    name = spec.get("storageClassName")
    if name:
        errors += [invalid_value(f"{path}.storageClassName", name, p) for p in names.is_subdomain(name)]
    mode = spec.get("volumeMode")
    if mode is not None and mode not in ("Block", "Filesystem"):
        errors.append(not_supported(f"{path}.volumeMode", mode, ("Block", "Filesystem")))
    errors += _data_source(spec.get("dataSource"), f"{path}.dataSource")
    return errors


def validate_claim_template(template: Json, path: str) -> Errors:
    """Labels and annotations only in the metadata; everything of a claim in the spec."""
    meta = template.get("metadata") or {}
    errors = validate_annotations(meta.get("annotations"), f"{path}.metadata.annotations")
    errors += validate_labels(meta.get("labels"), f"{path}.metadata.labels")
    errors += [
        forbidden_field(f"{path}.metadata.{name}", "cannot be set")
        for name, value in meta.items()
        if name not in ("labels", "annotations") and value
    ]
    return errors + validate_claim_spec(template.get("spec") or {}, f"{path}.spec")
