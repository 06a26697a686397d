"""Devices that have to be made ready first (KEP-5007): what a claim's drivers still owe before its pod may be bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portside.base.clock import parse_time

Json = dict[str, Any]
BINDING_SECONDS = 600.0  # upstream's default bindingTimeout, from the allocation's time


def _results(claim: Json) -> list[Json]:
    given = (claim.get("status") or {}).get("allocation") or {}
    return (given.get("devices") or {}).get("results") or []


def _binding(claim: Json) -> Iterator[tuple[Json, dict[str, Json]]]:
    """(result, the conditions its driver reports) of the devices with binding conditions."""
    reports = (claim.get("status") or {}).get("devices") or ()
    for result in _results(claim):
        if result.get("bindingConditions"):
            fields = ("driver", "pool", "device")
            mine: Json = next((r for r in reports if all(r.get(f) == result.get(f) for f in fields)), {})
            yield result, {c["type"]: c for c in mine.get("conditions") or ()}


def awaited(claim: Json) -> bool:
    """Whether the claim holds a device that has to be made ready."""
    return any(r.get("bindingConditions") for r in _results(claim))


def failed(claim: Json) -> str:
    """Why a device can't be made ready, "" as long as no driver says so."""
    for result, said in _binding(claim):
        for name in result.get("bindingFailureConditions") or ():
            condition = said.get(name) or {}
            if condition.get("status") == "True":
                about = f"claim={claim['metadata']['name']}, reason={condition.get('reason', '')}"
                return f'device binding failed: {about}, message="{condition.get("message", "")}"'
    return ""


def ready(claim: Json) -> bool:
    """Whether every driver says of its devices all that has to be true."""
    return all(
        (said.get(name) or {}).get("status") == "True"
        for result, said in _binding(claim)
        for name in result["bindingConditions"]
    )


def late(claim: Json, now: float) -> bool:
    """Whether the time for it is over."""
    stamp = ((claim.get("status") or {}).get("allocation") or {}).get("allocationTimestamp")
    since = parse_time(stamp) if stamp else None
    return awaited(claim) and since is not None and since + BINDING_SECONDS < now


def gave_up(claim: Json, now: float) -> bool:
    """Whether an allocated claim will not become usable."""
    return bool(failed(claim)) or (not ready(claim) and late(claim, now))
