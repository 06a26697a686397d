"""The conformance names of Network and Node that are about one kind's API: each kind through all its verbs."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from portside.cli.api import Refused
from tests.conformance.ground import Ground, ground, template
from tests.conformance.names import conformance

__all__ = ["ground"]
Json = dict[str, Any]
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}
SELECTOR = {"matchLabels": {"app": "web"}}
# What makes an object of the kind, and what a replacement changes in it.
KINDS: dict[str, tuple[Json, Json]] = {
    "configmaps": ({"data": {"a": "1"}}, {"data": {"a": "2"}}),
    "secrets": ({"stringData": {"a": "1"}}, {"data": {"a": "Mg=="}}),
    "endpoints": (
        {"subsets": [{"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]},
        {"subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]},
    ),
    "endpointslices": (
        {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.24"]}], "ports": [{"port": 80}]},
        {"endpoints": [{"addresses": ["10.0.0.25"]}]},
    ),
    "ingresses": ({"spec": {"defaultBackend": BACKEND}}, {"spec": {"ingressClassName": "other"}}),
    "ingressclasses": ({"spec": {"controller": "example.com/controller"}}, {"metadata": {"annotations": {"b": "2"}}}),
    "ipaddresses": (
        {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "none"}}},
        {"metadata": {"annotations": {"b": "2"}}},
    ),
    "servicecidrs": ({"spec": {"cidrs": ["198.51.100.0/24"]}}, {"metadata": {"annotations": {"b": "2"}}}),
    "leases": (
        {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 30, "leaseTransitions": 0}},
        {"spec": {"holderIdentity": "you", "leaseTransitions": 1}},
    ),
    "nodes": ({}, {"spec": {"unschedulable": True}}),
    "podtemplates": ({"template": template()}, {"template": {"metadata": {"labels": {"app": "other"}}}}),
    "runtimeclasses": ({"handler": "some"}, {"metadata": {"annotations": {"b": "2"}}}),
    "services": (
        {"spec": {"selector": {"app": "none"}, "ports": [{"port": 80, "targetPort": 8080}]}},
        {"spec": {"selector": {"app": "other"}}},
    ),
}
NAMES = {"ipaddresses": "192.0.2.77"}  # an address's name is the address
WITH_STATUS = {
    "ingresses": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
    "services": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}},
    "servicecidrs": {"conditions": [{"type": "Odd", "status": "True", "reason": "E2E", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    "nodes": {"conditions": [{"type": "Odd", "status": "True", "reason": "E2E", "lastHeartbeatTime": None}]},
}  # fmt: skip


class Told:
    """What a watch of one kind by label tells."""

    def __init__(self, g: Ground, plural: str) -> None:
        address = g.api.address
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, context=g.api.context, timeout=60
        )
        self._connection.request("GET", g.path(plural, watch="1", labelSelector=f"test={g.name}"))
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def of(self, kind: str) -> Json:
        """The next event of this type; events before it are passed over."""
        while True:
            event = json.loads(self._answer.readline())
            if event["type"] == kind:
                return dict(event["object"])

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def told(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Told]:
    made = Told(ground, request.getfixturevalue("plural"))
    yield made
    made.close()


def merged(base: Json, change: Json) -> Json:
    return base | {k: merged(base.get(k) or {}, v) if isinstance(v, dict) else v for k, v in change.items()}


def contains(held: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(held, dict) and all(contains(held.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(held) == len(wanted) and all(map(contains, held, wanted))
    return bool(held == wanted)


def keeps(held: Json, wanted: Json) -> bool:
    """Held has what is wanted; a controller may have added conditions of its own."""
    types = {c["type"] for c in wanted.get("conditions") or ()}
    own = [c for c in held.get("conditions") or () if c["type"] in types]
    return contains(held | {"conditions": own} if types else held, wanted)


def replace(g: Ground, plural: str, name: str, change: Json, sub: str = "") -> Json:
    """Put the object with a change; controllers write some of these too, then it is read again."""
    while True:
        try:
            return g.put(plural, merged(g.get(plural, name, sub), change), sub)
        except Refused as refused:
            assert refused.code == 409


@conformance("configmaps and secrets as environment", "configmap lifecycle", "configmap update")
@conformance("configmaps and secrets as environment", "secret patch, list, delete by label")
@conformance("kubelet", "Lease API", "RuntimeClass API")
@conformance("nodes and taints", "Node object lifecycle")
@conformance("pods", "PodTemplate lifecycle", "PodTemplate replace", "PodTemplate deletecollection")
@conformance("Network", "EndpointSlice API, all verbs", "Endpoints lifecycle", "IngressClass API", "IPAddress API")
@conformance("Network", "services deletecollection")
@pytest.mark.parametrize("plural", KINDS)
def test_a_kind_lives_through_its_verbs(ground: Ground, told: Told, plural: str) -> None:
    """Made, read, listed here and everywhere, patched, replaced, watched, deleted one by one and as a collection."""
    name, (body, change) = NAMES.get(plural, ground.name), KINDS[plural]
    body = body | {"metadata": {"name": name, "labels": {"test": ground.name}}}
    made = ground.create(plural, body)
    assert made["metadata"]["uid"] and told.of("ADDED")["metadata"]["name"] == name
    assert ground.get(plural, name)["metadata"]["uid"] == made["metadata"]["uid"]
    assert ground.patch(plural, name, {"metadata": {"annotations": {"a": "1"}}})["metadata"]["annotations"]["a"] == "1"
    replaced = replace(ground, plural, name, change)
    assert contains(replaced, change) and replaced["metadata"]["annotations"]["a"] == "1"
    assert int(replaced["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    while not contains(told.of("MODIFIED"), change):
        pass
    for everywhere in (False, True):
        listed = ground.all(plural, f"test={ground.name}", everywhere=everywhere)
        assert [o["metadata"]["name"] for o in listed] == [name]
    ground.delete(plural, name)
    assert told.of("DELETED")["metadata"]["uid"] == made["metadata"]["uid"]
    ground.until(lambda: ground.gone(plural, name), 60)
    ground.create(plural, body)
    ground.clear(plural, f"test={ground.name}")
    ground.until(lambda: ground.gone(plural, name), 60)


@conformance("Network", "Ingress API + status", "ServiceCIDR API + status", "service status lifecycle")
@pytest.mark.parametrize("plural", WITH_STATUS)
def test_a_status_is_written_apart_from_the_rest(ground: Ground, plural: str) -> None:
    """Patched and replaced through its subresource, which leaves the spec alone; the other way round as well."""
    status, (body, _) = WITH_STATUS[plural], KINDS[plural]
    spec = {"spec": body["spec"] | {"type": "LoadBalancer"}} if plural == "services" else body
    ground.create(plural, spec | {"metadata": {"name": ground.name, "labels": {"test": ground.name}}})

    def patched() -> tuple[Json, Json] | None:
        """The object before and after; None when a controller wrote in between: a node is given its addresses."""
        before = ground.get(plural, ground.name)
        meta = {"resourceVersion": before["metadata"]["resourceVersion"], "annotations": {"a": "1"}}
        try:
            return before, ground.patch(plural, ground.name, {"metadata": meta, "status": status}, "status")
        except Refused as refused:
            assert refused.code == 409
            return None

    before, after = ground.until(patched)
    assert contains(after["status"], status) and after["spec"] == before["spec"]
    change = {"metadata": {"annotations": {"b": "2"}}, "status": status}
    assert contains(replace(ground, plural, ground.name, change, "status")["status"], status)
    assert keeps(replace(ground, plural, ground.name, {"status": None})["status"], status)
    ground.delete(plural, ground.name)


@conformance("configmaps and secrets as environment", "configmap with empty key refused")
@conformance("configmaps and secrets as environment", "secret with empty key refused")
@pytest.mark.parametrize(("plural", "value"), [("configmaps", "x"), ("secrets", "eA==")])
def test_a_key_without_a_name_is_refused(ground: Ground, plural: str, value: str) -> None:
    with pytest.raises(Refused, match=r"data\[\].*Invalid value.*\"\"") as refused:
        ground.create(plural, {"metadata": {"name": "bad"}, "data": {"": value}})
    assert refused.value.code == 422


@conformance("configmap volumes", "immutable")
@conformance("secret volumes", "immutable")
@pytest.mark.parametrize(("plural", "old", "new"), [("configmaps", "1", "2"), ("secrets", "MQ==", "Mg==")])
def test_what_is_immutable_stays_so_until_it_is_deleted(ground: Ground, plural: str, old: str, new: str) -> None:
    """Data can be changed until then; afterwards neither data nor the mark can, and labels can."""
    ground.create(plural, {"metadata": {"name": "fixed"}, "data": {"a": old}})
    ground.patch(plural, "fixed", {"data": {"a": new}})
    ground.patch(plural, "fixed", {"immutable": True})
    for change in ({"data": {"a": old}}, {"immutable": None}, {"immutable": False}):
        with pytest.raises(Refused, match="field is immutable when `immutable` is set") as refused:
            ground.patch(plural, "fixed", change)
        assert refused.value.code == 422
    assert ground.patch(plural, "fixed", {"metadata": {"labels": {"a": "b"}}})["data"] == {"a": new}
    ground.delete(plural, "fixed")
    ground.until(lambda: ground.gone(plural, "fixed"))
    ground.create(plural, {"metadata": {"name": "fixed"}, "data": {"a": old}})


@conformance("Network", "EndpointSlice mirroring of custom Endpoints")
def test_endpoints_made_by_hand_are_mirrored(ground: Ground) -> None:
    """Their slices follow every change, and go with them; the Service has no selector of its own."""
    ground.create("services", {"metadata": {"name": "hand"}, "spec": {"ports": [{"name": "p", "port": 80}]}})
    ports = [{"name": "p", "port": 80, "protocol": "TCP"}]

    def subsets(*ips: str) -> Json:
        return {"subsets": [{"addresses": [{"ip": ip} for ip in ips], "ports": ports}]}

    def mirrored() -> list[str]:
        slices = ground.all("endpointslices", "kubernetes.io/service-name=hand")
        assert all("endpointslicemirroring" in s["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] for s in slices)  # fmt: skip
        return sorted(a for s in slices for e in s.get("endpoints") or () for a in e["addresses"])

    ground.create("endpoints", {"metadata": {"name": "hand"}} | subsets("10.1.2.3"))
    ground.until(lambda: mirrored() == ["10.1.2.3"], 60)
    ground.patch("endpoints", "hand", subsets("10.2.3.4", "10.2.3.5"))
    ground.until(lambda: mirrored() == ["10.2.3.4", "10.2.3.5"], 60)
    ground.delete("endpoints", "hand")
    ground.until(lambda: mirrored() == [], 60)


@conformance("Network", "EndpointSlice + Endpoints for pods matching a Service")
@conformance("Network", "EndpointSlice for a Service with no matching pods")
@conformance("Network", "Endpoints controller: pods matching a Service", "Endpoints controller: empty Service")
def test_endpoints_and_slices_follow_a_services_pods(ground: Ground) -> None:
    """One of each from the start, though empty; a port by name leads where each pod has it; both go with the Service."""
    ports = [{"name": "a", "port": 80, "targetPort": "front"}, {"name": "b", "port": 81, "targetPort": 3001}]
    ground.create("services", {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}})

    def slices() -> list[Json]:
        return ground.all("endpointslices", "kubernetes.io/service-name=web")

    ground.until(lambda: len(slices()) == 1 and not ground.gone("endpoints", "web"), 60)
    assert not slices()[0].get("endpoints") and not ground.get("endpoints", "web").get("subsets")
    for name, port in (("one", 3000), ("two", 4000)):
        body = template()
        body["spec"]["containers"][0]["ports"] = [{"name": "front", "containerPort": port}]
        ground.create("pods", body | {"metadata": {"name": name, "labels": {"app": "web"}}})
    ips = {name: ground.until(lambda n=name: ground.get("pods", n)["status"].get("podIP"), 60) for name in ("one", "two")}  # fmt: skip

    def in_slices() -> set[tuple[str, str, int]]:
        return {
            (a, p["name"], p["port"])
            for s in slices()
            for e in s.get("endpoints") or ()
            if e["conditions"]["ready"]
            for a in e["addresses"]
            for p in s["ports"]
        }

    def in_endpoints() -> set[tuple[str, str, int]]:
        subsets = ground.get("endpoints", "web").get("subsets") or ()
        return {(a["ip"], p["name"], p["port"]) for s in subsets for a in s.get("addresses") or () for p in s["ports"]}

    wanted = {(ips["one"], "a", 3000), (ips["two"], "a", 4000)} | {(ip, "b", 3001) for ip in ips.values()}
    ground.until(lambda: in_slices() == in_endpoints() == wanted, 60)
    assert {e["targetRef"]["name"] for s in slices() for e in s.get("endpoints") or ()} == {"one", "two"}
    ground.delete("services", "web")
    ground.until(lambda: ground.gone("endpoints", "web") and slices() == [], 60)
