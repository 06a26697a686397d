"""The EndpointSlice controller: slices of at most 100 endpoints per address family and set of ports."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import orjson

from portside.client.cache import View, key_of, split_key
from portside.client.news import Fact
from portside.client.protocol import Json
from portside.controllers import topologyhints
from portside.controllers.endpoint import (
    NODES,
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
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, Thinking, at_once
from portside.controllers.pods import PODS, is_ready, is_terminating
from portside.controllers.slices import MANAGED_BY, SERVICE_NAME, SLICES, Group, labels_for, reconcile
from portside.controllers.triggertime import TriggerTimes

MANAGER = "endpointslice-controller.k8s.io"
AT_ONCE = 500  # pods that are looked at before others get a turn
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
    if topologyhints.wanted(service):
        return {}  # the annotation counts instead
    hints: Json = {}
    if wish in ("PreferClose", "PreferSameZone", "PreferSameNode") and zone:
        hints["forZones"] = [{"name": zone}]
    if wish == "PreferSameNode":
        hints["forNodes"] = [{"name": node}]
    return hints


def _desired(view: View, service: Json, pods: list[Json]) -> Generator[None, None, dict[Group, list[Json]]]:
    families = service["spec"].get("ipFamilies") or ["IPv4"]
    found: dict[Group, list[Json]] = {}
    for number, pod in enumerate(pods, 1):
        if number % AT_ONCE == 0:
            yield
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
    """Remembers which changes the slices already tell the time of, and which services have topology hints."""

    def __init__(self) -> None:
        self._times = TriggerTimes()
        self._hinted: set[tuple[str, str]] = set()

    def _by_zone(self, view: View, service: Json, desired: dict[Group, list[Json]], draft: Draft) -> None:
        """Hints by annotation, in place, for each address family; what becomes of them is told."""
        zones = topologyhints.shares(view.all(NODES)) if topologyhints.wanted(service) else {}
        for kind in sorted({group[0] for group in desired}):
            key = (key_of(service), kind)
            why = topologyhints.DISABLED if key in self._hinted else ""
            if topologyhints.wanted(service):
                groups = [g for g in desired if g[0] == kind]
                found = topologyhints.hinted([e for g in groups for e in desired[g]], zones)
                left = iter(found.endpoints)
                for group in groups:
                    desired[group] = [next(left) for _ in desired[group]]
                why = found.why
                if not why and key not in self._hinted:
                    self._hinted.add(key)
                    text = f"{topologyhints.ENABLED}, addressType: {kind}"
                    draft.add(Emit(service, "Normal", "TopologyAwareHintsEnabled", text))
            if why:
                self._hinted.discard(key)
                draft.add(Emit(service, "Warning", "TopologyAwareHintsDisabled", f"{why}, addressType: {kind}"))

    def plan(self, view: View, key: str, now: float) -> Plan:
        """The slices of one service; services without a selector have none of ours."""
        return at_once(self.think(view, key, now))

    def think(self, view: View, key: str, now: float) -> Thinking:
        """``plan`` in steps of some hundred pods."""
        namespace, name = split_key(key)
        service = view.get(SERVICES, namespace, name)
        if service is None or is_terminating(service):
            self._times.forget(key)
            self._hinted = {h for h in self._hinted if h[0] != key}
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
        pods = selected_pods(view, service)
        yield
        trigger = self._times.since(service, pods)
        yield
        desired = yield from _desired(view, service, pods)
        self._by_zone(view, service, desired, draft)
        yield from reconcile(draft, service, "Service", existing, desired, labels, trigger=trigger)
        return draft.plan()


def _slices(view: View, piece: Json) -> Iterable[str]:
    labels = piece["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY) == MANAGER and labels.get(SERVICE_NAME):
        yield f"{piece['metadata']['namespace']}/{labels[SERVICE_NAME]}"


def _by_annotation(view: View, node: Json) -> Iterable[str]:
    """Services whose hints follow the nodes."""
    return [key_of(s) for s in view.all(SERVICES) if topologyhints.wanted(s)]


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "endpoint-slice-controller",
        SERVICES,
        EndpointSlices().think,
        watches={PODS: services_of, SLICES: _slices, NODES: _by_annotation},
        relevant={PODS: RELEVANT, NODES: (Fact(topologyhints.facts),)},
        settle=0.02,
    )
