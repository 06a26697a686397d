"""A scheduler profile: which filters and scores are on, with what weights and arguments.

The defaults are upstream's. ``read`` takes a ``kubescheduler.config.k8s.io/v1`` KubeSchedulerConfiguration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from portside.scheduler.terms import NodeTerm, Spread

Json = dict[str, Any]
API_VERSION = "kubescheduler.config.k8s.io/v1"
NAME = "default-scheduler"
WEIGHTS: Mapping[str, int] = MappingProxyType(
    {
        "TaintToleration": 3,
        "NodeAffinity": 2,
        "PodTopologySpread": 2,
        "InterPodAffinity": 2,
        "NodeResourcesFit": 1,
        "NodeResourcesBalancedAllocation": 1,
        "ImageLocality": 1,
        "DynamicResources": 2,
    }
)
PLUGINS = frozenset(WEIGHTS) | {
    "SchedulingGates",
    "PrioritySort",
    "NodeUnschedulable",
    "NodeName",
    "NodePorts",
    "VolumeRestrictions",
    "NodeVolumeLimits",
    "VolumeBinding",
    "VolumeZone",
    "DefaultPreemption",
    "DefaultBinder",
}
POINTS = ("multiPoint", "filter", "score", "postFilter", "preFilter", "preScore", "preEnqueue", "queueSort", "bind")
STRATEGIES = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")
SYSTEM_SPREAD = (("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5))


class ConfigError(ValueError):
    """A scheduler configuration that can't be used: names the field and says what is allowed."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What one scheduler name stands for. ``spread_by``: default constraints for pods of services and controllers;
    ``required_nodes``, ``preferred_nodes``: node affinity of every pod beside its own."""

    name: str = NAME
    weights: Mapping[str, int] = field(default_factory=lambda: WEIGHTS)
    without: frozenset[str] = frozenset()
    strategy: str = "LeastAllocated"
    strategy_resources: tuple[tuple[str, int], ...] = (("cpu", 1), ("memory", 1))
    ratio: tuple[tuple[int, int], ...] = ()
    balanced: tuple[str, ...] = ("cpu", "memory")
    hard_affinity_weight: int = 1
    ignore_existing_preferences: bool = False
    spread_by: tuple[Spread, ...] = field(default_factory=lambda: system_spread())
    spread_needs_all_keys: bool = False
    ignored_resources: frozenset[str] = frozenset()
    ignored_groups: frozenset[str] = frozenset()
    required_nodes: tuple[NodeTerm, ...] | None = None
    preferred_nodes: tuple[tuple[int, NodeTerm], ...] = ()

    def weight(self, score: str) -> int:
        """0 when the score is off."""
        return 0 if score in self.without else self.weights.get(score, 0)

    def counts_resource(self, name: str) -> bool:
        """Whether a node must have room for a resource."""
        return name not in self.ignored_resources and name.split("/")[0] not in self.ignored_groups


def system_spread() -> tuple[Spread, ...]:
    """Upstream's built-in constraints: softly over hosts and zones."""
    return tuple(Spread(key, skew, False, "null", 1, True, False) for key, skew in SYSTEM_SPREAD)


DEFAULT = Profile()


def read(config: Json) -> tuple[Profile, ...]:
    """The profiles of a configuration. Raises ConfigError."""
    if config.get("apiVersion") != API_VERSION or config.get("kind") != "KubeSchedulerConfiguration":
        said = f"{config.get('apiVersion')}, Kind={config.get('kind')}"
        raise ConfigError(f"apiVersion and kind are {said}, must be {API_VERSION}, Kind=KubeSchedulerConfiguration")
    profiles = config.get("profiles") or [{}]
    found = tuple(_profile(p, f"profiles[{i}]") for i, p in enumerate(profiles))
    names = [p.name for p in found]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(f'profiles[{i}].schedulerName: "{name}" is used twice; give each profile its own name')
    return found


def _profile(said: Json, where: str) -> Profile:
    plugins = said.get("plugins") or {}
    without, weights = _switched(plugins, where)
    made: dict[str, Any] = {"name": said.get("schedulerName") or NAME, "without": without, "weights": weights}
    for i, entry in enumerate(said.get("pluginConfig") or ()):
        place = f"{where}.pluginConfig[{i}]"
        name, args = entry.get("name"), entry.get("args") or {}
        if name not in PLUGINS:
            raise ConfigError(f'{place}.name: there is no plugin "{name}"; there are {", ".join(sorted(PLUGINS))}')
        reader = ARGUMENTS.get(name)
        if reader is not None:
            made |= reader(args, f"{place}.args")
    return Profile(**made)


def _switched(plugins: Json, where: str) -> tuple[frozenset[str], Mapping[str, int]]:
    weights = dict(WEIGHTS)
    without: set[str] = set()
    for point in plugins:
        if point not in POINTS and point not in ("postBind", "permit", "reserve", "preBind"):
            raise ConfigError(f"{where}.plugins.{point}: no such extension point")
    for point in POINTS:
        chosen = plugins.get(point) or {}
        for i, entry in enumerate(chosen.get("disabled") or ()):
            name = entry.get("name")
            if name != "*" and name not in PLUGINS:
                raise ConfigError(f'{where}.plugins.{point}.disabled[{i}].name: there is no plugin "{name}"')
            gone = PLUGINS if name == "*" else {name}
            if point in ("score", "preScore"):
                weights |= {n: 0 for n in gone if n in weights}
            else:
                without |= gone
        for i, entry in enumerate(chosen.get("enabled") or ()):
            name = entry.get("name")
            if name not in PLUGINS:
                raise ConfigError(f'{where}.plugins.{point}.enabled[{i}].name: there is no plugin "{name}"')
            without.discard(name)
            if name in WEIGHTS and point in ("multiPoint", "score"):
                weights[name] = int(entry.get("weight") or WEIGHTS[name])
    return frozenset(without), MappingProxyType(weights)


def _fit_args(args: Json, where: str) -> Json:
    made: Json = {
        "ignored_resources": frozenset(args.get("ignoredResources") or ()),
        "ignored_groups": frozenset(args.get("ignoredResourceGroups") or ()),
    }
    strategy = args.get("scoringStrategy") or {}
    if strategy:
        kind = strategy.get("type", "LeastAllocated")
        if kind not in STRATEGIES:
            raise ConfigError(f'{where}.scoringStrategy.type: "{kind}" is none of {", ".join(STRATEGIES)}')
        made["strategy"] = kind
        if resources := strategy.get("resources"):
            for i, one in enumerate(resources):
                _within(one.get("weight", 1), 1, 100, f"{where}.scoringStrategy.resources[{i}].weight")
            made["strategy_resources"] = tuple((r["name"], int(r.get("weight") or 1)) for r in resources)
        shape = (strategy.get("requestedToCapacityRatio") or {}).get("shape") or ()
        if kind == "RequestedToCapacityRatio" and not shape:
            raise ConfigError(f"{where}.scoringStrategy.requestedToCapacityRatio.shape: at least one point is needed")
        _check_shape(shape, f"{where}.scoringStrategy.requestedToCapacityRatio.shape")
        made["ratio"] = tuple((int(p.get("utilization") or 0), int(p.get("score") or 0) * 10) for p in shape)
    return made


def _within(value: Any, low: int, high: int, where: str) -> None:
    if not low <= int(value) <= high:
        raise ConfigError(f"{where}: Invalid value: {value}: not in valid range [{low}-{high}]")


def _check_shape(shape: Any, where: str) -> None:
    """Points of a function: shares in per cent that rise, scores from 0 to 10."""
    before = -1
    for i, point in enumerate(shape):
        share = int(point.get("utilization") or 0)
        if i and share <= before:
            raise ConfigError(
                f"{where}[{i}].utilization: Invalid value: {share}: values must be sorted in increasing order"
            )
        _within(share, 0, 100, f"{where}[{i}].utilization")
        _within(point.get("score") or 0, 0, 10, f"{where}[{i}].score")
        before = share


def _balanced_args(args: Json, where: str) -> Json:
    resources = args.get("resources")
    return {"balanced": tuple(r["name"] for r in resources)} if resources else {}


def _affinity_args(args: Json, where: str) -> Json:
    weight = args.get("hardPodAffinityWeight", 1)
    if not 0 <= int(weight) <= 100:
        raise ConfigError(f"{where}.hardPodAffinityWeight: {weight} is not between 0 and 100")
    return {
        "hard_affinity_weight": int(weight),
        "ignore_existing_preferences": bool(args.get("ignorePreferredTermsOfExistingPods")),
    }


def _spread_args(args: Json, where: str) -> Json:
    kind, listed = args.get("defaultingType", "System"), args.get("defaultConstraints") or []
    if kind == "System":
        if listed:
            raise ConfigError(f"{where}.defaultConstraints: only with defaultingType List")
        return {}
    if kind != "List":
        raise ConfigError(f'{where}.defaultingType: "{kind}" is neither System nor List')
    for i, constraint in enumerate(listed):
        if constraint.get("labelSelector"):
            raise ConfigError(
                f"{where}.defaultConstraints[{i}].labelSelector: is made from the pod's services and controller"
            )
    return {"spread_by": Spread.all_of(listed), "spread_needs_all_keys": True}


def _node_affinity_args(args: Json, where: str) -> Json:
    added = args.get("addedAffinity") or {}
    required = added.get("requiredDuringSchedulingIgnoredDuringExecution")
    preferred = added.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    if required is not None and not required.get("nodeSelectorTerms"):
        place = f"{where}.addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        raise ConfigError(f"{place}: at least one term is needed")
    for i, entry in enumerate(preferred):
        if not 1 <= int(entry.get("weight") or 0) <= 100:
            place = f"{where}.addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[{i}].weight"
            raise ConfigError(f"{place}: {entry.get('weight')} is not between 1 and 100")
    return {
        "required_nodes": None if required is None else tuple(NodeTerm.of(t) for t in required["nodeSelectorTerms"]),
        "preferred_nodes": tuple((int(p["weight"]), NodeTerm.of(p["preference"])) for p in preferred),
    }


ARGUMENTS = {
    "NodeResourcesFit": _fit_args,
    "NodeResourcesBalancedAllocation": _balanced_args,
    "InterPodAffinity": _affinity_args,
    "PodTopologySpread": _spread_args,
    "NodeAffinity": _node_affinity_args,
}
