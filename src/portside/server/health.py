"""Health endpoints: named checks, verbose and excluded, as upstream answers them; and the version."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from portside.server.request import Request, Response

TEXT = "text/plain; charset=utf-8"
HOOKS = (
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "peer-endpoint-reconciler-controller",
    "start-cluster-authentication-info-controller",
    "start-kube-apiserver-identity-lease-controller",
    "start-kube-apiserver-identity-lease-garbage-collector",
    "storage-readiness",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
)
LATE = ("apiservice-openapi-controller", "apiservice-openapiv3-controller")
Check = Callable[[], bool]


def names(endpoint: str) -> list[str]:
    """The checks of /livez, /readyz or /healthz, in order."""
    hooks = [f"poststarthook/{h}" for h in HOOKS] + ["autoregister-completion"]
    hooks += [f"poststarthook/{h}" for h in LATE]
    if endpoint == "readyz":
        return ["ping", "log", "etcd", "etcd-readiness", "informer-sync", *hooks, "shutdown"]
    return ["ping", "log", "loopback-serving-certificate", "etcd", *hooks]


class Asked:
    """How often each check was asked for and held, under the names of upstream's /metrics/slis."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, bool]] = Counter()
        self._last: dict[tuple[str, str], bool] = {}

    def note(self, endpoint: str, name: str, held: bool) -> None:
        self._counts[endpoint, name, held] += 1
        self._last[endpoint, name] = held

    def render(self) -> Iterator[str]:
        """Lines of the text format."""
        yield "# HELP kubernetes_healthcheck Whether a check held when it was last asked for."
        yield "# TYPE kubernetes_healthcheck gauge"
        for (endpoint, name), held in self._last.items():
            yield f'kubernetes_healthcheck{{name="{name}",type="{endpoint}"}} {int(held)}'
        yield "# HELP kubernetes_healthchecks_total How often a check was asked for, by what came of it."
        yield "# TYPE kubernetes_healthchecks_total counter"
        for (endpoint, name, held), count in self._counts.items():
            status = "success" if held else "error"
            yield f'kubernetes_healthchecks_total{{name="{name}",status="{status}",type="{endpoint}"}} {count}'


def answer(request: Request, endpoint: str, check: str, ready: Check, store: Check, asked: Asked) -> Response:
    """One health endpoint; ``check`` names a single one. ``asked`` is told what came of each."""
    known = names(endpoint)

    def look(name: str) -> bool:
        if name.startswith("etcd"):
            return store()
        return ready() if name == "informer-sync" or name.startswith("poststarthook/") or name == "shutdown" else True

    def holds(name: str) -> bool:
        found = look(name)
        asked.note(endpoint, name, found)
        return found

    if check:
        if check not in known:
            return Response(404, b"404 page not found\n", TEXT)
        if holds(check):
            return Response(200, b"ok", TEXT)
        return Response(500, b"internal server error: not ready\n", TEXT)
    excluded = set(request.params.get("exclude", [])) if request.query else set()
    lines, failed = [], []
    for name in known:
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
        elif holds(name):
            lines.append(f"[+]{name} ok")
        else:
            lines.append(f"[-]{name} failed: reason withheld")
            failed.append(name)
    strange = sorted(excluded - set(known))
    if strange:
        lines.append(
            "warn: some health checks cannot be excluded: no matches for " + ", ".join(f'"{s}"' for s in strange)
        )
    if failed:
        return Response(500, ("\n".join(lines) + f"\n{endpoint} check failed\n").encode(), TEXT)
    if request.query and "verbose" in request.params:
        return Response(200, ("\n".join(lines) + f"\n{endpoint} check passed\n").encode(), TEXT)
    return Response(200, b"ok", TEXT)


def version() -> dict[str, Any]:
    """What /version says: the API version served, and what runs it."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": "1",
        "minor": "37",
        "emulationMajor": "1",
        "emulationMinor": "37",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "36",
        "gitVersion": "v1.37.2+portside",
        "gitCommit": "0000000000000000000000000000000000000000",
        "gitTreeState": "clean",
        "buildDate": "2026-11-24T00:00:00Z",
        "goVersion": "none",
        "compiler": f"python{platform.python_version()}",
        "platform": f"linux/{machine}",
    }
