"""What pods contribute to a Service: addresses, ports, conditions. Shared by slices and Endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portside.client.cache import View
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers.claim import selector_of
from portside.controllers.pods import (
    FINISHED,
    LABELS,
    NODE,
    PODS,
    READY,
    TERMINATING,
    is_finished,
    is_terminating,
)

SERVICES: Resource = ("", "v1", "services")
NODES: Resource = ("", "v1", "nodes")
HEADLESS = "service.kubernetes.io/headless"


def selected_pods(view: View, service: Json) -> list[Json]:
    """Pods of the service's namespace that its selector matches, by name."""
    selector = selector_of({"matchLabels": service["spec"].get("selector") or {}})
    found = view.in_namespace(PODS, service["metadata"]["namespace"])
    known: dict[
        int, bool
    ] = {}  # by identity: the pods of a workload hold the same labels, and ``found`` holds the pods
    matching = []
    for pod in found:
        labels = pod["metadata"].get("labels")
        matches = known.get(id(labels))
        if matches is None:
            matches = known[id(labels)] = selector.matches(labels)
        if matches:
            matching.append(pod)
    return sorted(matching, key=lambda p: str(p["metadata"]["name"]))


def addresses(pod: Json) -> list[str]:
    status = pod.get("status") or {}
    listed = [i["ip"] for i in status.get("podIPs") or () if i.get("ip")]
    return listed or ([status["podIP"]] if status.get("podIP") else [])


def serves(pod: Json, *, terminating: bool) -> bool:
    """Whether the pod belongs into the endpoints; ``terminating`` ones too or not."""
    if is_finished(pod) or not addresses(pod):
        return False
    return terminating or not is_terminating(pod)


def family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def hostname(pod: Json, service: Json) -> str:
    """The pod's own name under a headless service that is its subdomain."""
    spec = pod.get("spec") or {}
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        return str(spec["hostname"])
    return ""


def target_port(pod: Json, port: Json) -> int | None:
    """The pod's port behind a service port; None when the pod has none of that name."""
    wanted: Any = port.get("targetPort") or port.get("port")
    if isinstance(wanted, int):
        return wanted
    protocol = port.get("protocol", "TCP")
    spec = pod.get("spec") or {}
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for found in container.get("ports") or ():
            if found.get("name") == wanted and found.get("protocol", "TCP") == protocol:
                return int(found["containerPort"])
    return None


def ports_for(pod: Json, service: Json) -> list[Json]:
    """The endpoint ports this pod offers for the service."""
    found: list[Json] = []
    for port in service["spec"].get("ports") or ():
        number = target_port(pod, port)
        if number is None:
            continue
        made: Json = {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
        if port.get("appProtocol"):
            made["appProtocol"] = port["appProtocol"]
        found.append(made)
    return found


def reference(pod: Json) -> Json:
    meta = pod["metadata"]
    return {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}


def is_headless(service: Json) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def services_of(view: View, pod: Json) -> Iterable[str]:
    """Keys of the services that select this pod."""
    namespace = pod["metadata"]["namespace"]
    if not pod["metadata"].get("labels"):
        return
    for service in view.in_namespace(SERVICES, namespace):
        raw = service["spec"].get("selector")
        if raw and selector_of({"matchLabels": raw}).matches_object(pod):
            yield f"{namespace}/{service['metadata']['name']}"


RELEVANT = (
    LABELS,
    TERMINATING,
    FINISHED,
    READY,
    NODE,
    Fact(addresses, "status"),
    Fact(lambda pod: (pod.get("spec") or {}).get("hostname"), "spec"),
)
"""What of a pod can change a Service's endpoints."""
