"""Asks `portside why` about what a test has brought about, over the API of the cluster under test."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portside.cli.api import Api, Refused
from portside.cli.why import ask
from portside.why.world import BUILT_IN

Json = dict[str, Any]
PATIENCE = 90.0  # seconds; the machine may be loaded
IMAGE = "docker.io/portside/busybox:1"


def plural_of(kind: str) -> str:
    return next(k.plural for k in BUILT_IN.values() if k.kind == kind)


class Patient(Api):
    """Waits longer for an answer than a person would."""

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float = PATIENCE,
    ) -> tuple[int, bytes]:
        return super().raw(method, path, body, content_type, max(timeout, PATIENCE))


class Asker:
    """Objects in one namespace (or in none), and questions about them."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self.api = Patient(kubeconfig)
        self.namespace = namespace

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        kind = BUILT_IN[plural]
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        space = f"/namespaces/{self.namespace}" if kind.namespaced else ""
        return f"{root}{space}/{plural}" + "".join(f"/{part}" for part in (name, sub) if part)

    def make(self, kind: str, name: str, spec: Json | None = None, **more: Any) -> Json:
        """Create an object. ``meta`` is added to its metadata, the rest stands beside its spec."""
        body: Json = {"metadata": {"name": name, **more.pop("meta", {})}, **more}
        if spec is not None:
            body["spec"] = spec
        return self.api.send("POST", self.path(plural_of(kind)), json.dumps(body).encode())

    def pod(self, name: str, meta: Json | None = None, container: Json | None = None, **spec: Any) -> Json:
        main = {"name": "main", "image": IMAGE} | (container or {})
        return self.make("Pod", name, {"containers": [main]} | spec, meta={"labels": {"app": name}} | (meta or {}))

    def get(self, plural: str, name: str) -> Json:
        return self.api.send("GET", self.path(plural, name))

    def patch(self, plural: str, name: str, body: Json, sub: str = "") -> None:
        data = json.dumps(body).encode()
        self.api.send("PATCH", self.path(plural, name, sub), data, "application/merge-patch+json")

    def delete(self, plural: str, name: str, **options: Any) -> None:
        self.api.send("DELETE", self.path(plural, name), json.dumps(options).encode())

    @contextmanager
    def gone_after(self, plural: str, name: str) -> Iterator[None]:
        """Takes away what the whole cluster shares."""
        try:
            yield
        finally:
            try:
                self.patch(plural, name, {"metadata": {"finalizers": None}})
                self.delete(plural, name)
            except Refused as refused:
                assert refused.code == 404

    def asked(self, about: str, later: float = 0.0) -> Json:
        """The answer as JSON, as if it was asked that many seconds later."""
        return ask(self.api, about.split(), self.namespace, time.time() + later).as_json()

    def until(self, check: Any) -> Any:
        """The first true answer."""
        end = time.monotonic() + PATIENCE
        while not (found := check()):
            assert time.monotonic() < end, f"not within {PATIENCE:.0f} s"
            time.sleep(0.1)
        return found

    def condition(self, plural: str, name: str, kind: str, status: str = "True") -> None:
        def there() -> bool:
            held = (self.get(plural, name).get("status") or {}).get("conditions") or ()
            return any(c["type"] == kind and c["status"] == status for c in held)

        self.until(there)

    def says(self, cause: str, about: str, *words: str, later: float = 0.0, consequence: bool = False) -> Json:
        """Waits until the answer names a cause whose sentence, evidence or advice holds all the words; answers it.

        With ``consequence`` it must be told as what follows from another cause, or as all that is known.
        """
        end, last = time.monotonic() + PATIENCE, None
        while True:
            last = self.asked(about, later)
            told = last["causes"]
            if consequence:
                told = [c for t in last["causes"] for c in t["consequences"]] + last["known"]
            for found in told:
                facts = [f"{f['object']} {f['path']} = {f['value']}" for f in found.get("evidence", ())]
                text = "\n".join([found["says"], *facts, *found.get("todo", ())])
                if found["cause"] == cause and all(w in text for w in words):
                    if not consequence:
                        assert last["state"] == "explained"
                        assert found["says"] and found["evidence"] and found["todo"], found
                    return dict(found)
            assert time.monotonic() < end, f"{about}: no {cause} with {words} in {json.dumps(last, indent=1)}"
            time.sleep(0.1)

    def tells(self, about: str, *wanted: tuple[str, int], later: float = 0.0) -> None:
        """Waits until exactly these causes are told, in this order, each with its count."""
        end = time.monotonic() + PATIENCE
        while (found := [(c["cause"], c["count"]) for c in self.asked(about, later)["causes"]]) != [*wanted]:
            assert time.monotonic() < end, f"{about}: {found} instead of {wanted}"
            time.sleep(0.1)

    def well(self, about: str) -> None:
        end = time.monotonic() + PATIENCE
        while (found := self.asked(about))["state"] != "well":
            assert time.monotonic() < end, f"{about}: {json.dumps(found, indent=1)}"
            time.sleep(0.1)


def template(app: str, container: Json | None = None, meta: Json | None = None, **spec: Any) -> Json:
    return {
        "metadata": {"labels": {"app": app}, **(meta or {})},
        "spec": {"containers": [{"name": "main", "image": IMAGE} | (container or {})], **spec},
    }


def workload(
    app: str, container: Json | None = None, meta: Json | None = None, pod: Json | None = None, **spec: Any
) -> Json:
    """The spec of a Deployment, ReplicaSet, StatefulSet or DaemonSet."""
    return {
        "selector": {"matchLabels": {"app": app}},
        "template": template(app, container, meta, **(pod or {})),
        **spec,
    }
