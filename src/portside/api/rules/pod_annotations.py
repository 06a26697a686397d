"""Annotations of pods that have a meaning: mirror pods and AppArmor's former home."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value

Json = dict[str, Any]
Errors = list[FieldError]

MIRROR = "kubernetes.io/config.mirror"
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_TYPES = {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}


def _containers(spec: Json) -> list[Json]:
    return [c for k in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(k) or ()]


def validate_pod_annotations(annotations: Json | None, spec: Json, path: str) -> Errors:
    """Values and the containers they name."""
    if not annotations:
        return []
    errors: Errors = []
    if MIRROR in annotations and not spec.get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid_value(f"{path}[{MIRROR}]", annotations[MIRROR], text))
    known = {c.get("name") for c in _containers(spec)}
    for key, value in annotations.items():
        if not key.startswith(APP_ARMOR):
            continue
        name, where = key[len(APP_ARMOR) :], f"{path}[{key}]"
        if name not in known:
            errors.append(invalid_value(where, name, "container not found"))
        if value and value not in _TYPES and not value.startswith("localhost/"):
            errors.append(invalid_value(where, value, f'invalid AppArmor profile name: "{value}"'))
    return errors


def profile_of(annotation: str) -> Json | None:
    """The field's value that an AppArmor annotation means."""
    if annotation in _TYPES:
        return {"type": _TYPES[annotation]}
    if annotation.startswith("localhost/"):
        return {"type": "Localhost", "localhostProfile": annotation[len("localhost/") :]}
    return None


def fill_app_armor(pod: Json) -> None:
    """On creation the annotation fills a container's field that is not set."""
    annotations = pod["metadata"].get("annotations") or {}
    for container in _containers(pod["spec"]):
        value = annotations.get(APP_ARMOR + str(container.get("name")))
        if value is None:
            continue
        profile = profile_of(value)
        if profile is not None and not (container.get("securityContext") or {}).get("appArmorProfile"):
            container["securityContext"] = {**(container.get("securityContext") or {}), "appArmorProfile": profile}


def validate_app_armor_agreement(pod: Json) -> Errors:
    """Annotation and field, when both are there, must say the same."""
    annotations = pod["metadata"].get("annotations") or {}
    if not any(key.startswith(APP_ARMOR) for key in annotations):
        return []
    errors: Errors = []
    for kind in ("initContainers", "containers"):
        for i, container in enumerate(pod["spec"].get(kind) or ()):
            value = annotations.get(APP_ARMOR + str(container.get("name")))
            field = (container.get("securityContext") or {}).get("appArmorProfile")
            profile = profile_of(value) if value is not None else None
            if profile is None or not field:
                continue
            where = f"spec.{kind}[{i}].securityContext.appArmorProfile"
            if profile["type"] != field.get("type"):
                errors.append(forbidden_field(f"{where}.type", "apparmor type in annotation and field must match"))
            elif profile.get("localhostProfile") != field.get("localhostProfile"):
                text = "apparmor profile in annotation and field must match"
                errors.append(forbidden_field(f"{where}.localhostProfile", text))
    return errors
