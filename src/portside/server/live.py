"""A lazily parsed mirror of the few resources that auth and admission decide on, fed by the watch caches.

Feeding costs a dictionary write and no copy: the watch cache's own version is kept, and parsed when somebody first looks
at it. Objects handed out are shared and read-only. Keys are store keys (``/core/pods/NAMESPACE/NAME``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from portside.server.watchcache_object import CachedObject

Json = dict[str, Any]
Listener = Callable[[str], None]

# (group, plural) of every mirrored resource. The server feeds each from its watch cache, before it serves.
LIVE: tuple[tuple[str, str], ...] = (
    ("", "namespaces"),
    ("", "nodes"),
    ("", "pods"),
    ("", "serviceaccounts"),
    ("", "secrets"),
    ("", "limitranges"),
    ("", "resourcequotas"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("node.k8s.io", "runtimeclasses"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "servicecidrs"),
    ("networking.k8s.io", "ipaddresses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "deviceclasses"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
)


def prefix_of(group: str, plural: str) -> str:
    """The store prefix of a resource: ``/core/pods/``."""
    return f"/{group or 'core'}/{plural}/"


class Mirror:
    """One resource: raw bytes by key, parsed on demand."""

    __slots__ = ("_listeners", "_namespaces", "_parsed", "_raw", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._raw: dict[str, tuple[bytes | CachedObject, int]] = {}
        self._parsed: dict[str, Json] = {}
        self._namespaces: dict[str, dict[str, None]] = {}
        self._listeners: list[Listener] = []

    def __len__(self) -> int:
        return len(self._raw)

    def feed(self, key: str, value: bytes | CachedObject | None, revision: int) -> None:
        """The object at ``key`` is now ``value`` (None: gone), written at ``revision``."""
        self._parsed.pop(key, None)
        if value is None:
            self._raw.pop(key, None)
            if names := self._namespaces.get(_namespace(key)):
                names.pop(key, None)
        else:
            if key not in self._raw:
                self._namespaces.setdefault(_namespace(key), {})[key] = None
            self._raw[key] = (value, revision)
        for listener in self._listeners:
            listener(key)

    def on_change(self, listener: Listener) -> None:
        """Call ``listener(key)`` after every change."""
        self._listeners.append(listener)

    def get(self, name: str, namespace: str = "") -> Json | None:
        return self.at(f"{self.prefix}{namespace}/{name}" if namespace else self.prefix + name)

    def at(self, key: str) -> Json | None:
        """The object at a key (without metadata.resourceVersion), or None."""
        if (held := self._parsed.get(key)) is not None:
            return held
        if (entry := self._raw.get(key)) is None:
            return None
        value = entry[0]
        parsed: Json = orjson.loads(value if isinstance(value, bytes) else value.full)
        parsed["metadata"].pop("resourceVersion", None)
        self._parsed[key] = parsed
        return parsed

    def labels(self, name: str, namespace: str = "") -> Mapping[str, str]:
        """The object's labels, mostly without parsing the rest of it; none without the object."""
        key = f"{self.prefix}{namespace}/{name}" if namespace else self.prefix + name
        value = self._raw.get(key, (None, 0))[0]
        if isinstance(value, CachedObject):
            return value.labels
        held: Mapping[str, str] = ((self.at(key) or {}).get("metadata") or {}).get("labels") or {}
        return held

    def has(self, name: str, namespace: str = "") -> bool:
        return (f"{self.prefix}{namespace}/{name}" if namespace else self.prefix + name) in self._raw

    def revision(self, name: str, namespace: str = "") -> int:
        """The revision that wrote the object, 0 when absent."""
        entry = self._raw.get(f"{self.prefix}{namespace}/{name}" if namespace else self.prefix + name)
        return entry[1] if entry else 0

    def items(self, namespace: str = "") -> Iterator[Json]:
        """All objects, or those of one namespace."""
        for key in list(self._namespaces.get(namespace, ()) if namespace else self._raw):
            if (found := self.at(key)) is not None:
                yield found

    def any_in(self, namespace: str) -> bool:
        """Whether the namespace has an object; costs one look-up."""
        return bool(self._namespaces.get(namespace))

    def keys(self) -> Iterator[str]:
        return iter(list(self._raw))


class Live:
    """All mirrors, by group and plural."""

    def __init__(self) -> None:
        self._mirrors = {key: Mirror(prefix_of(*key)) for key in LIVE}
        self._by_prefix = {mirror.prefix: mirror for mirror in self._mirrors.values()}

    def of(self, plural: str, group: str = "") -> Mirror:
        return self._mirrors[(group, plural)]

    def wants(self, group: str, plural: str) -> bool:
        return (group, plural) in self._mirrors

    def feed(self, group: str, plural: str, key: str, value: bytes | CachedObject | None, revision: int) -> None:
        """Take one change; resources outside the table are ignored. Call it in revision order, initial state first."""
        if (mirror := self._mirrors.get((group, plural))) is not None:
            mirror.feed(key, value, revision)


def _namespace(key: str) -> str:
    parts = key.split("/")
    return parts[3] if len(parts) > 4 else ""
