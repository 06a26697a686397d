"""Why a Service or Ingress reaches nothing: selectors, readiness, ports, classes, backends, certificates."""

from __future__ import annotations

from typing import Any

from portside.why.finding import Cause, Fact, Finding, Role, condition, describe, seen, shown, space, title
from portside.why.reach import backends, selected
from portside.why.world import World

Json = dict[str, Any]
ADDED = ("pod-template-hash", "controller-revision-hash", "pod-template-generation")
COMPARED = 200  # pods whose labels are looked at for the closest to a selector
SHOWN = 3  # pods named as evidence
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
LEGACY = "kubernetes.io/ingress.class"


def wants_endpoints(service: Json) -> bool:
    return bool(service["spec"].get("type") != "ExternalName")


def slices(world: World, service: Json) -> list[Json]:
    meta = service["metadata"]
    found = world.all("endpointslices", meta.get("namespace", ""))
    label = "kubernetes.io/service-name"
    return [s for s in found if (s["metadata"].get("labels") or {}).get(label) == meta["name"]]


def endpoints(world: World, service: Json, *, ready: bool = True) -> int:
    """How many endpoints the Service has; one without a word on readiness is ready."""
    listed = [e for s in slices(world, service) for e in s.get("endpoints") or ()]
    return sum(1 for e in listed if not ready or (e.get("conditions") or {}).get("ready") is not False)


def selects_nothing(world: World, service: Json) -> Finding | None:
    selector = service["spec"].get("selector")
    if not selector or not wants_endpoints(service) or not world.knows("pods") or selected(world, service):
        return None
    pods = world.all("pods", service["metadata"].get("namespace", ""))
    alike = {shown(_labels(p)): p for p in reversed(pods[:COMPARED])}.values()
    closest = sorted(alike, key=lambda p: -_shared(p, selector))[:SHOWN]
    near = [p for p in closest if _shared(p, selector)] or closest
    text = ", ".join(f"{k}={v}" for k, v in selector.items())
    return Finding(
        f"its selector {text} matches no pod in namespace {service['metadata'].get('namespace')}",
        (seen(service, "spec", "selector"), *(Fact(title(p), "metadata.labels", shown(_labels(p))) for p in near)),
        (
            f"kubectl get pods{space(service)} --show-labels",
            "make the selector and the labels of the pod template the same, or start the pods",
        ),
    )


def _labels(pod: Json) -> Json:
    """Without those that controllers add."""
    found: Json = pod["metadata"].get("labels") or {}
    return {
        k: v for k, v in found.items() if k not in ADDED and not k.startswith(("apps.kubernetes.io/", "statefulset."))
    }


def _shared(pod: Json, selector: dict[str, str]) -> float:
    """Keys and values in common; a key alone counts half."""
    labels = pod["metadata"].get("labels") or {}
    return sum(1.0 if labels.get(k) == v else 0.5 if k in labels else 0.0 for k, v in selector.items())


def no_selector(world: World, service: Json) -> Finding | None:
    if service["spec"].get("selector") or not wants_endpoints(service) or not world.knows("endpointslices"):
        return None
    if endpoints(world, service, ready=False):
        return None
    return Finding(
        "it has no selector, and nobody has given it endpoints",
        (seen(service, "spec", "selector"), Fact(title(service), "endpoint slices", "(none)")),
        (
            "set spec.selector to labels of the pods",
            "or write an EndpointSlice with the label kubernetes.io/service-name",
        ),
    )


def port_name_missing(world: World, service: Json) -> Finding | None:
    pods = selected(world, service)
    for number, port in enumerate(service["spec"].get("ports") or ()):
        wanted = port.get("targetPort")
        if not isinstance(wanted, str) or wanted.isdigit() or not pods:
            continue
        protocol = port.get("protocol", "TCP")
        if any(_has_port(p, wanted, protocol) for p in pods):
            continue
        names = [
            Fact(title(p), f"spec.containers[{c['name']}].ports", _ports(c)) for p in pods[:1] for c in _listening(p)
        ]
        return Finding(
            f"no container of its pods has a {protocol} port named {wanted}, to which port {port.get('port')} leads",
            (seen(service, "spec", "ports", number, "targetPort"), *names),
            ("name the port in the pod template, or give targetPort the number", describe(service)),
        )
    return None


def _listening(pod: Json) -> list[Json]:
    sidecars = [c for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return [*pod["spec"]["containers"], *sidecars]


def _has_port(pod: Json, name: str, protocol: str) -> bool:
    ports = [p for c in _listening(pod) for p in c.get("ports") or ()]
    return any(p.get("name") == name and p.get("protocol", "TCP") == protocol for p in ports)


def _ports(container: Json) -> str:
    listed = [f"{p.get('name', '(no name)')}={p['containerPort']}" for p in container.get("ports") or ()]
    return ", ".join(listed) or "(none)"


def none_ready(world: World, service: Json) -> Finding | None:
    pods = selected(world, service)
    if not pods or not world.knows("endpointslices") or endpoints(world, service):
        return None
    if service["spec"].get("publishNotReadyAddresses"):
        return None
    ready = [p for p in pods if condition(p, "Ready").get("status") == "True"]
    if ready:
        return None
    return Finding(
        f"none of its {len(pods)} pods is ready, so it has no endpoints",
        (
            seen(service, "spec", "selector"),
            *(seen(p, "status", "conditions", "Ready", "status") for p in pods[:SHOWN]),
        ),
        (f"portside why {title(pods[0])}{space(pods[0])}",),
    )


def no_address(world: World, service: Json) -> Finding | None:
    """A load balancer that nobody gave an address."""
    held = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    if service["spec"].get("type") != "LoadBalancer" or held:
        return None
    event = next((e for e in world.events(service) if e.get("type") == "Warning"), None)
    because = f": {event.get('message', '')}" if event else ": nobody has given it one"
    return Finding(
        f"it has no address from outside{because}",
        (seen(service, "spec", "type"), seen(service, "status", "loadBalancer"), *world.told(service, event)),
        ("use type NodePort, or free the port that another Service has",),
    )


# -- Ingress ----------------------------------------------------------------------------------------------------------


def class_missing(world: World, ingress: Json) -> Finding | None:
    name = ingress["spec"].get("ingressClassName") or (ingress["metadata"].get("annotations") or {}).get(LEGACY)
    if not world.knows("ingressclasses"):
        return None
    classes = world.all("ingressclasses")
    if name is not None:
        if any(c["metadata"]["name"] == name for c in classes):
            return None
        says = f"the IngressClass {name} does not exist, so nothing serves it"
    elif any((c["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true" for c in classes):
        says = "it names no IngressClass, and was made before one became the default, so nothing serves it"
    else:
        says = "it names no IngressClass, and none is the default, so nothing serves it"
    there = ", ".join(c["metadata"]["name"] for c in classes) or "(none)"
    return Finding(
        says,
        (seen(ingress, "spec", "ingressClassName"), Fact("ingressclasses", "in the cluster", there)),
        (
            "portside up --ingress makes one, and serves it"
            if not classes
            else f"kubectl patch {title(ingress)}{space(ingress)} --type=merge "
            f'-p \'{{"spec":{{"ingressClassName":"{classes[0]["metadata"]["name"]}"}}}}\'',
        ),
    )


def backend_missing(world: World, ingress: Json) -> Finding | None:
    namespace = ingress["metadata"].get("namespace", "")
    for path, backend in backends(ingress):
        wanted = backend.get("service")
        if not wanted or not world.missing("services", wanted["name"], namespace):
            continue
        return Finding(
            f"the Service {wanted['name']} to which it leads does not exist in namespace {namespace}",
            (Fact(title(ingress), f"{path}.service.name", wanted["name"]),),
            (f"kubectl get services -n {namespace}", "create the Service, or correct the backend's name"),
        )
    return None


def port_missing(world: World, ingress: Json) -> Finding | None:
    namespace = ingress["metadata"].get("namespace", "")
    for path, backend in backends(ingress):
        wanted = backend.get("service") or {}
        service = world.get("services", wanted.get("name", ""), namespace)
        port = wanted.get("port") or {}
        if service is None:
            continue
        ports = service["spec"].get("ports") or ()
        field, value = ("name", port["name"]) if port.get("name") else ("number", port.get("number"))
        if any(p.get("name" if field == "name" else "port") == value for p in ports):
            continue
        has = ", ".join(f"{p.get('name') or '(no name)'}={p['port']}" for p in ports) or "(none)"
        return Finding(
            f"the Service {wanted['name']} has no port {value}",
            (
                Fact(title(ingress), f"{path}.service.port.{field}", str(value)),
                Fact(title(service), "spec.ports", has),
            ),
            ("correct the backend's port: it is a port of the Service, not of the container",),
        )
    return None


def certificate_missing(world: World, ingress: Json) -> Finding | None:
    namespace = ingress["metadata"].get("namespace", "")
    for number, entry in enumerate(ingress["spec"].get("tls") or ()):
        name = entry.get("secretName")
        if not name or not world.missing("secrets", name, namespace):
            continue
        return Finding(
            f"the Secret {name} with its certificate does not exist in namespace {namespace}",
            (seen(ingress, "spec", "tls", number, "secretName"), seen(ingress, "spec", "tls", number, "hosts")),
            (f"kubectl create secret tls {name} -n {namespace} --cert=FILE --key=FILE",),
        )
    return None


SERVICES, INGRESSES = ("services",), ("ingresses",)
CAUSES: tuple[Cause, ...] = (
    Cause("service-selects-nothing", SERVICES, selects_nothing, "a Service's selector matches no pod", ("pods",)),
    Cause(
        "service-without-selector",
        SERVICES,
        no_selector,
        "a Service has neither selector nor endpoints",
        ("endpointslices",),
    ),
    Cause("service-port-name", SERVICES, port_name_missing, "no pod has a port of the name in targetPort", ("pods",)),
    Cause("service-without-address", SERVICES, no_address, "a LoadBalancer Service has no address from outside"),
    Cause(
        "service-none-ready",
        SERVICES,
        none_ready,
        "none of a Service's pods is ready",
        ("pods", "endpointslices"),
        role=Role.SYMPTOM,
    ),
    Cause(
        "ingress-class-missing", INGRESSES, class_missing, "an Ingress has no class that exists", ("ingressclasses",)
    ),
    Cause(
        "ingress-backend-missing",
        INGRESSES,
        backend_missing,
        "an Ingress leads to a Service that does not exist",
        ("services",),
    ),
    Cause(
        "ingress-port-missing", INGRESSES, port_missing, "an Ingress leads to a port its Service lacks", ("services",)
    ),
    Cause(
        "ingress-secret-missing", INGRESSES, certificate_missing, "an Ingress' TLS Secret does not exist", ("secrets",)
    ),
)
