"""A namespace of a test's own, asked over the API itself; and bodies that many tests need."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from portside.cli.api import Refused
from tests.asking import Patient
from tests.conftest import Cluster

Json = dict[str, Any]
NOWHERE = {"example.com/nowhere": "yes"}  # a node selector that keeps pods from running: the test plays their kubelet
GROUPS = {
    "/apis/apps/v1": "deployments replicasets statefulsets daemonsets controllerrevisions",
    "/apis/batch/v1": "jobs cronjobs",
    "/apis/policy/v1": "poddisruptionbudgets",
    "/apis/storage.k8s.io/v1": "storageclasses csidrivers csinodes csistoragecapacities volumeattachments "
    "volumeattributesclasses",
    "/apis/storagemigration.k8s.io/v1": "storageversionmigrations",
    "/apis/networking.k8s.io/v1": "servicecidrs ipaddresses ingresses ingressclasses",
    "/apis/discovery.k8s.io/v1": "endpointslices",
    "/apis/coordination.k8s.io/v1": "leases",
    "/apis/node.k8s.io/v1": "runtimeclasses",
    "/apis/resource.k8s.io/v1": "resourceclaims",
}
PREFIX = {plural: prefix for prefix, plurals in GROUPS.items() for plural in plurals.split()}
CLUSTER_WIDE = frozenset(
    [
        "namespaces",
        "nodes",
        "persistentvolumes",
        "storageclasses",
        "csidrivers",
        "csinodes",
        "volumeattachments",
        "volumeattributesclasses",
        "storageversionmigrations",
        "servicecidrs",
        "ipaddresses",
        "ingressclasses",
        "runtimeclasses",
    ]
)


def complete(cluster: Cluster, namespace: str) -> None:
    """Waits for what controllers put into every namespace: a test counts pods, maps and accounts of its own."""
    api, end = Patient(cluster.kubeconfig), time.monotonic() + 90
    for made in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
        while api.raw("GET", f"/api/v1/namespaces/{namespace}/{made}")[0] != 200:
            assert time.monotonic() < end, f"no {made} in {namespace}"
            time.sleep(0.02)
    api.close()


class Ground:
    """Create, read, change and delete within one namespace; ``until`` waits for what is to come."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.api = Patient(cluster.kubeconfig)
        self.name = f"c-{uuid.uuid4().hex[:8]}"
        self.api.send("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": self.name}}).encode())
        complete(cluster, self.name)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.name, *words, stdin=stdin)

    def path(self, plural: str, name: str = "", sub: str = "", *, everywhere: bool = False, **query: str) -> str:
        place = "" if plural in CLUSTER_WIDE or everywhere else f"/namespaces/{self.name}"
        found = f"{PREFIX.get(plural, '/api/v1')}{place}/{plural}"
        found += "".join(f"/{part}" for part in (name, sub) if part)
        return found + (f"?{urlencode(query)}" if query else "")

    def create(self, plural: str, body: Json, name: str = "", sub: str = "") -> Json:
        return self.api.send("POST", self.path(plural, name, sub), json.dumps(body).encode())

    def get(self, plural: str, name: str, sub: str = "") -> Json:
        return self.api.send("GET", self.path(plural, name, sub))

    def all(self, plural: str, labels: str = "", *, everywhere: bool = False) -> list[Json]:
        query = {"labelSelector": labels} if labels else {}
        return list(self.api.send("GET", self.path(plural, everywhere=everywhere, **query))["items"])

    def put(self, plural: str, body: Json, sub: str = "") -> Json:
        return self.api.send("PUT", self.path(plural, body["metadata"]["name"], sub), json.dumps(body).encode())

    def change(self, plural: str, name: str, edit: Callable[[Json], Any], sub: str = "") -> Json:
        """GET, ``edit``, PUT: anew where somebody else wrote in between, as every client of a shared object must."""

        def done() -> Json | None:
            held = self.get(plural, name, sub)
            edit(held)
            try:
                return self.put(plural, held, sub)
            except Refused as refused:
                assert refused.reason == "Conflict", refused
                return None

        answer: Json = self.until(done)
        return answer

    def patch(self, plural: str, name: str, body: Any, sub: str = "", kind: str = "merge-patch") -> Json:
        data = json.dumps(body).encode()
        return self.api.send("PATCH", self.path(plural, name, sub), data, f"application/{kind}+json")

    def delete(self, plural: str, name: str, **options: Any) -> Json:
        return self.api.send("DELETE", self.path(plural, name), json.dumps(options).encode())

    def clear(self, plural: str, labels: str) -> None:
        """deletecollection"""
        self.api.send("DELETE", self.path(plural, labelSelector=labels))

    def gone(self, plural: str, name: str) -> bool:
        try:
            self.get(plural, name)
        except Refused as refused:
            assert refused.code == 404
            return True
        return False

    def until(self, what: Callable[[], Any], seconds: float = 60.0) -> Any:
        """The first true answer. Fails when it takes longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := what():
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s")

    def status(self, plural: str, name: str, seconds: float = 60.0, **wanted: Any) -> Json:
        """Waits until the status says all this of the object as it is now; answers the object."""

        def found() -> Json | None:
            held = self.get(plural, name)
            status = held.get("status") or {}
            generation = held["metadata"].get("generation", 0)
            fresh = status.get("observedGeneration", generation) == generation
            return held if fresh and all((status.get(k) or 0) == v for k, v in wanted.items()) else None

        answer: Json = self.until(found, seconds)
        return answer

    def condition(self, plural: str, name: str, kind: str, seconds: float = 60.0) -> Json:
        """Waits for a condition that is True; answers it."""

        def found() -> Json | None:
            conditions = (self.get(plural, name).get("status") or {}).get("conditions") or ()
            return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)

        answer: Json = self.until(found, seconds)
        return answer

    def pods(self, labels: str) -> list[Json]:
        return sorted(self.all("pods", labels), key=lambda p: str(p["metadata"]["name"]))

    def says(self, pod: str, phase: str, code: int | None = None) -> None:
        """Plays the kubelet of a pod that runs nowhere."""
        status: Json = {"phase": phase}
        if phase == "Running":
            status["conditions"] = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        if code is not None:
            ended = {"exitCode": code, "reason": "Completed" if not code else "Error"}
            held = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
            status["containerStatuses"] = [{**held, "state": {"terminated": ended}}]
        self.patch("pods", pod, {"status": status}, "status")


def template(app: str = "web", image: str = "docker.io/portside/busybox:1", **spec: Any) -> Json:
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workload(name: str = "web", app: str = "", **spec: Any) -> Json:
    """A Deployment, ReplicaSet, StatefulSet or DaemonSet."""
    app = app or name
    held = {"selector": {"matchLabels": {"app": app}}, "template": template(app)}
    return {"metadata": {"name": name, "labels": {"app": app}}, "spec": {**held, **spec}}


def pod(name: str, app: str = "web", **spec: Any) -> Json:
    return {"metadata": {"name": name, "labels": {"app": app}}, "spec": template(app)["spec"] | spec}


@pytest.fixture
def ground(simulated: Cluster) -> Iterator[Ground]:
    made = Ground(simulated)
    yield made
    made.delete("namespaces", made.name)
    made.api.close()
