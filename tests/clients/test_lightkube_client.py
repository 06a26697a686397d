"""What lightkube's own end-to-end tests try, with objects of these tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import lightkube
import pytest
from lightkube.generic_resource import get_generic_resource, load_in_cluster_generic_resources
from lightkube.models.core_v1 import Container, PodSpec, ServicePort, ServiceSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apiextensions_v1 import CustomResourceDefinition
from lightkube.resources.core_v1 import ConfigMap, Node, Pod, Service
from lightkube.types import PatchType

from portside.testing import Api

LABELS = {"app": "light"}


@pytest.fixture
def client(portside: Api) -> Iterator[lightkube.Client]:
    yield lightkube.Client(lightkube.KubeConfig.from_file(str(portside.kubeconfig)), field_manager="light")


def config(name: str, **data: str) -> ConfigMap:
    return ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name=name, labels=LABELS), data=data)


def test_four_kinds_of_patches(client: lightkube.Client) -> None:
    client.create(
        Service(
            metadata=ObjectMeta(name="s"),
            spec=ServiceSpec(ports=[ServicePort(name="a", port=80)], selector=LABELS),
        )
    )
    more = {"spec": {"ports": [{"name": "b", "port": 81}]}}
    made = client.patch(Service, "s", more)
    assert [p.name for p in made.spec.ports] == ["b", "a"], "the strategic patch merges by port"
    made = client.patch(Service, "s", more, patch_type=PatchType.MERGE)
    assert [p.name for p in made.spec.ports] == ["b"]
    step = {"op": "add", "path": "/spec/ports/-", "value": {"name": "c", "port": 82}}
    made = client.patch(Service, "s", [step], patch_type=PatchType.JSON)
    assert [p.port for p in made.spec.ports] == [81, 82]
    applied = client.apply(config("applied", a="1", b="2"))
    assert applied.data == {"a": "1", "b": "2"}
    assert client.apply(config("applied", b="3")).data == {"b": "3"}, "what is applied no more is gone"


def test_a_dry_run_changes_nothing(client: lightkube.Client) -> None:
    client.create(config("dry", k="1"), dry_run=True)
    with pytest.raises(lightkube.ApiError):
        client.get(ConfigMap, "dry")
    client.create(config("dry", k="1"))
    client.patch(ConfigMap, "dry", {"data": {"k": "2"}}, dry_run=True)
    client.delete(ConfigMap, "dry", dry_run=True)
    client.deletecollection(ConfigMap, dry_run=True)
    assert client.get(ConfigMap, "dry").data == {"k": "1"}


def test_a_collection_is_deleted(client: lightkube.Client) -> None:
    for name in ("one", "two"):
        client.create(config(name))
    client.deletecollection(ConfigMap)
    assert not {m.metadata.name for m in client.list(ConfigMap, labels=LABELS)} & {"one", "two"}


def test_waiting_for_pods_and_nodes(client: lightkube.Client) -> None:
    spec = PodSpec(containers=[Container(name="c", image="docker.io/portside/busybox:1")])
    made = client.create(Pod(metadata=ObjectMeta(generateName="wait-"), spec=spec))
    client.wait(Pod, made.metadata.name, for_conditions=["Ready"])
    for node in client.list(Node):
        client.wait(Node, node.metadata.name, for_conditions=["Ready"])


def test_a_watch_goes_on_from_a_revision(client: lightkube.Client) -> None:
    made = client.create(config("watched", k="1"))
    client.patch(ConfigMap, "watched", {"data": {"k": "2"}})
    client.delete(ConfigMap, "watched")
    seen = []
    for kind, obj in client.watch(ConfigMap, labels=LABELS, resource_version=made.metadata.resourceVersion):
        seen.append((kind, obj.data["k"]))
        if kind == "DELETED":
            break
    assert seen == [("MODIFIED", "2"), ("DELETED", "2")]


def test_kinds_of_the_cluster_are_loaded(portside_fresh: Api) -> None:
    client = lightkube.Client(lightkube.KubeConfig.from_file(str(portside_fresh.kubeconfig)))
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "lamps", "singular": "lamp", "kind": "Lamp"}
    spec = {"group": "light.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    client.create(CustomResourceDefinition.from_dict({"metadata": {"name": "lamps.light.example.com"}, "spec": spec}))
    client.wait(CustomResourceDefinition, "lamps.light.example.com", for_conditions=["Established"])
    assert get_generic_resource("light.example.com/v1", "Lamp") is None
    load_in_cluster_generic_resources(client)
    lamp = get_generic_resource("light.example.com/v1", "Lamp")
    assert lamp is not None
    client.create(lamp(metadata={"name": "desk", "namespace": "default"}, spec={"watts": 7}))
    assert client.get(lamp, "desk", namespace="default").spec == {"watts": 7}
