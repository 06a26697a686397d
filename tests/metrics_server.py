"""A stand-in for a metrics adapter: pods', objects' and external metrics behind the aggregation layer, as a test sets them."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from tests.extension_server import own_address
from tests.tls_server import TlsServer

Json = dict[str, Any]
CUSTOM, EXTERNAL, RESOURCE = "custom.metrics.k8s.io", "external.metrics.k8s.io", "metrics.k8s.io"
GROUPS = {CUSTOM: ("v1beta1", "v1beta2"), EXTERNAL: ("v1beta1",), RESOURCE: ("v1beta1",)}


class MetricsServer(TlsServer):
    """``values`` by metric: of pods ("pods/NAME"), of an object ("PLURAL/OBJECT/NAME"), external ones ("NAME"). ``usage``:
    pod -> container -> usage. ``asked`` are the paths of the requests."""

    def __init__(self, service: str, namespace: str, front_proxy_ca: str) -> None:
        super().__init__((f"{service}.{namespace}.svc",), address=own_address(), trusted=front_proxy_ca)
        self.values: dict[str, Any] = {}
        self.usage: dict[str, dict[str, Json]] = {}
        self.asked: list[str] = []

    def routes(self, app: web.Application) -> None:
        for group, versions in GROUPS.items():
            for version in versions:
                app.router.add_get(f"/apis/{group}/{version}", self._resources)
        app.router.add_get(f"/apis/{CUSTOM}/{{version}}/namespaces/{{space}}/metrics/{{name}}", self._namespace)
        custom = f"/apis/{CUSTOM}/{{version}}/namespaces/{{space}}/{{plural}}/{{object}}/{{name}}"
        app.router.add_get(custom, self._custom)
        app.router.add_get(f"/apis/{EXTERNAL}/v1beta1/namespaces/{{space}}/{{name}}", self._external)
        app.router.add_get(f"/apis/{RESOURCE}/v1beta1/namespaces/{{space}}/pods", self._pods)

    async def _resources(self, request: web.Request) -> web.Response:
        version = request.path.removeprefix("/apis/")
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": []}
        )

    def _now(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def _missing(self, text: str) -> web.Response:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": text}
        return web.json_response(status | {"reason": "NotFound", "code": 404}, status=404)

    def _list(self, version: str, found: dict[str, str], kind: str, name: str) -> web.Response:
        """The two versions name the metric and its window differently."""
        items = []
        for described, value in found.items():
            item: Json = {
                "describedObject": {"kind": kind, "name": described},
                "timestamp": self._now(),
                "value": value,
            }
            item |= {"metricName": name, "window": 30} if version == "v1beta1" else {"metric": {"name": name}}
            items.append(item)
        return web.json_response({"kind": "MetricValueList", "apiVersion": f"{CUSTOM}/{version}", "items": items})

    async def _custom(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        plural, described, name = (request.match_info[k] for k in ("plural", "object", "name"))
        version = request.match_info["version"]
        if described == "*":
            pods = self.values.get(f"pods/{name}")
            if pods is None:
                return self._missing(f"the server could not find the metric {name} for pods")
            return self._list(version, pods, "Pod", name)
        value = self.values.get(f"{plural}/{described}/{name}")
        if value is None:
            return self._missing(f"the server could not find the metric {name} for {plural} {described}")
        return self._list(version, {described: value}, plural, name)

    async def _namespace(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        space, name = request.match_info["space"], request.match_info["name"]
        return self._list(request.match_info["version"], {space: self.values[f"namespaces/{name}"]}, "Namespace", name)

    async def _external(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        values = self.values.get(request.match_info["name"], [])
        name = request.match_info["name"]
        items = [{"metricName": name, "metricLabels": {}, "timestamp": self._now(), "value": v} for v in values]
        kind = {"kind": "ExternalMetricValueList", "apiVersion": f"{EXTERNAL}/v1beta1"}
        return web.json_response(kind | {"metadata": {}, "items": items})

    async def _pods(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        items = [
            {
                "metadata": {"name": pod, "namespace": request.match_info["space"]},
                "timestamp": self._now(),
                "window": "10s",
                "containers": [{"name": name, "usage": usage} for name, usage in containers.items()],
            }
            for pod, containers in self.usage.items()
        ]
        return web.json_response({"kind": "PodMetricsList", "apiVersion": f"{RESOURCE}/v1beta1", "items": items})
