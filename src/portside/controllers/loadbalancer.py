"""Services of type LoadBalancer get the addresses of the nodes that carry service rules, as far as their ports are free."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View, key_of
from portside.client.news import Fact
from portside.client.protocol import Json
from portside.controllers.clusterdns import announced, is_ready
from portside.controllers.endpoint import NODES, SERVICES
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Emit, Plan, update
from portside.controllers.pods import TERMINATING, is_terminating
from portside.controllers.slices import SERVICE_NAME, SLICES

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
SSH = 22

Port = tuple[str, int]


def wanted(service: Json) -> bool:
    """Whether the Service asks us: another class is another controller's."""
    spec = service["spec"]
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass") and not is_terminating(service)


def _ports(service: Json) -> set[Port]:
    return {(p.get("protocol", "TCP"), int(p["port"])) for p in service["spec"].get("ports") or ()}


def _address(node: Json) -> str:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((a["address"] for a in addresses if a["type"] == "InternalIP" and ":" not in a["address"]), "")


def _nodes(view: View) -> list[Json]:
    """Nodes that carry service rules and are meant for outside traffic."""
    found = [n for n in view.all(NODES) if announced(n) and _address(n)]
    return [n for n in found if EXCLUDED not in (n["metadata"].get("labels") or {})]


def _reserved(view: View) -> dict[Port, str]:
    """Ports of the nodes themselves: a Service there would lock people out of them."""
    found: dict[Port, str] = {("TCP", SSH): "the nodes' secure shell"}
    for node in view.all(NODES):
        port = (((node.get("status") or {}).get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
        if port:
            found[("TCP", int(port))] = "a node agent"
    kubernetes = view.get(SLICES, "default", "kubernetes") or {}
    for entry in kubernetes.get("ports") or ():
        found[("TCP", int(entry["port"]))] = "the API server"
    return found


def _age(service: Json) -> tuple[str, str]:
    return str(service["metadata"].get("creationTimestamp") or ""), key_of(service)


def obstacle(view: View, service: Json) -> str:
    """Why the Service can't have the nodes' addresses, "" when it can. The older of two Services keeps a port."""
    own, mine = _ports(service), _age(service)
    for port, holder in _reserved(view).items():
        if port in own:
            return f"port {port[1]}/{port[0]} of the nodes' addresses belongs to {holder}"
    for other in view.all(SERVICES):
        if wanted(other) and _age(other) < mine and (shared := own & _ports(other)):
            protocol, number = min(shared)
            return f"port {number}/{protocol} of the nodes' addresses is taken by service {key_of(other)}"
    return ""


def _with_pods(view: View, service: Json) -> set[str]:
    """The nodes where ready pods of the Service run."""
    meta = service["metadata"]
    return {
        endpoint["nodeName"]
        for piece in view.in_namespace(SLICES, meta["namespace"])
        if (piece["metadata"].get("labels") or {}).get(SERVICE_NAME) == meta["name"]
        for endpoint in piece.get("endpoints") or ()
        if endpoint.get("nodeName") and (endpoint.get("conditions") or {}).get("ready") is not False
    }


def _ingress(view: View, service: Json) -> list[Json]:
    nodes = [n for n in _nodes(view) if is_ready(n)]
    if service["spec"].get("externalTrafficPolicy") == "Local":
        there = _with_pods(view, service)
        nodes = [n for n in nodes if n["metadata"]["name"] in there] or nodes
    return [{"ip": ip, "ipMode": "VIP"} for ip in sorted({_address(n) for n in nodes})]


def plan(view: View, key: str, now: float) -> Plan:
    """The Service's addresses; none when it is no load balancer any more."""
    service = view.key(SERVICES, key)
    if service is None or is_terminating(service):
        return NOTHING
    held = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    why = ""
    if wanted(service):
        if not _nodes(view):
            return NOTHING  # no node here carries service rules: another controller may answer
        why = obstacle(view, service)
        ingress = [] if why else _ingress(view, service)
    else:
        ours = {_address(n) for n in _nodes(view)}
        if service["spec"].get("type") == "LoadBalancer" or not held or not {i.get("ip") for i in held} <= ours:
            return NOTHING
        ingress = []
    steps: list[Emit] = []
    if why:
        steps = [Emit(service, "Warning", "SyncLoadBalancerFailed", f"Error syncing load balancer: {why}")]
    if ingress == held:
        return Plan(steps)
    status = {**(service.get("status") or {}), "loadBalancer": {"ingress": ingress} if ingress else {}}
    done = Emit(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
    write = update(
        SERVICES, {**service, "status": status}, subresource="status", ok=lambda _: [done] if ingress else []
    )
    return Plan([*steps, write])


def _all(view: View) -> list[str]:
    return [key_of(s) for s in view.all(SERVICES) if s["spec"].get("type") == "LoadBalancer"]


def _of_node(view: View, node: Json) -> Iterable[str]:
    return _all(view) if announced(node) else ()


def _siblings(view: View, obj: Json) -> Iterable[str]:
    return _all(view) if obj["spec"].get("type") == "LoadBalancer" else ()


def _service_of(view: View, piece: Json) -> Iterable[str]:
    name = (piece["metadata"].get("labels") or {}).get(SERVICE_NAME)
    service = view.get(SERVICES, piece["metadata"]["namespace"], name) if name else None
    return (key_of(service),) if service and service["spec"].get("externalTrafficPolicy") == "Local" else ()


CONTROLLER = Controller(
    "service-controller",
    SERVICES,
    plan,
    watches={NODES: _of_node, SLICES: _service_of, SERVICES: _siblings},
    relevant={
        NODES: (
            Fact(announced),
            Fact(is_ready, "status"),
            Fact(_address, "status"),
            Fact(lambda node: EXCLUDED in (node["metadata"].get("labels") or {})),
        ),
        SERVICES: (Fact(lambda service: service["spec"], "spec"), TERMINATING),
    },
    workers=1,
)
