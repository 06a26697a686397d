"""Causes of the cluster's own parts: nodes, definitions, other API servers, certificates, and what a condition says."""

from __future__ import annotations

from typing import Any

from portside.api import quantity
from portside.why.finding import (
    Cause,
    Fact,
    Finding,
    Grade,
    Role,
    condition,
    describe,
    lookup,
    said,
    seen,
    space,
    title,
)
from portside.why.world import World, last_seen

Json = dict[str, Any]
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
FAILS, WORKS, ROUTE_NEWS = "PodRouteFails", "PodRouteWorks", 480.0  # the node's events; seconds until one is old
CUSTOM = ("*.*",)  # every kind that is not built in
GOOD = ("Ready", "Available", "Succeeded", "Healthy", "Established", "Synced", "Reconciled")
BAD = ("Stalled", "Degraded", "Failed", "ReconcileError")


def node_not_ready(world: World, node: Json) -> Finding | None:
    held = condition(node, "Ready")
    name = node["metadata"]["name"]
    if held.get("status") == "True":
        return None
    silent = held.get("status") == "Unknown"
    says = "the node " + (
        "has said nothing for a while: its machine, its agent or the way to it is down"
        if silent
        else f"is not ready: {held.get('message', '')}"
        if held
        else "has never said how it is"
    )
    return Finding(
        says,
        (*(said(node, "Ready") or (seen(node, "status", "conditions"),)), seen(node, "spec", "taints")),
        (
            "on that machine: portside status, portside logs agent",
            f"gone for good: portside node remove {name}",
        ),
    )


def node_pressure(world: World, node: Json) -> Finding | None:
    bad = [k for k in PRESSURES if condition(node, k).get("status") == "True"]
    if not bad:
        return None
    name = node["metadata"]["name"]
    return Finding(
        f"the node has {', '.join(bad)}: it takes no further pods, and may put some out",
        (*(f for k in bad for f in said(node, k)), seen(node, "spec", "taints")),
        ("free memory or disk on that machine", f"kubectl describe node {name}"),
    )


def node_cordoned(world: World, node: Json) -> Finding | None:
    if not node["spec"].get("unschedulable"):
        return None
    name = node["metadata"]["name"]
    return Finding(
        "the node is cordoned, so no new pods come to it",
        (seen(node, "spec", "unschedulable"),),
        (f"kubectl uncordon {name}",),
    )


def pod_route_fails(world: World, node: Json) -> Finding | None:
    """The node's network asks the others' every minute, and tells every five what fails."""
    event = world.event(node, FAILS, WORKS)
    if event is None or event["reason"] == WORKS or world.now - last_seen(event) > ROUTE_NEWS:
        return None
    return Finding(
        str(event.get("message", "")),
        world.told(node, event),
        (
            "let UDP 8472 through between the machines; on one network, packets with addresses of pods",
            "see whether they arrive, on the other machine: tcpdump -ni any udp port 8472",
        ),
    )


def not_served(world: World, definition: Json) -> Finding | None:
    if condition(definition, "Established").get("status") == "True":
        return None
    names = condition(definition, "NamesAccepted")
    if names.get("status") == "False":
        return Finding(
            f"the definition is not served, for a name of it is taken: {names.get('message', '')}",
            (
                seen(definition, "spec", "names"),
                *said(definition, "NamesAccepted")[:2],
                *said(definition, "Established"),
            ),
            ("take other names, or delete the definition that has them: kubectl get crd",),
        )
    return Finding(
        "the definition is not served yet",
        said(definition, "Established") or (seen(definition, "status", "conditions"),),
        ("wait a moment; then see whether the control plane runs: portside status", describe(definition)),
    )


def api_unavailable(world: World, service: Json) -> Finding | None:
    held = condition(service, "Available")
    if held.get("status") == "True":
        return None
    named = service["spec"].get("service") or {}
    target = f"service/{named.get('name')} -n {named.get('namespace')}"
    there = world.get("services", named.get("name", ""), named.get("namespace", "")) is not None
    return Finding(
        f"the API server behind it can't be reached: {held.get('message', 'nobody has tried yet')}",
        (seen(service, "spec", "service"), *said(service, "Available")),
        (
            f"portside why {target}" if there else f"start what serves it behind {target}",
            f"not needed any more: kubectl delete apiservice {service['metadata']['name']}; "
            "until then namespaces can't be deleted to their end",
        ),
    )


def request_pending(world: World, request: Json) -> Finding | None:
    conditions = (request.get("status") or {}).get("conditions") or ()
    if any(c["type"] in ("Approved", "Denied", "Failed") for c in conditions):
        return None
    name, spec = request["metadata"]["name"], request["spec"]
    return Finding(
        f"nobody has approved the certificate that {spec.get('username', 'somebody')} asks for",
        (seen(request, "spec", "signerName"), seen(request, "spec", "username"), seen(request, "status", "conditions")),
        (f"kubectl certificate approve {name}, if you know who asked; else: kubectl certificate deny {name}",),
    )


def request_refused(world: World, request: Json) -> Finding | None:
    for kind in ("Denied", "Failed"):
        held = condition(request, kind)
        if held.get("status") == "True":
            who = "was denied" if kind == "Denied" else "could not be signed"
            return Finding(
                f"the certificate {who}: {held.get('message') or held.get('reason', '')}",
                (seen(request, "spec", "signerName"), *said(request, kind)),
                ("ask again with what the signer wants: kubectl get csr -o yaml",),
            )
    return None


def unsigned(world: World, request: Json) -> Finding | None:
    """Approved, but no signer served it."""
    status = request.get("status") or {}
    if condition(request, "Approved").get("status") != "True" or status.get("certificate"):
        return None
    if condition(request, "Failed").get("status") == "True" or world.since(request, "Approved") < 10:
        return None
    signer = request["spec"].get("signerName", "")
    return Finding(
        f"it is approved, but nobody signs for {signer}",
        (seen(request, "spec", "signerName"), *said(request, "Approved")[:2], seen(request, "status", "certificate")),
        (f"start the controller that signs for {signer}",),
    )


def condition_says(world: World, obj: Json) -> Finding | None:
    """Custom resources: what their controller says of them by the customary conditions."""
    bad = next((k for k in GOOD if condition(obj, k).get("status") == "False"), None)
    bad = bad or next((k for k in BAD if condition(obj, k).get("status") == "True"), None)
    if bad is None:
        return None
    held = condition(obj, bad)
    return Finding(
        f"its controller says {bad} is {held['status']}: {held.get('message') or held.get('reason', '')}",
        said(obj, bad),
        (describe(obj), "read the log of the controller that serves this kind"),
    )


def unhandled(world: World, obj: Json) -> Finding | None:
    """Custom resources that have a controller by their definition (a status), and that nobody has looked at."""
    generation, known = obj["metadata"].get("generation", 0), lookup(obj, "status", "observedGeneration")
    if not isinstance(known, int) or known >= generation:
        return None
    return Finding(
        "its controller has not looked at the newest version: it is behind, or does not run",
        (seen(obj, "metadata", "generation"), seen(obj, "status", "observedGeneration")),
        (f"kubectl get pods -A; {describe(obj)}",),
    )


def quota_full(world: World, quota: Json) -> Finding | None:
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    full = [k for k in hard if k in used and quantity.parse(used[k]) >= quantity.parse(hard[k]) > 0]
    if not full:
        return None
    return Finding(
        f"it is used up: {', '.join(f'{k} {used[k]} of {hard[k]}' for k in full)}",
        tuple(Fact(title(quota), f"status.used[{k}]", f"{used[k]} of {hard[k]}") for k in full),
        (f"end what is not needed, or raise it: kubectl edit {title(quota)}{space(quota)}",),
    )


NODES, REQUESTS = ("nodes",), ("certificatesigningrequests",)
CAUSES: tuple[Cause, ...] = (
    Cause("node-not-ready", NODES, node_not_ready, "a node is not ready or silent", grade=Grade.CLUSTER),
    Cause(
        "node-pressure",
        NODES,
        node_pressure,
        "a node lacks memory, disk, processes or its network",
        grade=Grade.CLUSTER,
    ),
    Cause("pod-route-fails", NODES, pod_route_fails, "a node does not reach another node's pods", grade=Grade.CLUSTER),
    Cause("node-cordoned", NODES, node_cordoned, "a node takes no new pods", grade=Grade.NOTE),
    Cause(
        "definition-not-served",
        ("customresourcedefinitions",),
        not_served,
        "a CRD is not established, as a rule because its names are taken",
        grade=Grade.CLUSTER,
    ),
    Cause(
        "api-unavailable",
        ("apiservices",),
        api_unavailable,
        "another API server does not answer",
        grade=Grade.CLUSTER,
        role=Role.LINK,
    ),
    Cause(
        "certificate-not-approved",
        REQUESTS,
        request_pending,
        "a certificate request waits for approval",
        grade=Grade.WAITS,
    ),
    Cause("certificate-refused", REQUESTS, request_refused, "a certificate request was denied or failed"),
    Cause("certificate-not-signed", REQUESTS, unsigned, "an approved request's signer does not run"),
    Cause("quota-full", ("resourcequotas",), quota_full, "a quota is used up", grade=Grade.NOTE),
    Cause(
        "condition-says", CUSTOM, condition_says, "a custom resource's own condition says what is wrong", role=Role.LINK
    ),
    Cause(
        "custom-controller-behind", CUSTOM, unhandled, "a custom resource's controller has not seen its newest version"
    ),
)
