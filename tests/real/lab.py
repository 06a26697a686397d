"""A quick way to talk to the cluster under test: plain HTTPS with the administrator's certificate, and waiting."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

Json = dict[str, Any]
IMAGE = "docker.io/portside/busybox:1"
PATIENCE = 120.0  # seconds; the machine may be loaded
ENDED = ("Succeeded", "Failed")


class Refused(AssertionError):
    """The API said no: its Status."""

    def __init__(self, status: Json) -> None:
        super().__init__(status.get("message", str(status)))
        self.status = status


def _file(entry: Json, key: str) -> str:
    if key in entry:
        return str(entry[key])
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(base64.b64decode(entry[f"{key}-data"]))
    return file.name


class Lab:
    """The API of one cluster, seen from one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.tls = ssl.create_default_context(cafile=_file(cluster, "certificate-authority"))
        self.tls.load_cert_chain(_file(user, "client-certificate"), _file(user, "client-key"))
        self.server = urlsplit(cluster["server"])
        self.namespace = namespace
        self._connection: http.client.HTTPSConnection | None = None

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        """The answer's body. Raises Refused."""
        for attempt in (1, 2):
            if self._connection is None:
                host, port = self.server.hostname or "", self.server.port
                self._connection = http.client.HTTPSConnection(host, port, context=self.tls, timeout=PATIENCE)
            try:
                data = None if body is None else json.dumps(body).encode()
                self._connection.request(method, path, data, {"Content-Type": kind} if data else {})
                answer = self._connection.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self._connection = None
                if attempt == 2:
                    raise
        if answer.status >= 400:
            raise Refused(json.loads(text) if text.startswith(b"{") else {"message": text.decode()})
        return text

    def path(self, plural: str, name: str = "", group: str = "api/v1") -> str:
        return f"/{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def get(self, plural: str, name: str = "", group: str = "api/v1") -> Json:
        return dict(json.loads(self.call("GET", self.path(plural, name, group))))

    def create(self, plural: str, body: Json, group: str = "api/v1") -> Json:
        return dict(json.loads(self.call("POST", self.path(plural, group=group), body)))

    def patch(self, plural: str, name: str, body: Any, sub: str = "", kind: str = "strategic-merge") -> Json:
        path = self.path(plural, name) + (f"/{sub}" if sub else "")
        return dict(json.loads(self.call("PATCH", path, body, f"application/{kind}-patch+json")))

    def replace(self, plural: str, name: str, change: Callable[[Json], None], group: str = "api/v1") -> Json:
        """Read, change and write, again when somebody else wrote meanwhile; the answer."""
        path = self.path(plural, name, group)
        while True:
            held = json.loads(self.call("GET", path))
            change(held)
            try:
                return dict(json.loads(self.call("PUT", path, held)))
            except Refused as refused:
                if refused.status.get("reason") != "Conflict":
                    raise

    def delete(self, plural: str, name: str, **options: Any) -> None:
        self.call("DELETE", self.path(plural, name), options or None)

    def config_map(self, name: str, **data: str) -> None:
        self.create("configmaps", {"metadata": {"name": name}, "data": data})

    def secret(self, name: str, **data: str) -> None:
        self.create("secrets", {"metadata": {"name": name}, "stringData": data})

    def pod(self, name: str, script: str = "", **changes: Any) -> Json:
        """Create a pod running a shell script. ``spec`` and ``meta`` change the pod, the rest its container."""
        return self.create("pods", pod(name, script, **changes))

    def status(self, name: str) -> Json:
        return dict(self.get("pods", name).get("status") or {})

    def container(self, name: str, family: str = "containerStatuses") -> Json:
        return dict((self.status(name).get(family) or [{"state": {}, "restartCount": 0}])[0])

    def log(self, name: str, query: str = "", container: str = "main") -> str:
        return self.call("GET", self.path("pods", f"{name}/log") + f"?container={container}&{query}").decode()

    def until(self, check: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
        """The first true answer. Raises AssertionError with the last one."""
        end, last = time.monotonic() + patience, None
        while time.monotonic() < end:
            last = check()
            if last:
                return last
            time.sleep(0.1)
        raise AssertionError(f"{what or check} did not come true in {patience:.0f} s; last: {last!r}")

    def phase(self, name: str, *wanted: str) -> Json:
        """Wait until the pod is in one of the phases; its status."""
        status: Json = {}

        def there() -> bool:
            nonlocal status
            status = self.status(name)
            return status.get("phase") in wanted

        try:
            self.until(there, f"{name} {wanted}")
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {json.dumps(status)} {self.events(name)}") from None
        return status

    def running(self, name: str) -> Json:
        return self.phase(name, "Running")

    def ready(self, name: str) -> None:
        self.until(
            lambda: any(
                c["type"] == "Ready" and c["status"] == "True" for c in self.status(name).get("conditions", ())
            ),
            f"{name} ready",
        )

    def output(self, name: str) -> str:
        """The log of a pod that ends well."""
        status = self.phase(name, *ENDED)
        text = self.log(name)
        assert status["phase"] == "Succeeded", f"{status}\n{text}"
        return text

    def run(self, name: str, script: str, **changes: Any) -> str:
        """Run a script to its end; what it printed."""
        self.pod(name, script, **changes)
        return self.output(name)

    def events(self, name: str) -> list[str]:
        """``reason: message`` of a pod's events."""
        found = self.get("events")["items"]
        return [f"{e['reason']}: {e.get('message', '')}" for e in found if e["involvedObject"]["name"] == name]

    def event(self, name: str, text: str) -> str:
        """Wait for an event that contains a text."""
        return str(self.until(lambda: next((e for e in self.events(name) if text in e), ""), f"event {text!r}"))


def pod(name: str, script: str = "", **changes: Any) -> Json:
    """The pod ``Lab.pod`` creates."""
    spec, meta = changes.pop("spec", {}), changes.pop("meta", {})
    container: Json = {"name": "main", "image": IMAGE} | changes
    if script:
        container["command"] = ["sh", "-ec", script]
    body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]} | spec
    return {"metadata": {"name": name} | meta, "spec": body}
