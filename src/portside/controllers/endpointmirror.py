"""Mirrors Endpoints that users write by hand, for services without a selector, into EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from portside.client.cache import View, split_key
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers.endpoint import SERVICES, family
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, Thinking, delete
from portside.controllers.pods import is_terminating
from portside.controllers.slices import MANAGED_BY, SERVICE_NAME, SLICES, Group, labels_for, reconcile

ENDPOINTS: Resource = ("", "v1", "endpoints")
MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
DROPPED = frozenset(
    {"kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"}
)
MOST = 1000  # addresses mirrored per subset
TOO_MANY = "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped"


def _wanted(view: View, endpoints: Json | None, namespace: str, name: str) -> bool:
    service = view.get(SERVICES, namespace, name)
    if endpoints is None or is_terminating(endpoints) or service is None:
        return False
    meta = endpoints["metadata"]
    if (meta.get("labels") or {}).get(SKIP) == "true" or LEADER in (meta.get("annotations") or {}):
        return False
    return not service["spec"].get("selector")


def _entries(subset: Json) -> list[tuple[Json, bool]]:
    """Addresses, and whether they are ready."""
    ready, waiting = subset.get("addresses") or (), subset.get("notReadyAddresses") or ()
    return [*((a, True) for a in ready), *((a, False) for a in waiting)]


def _desired(endpoints: Json) -> dict[Group, list[Json]]:
    found: dict[Group, list[Json]] = {}
    for subset in endpoints.get("subsets") or ():
        ports = [{"name": "", "protocol": "TCP", **p} for p in subset.get("ports") or ()]
        raw = orjson.dumps(ports, option=orjson.OPT_SORT_KEYS)
        for address, ready in _entries(subset)[:MOST]:
            made: Json = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
            for field in ("hostname", "nodeName", "targetRef"):
                if address.get(field):
                    made[field] = address[field]
            found.setdefault((family(address["ip"]), raw), []).append(made)
    return found


def plan(view: View, key: str, now: float) -> Thinking:
    """The mirror of one Endpoints object."""
    namespace, name = split_key(key)
    endpoints = view.get(ENDPOINTS, namespace, name)
    mirrored = [
        p
        for p in view.in_namespace(SLICES, namespace)
        if (p["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER
        and (p["metadata"].get("labels") or {}).get(SERVICE_NAME) == name
        and not is_terminating(p)
    ]
    if endpoints is None or not _wanted(view, endpoints, namespace, name):
        return Plan([delete(SLICES, p) for p in mirrored]) if mirrored else NOTHING
    draft = Draft()
    annotations = {k: v for k, v in (endpoints["metadata"].get("annotations") or {}).items() if k not in DROPPED}
    left_out = sum(max(len(_entries(s)) - MOST, 0) for s in endpoints.get("subsets") or ())
    if left_out:
        draft.add(Emit(endpoints, "Warning", "TooManyAddressesToMirror", TOO_MANY.format(MOST, left_out)))
    labels = labels_for(endpoints, name, MANAGER, headless=False)
    yield from reconcile(draft, endpoints, "Endpoints", mirrored, _desired(endpoints), labels, annotations)
    return draft.plan()


def _same_name(view: View, obj: Json) -> Iterable[str]:
    yield f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _slices(view: View, piece: Json) -> Iterable[str]:
    labels = piece["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) == MANAGER and labels.get(SERVICE_NAME):
        yield f"{piece['metadata']['namespace']}/{labels[SERVICE_NAME]}"


CONTROLLER = Controller(
    "endpoint-slice-mirroring-controller",
    ENDPOINTS,
    plan,
    watches={SERVICES: _same_name, SLICES: _slices},
    relevant={SERVICES: (Fact(lambda s: s["spec"].get("selector"), "spec"),)},
)
