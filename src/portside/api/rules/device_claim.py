"""What a claim asks for: requests and their alternatives, constraints, settings. Shared by ResourceClaim and its template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api import names
from portside.api.field import FieldError, invalid_value, required
from portside.api.rules import device_declared as declared
from portside.api.rules import device_selector
from portside.api.rules.declared import ABSENT
from portside.api.rules.device_names import configuration, label, toleration

Json = dict[str, Any]
Errors = list[FieldError]
_REFERENCE = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
_UNION = "exactly one of `exactly` or `firstAvailable` is required"
_CONSTRAINT = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'


def each(values: list[Any] | None, most: int, check: Callable[[Any, str], Errors], path: str) -> Errors:
    """Every item's problems; none of a list that is too long, which is said once, elsewhere."""
    if not values or len(values) > most:
        return []
    return [e for i, value in enumerate(values) for e in check(value, f"{path}[{i}]")]


def request_names(spec: Json) -> dict[str, set[str]]:
    """The requests of a claim and the alternatives of each."""
    requests = (spec.get("devices") or {}).get("requests") or []
    return {r.get("name") or "": {a.get("name") or "" for a in r.get("firstAvailable") or ()} for r in requests}


def reference(name: str, path: str, known: dict[str, set[str]]) -> Errors:
    """``request`` or ``request/alternative``."""
    parts = name.split("/")
    if len(parts) > 2:
        return [invalid_value(path, name, _REFERENCE)]
    errors = [e for part in parts for e in label(part, path)]
    if parts[0] not in known or (len(parts) == 2 and parts[1] not in known[parts[0]]):
        errors.append(invalid_value(path, name, _REFERENCE))
    return errors


def references(holder: Json, path: str, known: dict[str, set[str]]) -> Errors:
    check = lambda name, at: reference(name, at, known)  # noqa: E731
    return each(holder.get("requests"), declared.MOST_REQUESTS, check, f"{path}.requests")


def _amount(request: Json, path: str) -> Errors:
    mode, count = request.get("allocationMode"), request.get("count") or 0
    if mode == "All" and count:
        text = "must not be specified when allocationMode is 'All'"
        return [invalid_value(f"{path}.count", count, text)]
    if mode == "ExactCount" and count <= 0:
        return [invalid_value(f"{path}.count", count, "must be greater than zero")]
    return []


def _device_request(request: Json, path: str) -> Errors:
    errors = device_selector.validate(request.get("selectors"), f"{path}.selectors")
    errors += _amount(request, path)
    for i, one in enumerate(request.get("tolerations") or ()):
        errors += toleration(one, f"{path}.tolerations[{i}]")
    return errors


def _alternative(request: Json, path: str) -> Errors:
    return label(request.get("name") or "", f"{path}.name") + _device_request(request, path)


def _exactly(request: Json, path: str) -> Errors:
    name, at = request.get("deviceClassName") or "", f"{path}.deviceClassName"
    errors = [invalid_value(at, name, p) for p in names.is_subdomain(name)] if name else [required(at)]
    return errors + _device_request(request, path)


def _request(request: Json, path: str) -> Errors:
    errors = label(request.get("name") or "", f"{path}.name")
    exactly, alternatives = request.get("exactly"), request.get("firstAvailable")
    if exactly is None and not alternatives:
        errors.append(required(path, _UNION))
    elif exactly is not None and alternatives:
        errors.append(invalid_value(path, None, f"{_UNION}, but multiple fields are set"))
    elif exactly is not None:
        errors += _exactly(exactly, f"{path}.exactly")
    else:
        errors += each(alternatives, declared.MOST_ALTERNATIVES, _alternative, f"{path}.firstAvailable")
    return errors


def _constraint(constraint: Json, path: str, known: dict[str, set[str]]) -> Errors:
    errors = references(constraint, path, known)
    if constraint.get("matchAttribute") is None and constraint.get("distinctAttribute") is None:
        errors.append(required(path, _CONSTRAINT))
    return errors


def validate(spec: Json, path: str) -> Errors:
    """A claim's specification: what is written by hand upstream, then what is declared."""
    devices, at = spec.get("devices") or {}, f"{path}.devices"
    known = request_names(spec)
    errors = each(devices.get("requests"), declared.MOST_REQUESTS, _request, f"{at}.requests")
    errors += each(
        devices.get("constraints"),
        declared.MOST_CONSTRAINTS,
        lambda c, where: _constraint(c, where, known),
        f"{at}.constraints",
    )
    errors += each(
        devices.get("config"),
        declared.MOST_CONFIGS,
        lambda c, where: references(c, where, known) + configuration(c, where),
        f"{at}.config",
    )
    return errors + declared.CLAIM_SPEC(spec, ABSENT, path)
