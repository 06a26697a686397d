"""Disks that pods name themselves, and what drivers say of their free storage."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.scheduler.test_cycle import node, pod
from tests.unit.scheduler.test_whatif import owned, workload, world

Json = dict[str, Any]


def using(name: str, disk: Json) -> Json:
    return pod(name, volumes=[{"name": "v", **disk}])


def test_a_disk_that_one_pod_writes_has_no_second_user_on_the_node() -> None:
    disk = {"gcePersistentDisk": {"pdName": "x"}}
    there = owned("db", "a", volumes=[{"name": "v", **disk}])
    asked = world([node("a")], [there]).apply([{"kind": "Pod", **using("q", disk)}], "apply")
    assert asked.unplaced == [("d/q", "", "0/1 nodes are available: 1 node(s) had no available disk.")]
    two = world([node("a"), node("b")], [there]).apply([{"kind": "Pod", **using("q", disk)}], "apply")
    assert two.placed == [("d/q", "", "b")]


@pytest.mark.parametrize(
    ("disk", "fits"),
    [
        ({"gcePersistentDisk": {"pdName": "x", "readOnly": True}}, True),
        ({"awsElasticBlockStore": {"volumeID": "x", "readOnly": True}}, False),
        ({"iscsi": {"iqn": "x", "readOnly": True}}, True),
        ({"rbd": {"monitors": ["m"], "image": "x", "readOnly": True}}, True),
    ],
)
def test_readers_share_a_disk_but_for_amazons(disk: Json, fits: bool) -> None:
    there = owned("r", "a", volumes=[{"name": "v", **disk}])
    asked = world([node("a")], [there]).apply([{"kind": "Pod", **using("q", disk)}], "apply")
    assert bool(asked.placed) == fits


def test_nodes_without_enough_free_storage_are_left_out() -> None:
    meta = {"name": "disks", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    kind = {"metadata": meta, "provisioner": "d.example.com", "volumeBindingMode": "WaitForFirstConsumer"}
    driver = {"metadata": {"name": "d.example.com"}, "spec": {"storageCapacity": True}}
    rooms = [
        {
            "metadata": {"name": zone, "namespace": "x"},
            "storageClassName": "disks",
            "capacity": size,
            "nodeTopology": {"matchLabels": {"zone": zone}},
        }
        for zone, size in (("1", "1Gi"), ("2", "20Gi"))
    ]
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "5Gi"}}}}
    body = workload("StatefulSet", "db", 1, volumeClaimTemplates=[template])
    more: Json = {"storageclasses": [kind], "csidrivers": [driver], "csistoragecapacities": rooms}
    nodes = [node("a", labels={"zone": "1"}), node("b", labels={"zone": "2"})]
    assert world(nodes, [], **more).apply([body], "apply").placed == [("d/db-0", "", "b")]
    why = "0/1 nodes are available: 1 node(s) did not have enough free storage."
    assert world(nodes[:1], [], **more).apply([body], "apply").unplaced == [("d/db-0", "", why)]
