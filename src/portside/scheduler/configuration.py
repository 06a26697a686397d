"""A KubeSchedulerConfiguration (``kubescheduler.config.k8s.io/v1``): what of it counts here, and what is refused.

Every node is looked at and there is one scheduler, so that percentages, parallelism, connections and leaders are checked but change
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portside.scheduler.extender_config import Extender, read_extenders, without_ignored
from portside.scheduler.profile import DEFAULT, ConfigError, Profile, read
from portside.scheduler.queue import INITIAL_BACKOFF, MAX_BACKOFF

Json = dict[str, Any]
FIELDS = frozenset(
    (
        *("apiVersion", "kind", "profiles", "podInitialBackoffSeconds", "podMaxBackoffSeconds"),
        *("parallelism", "percentageOfNodesToScore", "leaderElection", "clientConnection", "extenders"),
        *("enableProfiling", "enableContentionProfiling", "delayCacheUntilActive"),
    )
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """How pods are placed; ``backoff``: seconds, the first and the longest, between attempts for one pod; ``extenders`` in
    the order in which they are asked."""

    profiles: tuple[Profile, ...] = (DEFAULT,)
    backoff: tuple[float, float] = (INITIAL_BACKOFF, MAX_BACKOFF)
    extenders: tuple[Extender, ...] = ()


def configuration(config: Json) -> Configuration:
    """Read a file. Raises ConfigError, in upstream's words where it has some."""
    profiles = read(config)
    if unknown := sorted(config.keys() - FIELDS):
        raise ConfigError(f'strict decoding error: unknown field "{unknown[0]}"')
    extenders = read_extenders(config.get("extenders"))
    initial = _number(config, "podInitialBackoffSeconds", INITIAL_BACKOFF)
    most = _number(config, "podMaxBackoffSeconds", MAX_BACKOFF)
    if initial <= 0:
        raise _invalid("podInitialBackoffSeconds", initial, "must be greater than 0")
    if most < initial:
        raise _invalid("podMaxBackoffSeconds", most, "must be greater than or equal to PodInitialBackoffSeconds")
    share = _number(config, "percentageOfNodesToScore", 0)
    if not 0 <= share <= 100:
        raise _invalid("percentageOfNodesToScore", share, "not in valid range [0-100]")
    parallel = _number(config, "parallelism", 16)
    if parallel <= 0:
        raise _invalid("parallelism", parallel, "should be an integer value greater than zero")
    return Configuration(without_ignored(profiles, extenders), (float(initial), float(most)), extenders)


def _number(config: Json, name: str, default: float) -> int:
    value = config.get(name)
    if value is None:
        return int(default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid(name, value, "must be an integer")
    return value


def _invalid(name: str, value: object, why: str) -> ConfigError:
    return ConfigError(f"{name}: Invalid value: {value}: {why}")
