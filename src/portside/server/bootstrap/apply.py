"""The pass at start-up: creates what is absent, mends what must be right, leaves what people changed on purpose.

RBAC objects are reconciled as upstream does: missing rules, subjects, labels and annotations are added back unless the
object says ``rbac.authorization.kubernetes.io/autoupdate: "false"``; additions by people stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from portside.base.clock import rfc3339
from portside.base.pki import Pki
from portside.server.auth.rules import compile_rules, uncovered
from portside.server.bootstrap import flowcontrol, objects, roles
from portside.server.host import Host

Json = dict[str, Any]
RBAC = roles.GROUP
FLOW = "flowcontrol.apiserver.k8s.io"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API is reached: the address and port endpoints carry, and the service network."""

    address: str
    port: int
    service_ip: str = "10.96.0.1"
    service_cidr: str = "10.96.0.0/12"


async def bootstrap(host: Host, place: Place, pki: Pki) -> None:
    """Bring the default objects up to date. Call it once the watch caches are filled, before the server says ready."""
    now = rfc3339(host.clock.now())
    await asyncio.gather(*(_absent(host, "", "namespaces", wanted) for wanted in objects.namespaces()))
    work = [
        *(_reconcile(host, "clusterroles", wanted) for wanted in roles.cluster_roles()),
        *(_reconcile(host, "clusterrolebindings", wanted) for wanted in roles.cluster_role_bindings()),
        *(_reconcile(host, "roles", wanted) for wanted in roles.roles()),
        *(_reconcile(host, "rolebindings", wanted) for wanted in roles.role_bindings()),
        *(_absent(host, "scheduling.k8s.io", "priorityclasses", wanted) for wanted in objects.priority_classes()),
        *(_spec(host, FLOW, "prioritylevelconfigurations", wanted) for wanted in flowcontrol.priority_levels()),
        *(_spec(host, FLOW, "flowschemas", wanted) for wanted in flowcontrol.flow_schemas(now)),
        *_network(host, place, now),
        _exact(host, "", "configmaps", _trust(pki), ("data",)),
    ]
    await asyncio.gather(*work)


def _network(host: Host, place: Place, now: str) -> Iterable[Any]:
    networking = "networking.k8s.io"
    return chain(
        [
            _service(host, objects.kubernetes_service(place.service_ip, place.port)),
            _exact(host, "", "endpoints", objects.kubernetes_endpoints(place.address, place.port), ("subsets",)),
            _exact(
                host,
                "discovery.k8s.io",
                "endpointslices",
                objects.kubernetes_slice(place.address, place.port),
                ("endpoints", "ports"),
            ),
            _absent(host, networking, "servicecidrs", objects.service_cidr(place.service_cidr, now)),
            _absent(host, networking, "ipaddresses", objects.ip_address(place.service_ip, "default", "kubernetes")),
        ]
    )


def _trust(pki: Pki) -> Json:
    proxy = pki.certificate("front-proxy-ca")
    return objects.authentication_config(pki.ca.read_text(), proxy.read_text())


async def _current(host: Host, group: str, plural: str, wanted: Json) -> Json | None:
    meta = wanted["metadata"]
    space, name = meta.get("namespace", ""), meta["name"]
    # The mirror answers without a round through the store; a warm start asks it some hundred times.
    if host.live.wants(group, plural):
        return host.live.of(plural, group).get(name, space)
    return await host.read(group, plural, space, name)


async def _absent(host: Host, group: str, plural: str, wanted: Json) -> None:
    if await _current(host, group, plural, wanted) is None:
        await host.put(group, plural, wanted, expected=0)


async def _replace(host: Host, group: str, plural: str, mend: Any, wanted: Json) -> None:
    """Create ``wanted``, or store ``mend(held)`` when that says something is to be changed; again after a race."""
    meta = wanted["metadata"]
    for _ in range(5):
        held = await _current(host, group, plural, wanted)
        if held is None:
            if await host.put(group, plural, wanted, expected=0):
                return
            continue
        if mend(held) is None:
            return
        fresh = await host.read(group, plural, meta.get("namespace", ""), meta["name"])
        if fresh is None or (mended := mend(fresh)) is None:
            continue
        revision = int(mended["metadata"].pop("resourceVersion"))
        if await host.put(group, plural, mended, expected=revision):
            return


async def _exact(host: Host, group: str, plural: str, wanted: Json, fields: tuple[str, ...]) -> None:
    """The named fields are ours alone."""

    def mend(held: Json) -> Json | None:
        if all(held.get(field) == wanted[field] for field in fields):
            return None
        return held | {field: wanted[field] for field in fields}

    await _replace(host, group, plural, mend, wanted)


async def _service(host: Host, wanted: Json) -> None:
    def mend(held: Json) -> Json | None:
        if (
            held["spec"].get("ports") == wanted["spec"]["ports"]
            and held["spec"].get("clusterIP") == wanted["spec"]["clusterIP"]
        ):
            return None
        return held | {"spec": held["spec"] | wanted["spec"]}

    await _replace(host, "", "services", mend, wanted)


async def _spec(host: Host, group: str, plural: str, wanted: Json) -> None:
    """Flow control: the spec is ours while the annotation says so."""

    def mend(held: Json) -> Json | None:
        ours = (held["metadata"].get("annotations") or {}).get("apf.kubernetes.io/autoupdate-spec") == "true"
        if not ours or held.get("spec") == wanted["spec"]:
            return None
        meta = held["metadata"] | {"generation": held["metadata"].get("generation", 0) + 1}
        return held | {"metadata": meta, "spec": wanted["spec"]}

    await _replace(host, group, plural, mend, wanted)


async def _reconcile(host: Host, plural: str, wanted: Json) -> None:
    await _replace(host, RBAC, plural, lambda held: mend_rbac(held, wanted), wanted)


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
