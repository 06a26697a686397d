"""The EndpointSlice controller: slices of at most 100 endpoints per address family and set of ports."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from portside.client.cache import View, split_key
from portside.client.protocol import Json
from portside.controllers.endpoint import (
    NODES,
    SERVICES,
    addresses,
    family,
    hostname,
    is_headless,
    ports_for,
    reference,
    relevant,
    selected_pods,
    serves,
    services_of,
)
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Plan
from portside.controllers.pods import PODS, is_ready, is_terminating
from portside.controllers.slices import MANAGED_BY, SERVICE_NAME, SLICES, Group, labels_for, reconcile
from portside.controllers.triggertime import TriggerTimes

MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"


def _endpoint(view: View, service: Json, pod: Json, address: str) -> Json:
    serving, terminating = is_ready(pod), is_terminating(pod)
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    made: Json = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": reference(pod),
    }
    if name := hostname(pod, service):
        made["hostname"] = name
    node_name = (pod.get("spec") or {}).get("nodeName")
    if node_name:
        made["nodeName"] = node_name
        node = view.get(NODES, "", node_name)
        zone = ((node or {"metadata": {}})["metadata"].get("labels") or {}).get(ZONE)
        if zone:
            made["zone"] = zone
        hints = _hints(service, node_name, zone)
        if hints and ready:
            made["hints"] = hints
    return made


def _hints(service: Json, node: str, zone: str | None) -> Json:
    wish = service["spec"].get("trafficDistribution")
    hints: Json = {}
    if wish in ("PreferClose", "PreferSameZone", "PreferSameNode") and zone:
        hints["forZones"] = [{"name": zone}]
    if wish == "PreferSameNode":
        hints["forNodes"] = [{"name": node}]
    return hints


def _desired(view: View, service: Json) -> dict[Group, list[Json]]:
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    found: dict[Group, list[Json]] = {}
    for pod in selected_pods(view, service):
        if not serves(pod, terminating=True):
            continue
        ports = orjson.dumps(ports_for(pod, service), option=orjson.OPT_SORT_KEYS)
        for address in addresses(pod):
            if family(address) in families:
                found.setdefault((family(address), ports), []).append(_endpoint(view, service, pod, address))
    for name in families:
        if not any(group[0] == name for group in found):
            found[(name, b"[]")] = []
    return found


class EndpointSlices:
    """Remembers which changes the slices already tell the time of."""

    def __init__(self) -> None:
        self._times = TriggerTimes()

    def plan(self, view: View, key: str, now: float) -> Plan:
        """The slices of one service; services without a selector have none of ours."""
        namespace, name = split_key(key)
        service = view.get(SERVICES, namespace, name)
        if service is None or is_terminating(service):
            self._times.forget(key)
            return NOTHING  # garbage collection takes the slices along
        if service["spec"].get("type") == "ExternalName" or not service["spec"].get("selector"):
            return NOTHING
        existing = [
            p
            for p in view.by(SLICES, "controller", service["metadata"]["uid"])
            if (p["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER and not is_terminating(p)
        ]
        draft = Draft()
        labels = labels_for(service, name, MANAGER, headless=is_headless(service))
        trigger = self._times.since(service, selected_pods(view, service))
        reconcile(draft, service, "Service", existing, _desired(view, service), labels, trigger=trigger)
        return draft.plan()


def _slices(view: View, piece: Json) -> Iterable[str]:
    labels = piece["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) == MANAGER and labels.get(SERVICE_NAME):
        yield f"{piece['metadata']['namespace']}/{labels[SERVICE_NAME]}"


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "endpoint-slice-controller",
        SERVICES,
        EndpointSlices().plan,
        watches={PODS: services_of, SLICES: _slices},
        reads=(NODES,),
        relevant={PODS: relevant},
        settle=0.02,
    )
