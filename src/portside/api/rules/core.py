"""Rules of the core kinds that have no pod template."""

from __future__ import annotations

from portside.api.rules import (
    configmap,
    core_node,
    endpoints,
    events,
    namespace,
    quota,
    service,
    serviceaccount,
    volumes,
)
from portside.api.rules.registry import Rules

_ALL: tuple[Rules, ...] = (
    configmap.CONFIGMAP,
    configmap.SECRET,
    core_node.NODE,
    endpoints.ENDPOINTS,
    events.CORE,
    namespace.NAMESPACE,
    quota.LIMITRANGE,
    quota.QUOTA,
    service.SERVICE,
    serviceaccount.BINDING,
    serviceaccount.COMPONENTSTATUS,
    serviceaccount.SERVICEACCOUNT,
    volumes.CLAIM,
    volumes.VOLUME,
)
RULES = {(r.kind.version, r.kind.kind): r for r in _ALL}
