"""What is right for volumes and victims, said slowly: every node alone, every choice tried.

Nothing here shares code with the scheduler but quantities, budgets' arithmetic excepted from neither: objects are plain JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.unit.scheduler import oracle
from tests.unit.scheduler.oracle import Cluster, labels, selects

from portside.api.quantity import value

Json = dict[str, Any]
Objects = dict[str, dict[str, Json]]
SELECTED = "volume.kubernetes.io/selected-node"
ZONES = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


# Volumes


def claims_of(pod: Json, objects: Objects) -> list[Json]:
    names = [
        v["persistentVolumeClaim"]["claimName"]
        for v in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in v
    ]
    return [objects["persistentvolumeclaims"][f"{pod['metadata']['namespace']}/{n}"] for n in names]


def is_bound(claim: Json) -> bool:
    done = (claim["metadata"].get("annotations") or {}).get("pv.kubernetes.io/bind-completed")
    return bool(claim["spec"].get("volumeName")) and done is not None


def reaches(volume: Json, node: Json) -> bool:
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if required is None:
        return True
    return any(
        term.get("matchExpressions") and all(oracle.expression(e, labels(node)) for e in term["matchExpressions"])
        for term in required["nodeSelectorTerms"]
    )


def answers(volume: Json, claim: Json) -> bool:
    spec, wanted = volume["spec"], claim["spec"]
    if value(spec["capacity"]["storage"]) < value(wanted["resources"]["requests"]["storage"]):
        return False
    if holder := spec.get("claimRef"):
        return all(holder[k] == claim["metadata"][k] for k in ("name", "namespace"))
    if volume["status"]["phase"] != "Available" or spec["storageClassName"] != wanted["storageClassName"]:
        return False
    if any(mode not in spec["accessModes"] for mode in wanted["accessModes"]):
        return False
    return "selector" not in wanted or selects(wanted["selector"], labels(volume))


def can_provision(claim: Json, node: Json, objects: Objects) -> bool:
    chosen = (claim["metadata"].get("annotations") or {}).get(SELECTED)
    if chosen and chosen != node["metadata"]["name"]:
        return False
    kind = objects["storageclasses"].get(claim["spec"]["storageClassName"])
    if kind is None or kind["provisioner"] == "kubernetes.io/no-provisioner":
        return False
    terms = kind.get("allowedTopologies")
    if terms and not any(
        all(labels(node).get(e["key"]) in e["values"] for e in t["matchLabelExpressions"]) for t in terms
    ):
        return False
    driver = objects["csidrivers"].get(kind["provisioner"])
    if driver is None or not driver["spec"]["storageCapacity"]:
        return True
    for room in objects["csistoragecapacities"].values():
        if room["storageClassName"] == claim["spec"]["storageClassName"] and selects(
            room["nodeTopology"], labels(node)
        ):
            most = room.get("maximumVolumeSize", room["capacity"])
            if value(most) >= value(claim["spec"]["resources"]["requests"]["storage"]):
                return True
    return False


def disks_clash(one: Json, other: Json) -> bool:
    """Two volumes of pods on one node are the same disk, and one of them writes (Amazon's disks have one user)."""
    for kind, key in (("gcePersistentDisk", "pdName"), ("awsElasticBlockStore", "volumeID"), ("iscsi", "iqn")):
        if kind in one and kind in other and one[kind][key] == other[kind][key]:
            both_read = one[kind].get("readOnly") and other[kind].get("readOnly")
            return kind == "awsElasticBlockStore" or not both_read
    if "rbd" in one and "rbd" in other:
        a, b = one["rbd"], other["rbd"]
        same = (a["pool"], a["image"]) == (b["pool"], b["image"]) and set(a["monitors"]) & set(b["monitors"])
        return bool(same) and not (a.get("readOnly") and b.get("readOnly"))
    return False


def volumes_fit(pod: Json, node: Json, cluster: Cluster, objects: Objects) -> bool:
    """Bound volumes reach the node and its zone; every other claim finds the smallest volume there that nobody took, the
    smaller claims first, or may be provisioned; claims for one pod have no other; the driver attaches that many."""
    claims = claims_of(pod, objects)
    for other in cluster.on(node):
        if any(disks_clash(a, b) for a in pod["spec"]["volumes"] for b in other["spec"].get("volumes") or ()):
            return False
    for claim in claims:
        others = [p for p in cluster.pods if claim in claims_of(p, objects)]
        if "ReadWriteOncePod" in claim["spec"]["accessModes"] and others:
            return False
    for claim in filter(is_bound, claims):
        volume = objects["persistentvolumes"].get(claim["spec"]["volumeName"])
        if volume is None or not reaches(volume, node):
            return False
        for key in ZONES:
            if key in labels(volume) and labels(node).get(key) not in labels(volume)[key].split("__"):
                return False
    taken: set[str] = set()
    waiting = [c for c in claims if not is_bound(c)]
    for claim in sorted(waiting, key=lambda c: value(c["spec"]["resources"]["requests"]["storage"])):
        free = [
            (value(v["spec"]["capacity"]["storage"]), name)
            for name, v in objects["persistentvolumes"].items()
            if name not in taken and answers(v, claim) and reaches(v, node)
        ]
        if free and not (claim["metadata"].get("annotations") or {}).get(SELECTED):
            taken.add(min(free)[1])
        elif not can_provision(claim, node, objects):
            return False
    return attaches(pod, node, cluster, objects)


def attached(pods: Iterable[Json], driver: str, objects: Objects) -> set[str]:
    found = set()
    for pod in pods:
        for claim in claims_of(pod, objects):
            volume = objects["persistentvolumes"].get(claim["spec"].get("volumeName") or "")
            if volume is None:
                kind = objects["storageclasses"].get(claim["spec"]["storageClassName"]) or {"provisioner": ""}
                if kind["provisioner"] == driver:
                    found.add(f"{claim['metadata']['namespace']}/{claim['metadata']['name']}")
            elif (volume["spec"].get("csi") or {}).get("driver") == driver:
                found.add(volume["spec"]["csi"]["volumeHandle"])
    return found


def attaches(pod: Json, node: Json, cluster: Cluster, objects: Objects) -> bool:
    csi = objects["csinodes"].get(node["metadata"]["name"])
    for driver in csi["spec"]["drivers"] if csi else ():
        mine = attached([pod], driver["name"], objects)
        held = attached(cluster.on(node), driver["name"], objects)
        if mine - held and len(mine | held) > driver["allocatable"]["count"]:
            return False
    return True


# Victims


def victims(pod: Json, cluster: Cluster, budgets: list[Json]) -> list[tuple[tuple[Any, ...], str, frozenset[str]]]:
    """(harm, node, uids) for every node that evictions could win: all less important pods leave, then as many as can come
    back, those whose budgets are spent first, then the more important."""
    found = []
    for node in cluster.nodes:
        lower = [p for p in cluster.on(node) if priority(p) < priority(pod)]
        if not lower or oracle.fits(pod, node, cluster):
            continue
        kept = [p for p in cluster.pods if p not in lower]
        if not oracle.fits(pod, node, Cluster(cluster.nodes, kept, cluster.namespaces)):
            continue
        lower.sort(key=lambda p: (-priority(p), started(p), p["metadata"]["uid"]))
        breaking = _breaking(lower, budgets)
        gone: list[Json] = []
        for one in [p for p in lower if p in breaking] + [p for p in lower if p not in breaking]:
            if oracle.fits(pod, node, Cluster(cluster.nodes, [*kept, one], cluster.namespaces)):
                kept.append(one)
            else:
                gone.append(one)
        if gone:
            found.append(
                (_harm(gone, breaking), node["metadata"]["name"], frozenset(p["metadata"]["uid"] for p in gone))
            )
    return found


def priority(pod: Json) -> int:
    return int(pod["spec"].get("priority") or 0)


def started(pod: Json) -> str:
    return str((pod.get("status") or {}).get("startTime") or "9")


def _breaking(pods: list[Json], budgets: list[Json]) -> list[Json]:
    left = [b["status"]["disruptionsAllowed"] for b in budgets]
    found = []
    for pod in pods:
        breaks = False
        for i, budget in enumerate(budgets):
            same = budget["metadata"]["namespace"] == pod["metadata"]["namespace"]
            if same and labels(pod) and selects(budget["spec"]["selector"], labels(pod)):
                left[i] -= 1
                breaks |= left[i] < 0
        if breaks:
            found.append(pod)
    return found


def _harm(gone: list[Json], breaking: list[Json]) -> tuple[Any, ...]:
    top = max(map(priority, gone))
    earliest = min(started(p) for p in gone if priority(p) == top)
    later_is_better = tuple(-ord(c) for c in earliest)
    return (
        len([p for p in gone if p in breaking]),
        top,
        sum(priority(p) + 2**31 for p in gone),
        len(gone),
        later_is_better,
    )
