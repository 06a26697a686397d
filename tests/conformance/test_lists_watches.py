"""The conformance names of lists, watches and raw discovery: asked over the API itself, as the forms need headers of their own."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from portside.cli.api import Refused
from tests.conformance.ground import Ground, ground, template
from tests.conformance.names import conformance
from tests.conftest import Cluster

__all__ = ["ground"]
Json = dict[str, Any]
PATIENCE = 60.0  # seconds without a word until a watch counts as broken


def accepted(g: Ground, method: str, path: str, accept: str, body: Json | None = None) -> tuple[int, str, Json]:
    """Code, media type and document of one call with an Accept header."""
    address = g.api.address
    connection = http.client.HTTPSConnection(
        address.hostname or "", address.port, context=g.api.context, timeout=PATIENCE
    )
    try:
        data = json.dumps(body).encode() if body else None
        connection.request(method, path, data, {"Accept": accept, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], json.loads(answer.read())
    finally:
        connection.close()


class Watch:
    """A watch that is open: ``next`` waits for the next event."""

    def __init__(self, g: Ground, path: str) -> None:
        address = g.api.address
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, context=g.api.context, timeout=PATIENCE
        )
        self._connection.request("GET", path)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def next(self) -> tuple[str, str, str]:
        """Type, name, and what the data says under ``n``."""
        event = json.loads(self._answer.readline())
        held = event["object"]
        return event["type"], held["metadata"]["name"], (held.get("data") or {}).get("n", "")

    def revision(self) -> str:
        return str(json.loads(self._answer.readline())["object"]["metadata"]["resourceVersion"])

    def close(self) -> None:
        self._connection.close()


class Watches:
    """Watches of config maps, closed at the test's end."""

    def __init__(self, g: Ground) -> None:
        self.ground, self.open = g, list[Watch]()

    def __call__(self, **query: str) -> Watch:
        made = Watch(self.ground, self.ground.path("configmaps", **({"watch": "1"} | query)))
        self.open.append(made)
        return made


@pytest.fixture
def watch(ground: Ground) -> Iterator[Watches]:
    made = Watches(ground)
    yield made
    for each in made.open:
        each.close()


def config(name: str, n: int, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}, "data": {"n": str(n)}}


def change(g: Ground, name: str, n: int, **labels: str | None) -> Json:
    return g.patch("configmaps", name, {"metadata": {"labels": labels}, "data": {"n": str(n)}})


# -- lists ------------------------------------------------------------------------------------------------------------


@conformance("list, watch, misc", "chunked list: limit, continue, remainingItemCount, same resourceVersion")
def test_pages_have_one_revision_and_count_what_remains(ground: Ground) -> None:
    for n in range(20):
        ground.create("podtemplates", {"metadata": {"name": f"t-{n:02}"}, "template": template()})
    token, found, revisions = "", list[str](), set[str]()
    while True:
        page = ground.api.send("GET", ground.path("podtemplates", limit="6", **({"continue": token} if token else {})))
        meta = page["metadata"]
        revisions.add(meta["resourceVersion"])
        found += [i["metadata"]["name"] for i in page["items"]]
        assert meta.get("remainingItemCount", 0) + len(found) == 20
        token = meta.get("continue", "")
        if not token:
            break
        assert len(page["items"]) == 6
        ground.create("podtemplates", {"metadata": {"name": f"t-{len(found)}x"}, "template": template()})
    assert found == [f"t-{n:02}" for n in range(20)] and len(revisions) == 1
    assert len(ground.all("podtemplates")) == 23


@conformance("list, watch, misc", "Table asked of a backend without metadata gives 406")
def test_a_review_has_no_table(ground: Ground) -> None:
    review = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    code, _, said = accepted(ground, "POST", path, "application/json;as=Table;v=v1;g=meta.k8s.io", review)
    assert (code, said["reason"]) == (406, "NotAcceptable")


# -- watches ----------------------------------------------------------------------------------------------------------


@conformance("list, watch, misc", "several label-selector watches see add, update, delete")
def test_watches_by_label_see_their_own_objects(ground: Ground, watch: Watches) -> None:
    a, b = watch(labelSelector="w=a"), watch(labelSelector="w=b")
    both = watch(labelSelector="w in (a,b)")
    ground.create("configmaps", config("one", 0, w="a"))
    change(ground, "one", 1)
    ground.create("configmaps", config("two", 0, w="b"))
    ground.delete("configmaps", "one")
    ground.delete("configmaps", "two")
    first = [("ADDED", "one", "0"), ("MODIFIED", "one", "1")]
    assert [a.next() for _ in range(3)] == [*first, ("DELETED", "one", "1")]
    assert [b.next() for _ in range(2)] == [("ADDED", "two", "0"), ("DELETED", "two", "0")]
    ends = [("ADDED", "two", "0"), ("DELETED", "one", "1"), ("DELETED", "two", "0")]
    assert [both.next() for _ in range(5)] == [*first, *ends]


@conformance("list, watch, misc", "object leaving a selector is seen as DELETED, coming back as ADDED")
def test_an_object_that_leaves_a_selector_is_deleted_for_its_watch(ground: Ground, watch: Watches) -> None:
    mine = watch(labelSelector="w=yes")
    ground.create("configmaps", config("one", 0, w="yes"))
    change(ground, "one", 1, w="no")
    change(ground, "one", 2)
    change(ground, "one", 3, w="yes")
    change(ground, "one", 4)
    ground.delete("configmaps", "one")
    seen = [mine.next() for _ in range(5)]
    assert [kind for kind, _, _ in seen] == ["ADDED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
    assert [n for kind, _, n in seen if kind != "DELETED"] == ["0", "3", "4"]


@conformance("list, watch, misc", "watch from a given resourceVersion")
def test_a_watch_from_a_revision_sees_what_came_after(ground: Ground, watch: Watches) -> None:
    ground.create("configmaps", config("one", 0, w="yes"))
    first = change(ground, "one", 1)["metadata"]["resourceVersion"]
    change(ground, "one", 2)
    ground.delete("configmaps", "one")
    later = watch(labelSelector="w=yes", resourceVersion=first)
    assert [later.next() for _ in range(2)] == [("MODIFIED", "one", "2"), ("DELETED", "one", "2")]


@conformance("list, watch, misc", "watch restarts from the last seen resourceVersion")
def test_a_watch_goes_on_where_another_ended(ground: Ground, watch: Watches) -> None:
    first = watch(labelSelector="w=yes")
    ground.create("configmaps", config("one", 0, w="yes"))
    change(ground, "one", 1)
    assert first.next() == ("ADDED", "one", "0")
    last = first.revision()
    first.close()
    change(ground, "one", 2)
    ground.delete("configmaps", "one")
    second = watch(labelSelector="w=yes", resourceVersion=last)
    assert [second.next() for _ in range(2)] == [("MODIFIED", "one", "2"), ("DELETED", "one", "2")]


@conformance("list, watch, misc", "concurrent watches see the same order")
def test_watches_from_every_revision_see_one_order(ground: Ground, watch: Watches) -> None:
    made = ground.create("configmaps", config("one", 0, w="yes"))
    revisions = [made["metadata"]["resourceVersion"]]
    names = {"one"}
    for n in range(1, 15):
        name = ("one", "two", "three")[n % 3]
        if name in names and n % 5 == 0:
            ground.delete("configmaps", name)
            names.discard(name)
        elif name in names:
            revisions.append(change(ground, name, n)["metadata"]["resourceVersion"])
        else:
            revisions.append(ground.create("configmaps", config(name, n, w="yes"))["metadata"]["resourceVersion"])
            names.add(name)
    ground.create("configmaps", config("last", 99, w="yes"))
    whole = watch(resourceVersion=revisions[0], labelSelector="w=yes")
    order = [whole.next() for _ in range(15)]
    for revision in revisions[1:]:
        rest = watch(resourceVersion=revision, labelSelector="w=yes")
        first = rest.next()
        start = order.index(first) if first in order else -1
        assert start > 0
        assert [first, *(rest.next() for _ in range(15 - start - 1))] == order[start:]


# -- discovery --------------------------------------------------------------------------------------------------------

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={0};as=APIGroupDiscoveryList"


@conformance("discovery and aggregation", "aggregated discovery raw Accept headers, built-ins")
@pytest.mark.parametrize("path", ["/api", "/apis"])
def test_discovery_is_aggregated_when_asked_for(ground: Ground, path: str) -> None:
    accept = f"{AGGREGATED.format('v2')},{AGGREGATED.format('v2beta1')},application/json"
    code, media, found = accepted(ground, "GET", path, accept)
    assert (code, found["kind"], found["apiVersion"]) == (200, "APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    assert media == AGGREGATED.format("v2")
    groups = {g["metadata"].get("name", ""): g for g in found["items"]}
    wanted = {"": "pods"} if path == "/api" else {"apps": "deployments", "batch": "jobs"}
    for group, plural in wanted.items():
        listed = {r["resource"] for v in groups[group]["versions"] for r in v["resources"]}
        assert plural in listed
    code, _, plain = accepted(ground, "GET", path, "application/json")
    assert (code, plain["kind"]) == (200, "APIVersions" if path == "/api" else "APIGroupList")


@conformance("discovery and aggregation", "aggregated discovery raw Accept headers, CRD")
def test_a_custom_resource_is_in_aggregated_discovery(ground: Ground, simulated: Cluster) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"plural": "things", "kind": "Thing"}
    body = {"metadata": {"name": f"things.{group}"}}
    body["spec"] = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}  # type: ignore[dict-item]
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    ground.api.send("POST", definitions, json.dumps(body).encode())

    def there() -> bool:
        _, _, found = accepted(ground, "GET", "/apis", AGGREGATED.format("v2"))
        mine = [g for g in found["items"] if g["metadata"]["name"] == group]
        return bool(mine) and mine[0]["versions"][0]["resources"][0]["resource"] == "things"

    try:
        ground.until(there, PATIENCE)
    finally:
        ground.api.send("DELETE", f"{definitions}/things.{group}")
    ground.until(lambda: not there(), PATIENCE)


@conformance("Architecture", "at least two untainted nodes")
def test_pods_may_go_to_at_least_two_nodes(ground: Ground) -> None:
    def free() -> bool:
        nodes = ground.all("nodes", "type=portside-simulated")
        return sum(not n["spec"].get("taints") and not n["spec"].get("unschedulable") for n in nodes) >= 2

    ground.until(free, PATIENCE)


def test_a_token_of_a_list_is_no_place_for_a_revision(ground: Ground) -> None:
    for name in ("a", "b"):
        ground.create("configmaps", config(name, 0))
    token = ground.api.send("GET", ground.path("configmaps", limit="1"))["metadata"]["continue"]
    with pytest.raises(Refused, match="specifying resource version is not allowed when using continue"):
        ground.api.send("GET", ground.path("configmaps", limit="1", resourceVersion="5", **{"continue": token}))
