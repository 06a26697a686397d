"""Random clusters from a seed, as plain objects: nodes, pods, storage, budgets."""

from __future__ import annotations

from random import Random
from typing import Any

Json = dict[str, Any]
Objects = dict[str, dict[str, Json]]
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
DRIVER = "disks.example.com"
NAMESPACES = {"d": {"team": "x"}, "e": {"team": "y"}}
SELECTORS: tuple[Json | None, ...] = (
    None,
    {},
    {"matchLabels": {"app": "a"}},
    {"matchLabels": {"app": "b"}},
    {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]},
    {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]},
    {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]},
)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def node(rng: Random, number: int) -> Json:
    labels = {HOST: f"n{number}"}
    if rng.random() < 0.8:
        labels[ZONE] = rng.choice(["1", "2", "3"])
    if rng.random() < 0.5:
        labels["rack"] = rng.choice(["1", "2", "x"])
    taints = [{"key": "k", "value": "v", "effect": rng.choice(["NoSchedule", "NoExecute", "PreferNoSchedule"])}]
    amounts = {
        "cpu": rng.choice(["1", "2", "4", "8"]),
        "memory": rng.choice(["1Gi", "4Gi", "16Gi"]),
        "pods": rng.choice(["2", "5", "20"]),
    }
    spec = {"unschedulable": rng.random() < 0.05, "taints": taints if rng.random() < 0.2 else []}
    return {"metadata": {"name": f"n{number}", "labels": labels}, "spec": spec, "status": {"allocatable": amounts}}


def _term(rng: Random) -> Json:
    term: Json = {"topologyKey": rng.choice([HOST, ZONE, "rack"]), "labelSelector": rng.choice(SELECTORS)}
    if (how := rng.random()) < 0.15:
        term["namespaces"] = ["e"]
    elif how < 0.3:
        term["namespaceSelector"] = rng.choice([{}, {"matchLabels": {"team": "y"}}])
    return term


def _affinity(rng: Random) -> Json:
    made: Json = {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if rng.random() < 0.15:
            made.setdefault(kind, {})[REQUIRED] = [_term(rng) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.15:
            weighted = {"weight": rng.randint(1, 100), "podAffinityTerm": _term(rng)}
            made.setdefault(kind, {})[PREFERRED] = [weighted]
    if rng.random() < 0.25:
        term: Json = {"matchExpressions": [{"key": "rack", "operator": rng.choice(["Exists", "DoesNotExist"])}]}
        if rng.random() < 0.5:
            made["nodeAffinity"] = {REQUIRED: {"nodeSelectorTerms": [term]}}
        else:
            made["nodeAffinity"] = {PREFERRED: [{"weight": 7, "preference": term}]}
    return made


def _spread(rng: Random) -> list[Json]:
    found = []
    for key in rng.sample([HOST, ZONE, "rack"], rng.choice([0, 0, 1, 2])):
        hard = rng.random() < 0.5
        constraint: Json = {
            "topologyKey": key,
            "maxSkew": rng.randint(1, 3),
            "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
            "labelSelector": rng.choice(SELECTORS),
        }
        if hard and rng.random() < 0.3:
            constraint["minDomains"] = rng.randint(1, 4)
        for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if rng.random() < 0.3:
                constraint[policy] = rng.choice(["Honor", "Ignore"])
        found.append(constraint)
    return found


def pod(rng: Random, number: int, *, rules: bool = True) -> Json:
    """``rules``: with affinity, spread, ports and tolerations, else with requests alone."""
    asked = rng.choice([{}, {"cpu": "500m"}, {"cpu": "1", "memory": "512Mi"}, {"memory": "0"}])
    container: Json = {"name": "c", "image": "i", "resources": {"requests": asked}}
    spec: Json = {"containers": [container], "priority": rng.randint(0, 3)}
    if rules:
        container["ports"] = rng.choice([[], [], [{"hostPort": 80}], [{"hostPort": 80, "hostIP": "10.0.0.1"}]])
        spec |= {"affinity": _affinity(rng), "topologySpreadConstraints": _spread(rng)}
    if rng.random() < 0.3:
        spec["tolerations"] = [rng.choice([{"operator": "Exists"}, {"key": "k", "value": "v"}])]
    app = rng.choice([{}, {"app": "a"}, {"app": "b"}])
    meta = {"name": f"p{number}", "uid": f"u{number:04}", "namespace": rng.choice(["d", "e"]), "labels": app}
    started = {"startTime": f"2026-01-01T00:00:{rng.randint(0, 59):02}Z"}
    return {"metadata": meta, "spec": spec, "status": started}


def budgets(rng: Random) -> list[Json]:
    return [
        {
            "metadata": {"name": f"b{i}", "namespace": rng.choice(["d", "e"])},
            "spec": {"selector": rng.choice(SELECTORS[2:5])},
            "status": {"disruptionsAllowed": rng.randint(0, 2)},
        }
        for i in range(rng.randint(0, 2))
    ]


def disk(rng: Random, number: int) -> Json:
    """A volume that names a disk itself."""
    reads = {"readOnly": True} if rng.random() < 0.5 else {}
    name = rng.choice(["x", "y"])
    kind: Json = rng.choice(
        [
            {"gcePersistentDisk": {"pdName": name} | reads},
            {"awsElasticBlockStore": {"volumeID": name} | reads},
            {"iscsi": {"targetPortal": "t", "lun": 0, "iqn": name} | reads},
            {"rbd": {"monitors": rng.sample(["m1", "m2"], rng.randint(1, 2)), "pool": "p", "image": name} | reads},
        ]
    )
    return {"name": f"disk{number}"} | kind


def _capacities(rng: Random) -> Objects:
    """A driver that may tell its capacities, and those it tells."""
    found: Objects = {"csidrivers": {}, "csistoragecapacities": {}}
    if rng.random() < 0.6:
        found["csidrivers"][DRIVER] = {"metadata": {"name": DRIVER}, "spec": {"storageCapacity": rng.random() < 0.7}}
    for i in range(rng.randint(0, 3)):
        told: Json = {"storageClassName": rng.choice(["made", "local"]), "capacity": rng.choice(["1Gi", "3Gi", "9Gi"])}
        if rng.random() < 0.3:
            told["maximumVolumeSize"] = rng.choice(["1Gi", "2Gi"])
        told["nodeTopology"] = rng.choice([{}, {"matchLabels": {ZONE: rng.choice(["1", "2"])}}])
        found["csistoragecapacities"][f"k{i}"] = {"metadata": {"name": f"k{i}", "namespace": "d"}, **told}
    return found


def storage(rng: Random, nodes: list[Json]) -> Objects:
    """Classes, volumes, claims (c0 …) and what drivers attach."""
    zones: Json = {"allowedTopologies": [{"matchLabelExpressions": [{"key": ZONE, "values": ["1", "2"]}]}]}
    classes: dict[str, Json] = {
        "local": {"provisioner": "kubernetes.io/no-provisioner"},
        "made": {"provisioner": DRIVER, **(zones if rng.random() < 0.5 else {})},
    }
    for kind in classes.values():
        kind["volumeBindingMode"] = "WaitForFirstConsumer"
    found: Objects = {"storageclasses": classes, "persistentvolumes": {}, "persistentvolumeclaims": {}, "csinodes": {}}
    found |= _capacities(rng)
    for i in range(rng.randint(1, 6)):
        spec: Json = {
            "capacity": {"storage": rng.choice(["1Gi", "2Gi", "5Gi"])},
            "accessModes": rng.choice([["ReadWriteOnce"], ["ReadWriteOnce", "ReadWriteOncePod"]]),
            "storageClassName": rng.choice(["local", "made"]),
        }
        if rng.random() < 0.6:
            values = [n["metadata"]["name"] for n in rng.sample(nodes, min(2, len(nodes)))]
            term = {"matchExpressions": [{"key": HOST, "operator": "In", "values": values}]}
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [term]}}
        if rng.random() < 0.5:
            spec["csi"] = {"driver": DRIVER, "volumeHandle": f"h{i}"}
        zone = {ZONE: rng.choice(["1", "1__2"])} if rng.random() < 0.3 else {}
        phase = {"phase": rng.choice(["Available", "Available", "Released"])}
        found["persistentvolumes"][f"v{i}"] = {
            "metadata": {"name": f"v{i}", "labels": zone | {"app": rng.choice(["a", "b"])}},
            "spec": spec,
            "status": phase,
        }
    for i in range(rng.randint(1, 6)):
        wanted: Json = {
            "accessModes": [rng.choice(["ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod"])],
            "resources": {"requests": {"storage": rng.choice(["1Gi", "2Gi", "5Gi"])}},
            "storageClassName": rng.choice(["local", "made"]),
        }
        annotations: Json = {}
        if (how := rng.random()) < 0.3:
            wanted["volumeName"] = f"v{rng.randint(0, 6)}"
            annotations["pv.kubernetes.io/bind-completed"] = "yes"
        elif how < 0.4:
            annotations["volume.kubernetes.io/selected-node"] = rng.choice(nodes)["metadata"]["name"]
        elif how < 0.6:
            wanted["selector"] = rng.choice(SELECTORS[2:5])
        namespace = rng.choice(["d", "e"])
        meta = {"name": f"c{i}", "namespace": namespace, "uid": f"c{i}", "annotations": annotations}
        found["persistentvolumeclaims"][f"{namespace}/c{i}"] = {"metadata": meta, "spec": wanted}
    for one in nodes:
        if rng.random() < 0.5:
            driver = {"name": DRIVER, "allocatable": {"count": rng.randint(0, 2)}}
            found["csinodes"][one["metadata"]["name"]] = {"spec": {"drivers": [driver]}}
    return found
