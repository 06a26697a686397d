"""What was given to a claim: the allocation, who reserved it, what the devices report."""

from __future__ import annotations

import ipaddress
from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, required, too_many
from portside.api.rules import device_declared as declared
from portside.api.rules.conditions import validate_conditions
from portside.api.rules.device_claim import each, reference, references, request_names
from portside.api.rules.device_names import (
    binding_conditions,
    configuration,
    driver,
    label,
    pool,
    raw_object,
    toleration,
)
from portside.api.rules.pod_affinity import validate_node_selector

Json = dict[str, Any]
Errors = list[FieldError]
LONGEST_DATA = 10 * 1024
MOST_DEVICE_CONDITIONS = 8
MOST_ADDRESSES = 16
_ADDRESS = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"


def _identity(device: Json) -> Json:
    """A device of an allocation as upstream prints its key."""
    shown = {k.capitalize(): device.get(k) or "" for k in ("driver", "pool", "device")}
    return shown | {"ShareID": device.get("shareID") or ""}


def _user(user: Json, path: str) -> Errors:
    return [required(f"{path}.{f}") for f in ("resource", "name", "uid") if not user.get(f)]


def _address(text: str, path: str) -> Errors:
    """An interface's address: written as it is usually written, with the length of its network."""
    try:
        found = ipaddress.ip_interface(text) if "/" in text else None
    except ValueError:
        found = None
    if found is None:
        return [invalid_value(path, text, _ADDRESS)]
    if str(found) != text:
        return [invalid_value(path, text, f'must be in canonical form ("{found}")')]
    return []


def _device(device: Json, path: str, allocated: list[Json]) -> Errors:
    errors = driver(device.get("driver") or "", f"{path}.driver")
    errors += pool(device.get("pool") or "", f"{path}.pool")
    errors += label(device.get("device") or "", f"{path}.device")
    mine = _identity(device)
    if mine not in allocated:
        errors.append(invalid_value(path, mine, "must be an allocated device in the claim"))
    conditions = device.get("conditions") or []
    if len(conditions) > MOST_DEVICE_CONDITIONS:
        errors.append(too_many(f"{path}.conditions", len(conditions), MOST_DEVICE_CONDITIONS))
    errors += validate_conditions(conditions, f"{path}.conditions")
    if device.get("data") is not None:
        errors += raw_object(device["data"], f"{path}.data", LONGEST_DATA)
    network = device.get("networkData") or {}
    return errors + each(network.get("ips"), MOST_ADDRESSES, _address, f"{path}.networkData.ips")


def _reservation(obj: Json, status: Json, before: Json) -> Errors:
    reserved, path = status.get("reservedFor") or [], "status.reservedFor"
    if not reserved:
        return []
    if status.get("allocation") is None:
        return [forbidden_field(path, "may not be specified when `allocated` is not set")]
    had = before.get("reservedFor") or []
    if obj["metadata"].get("deletionTimestamp") and any(r not in had for r in reserved):
        text = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        return [forbidden_field(path, text)]
    return []


def _result(result: Json, path: str, known: dict[str, set[str]]) -> Errors:
    errors = reference(result.get("request") or "", f"{path}.request", known)
    errors += label(result.get("device") or "", f"{path}.device")
    errors += binding_conditions(result, path)
    for i, one in enumerate(result.get("tolerations") or ()):
        errors += toleration(one, f"{path}.tolerations[{i}]")
    return errors


def _allocation(allocation: Json, path: str, known: dict[str, set[str]]) -> Errors:
    devices, at = allocation.get("devices") or {}, f"{path}.devices"
    errors = each(
        devices.get("results"), declared.MOST_RESULTS, lambda r, where: _result(r, where, known), f"{at}.results"
    )
    errors += each(
        devices.get("config"),
        2 * declared.MOST_CONFIGS,
        lambda c, where: references(c, where, known) + configuration(c, where),
        f"{at}.config",
    )
    if allocation.get("nodeSelector") is not None:
        errors += validate_node_selector(allocation["nodeSelector"], f"{path}.nodeSelector")
    return errors


def drop_deallocated(obj: Json, old: Json) -> None:
    """Reports of devices that were taken back go with them."""
    status, before = obj.get("status") or {}, old.get("status") or {}
    if not status.get("devices"):
        return
    had, have = ([_identity(r) for r in _results(s)] for s in (before, status))
    gone = [d for d in had if d not in have]
    kept = [d for d in status["devices"] if _identity(d) not in gone]
    if kept:
        status["devices"] = kept
    else:
        del status["devices"]


def _results(status: Json) -> list[Json]:
    return ((status.get("allocation") or {}).get("devices") or {}).get("results") or []


def validate(obj: Json, old: Json) -> Errors:
    """A write of the status. An allocation is made once and then only taken back."""
    status, before, known = obj.get("status") or {}, old.get("status") or {}, request_names(obj.get("spec") or {})
    errors = each(status.get("reservedFor"), declared.MOST_RESERVED, _user, "status.reservedFor")
    allocated = [_identity(r) for r in _results(status)]
    for i, device in enumerate(status.get("devices") or ()):
        errors += _device(device, f"status.devices[{i}]", allocated)
    errors += _reservation(obj, status, before)
    mine, theirs = status.get("allocation"), before.get("allocation")
    if mine is not None and theirs is None:
        errors += _allocation(mine, "status.allocation", known)
    if mine is not None and theirs is not None:
        if mine != theirs:
            errors.append(invalid_value("status.allocation", None, "field cannot be modified once set"))
        rest = {k: v for k, v in status.items() if k != "allocation"}
        return errors + declared.CLAIM_STATUS(rest, {k: v for k, v in before.items() if k != "allocation"}, "status")
    return errors + declared.CLAIM_STATUS(status, before, "status")
