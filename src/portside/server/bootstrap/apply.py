"""The pass at start-up: creates what is absent, mends what must be right, leaves what people changed on purpose.

RBAC objects are reconciled as upstream does: missing rules, subjects, labels and annotations are added back unless the
object says ``rbac.authorization.kubernetes.io/autoupdate: "false"``; additions by people stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portside.base.clock import rfc3339
from portside.base.pki import Pki
from portside.server.aggregation import local
from portside.server.auth.rules import compile_rules, uncovered
from portside.server.bootstrap import flowcontrol, nodenetwork, objects, roles
from portside.server.host import Host

Json = dict[str, Any]
RBAC = roles.GROUP
FLOW = "flowcontrol.apiserver.k8s.io"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API is reached: the address and port endpoints carry, and the service network. ``cluster_cidr``: the
    range of all pods, "" when no node is real."""

    address: str
    port: int
    service_ip: str = "10.96.0.1"
    service_cidr: str = "10.96.0.0/12"
    metrics: bool = False  # serve metrics.k8s.io: nodes are real
    cluster_cidr: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One default object; ``mend(held)`` is what ``held`` should become, None when it may stay."""

    group: str
    plural: str
    wanted: Json
    mend: Callable[[Json], Json | None]


async def bootstrap(host: Host, place: Place, pki: Pki) -> None:
    """Bring the default objects up to date. Call it once the watch caches are filled, before the server says ready."""
    now = rfc3339(host.clock.now())
    await _apply(host, [_kept("", "namespaces", wanted) for wanted in objects.namespaces()])
    await _apply(
        host,
        [
            *(_rbac("clusterroles", wanted) for wanted in roles.cluster_roles()),
            *(_rbac("clusterrolebindings", wanted) for wanted in roles.cluster_role_bindings()),
            *(_rbac("roles", wanted) for wanted in roles.roles()),
            *(_rbac("rolebindings", wanted) for wanted in roles.role_bindings()),
            *(_kept("scheduling.k8s.io", "priorityclasses", wanted) for wanted in objects.priority_classes()),
            *(_spec("prioritylevelconfigurations", wanted) for wanted in flowcontrol.priority_levels()),
            *(_spec("flowschemas", wanted) for wanted in flowcontrol.flow_schemas(now)),
            *_network(place, now),
            *(_node_network(place) if place.cluster_cidr else ()),
            _exact("", "configmaps", _trust(pki), ("data",)),
            *_joining(place, pki),
            *(_exact(local.GROUP, local.PLURAL, wanted, ("spec",)) for wanted in local.built_in(now)),
            *(_kept(local.GROUP, local.PLURAL, wanted) for wanted in local.metrics(now) if place.metrics),
        ],
    )


def _network(place: Place, now: str) -> list[Item]:
    networking, discovery = "networking.k8s.io", "discovery.k8s.io"
    address, port = place.address, place.port
    record = objects.ip_address(place.service_ip, "default", "kubernetes")
    return [
        _service(objects.kubernetes_service(place.service_ip, port)),
        _exact("", "endpoints", objects.kubernetes_endpoints(address, port), ("subsets",)),
        _exact(discovery, "endpointslices", objects.kubernetes_slice(address, port), ("endpoints", "ports")),
        _kept(networking, "servicecidrs", objects.service_cidr(place.service_cidr, now)),
        _kept(networking, "ipaddresses", record),
    ]


def _joining(place: Place, pki: Pki) -> list[Item]:
    """What a machine that joins needs: where the API is, and the right to ask for a certificate."""
    info = objects.cluster_info(f"https://{place.address}:{place.port}", pki.ca.read_text())

    def mend(held: Json) -> Json | None:
        data = held.get("data") or {}
        return None if data.get("kubeconfig") == info["data"]["kubeconfig"] else held | {"data": data | info["data"]}

    role, binding = objects.cluster_info_access()
    return [
        *(_kept(RBAC, "clusterrolebindings", wanted) for wanted in objects.join_bindings()),
        Item("", "configmaps", info, mend),
        _kept(RBAC, "roles", role),
        _kept(RBAC, "rolebindings", binding),
    ]


def _node_network(place: Place) -> list[Item]:
    facts = nodenetwork.config(place.cluster_cidr, place.service_cidr)
    return [
        *(_rbac(plural, wanted) for plural, wanted in nodenetwork.rights()),
        _service(nodenetwork.dns_service(place.service_cidr)),
        _kept("networking.k8s.io", "ipaddresses", nodenetwork.dns_record(place.service_cidr)),
        _exact("", "configmaps", facts, ("data",)),
    ]


def _trust(pki: Pki) -> Json:
    proxy = pki.certificate("front-proxy-ca")
    return objects.authentication_config(pki.ca.read_text(), proxy.read_text())


async def _apply(host: Host, items: list[Item]) -> None:
    """A warm start finds nothing to do and makes no task; what is to be written is written together."""
    pending = []
    for item in items:
        held = await _current(host, item)
        if held is None or item.mend(held) is not None:
            pending.append(item)
    if pending:
        await asyncio.gather(*(_write(host, item) for item in pending))


async def _current(host: Host, item: Item) -> Json | None:
    meta = item.wanted["metadata"]
    space, name = meta.get("namespace", ""), meta["name"]
    # The mirror answers without a round through the store; a warm start asks it some hundred times.
    if host.live.wants(item.group, item.plural):
        return host.live.of(item.plural, item.group).get(name, space)
    return await host.read(item.group, item.plural, space, name)


async def _write(host: Host, item: Item) -> None:
    """Create, or store what mending makes; again after a race with another control plane."""
    meta = item.wanted["metadata"]
    for _ in range(5):
        held = await host.read(item.group, item.plural, meta.get("namespace", ""), meta["name"])
        if held is None:
            if await host.put(item.group, item.plural, item.wanted, expected=0):
                return
            continue
        if (mended := item.mend(held)) is None:
            return
        revision = int(mended["metadata"]["resourceVersion"])
        bare = {key: value for key, value in mended["metadata"].items() if key != "resourceVersion"}
        if await host.put(item.group, item.plural, mended | {"metadata": bare}, expected=revision):
            return


def _kept(group: str, plural: str, wanted: Json) -> Item:
    """Created when absent, never touched again."""
    return Item(group, plural, wanted, lambda held: None)


def _exact(group: str, plural: str, wanted: Json, fields: tuple[str, ...]) -> Item:
    """The named fields are ours alone."""

    def mend(held: Json) -> Json | None:
        if all(held.get(field) == wanted[field] for field in fields):
            return None
        return held | {field: wanted[field] for field in fields}

    return Item(group, plural, wanted, mend)


def _service(wanted: Json) -> Item:
    def mend(held: Json) -> Json | None:
        same = all(held["spec"].get(field) == wanted["spec"][field] for field in ("ports", "clusterIP"))
        return None if same else held | {"spec": held["spec"] | wanted["spec"]}

    return Item("", "services", wanted, mend)


def _spec(plural: str, wanted: Json) -> Item:
    """Flow control: the spec is ours while the annotation says so."""

    def mend(held: Json) -> Json | None:
        ours = (held["metadata"].get("annotations") or {}).get("apf.kubernetes.io/autoupdate-spec") == "true"
        if not ours or held.get("spec") == wanted["spec"]:
            return None
        meta = held["metadata"] | {"generation": held["metadata"].get("generation", 0) + 1}
        return held | {"metadata": meta, "spec": wanted["spec"]}

    return Item(FLOW, plural, wanted, mend)


def _rbac(plural: str, wanted: Json) -> Item:
    return Item(RBAC, plural, wanted, lambda held: mend_rbac(held, wanted))


def mend_rbac(held: Json, wanted: Json) -> Json | None:
    """``held`` with what it lacks of ``wanted``, or None when it lacks nothing or is protected."""
    meta = held["metadata"]
    annotations = meta.get("annotations") or {}
    if annotations.get("rbac.authorization.kubernetes.io/autoupdate") == "false":
        return None
    mended = dict(held)
    for field in ("labels", "annotations"):
        have, want = meta.get(field) or {}, wanted["metadata"].get(field) or {}
        if any(have.get(key) != value for key, value in want.items()):
            meta = meta | {field: have | want}
    mended["metadata"] = meta
    if "subjects" in wanted:
        missing = [s for s in wanted["subjects"] if s not in (held.get("subjects") or ())]
        if missing:
            mended["subjects"] = [*(held.get("subjects") or ()), *missing]
    elif "aggregationRule" in wanted:
        if held.get("aggregationRule") is None:
            mended["aggregationRule"] = wanted["aggregationRule"]
    elif "rules" in wanted and held.get("rules") != wanted["rules"]:
        own = compile_rules(held.get("rules"))
        missing = [rule for rule in wanted["rules"] if uncovered(own, [rule])]
        if missing:
            mended["rules"] = [*(held.get("rules") or ()), *missing]
    return None if mended == held else mended
