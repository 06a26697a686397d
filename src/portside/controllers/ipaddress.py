"""IPAddress objects: one for each address of a Service, so that people and other controllers see what is taken.

The API server gives the addresses out; here their records follow. Records of addresses that no Service holds go; those that
others made stay, and their addresses are never given out.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from portside.base.clock import parse_time
from portside.client.cache import View
from portside.client.news import Fact
from portside.client.protocol import Json
from portside.controllers.endpoint import SERVICES
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, create, delete
from portside.controllers.pods import is_terminating
from portside.controllers.servicecidr import ADDRESSES, CIDRS, ranges

NAME = "ipallocator-repair-controller"
MANAGED, MANAGER = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
FAMILY = "ipaddress.kubernetes.io/ip-family"
YOUNG = 1.0  # seconds in which a record may be ahead of its Service: those of a life before, right after a start
OUT_OF_RANGE = "Cluster IP [{}]: {} is not within any configured Service CIDR; please recreate service"
WRONG = "the ClusterIP [{}]: {} for Service {}/{} has a wrong reference; repairing"
TWICE = "Cluster IP [{}]:{} was assigned to multiple services; please recreate service"


def addresses(service: Json) -> list[str]:
    """The cluster addresses a Service holds."""
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return []
    return [ip for ip in spec.get("clusterIPs") or () if ip and ip != "None"]


def family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _parent(service: Json) -> Json:
    meta = service["metadata"]
    return {"group": "", "resource": "services", "namespace": meta["namespace"], "name": meta["name"]}


def _record(address: str, service: Json) -> Json:
    labels = {FAMILY: family(address), MANAGED: MANAGER}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": address, "labels": labels},
        "spec": {"parentRef": _parent(service)},
    }


def plan_service(view: View, key: str, now: float) -> Plan:
    """Key: a Service."""
    service = view.key(SERVICES, key)
    if service is None or is_terminating(service):
        return NOTHING
    draft, meta = Draft(), service["metadata"]
    for address in addresses(service):
        kind = family(address)
        if not _in_range(view, address):
            draft.add(Emit(service, "Warning", "ClusterIPOutOfRange", OUT_OF_RANGE.format(kind, address)))
            continue
        held = view.get(ADDRESSES, "", address)
        if held is None:
            draft.add(create(ADDRESSES, _record(address, service), ignore=frozenset({409})))
        elif _refers(held, service):
            continue
        elif (other := _service_of(view, held)) is not None and address in addresses(other):
            draft.add(Emit(service, "Warning", "ClusterIPAlreadyAllocated", TWICE.format(kind, address)))
        else:
            if (held["metadata"].get("labels") or {}).get(MANAGED) != MANAGER:  # else of a Service that has just gone
                text = WRONG.format(kind, address, meta["namespace"], meta["name"])
                draft.add(Emit(service, "Warning", "ClusterIPNotAllocated", text))
            draft.add(delete(ADDRESSES, held), create(ADDRESSES, _record(address, service)))
    return draft.plan()


def _in_range(view: View, address: str) -> bool:
    return any(ip_address(address) in network for cidr in view.all(CIDRS) for network in ranges(cidr))


def _refers(record: Json, service: Json) -> bool:
    return all((record["spec"].get("parentRef") or {}).get(k) == v for k, v in _parent(service).items() if v)


def _service_of(view: View, record: Json) -> Json | None:
    parent = record["spec"].get("parentRef") or {}
    if parent.get("resource") != "services" or parent.get("group"):
        return None
    return view.get(SERVICES, str(parent.get("namespace") or ""), str(parent.get("name") or ""))


def plan_record(view: View, key: str, now: float) -> Plan:
    """Key: an IPAddress. Only our own are judged."""
    record = view.get(ADDRESSES, "", key)
    if record is None or (record["metadata"].get("labels") or {}).get(MANAGED) != MANAGER:
        return NOTHING
    service = _service_of(view, record)
    if service is not None and key in addresses(service):
        return NOTHING
    young = (parse_time(record["metadata"].get("creationTimestamp")) or now) + YOUNG - now
    if young > 0:
        return Plan(again=young)
    return Plan([delete(ADDRESSES, record)])


def _holder(view: View, record: Json) -> Iterable[str]:
    parent = record["spec"].get("parentRef") or {}
    if parent.get("resource") == "services":
        yield f"{parent.get('namespace', '')}/{parent.get('name', '')}"


def _records(view: View, service: Json) -> Iterable[str]:
    return addresses(service)


CONTROLLERS = (
    Controller(
        NAME,
        SERVICES,
        plan_service,
        watches={ADDRESSES: _holder},
        reads=(CIDRS,),
        workers=2,
        ignores=lambda old, new: old is not None and new is not None and addresses(old) == addresses(new),
    ),
    Controller(
        NAME,
        ADDRESSES,
        plan_record,
        watches={SERVICES: _records},
        relevant={SERVICES: (Fact(addresses, "spec"),)},
        workers=1,
    ),
)
