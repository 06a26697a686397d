"""Topology hints of a Service that asks for them by annotation: endpoints are shared out to zones by the zones' processors.

Each zone gets its own endpoints first; zones with more than their share give some to those with less. Where no zone can be
kept from being overloaded by more than a fifth there are no hints, and an event says why. Rules and figures are upstream's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from portside.api import quantity
from portside.client.protocol import Json
from portside.controllers.pods import condition

MODES = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")  # the first counts first
ZONE = "topology.kubernetes.io/zone"
EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
OVERLOAD = 0.2
NO_NODES = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
FEW = "Insufficient number of endpoints ({} endpoints, {} zones)"
OVERLOADED = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
OVERLOADED_SIZES = OVERLOADED + " ({} endpoints, {} zones)"
NO_ZONE = "One or more endpoints do not have a zone specified"
ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"


def wanted(service: Json) -> bool:
    """The annotation asks for hints."""
    notes = service["metadata"].get("annotations") or {}
    said = next((notes[m] for m in MODES if m in notes), "")
    return said in ("Auto", "auto")


def facts(node: Json) -> tuple[object, ...]:
    """What of a node matters here."""
    labels = node["metadata"].get("labels") or {}
    ready = (condition(node, "Ready") or {}).get("status") == "True"
    cpu = ((node.get("status") or {}).get("allocatable") or {}).get("cpu")
    return labels.get(ZONE), ready, cpu, any(e in labels for e in EXCLUDED)


def shares(nodes: Iterable[Json]) -> dict[str, float]:
    """Each zone's part of all processors; empty when it is not known, or there is but one zone."""
    by_zone: dict[str, int] = {}
    for node in nodes:
        zone, ready, cpu, excluded = facts(node)
        if excluded or not ready:
            continue
        size = quantity.milli(str(cpu or "0"))
        if not zone or not size:
            return {}
        by_zone[str(zone)] = by_zone.get(str(zone), 0) + size
    total = sum(by_zone.values())
    return {z: size / total for z, size in sorted(by_zone.items())} if len(by_zone) > 1 else {}


@dataclass(frozen=True, slots=True)
class Hinted:
    """The endpoints with their hints; or, with ``why``, without any."""

    endpoints: list[Json]
    why: str = ""


def _ready(endpoint: Json) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False


def _targets(zones: dict[str, float], count: int) -> tuple[dict[str, float], str]:
    """How many endpoints each zone should have, or why that can't be."""
    if not zones:
        return {}, NO_NODES
    if len(zones) > count:
        return {}, FEW.format(count, len(zones))
    least = {z: math.ceil(share * count / (1 + OVERLOAD)) for z, share in zones.items()}
    if sum(least.values()) > count:
        return {}, OVERLOADED_SIZES.format(count, len(zones))
    return {z: max(share * count, float(least[z])) for z, share in zones.items()}, ""


def hinted(endpoints: list[Json], zones: dict[str, float]) -> Hinted:
    """Endpoints of one address family, with ``forZones`` on those that are ready."""
    bare = [{k: v for k, v in e.items() if k != "hints"} for e in endpoints]
    ready = [e for e in bare if _ready(e)]
    targets, why = _targets(zones, len(ready))
    if not why and any(not e.get("zone") for e in ready):
        why = NO_ZONE
    if why:
        return Hinted(bare, why)
    have = {z: float(sum(1 for e in ready if e["zone"] == z)) for z in {*targets, *(e["zone"] for e in ready)}}
    giving, receiving = _moves(have, targets)
    for endpoint in ready:
        zone = endpoint["zone"]
        if giving.get(zone) and receiving:
            giving[zone] -= 1
            zone = next(iter(receiving))
            receiving[zone] -= 1
            receiving = {z: n for z, n in receiving.items() if n}
        endpoint["hints"] = {"forZones": [{"name": zone}]}
    return Hinted(bare)


def _moves(have: dict[str, float], targets: dict[str, float]) -> tuple[dict[str, int], dict[str, int]]:
    """Endpoints that zones give, and that zones receive; half a one is not moved."""
    over = {z: have[z] - t for z, t in targets.items() if have[z] > t}
    under = {z: t - have[z] for z, t in targets.items() if have[z] < t}
    giving: dict[str, int] = {}
    receiving: dict[str, int] = {}
    while over and under:
        most = max(sorted(over), key=lambda z: over[z])
        least = max(sorted(under), key=lambda z: under[z])
        if min(over[most], under[least]) < 0.5 or max(over[most], under[least]) < 1.0:
            break
        giving[most] = giving.get(most, 0) + 1
        receiving[least] = receiving.get(least, 0) + 1
        over[most] -= 1
        under[least] -= 1
    return giving, receiving
