"""Taints of devices: which devices a DeviceTaintRule selects, and which tolerations of a request bear a taint."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
PREVENT = ("NoSchedule", "NoExecute")  # effects that keep new allocations away


def tolerates(toleration: Json, taint: Json) -> bool:
    """One toleration of a device request against one taint; without effect or key it is for all of them."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Equal":
        return (toleration.get("value") or "") == (taint.get("value") or "")
    return bool(operator == "Exists")


def selects(rule: Json, driver: str, pool: str, device: str) -> bool:
    """Whether a DeviceTaintRule is about this device. One without a selector is about none."""
    selector = rule["spec"].get("deviceSelector")
    if selector is None:
        return False
    given = {"driver": driver, "pool": pool, "device": device}
    return all(selector.get(field) in (None, value) for field, value in given.items())
