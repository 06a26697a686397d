"""Names and small values of resource.k8s.io that several of its kinds hold: drivers, pools, devices, taints, settings."""

from __future__ import annotations

import json
from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, required, too_long
from portside.api.rules.declared import LONGEST_DOMAIN, c_identifier
from portside.api.rules.device_declared import MOST_CONDITIONS

Json = dict[str, Any]
Errors = list[FieldError]
LONGEST_PARAMETERS = 10 * 1024
LONGEST_KEY = LONGEST_DOMAIN + 1 + 32


def driver(name: str, path: str) -> Errors:
    if not name:
        return [required(path)]
    errors = [too_long(path, LONGEST_DOMAIN)] if len(name) > LONGEST_DOMAIN else []
    return errors + [invalid_value(path, name, p) for p in names.is_subdomain(name.lower())]


def pool(name: str, path: str) -> Errors:
    if not name:
        return [required(path)]
    errors = [too_long(path, 253)] if len(name) > 253 else []
    return errors + [invalid_value(path, part, p) for part in name.split("/") for p in names.is_subdomain(part)]


def label(name: str, path: str) -> Errors:
    return [invalid_value(path, name, p) for p in names.is_label(name)]


def node(name: str, path: str) -> Errors:
    return [invalid_value(path, name, p) for p in names.is_subdomain(name)]


def label_name(name: str, path: str) -> Errors:
    return [invalid_value(path, name, p) for p in names.qualified_name(name)]


def attribute_key(name: str, path: str) -> Errors:
    """``[domain/]identifier``; more than one slash passes, as it does upstream."""
    parts = name.split("/")
    if len(parts) == 1:
        return c_identifier(name, path)
    if len(parts) > 2:
        return []
    domain, rest = parts
    errors = driver(domain, path) if domain else [invalid_value(path, "", "the domain must not be empty")]
    return errors + (c_identifier(rest, path) if rest else [invalid_value(path, "", "the name must not be empty")])


def shortened(key: str, most: int) -> str:
    """A key as paths show it: what is too long loses its middle."""
    most = max(most, 16)
    if len(key) <= most:
        return key
    rest = most - 3
    return key[: (rest + 1) // 2] + "..." + key[len(key) - rest // 2 :]


def raw_object(value: Any, path: str, longest: int, *, stored: bool = False) -> Errors:
    """An embedded JSON object of a driver."""
    if value is None:
        return [required(path)]
    if not stored and len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) > longest:
        return [too_long(path, longest)]
    if not isinstance(value, dict):
        return [invalid_value(path, "<value omitted>", "must be a valid JSON object")]
    return []


def configuration(config: Json, path: str, *, stored: bool = False) -> Errors:
    opaque = config.get("opaque")
    if opaque is None:
        return [required(f"{path}.opaque")]
    return raw_object(opaque.get("parameters"), f"{path}.opaque.parameters", LONGEST_PARAMETERS, stored=stored)


def taint(value: Json, path: str) -> Errors:
    errors = label_name(value.get("key") or "", f"{path}.key")
    text = value.get("value") or ""
    return errors + [invalid_value(f"{path}.value", text, p) for p in names.label_value(text)]


def toleration(value: Json, path: str) -> Errors:
    operator, text = value.get("operator") or "", value.get("value") or ""
    if operator == "Exists" and text:
        return [invalid_value(f"{path}.value", text, "must be empty for operator `Exists`")]
    if operator == "Equal":
        return [invalid_value(f"{path}.value", text, p) for p in names.label_value(text)]
    return []


def binding_conditions(holder: Json, path: str) -> Errors:
    """The two lists of conditions to wait for and to fail at: both or none, nothing twice, nothing in both."""
    wait, fail = holder.get("bindingConditions") or [], holder.get("bindingFailureConditions") or []
    errors: Errors = []
    for field, given in (("bindingConditions", wait), ("bindingFailureConditions", fail)):
        if len(given) <= MOST_CONDITIONS:
            errors += [e for i, c in enumerate(given) for e in label_name(c, f"{path}.{field}[{i}]")]
    errors += [duplicate(f"{path}.bindingConditions[{i}]", c) for i, c in enumerate(wait) if c in wait[:i]]
    for i, condition in enumerate(fail):
        at = f"{path}.bindingFailureConditions[{i}]"
        if condition in fail[:i]:
            errors.append(duplicate(at, condition))
        if condition in wait:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            errors.append(invalid_value(at, condition, text))
    if fail and not wait:
        text = "bindingConditions are required to use bindingFailureConditions"
        errors.append(invalid_value(f"{path}.bindingConditions", holder.get("bindingConditions"), text))
    if wait and not fail:
        text = "bindingFailureConditions are required to use bindingConditions"
        errors.append(invalid_value(f"{path}.bindingFailureConditions", holder.get("bindingFailureConditions"), text))
    return errors
