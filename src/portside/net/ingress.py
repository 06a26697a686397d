"""Ingresses of our class as routes: which host and path leads to which Service, in the order they are asked. Pure.

What can't be served is left out with a reason, which becomes an event; nothing a person wrote reaches the proxy's
configuration but hosts and paths of plain characters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from portside.net.services import group_slices

Json = dict[str, Any]
Key = tuple[str, str]
CONTROLLER = "portside.io/ingress"
LEGACY = "kubernetes.io/ingress.class"
HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z")
PATH = re.compile(r"/[A-Za-z0-9/._~!$&()*+,;=:@%-]*\Z")
MAX_RULES = 5000  # host and path pairs; further ones are not served


@dataclass(frozen=True, slots=True)
class Route:
    """One host ("" any, ``*.`` one label more) and path to a backend. ``exact``: the whole path, else whole elements."""

    host: str
    path: str
    exact: bool
    backend: str


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a Service's port is reached: its cluster address, or a headless Service's endpoints."""

    name: str
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A TLS secret and the hosts it is for; without hosts its own names decide."""

    secret: Key
    hosts: tuple[str, ...]


@dataclass(slots=True)
class Plan:
    """Everything the proxy is to do, and what it does not do and why (by Ingress)."""

    routes: list[Route] = field(default_factory=list)
    backends: dict[str, Backend] = field(default_factory=dict)
    default: str = ""
    certificates: list[Certificate] = field(default_factory=list)
    problems: list[tuple[Key, str]] = field(default_factory=list)


def ours(ingress: Json, classes: Mapping[str, Json]) -> bool:
    """Whether an Ingress asks for our controller, by class or by the older annotation."""
    name = ingress["spec"].get("ingressClassName")
    if name is None:
        name = (ingress["metadata"].get("annotations") or {}).get(LEGACY)
    found = classes.get(name or "")
    return found is not None and (found.get("spec") or {}).get("controller") == CONTROLLER


@dataclass(slots=True)
class _Maker:
    services: Mapping[Key, Json]
    slices: dict[Key, list[Json]]
    plan: Plan = field(default_factory=Plan)

    def backend(self, key: Key, wanted: Json | None) -> str:
        """The backend's name; "" with a problem noted when there is none."""
        service = (wanted or {}).get("service")
        if not service:
            self.plan.problems.append((key, "only Services can be backends"))
            return ""
        owner, port = (key[0], service["name"]), service.get("port") or {}
        found = self.services.get(owner)
        label = f"{service['name']}:{port.get('name') or port.get('number')}"
        if found is None:
            self.plan.problems.append((key, f"service {service['name']} does not exist"))
            return self._add(owner, label, ())
        ports = found["spec"].get("ports") or ()
        match = next(
            (
                p
                for p in ports
                if (p.get("name") == port["name"] if port.get("name") else p["port"] == port.get("number"))
            ),
            None,
        )
        if match is None:
            self.plan.problems.append((key, f"service {service['name']} has no port {label.partition(':')[2]}"))
            return self._add(owner, label, ())
        address = found["spec"].get("clusterIP") or ""
        if address not in ("", "None"):
            where = f"[{address}]" if ":" in address else address
            return self._add(owner, label, (f"{where}:{match['port']}",))
        return self._add(owner, label, self._endpoints(owner, match.get("name") or ""))

    def _endpoints(self, owner: Key, port_name: str) -> tuple[str, ...]:
        found = set()
        for piece in self.slices.get(owner, ()):
            number = next((p["port"] for p in piece.get("ports") or () if (p.get("name") or "") == port_name), None)
            for endpoint in piece.get("endpoints") or ():
                if number and (endpoint.get("conditions") or {}).get("ready") is not False:
                    found.add(f"{endpoint['addresses'][0]}:{number}")
        return tuple(sorted(found))

    def _add(self, owner: Key, label: str, servers: tuple[str, ...]) -> str:
        name = f"b-{hashlib.sha256(f'{owner[0]}/{label}'.encode()).hexdigest()[:16]}"
        self.plan.backends[name] = Backend(name, servers)
        return name

    def rules(self, key: Key, spec: Json, seen: set[tuple[str, str, bool]]) -> None:
        """The routes of one Ingress; a host and path that an older one has stays its."""
        for rule in spec.get("rules") or ():
            host = (rule.get("host") or "").lower()
            if host and not HOST.match(host):
                self.plan.problems.append((key, f"host {host!r} can't be served"))
                continue
            for entry in (rule.get("http") or {}).get("paths") or ():
                path, exact = entry.get("path") or "/", entry.get("pathType") == "Exact"
                if not PATH.match(path):
                    self.plan.problems.append((key, f"path {path!r} can't be served"))
                    continue
                if not exact and path != "/":
                    path = path.rstrip("/") or "/"
                if (host, path, exact) in seen:
                    self.plan.problems.append((key, f"{host or '*'}{path} belongs to an older Ingress"))
                    continue
                if len(seen) >= MAX_RULES:
                    self.plan.problems.append((key, f"more than {MAX_RULES} hosts and paths"))
                    return
                if name := self.backend(key, entry.get("backend")):
                    seen.add((host, path, exact))
                    self.plan.routes.append(Route(host, path, exact, name))


def _rank(route: Route) -> tuple[int, int, int]:
    """Exact hosts before wildcards (longer first) before any; longer paths first, exact ones before others."""
    kind = 2 if not route.host else 1 if route.host.startswith("*.") else 0
    return (kind, -len(route.host) if kind == 1 else 0, -(2 * len(route.path) + route.exact))


def plan(
    ingresses: Iterable[Json],
    classes: Mapping[str, Json],
    services: Mapping[Key, Json],
    slices: Iterable[Json],
    secrets: Mapping[Key, Json],
) -> Plan:
    """The routes of all Ingresses of our class; the oldest speaks first."""
    maker = _Maker(services, group_slices(slices))
    seen: set[tuple[str, str, bool]] = set()
    mine = [i for i in ingresses if ours(i, classes)]
    mine.sort(
        key=lambda i: (i["metadata"].get("creationTimestamp") or "", i["metadata"]["namespace"], i["metadata"]["name"])
    )
    for ingress in mine:
        meta, spec = ingress["metadata"], ingress["spec"]
        key = (meta["namespace"], meta["name"])
        maker.rules(key, spec, seen)
        if spec.get("defaultBackend") and not maker.plan.default:
            maker.plan.default = maker.backend(key, spec["defaultBackend"])
        for entry in spec.get("tls") or ():
            secret = (meta["namespace"], entry.get("secretName") or "")
            if secret not in secrets:
                maker.plan.problems.append((key, f"there is no TLS secret {secret[1] or '(unnamed)'}"))
                continue
            hosts = tuple(h.lower() for h in entry.get("hosts") or () if HOST.match(h.lower()))
            maker.plan.certificates.append(Certificate(secret, hosts))
    maker.plan.routes.sort(key=_rank)
    return maker.plan
