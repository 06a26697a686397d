"""``extenders`` of a KubeSchedulerConfiguration: HTTP servers that have a say in where some pods go.

Checks and words are upstream's; what upstream takes but can never work (no address, half a client certificate) is refused too.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from portside.api import names
from portside.api.rules.resources import is_extended
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.profile import ConfigError, Profile

Json = dict[str, Any]
T = TypeVar("T")
SECONDS = 5.0  # upstream's time for a call when httpTimeout says nothing
FIELDS = frozenset(
    (
        *("urlPrefix", "filterVerb", "preemptVerb", "prioritizeVerb", "weight", "bindVerb", "enableHTTPS", "tlsConfig"),
        *("httpTimeout", "nodeCacheCapable", "managedResources", "ignorable"),
    )
)
TLS_FIELDS = frozenset(
    ("insecure", "serverName", "certFile", "keyFile", "caFile", "certData", "keyData", "caData"),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """How an extender's server is known and who we are to it. Data go before files; ``insecure``: anybody will do."""

    insecure: bool = False
    server_name: str = ""
    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    cert_data: bytes = b""
    key_data: bytes = b""
    ca_data: bytes = b""


@dataclass(frozen=True, slots=True)
class Extender:
    """One extender. A verb that is "" is not served. ``seconds``: its time for an answer; ``managed``: the resources whose
    pods it is asked about, empty for all pods; ``ignored``: those of them that our own filters pass over."""

    url: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    bind_verb: str = ""
    preempt_verb: str = ""
    weight: int = 0
    seconds: float = SECONDS
    cache_capable: bool = False
    managed: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    ignorable: bool = False
    tls: Tls = Tls()

    @property
    def decides(self) -> bool:
        """Whether it takes part before a node is chosen, or victims are."""
        return bool(self.filter_verb or self.prioritize_verb or self.preempt_verb)

    def interested(self, pod: PodInfo) -> bool:
        """Whether it is asked about a pod: if it manages nothing in particular, or something that a container names."""
        if not self.managed:
            return True
        spec = pod.object["spec"]
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            if resources := container.get("resources"):
                for amounts in (resources.get("requests"), resources.get("limits")):
                    if amounts and not self.managed.isdisjoint(amounts):
                        return True
        return False


def read_extenders(listed: Any) -> tuple[Extender, ...]:
    """The extenders in the order in which they are asked: those that may be ignored come last. Raises ConfigError."""
    if not isinstance(listed or [], list):
        raise ConfigError("extenders: must be a list")
    managed: set[str] = set()
    found = [_extender(said, f"extenders[{i}]", managed) for i, said in enumerate(listed or ())]
    if (binders := sum(1 for e in found if e.bind_verb)) > 1:
        raise _invalid(
            "extenders", f"found {binders} extenders implementing bind", "only one extender can implement bind"
        )
    return tuple(sorted(found, key=lambda e: e.ignorable))


def without_ignored(profiles: tuple[Profile, ...], extenders: Iterable[Extender]) -> tuple[Profile, ...]:
    """The profiles, whose NodeResourcesFit passes over what extenders alone look at; that is said instead of its own
    ``ignoredResources``, as upstream has it."""
    ignored = frozenset(name for e in extenders for name in e.ignored)
    return tuple(replace(p, ignored_resources=ignored) for p in profiles) if ignored else profiles


def _extender(said: Any, where: str, seen: set[str]) -> Extender:
    _known(said, FIELDS, where)
    _check_managed(said.get("managedResources") or (), f"{where}.managedResources", seen)
    url = _value(said, "urlPrefix", str, where)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _invalid(f"{where}.urlPrefix", url, "must begin with http:// or https:// and a host")
    weight = _value(said, "weight", int, where)
    prioritizes = _value(said, "prioritizeVerb", str, where)
    if prioritizes and weight <= 0:
        raise _invalid(f"{where}.weight", weight, "must have a positive weight applied to it")
    managed = said.get("managedResources") or []
    return Extender(
        url,
        filter_verb=_value(said, "filterVerb", str, where),
        prioritize_verb=prioritizes,
        bind_verb=_value(said, "bindVerb", str, where),
        preempt_verb=_value(said, "preemptVerb", str, where),
        weight=weight,
        seconds=_seconds(_value(said, "httpTimeout", str, where), f"{where}.httpTimeout"),
        cache_capable=_value(said, "nodeCacheCapable", bool, where),
        managed=frozenset(r.get("name") or "" for r in managed),
        ignored=frozenset(r.get("name") or "" for r in managed if r.get("ignoredByScheduler")),
        ignorable=_value(said, "ignorable", bool, where),
        tls=_tls(said.get("tlsConfig"), f"{where}.tlsConfig", https=_value(said, "enableHTTPS", bool, where)),
    )


def _check_managed(listed: Iterable[Any], where: str, seen: set[str]) -> None:
    for i, resource in enumerate(listed):
        path = f"{where}[{i}].name"
        _known(resource, frozenset(("name", "ignoredByScheduler")), f"{where}[{i}]")
        _value(resource, "ignoredByScheduler", bool, f"{where}[{i}]")
        name = _value(resource, "name", str, f"{where}[{i}]")
        if problems := names.qualified_name(name):
            raise _invalid(path, name, problems[0])
        if not is_extended(name):
            raise _invalid(path, name, "is an invalid extended resource name")
        if name in seen:
            raise _invalid(path, name, "duplicate extender managed resource name")
        seen.add(name)


def _tls(said: Any, where: str, *, https: bool) -> Tls:
    said = said or {}
    _known(said, TLS_FIELDS, where)
    read: Callable[[str], str] = lambda name: _value(said, name, str, where)  # noqa: E731
    insecure = _value(said, "insecure", bool, where)
    ca_file, ca_data = read("caFile"), _data(said, "caData", where)
    if insecure and (ca_file or ca_data):
        raise ConfigError(f"{where}: specifying a root certificates file with the insecure flag is not allowed")
    cert_file, cert_data = read("certFile"), _data(said, "certData", where)
    key_file, key_data = read("keyFile"), _data(said, "keyData", where)
    if bool(cert_file or cert_data) != bool(key_file or key_data):
        raise ConfigError(f"{where}: a client certificate needs both its certificate and its key")
    unproved = https and not (ca_file or ca_data)  # upstream's: without authorities to ask, any server is believed
    return Tls(insecure or unproved, read("serverName"), cert_file, key_file, ca_file, cert_data, key_data, ca_data)


def _data(said: Mapping[str, Any], name: str, where: str) -> bytes:
    value = said.get(name) or b""
    if isinstance(value, bytes):  # YAML's own !!binary
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ConfigError(f"{where}.{name}: must be base64") from None


def _seconds(text: str, where: str) -> float:
    if not text:
        return SECONDS
    from portside.api.cel.stdlib_time import parse_duration

    found = parse_duration(text)
    if found is None:
        raise ConfigError(f"{where}: time: invalid duration {json.dumps(text)}")
    if found.nanos < 0:
        raise _invalid(where, text, "must be greater than or equal to 0")
    return found.nanos / 1e9 or SECONDS


def _known(said: Any, fields: frozenset[str], where: str) -> None:
    if not isinstance(said, dict):
        raise ConfigError(f"{where}: must be a mapping")
    if unknown := sorted(said.keys() - fields):
        raise ConfigError(f'strict decoding error: unknown field "{where}.{unknown[0]}"')


def _value(said: Mapping[str, Any], name: str, kind: type[T], where: str) -> T:
    """A field of one type; its zero value when it is not there."""
    value = said.get(name)
    if value is None:
        return kind()
    if type(value) is not kind:
        words = {str: "a string", int: "an integer", bool: "true or false"}
        raise _invalid(f"{where}.{name}", value, f"must be {words[kind]}")
    return value


def _invalid(path: str, value: object, why: str) -> ConfigError:
    return ConfigError(f"{path}: Invalid value: {json.dumps(value, default=str)}: {why}")
