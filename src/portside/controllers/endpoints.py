"""The Endpoints controller: the older form of a Service's endpoints, still read by some clients."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.endpoint import (
    HEADLESS,
    RELEVANT,
    SERVICES,
    addresses,
    family,
    hostname,
    is_headless,
    ports_for,
    reference,
    selected_pods,
    serves,
    services_of,
)
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, create, delete, update
from portside.controllers.pods import PODS, is_ready
from portside.controllers.triggertime import TriggerTimes, annotated

ENDPOINTS: Resource = ("", "v1", "endpoints")
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MOST = 1000  # addresses in one object


def _address(pod: Json, service: Json, ip: str) -> Json:
    made: Json = {"ip": ip, "targetRef": reference(pod)}
    if (pod.get("spec") or {}).get("nodeName"):
        made["nodeName"] = pod["spec"]["nodeName"]
    if name := hostname(pod, service):
        made["hostname"] = name
    return made


def _subsets(pods: list[Json], service: Json) -> tuple[list[Json], bool]:
    """Addresses packed by equal ports; whether some had to be left out."""
    wanted = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
    publish = bool(service["spec"].get("publishNotReadyAddresses"))
    groups: dict[bytes, Json] = {}
    total, truncated = 0, False
    for pod in pods:
        if not serves(pod, terminating=publish):
            continue
        ip = next((a for a in addresses(pod) if family(a) == wanted), None)
        ports = ports_for(pod, service)
        if ip is None or (not ports and not (is_headless(service) and not service["spec"].get("ports"))):
            continue
        if total >= MOST:
            truncated = True
            break
        total += 1
        for port in [[p] for p in ports] or [[]]:
            # Upstream packs one port at a time and then joins equal address sets.
            group = groups.setdefault(orjson.dumps(port), {"ready": [], "not": []})
            group["ready" if publish or is_ready(pod) else "not"].append(_address(pod, service, ip))
    joined: dict[bytes, Json] = {}
    for raw, group in groups.items():
        subset = joined.setdefault(orjson.dumps([group["ready"], group["not"]]), {})
        if group["ready"]:
            subset["addresses"] = sorted(group["ready"], key=lambda a: str(a["ip"]))
        if group["not"]:
            subset["notReadyAddresses"] = sorted(group["not"], key=lambda a: str(a["ip"]))
        ports = subset.get("ports", []) + [_port(p) for p in orjson.loads(raw)]
        if ports:
            subset["ports"] = ports
    return list(joined.values()), truncated


def _port(port: Json) -> Json:
    return {k: v for k, v in port.items() if v != ""}


class EndpointsPlans:
    """Remembers which changes the objects already tell the time of."""

    def __init__(self) -> None:
        self._times = TriggerTimes()

    def plan(self, view: View, key: str, now: float) -> Plan:
        """The Endpoints object of one service, named like it."""
        namespace, name = split_key(key)
        service = view.get(SERVICES, namespace, name)
        held = view.get(ENDPOINTS, namespace, name)
        if service is None:
            self._times.forget(key)
            ours = held is not None and MANAGED_BY in (held["metadata"].get("labels") or {})
            return Plan([delete(ENDPOINTS, held)]) if ours and held is not None else NOTHING
        if service["spec"].get("type") == "ExternalName" or not service["spec"].get("selector"):
            return NOTHING
        labels = {k: v for k, v in (service["metadata"].get("labels") or {}).items() if k != HEADLESS}
        labels[MANAGED_BY] = MANAGER
        if is_headless(service):
            labels[HEADLESS] = ""
        pods = selected_pods(view, service)
        subsets, truncated = _subsets(pods, service)
        trigger = self._times.since(service, pods)
        annotations = dict((held or {"metadata": {}})["metadata"].get("annotations") or {})
        annotations.pop(OVER_CAPACITY, None)
        if truncated:
            annotations[OVER_CAPACITY] = "truncated"
        if held is None:
            meta: Json = {"name": name, "namespace": namespace, "labels": labels}
            if annotations or trigger:
                meta["annotations"] = annotated(annotations, trigger)
            body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets}
            return Plan([create(ENDPOINTS, body)])
        meta = held["metadata"]
        same = (
            (meta.get("labels") or {}) == labels
            and (meta.get("annotations") or {}) == annotations
            and _sorted(held.get("subsets") or []) == _sorted(subsets)
        )
        if same:
            return NOTHING
        meta = {**meta, "labels": labels, "annotations": annotated(annotations, trigger)}
        return Plan([update(ENDPOINTS, {**held, "metadata": meta, "subsets": subsets})])


def _sorted(subsets: list[Json]) -> list[bytes]:
    return sorted(orjson.dumps(s, option=orjson.OPT_SORT_KEYS) for s in subsets)


def _own(view: View, obj: Json) -> Iterable[str]:
    if MANAGED_BY in (obj["metadata"].get("labels") or {}):
        yield f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "endpoint-controller",
        SERVICES,
        EndpointsPlans().plan,
        watches={PODS: services_of, ENDPOINTS: _own},
        relevant={PODS: RELEVANT},
        settle=0.02,
    )
