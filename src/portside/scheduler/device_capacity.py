"""What a request takes of a device's capacity (KEP-5075): rounded by the device's policy, and whether that much is left."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from portside.api.quantity import canonical, form_of, format_value, parse

Json = dict[str, Any]
Amounts = Mapping[str, Decimal]
NONE: Amounts = {}


def consumed(capacity: Json, requests: Json) -> dict[str, str] | None:
    """What is used of each capacity, as canonical text; None when the device cannot give what is asked.

    Without a request it is the policy's default, and without that all of it.
    """
    if any(name not in capacity for name in requests):
        return None
    found = {}
    for name, held in capacity.items():
        policy = held.get("requestPolicy") or {}
        text = _rounded(requests.get(name), held, policy)
        if parse(text) < 0 or _violates(parse(text), policy):
            return None
        found[name] = text
    return found


def fits(capacity: Json, wanted: Mapping[str, str], *taken: Amounts) -> bool:
    """Whether so much is left beside what others have ``taken``."""
    none = Decimal(0)
    return all(
        parse(text) + sum((t.get(name, none) for t in taken), none) <= parse(capacity[name]["value"])
        for name, text in wanted.items()
    )


def _rounded(asked: str | None, held: Json, policy: Json) -> str:
    if asked is None:
        return canonical(policy.get("default") or held["value"])
    within = policy.get("validRange") or {}
    if (least := within.get("min")) is not None:
        return _in_range(asked, least, within.get("step"))
    larger = [v for v in policy.get("validValues") or () if parse(v) >= parse(asked)]
    return canonical(larger[0] if larger else asked)


def _in_range(asked: str, least: str, step: str | None) -> str:
    if parse(asked) < parse(least):
        return canonical(least)
    if step is None:
        return canonical(asked)
    steps = ((parse(asked) - parse(least)) / parse(step)).to_integral_value(ROUND_CEILING)
    return format_value(parse(least) + steps * parse(step), form_of(step))


def _violates(amount: Decimal, policy: Json) -> bool:
    if policy.get("default") is not None and amount == parse(policy["default"]):
        return False
    if (within := policy.get("validRange")) is not None:
        if within.get("max") is not None and amount > parse(within["max"]):
            return True
        step = within.get("step")
        return step is not None and (amount - parse(within["min"])) % parse(step) != 0
    values = policy.get("validValues") or ()
    return bool(values) and all(amount != parse(v) for v in values)
