"""APIServices of what this server serves itself: one per group version, in upstream's ranks, and one per custom group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from portside.api.kinds import KINDS
from portside.api.rules.apiregistration import available

Json = dict[str, Any]
GROUP, PLURAL = "apiregistration.k8s.io", "apiservices"
MANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
CUSTOM_RANK, CUSTOM_VERSION_RANK = 1000, 100
# group -> (group priority, priority of its versions where it is not 15)
RANKS: dict[str, tuple[int, int]] = {
    "": (18000, 1),
    "apps": (17800, 15),
    "events.k8s.io": (17750, 15),
    "authentication.k8s.io": (17700, 15),
    "authorization.k8s.io": (17600, 15),
    "autoscaling": (17500, 15),
    "batch": (17400, 15),
    "certificates.k8s.io": (17300, 15),
    "networking.k8s.io": (17200, 15),
    "policy": (17100, 15),
    "rbac.authorization.k8s.io": (17000, 15),
    "storage.k8s.io": (16800, 15),
    "apiextensions.k8s.io": (16700, 15),
    "admissionregistration.k8s.io": (16700, 15),
    "scheduling.k8s.io": (16600, 15),
    "coordination.k8s.io": (16500, 15),
    "node.k8s.io": (16300, 15),
    "discovery.k8s.io": (16200, 15),
    "resource.k8s.io": (16200, 21),
    "flowcontrol.apiserver.k8s.io": (16100, 21),
    "storagemigration.k8s.io": (15800, 15),
}
VERSION_RANKS = {("autoscaling", "v2"): 30}


def rank_of(group: str) -> int:
    """Where a group stands among the others: the higher the earlier."""
    return RANKS.get(group, (CUSTOM_RANK, 0))[0]


def _service(group: str, version: str, rank: int, version_rank: int, managed: str, now: str) -> Json:
    spec: Json = {"groupPriorityMinimum": rank, "version": version, "versionPriority": version_rank}
    if group:
        spec = {"group": group} | spec
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: managed}},
        "spec": spec,
        "status": {"conditions": [available(now)]},
    }


def built_in(now: str) -> Iterator[Json]:
    """The APIServices of every built-in group version but their own group."""
    seen: set[tuple[str, str]] = set()
    for kind in KINDS:
        key = (kind.group, kind.version)
        if kind.group in RANKS and key not in seen:
            seen.add(key)
            rank, version_rank = RANKS[kind.group]
            yield _service(*key, rank, VERSION_RANKS.get(key, version_rank), ON_START, now)


def metrics(now: str) -> Iterator[Json]:
    """The APIService that lets this server answer metrics.k8s.io."""
    made = _service("metrics.k8s.io", "v1beta1", 100, 100, "", now)
    del made["metadata"]["labels"]
    yield made


def custom(definitions: Iterable[Json], now: str) -> dict[str, Json]:
    """By name, the APIServices of the versions that established definitions serve."""
    made: dict[str, Json] = {}
    for definition in definitions:
        conditions = (definition.get("status") or {}).get("conditions") or ()
        if not any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions):
            continue
        group = definition["spec"]["group"]
        for version in definition["spec"].get("versions") or ():
            if version.get("served"):
                found = _service(group, version["name"], CUSTOM_RANK, CUSTOM_VERSION_RANK, ALWAYS, now)
                made[found["metadata"]["name"]] = found
    return made
