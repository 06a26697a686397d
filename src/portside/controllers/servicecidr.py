"""Guards ServiceCIDRs while addresses of theirs are in use, and says whether they are ready."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from portside.base.clock import parse_time
from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import condition, is_terminating

CIDRS: Resource = ("networking.k8s.io", "v1", "servicecidrs")
ADDRESSES: Resource = ("networking.k8s.io", "v1", "ipaddresses")
LAST_ADDRESSES = 10.0  # seconds in which an address given out before the deletion may still get its record
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
READY = ("True", "", "Kubernetes Service CIDR is ready")
IN_USE = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)
Network = IPv4Network | IPv6Network


def ranges(cidr: Json) -> list[Network]:
    """Ranges that can be read."""
    found: list[Network] = []
    for text in cidr["spec"].get("cidrs") or ():
        try:
            found.append(ip_network(text))
        except ValueError:
            continue
    return found


def in_use(view: View, cidr: Json) -> bool:
    """An address is in one of the ranges, and no other range that stays holds it."""
    others = [
        r
        for o in view.all(CIDRS)
        if o["metadata"]["uid"] != cidr["metadata"]["uid"] and not is_terminating(o)
        for r in ranges(o)
    ]
    for own in ranges(cidr):
        for held in view.all(ADDRESSES):
            try:
                address = ip_address(held["metadata"]["name"])
            except ValueError:
                continue
            if address in own and not any(address in other for other in others):
                return True
    return False


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a ServiceCIDR."""
    cidr = view.get(CIDRS, "", key)
    if cidr is None:
        return NOTHING
    finalizers = list(cidr["metadata"].get("finalizers") or ())
    if not is_terminating(cidr):
        if FINALIZER not in finalizers:
            return _finalizers(cidr, [*finalizers, FINALIZER])
        return _condition(cidr, READY, now)
    if FINALIZER not in finalizers:
        return NOTHING
    if in_use(view, cidr):
        return _condition(cidr, IN_USE, now)
    left = (parse_time(cidr["metadata"]["deletionTimestamp"]) or now) + LAST_ADDRESSES - now
    if left > 0:
        return Plan(again=left + 0.01)
    return _finalizers(cidr, [f for f in finalizers if f != FINALIZER])


def _finalizers(cidr: Json, kept: list[str]) -> Plan:
    meta = cidr["metadata"]
    body = {"metadata": {"finalizers": kept or None, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    return Plan([patch(CIDRS, cidr, body, ignore=frozenset({404}))])


def _condition(cidr: Json, wanted: tuple[str, str, str], now: float) -> Plan:
    held = condition(cidr, "Ready")
    if held is not None and (held.get("status"), held.get("reason"), held.get("message")) == wanted:
        return NOTHING
    new = cond.make("Ready", *wanted, now)
    conditions = cond.without((cidr.get("status") or {}).get("conditions") or [], "Ready")
    # The whole list is written: with the revision it was read at, so that nobody else's condition is lost.
    kept = {f: cidr["metadata"][f] for f in ("uid", "resourceVersion")}
    body = {"metadata": kept, "status": {"conditions": [*conditions, new]}}
    return Plan([patch(CIDRS, cidr, body, subresource="status", ignore=frozenset({404}))])


def _every(view: View, obj: Json) -> Iterable[str]:
    """Those that are on their way out: an address or another range may let them go."""
    return [c["metadata"]["name"] for c in view.all(CIDRS) if is_terminating(c)]


CONTROLLER = Controller(
    "service-cidr-controller",
    CIDRS,
    plan,
    watches={ADDRESSES: _every, CIDRS: _every},
    relevant={ADDRESSES: ()},
    workers=1,
)
