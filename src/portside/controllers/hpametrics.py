"""Reads the metrics APIs (metrics.k8s.io, custom.metrics.k8s.io, external.metrics.k8s.io), where somebody serves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from portside.api import quantity
from portside.api.selector import from_object
from portside.base.clock import parse_time
from portside.client.protocol import Client, Json
from portside.controllers.hpareplicas import NoProposal, Sample

RESOURCE_API = "metrics.k8s.io/v1beta1"
CUSTOM_GROUP = "custom.metrics.k8s.io"
CUSTOM_VERSIONS = {
    f"{CUSTOM_GROUP}/v1beta2": "windowSeconds",
    f"{CUSTOM_GROUP}/v1beta1": "window",
}  # and their window's name
EXTERNAL_API = "external.metrics.k8s.io/v1beta1"
MOST = 100_000  # samples of one answer that are looked at
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def selector_text(selector: Json | None) -> str:
    """A LabelSelector as the text of a query."""
    return str(from_object(selector)) if selector else ""


@dataclass(frozen=True, slots=True)
class MetricsReader:
    """Each read raises NoProposal, in the words of upstream's metrics client."""

    client: Client

    async def _items(self, path: str, query: Mapping[str, str], asked: str) -> list[Json]:
        text = urlencode({k: v for k, v in query.items() if v})
        try:
            code, _, body = await self.client.request("GET", f"/apis/{path}" + (f"?{text}" if text else ""))
        except (OSError, TimeoutError) as error:
            raise NoProposal(str(error)) from error
        try:
            answer: Any = orjson.loads(body)
        except ValueError:
            answer = {}
        if code >= 300:
            said = answer.get("message") if isinstance(answer, dict) else ""
            if not said and code == 404:
                said = f"the server could not find the requested resource (get {asked})"
            raise NoProposal(said or f"the server is currently unable to handle the request (get {asked})")
        items = answer.get("items") if isinstance(answer, dict) else None
        return [i for i in (items or [])[:MOST] if isinstance(i, dict)]

    async def _custom(self) -> str:
        """The group and version of the custom metrics API: what its server prefers, if we know it."""
        code, _, body = await self.client.request("GET", f"/apis/{CUSTOM_GROUP}")
        if code == 404:
            raise NoProposal(f"no custom metrics API ({CUSTOM_GROUP}) registered")
        try:
            group: Any = orjson.loads(body)
        except ValueError:
            group = {}
        preferred = (group.get("preferredVersion") or {}).get("groupVersion")
        served = [preferred, *(v.get("groupVersion") for v in group.get("versions") or ())]
        found = next((v for v in served if v in CUSTOM_VERSIONS), None)
        if found is None:
            raise NoProposal("no known available metric versions found")
        return str(found)

    async def _metrics(self, place: str, query: Mapping[str, str], asked: str) -> tuple[list[Json], str]:
        """The values of a custom metric, and what their window is called."""
        try:
            version = await self._custom()
            return await self._items(f"{version}/{place}", query, asked), CUSTOM_VERSIONS[version]
        except (OSError, TimeoutError, NoProposal) as error:
            raise NoProposal(f"unable to fetch metrics from custom metrics API: {error}") from error

    async def resource(self, namespace: str, selector: str, resource: str, container: str) -> dict[str, Sample]:
        """Pod -> usage of cpu or memory, over all containers or one."""
        path = f"{RESOURCE_API}/namespaces/{namespace}/pods"
        try:
            items = await self._items(path, {"labelSelector": selector}, "pods.metrics.k8s.io")
        except NoProposal as error:
            raise NoProposal(f"unable to fetch metrics from resource metrics API: {error}") from error
        if not items:
            raise NoProposal("no metrics returned from resource metrics API")
        found: dict[str, Sample] = {}
        for item in items:
            parts = [c for c in item.get("containers") or () if not container or c.get("name") == container]
            usages = [c["usage"][resource] for c in parts if (c.get("usage") or {}).get(resource) is not None]
            if not usages or len(usages) < len(parts):
                continue
            total = sum(quantity.milli(u) for u in usages)
            at = parse_time(item.get("timestamp")) or 0.0
            found[item["metadata"]["name"]] = Sample(total, at, _seconds(item.get("window")))
        return found

    async def pods(self, namespace: str, selector: str, metric: Json) -> dict[str, Sample]:
        """Pod -> value of a custom metric."""
        name = metric["name"]
        place = f"namespaces/{namespace}/pods/*/{quote(name, safe='')}"
        query = {"labelSelector": selector, "metricLabelSelector": selector_text(metric.get("selector"))}
        items, window = await self._metrics(place, query, f"pods.{CUSTOM_GROUP} *")
        if not items:
            raise NoProposal("no metrics returned from custom metrics API")
        return {
            i["describedObject"]["name"]: Sample(
                quantity.milli(i["value"]), parse_time(i.get("timestamp")) or 0.0, float(i.get(window) or 60)
            )
            for i in items
        }

    async def object(self, namespace: str, plural: str, name: str, metric: Json) -> int:
        """The value of a custom metric of one object; ``plural`` is ``resource.group``. Of namespaces only the own one."""
        place = f"namespaces/{namespace}/{plural}/{quote(name, safe='')}"
        if plural == "namespaces":
            place = f"namespaces/{namespace}/metrics"
        query = {"metricLabelSelector": selector_text(metric.get("selector"))}
        path = f"{place}/{quote(metric['name'], safe='')}"
        items, _ = await self._metrics(path, query, f"{plural}.{CUSTOM_GROUP} {name}")
        if len(items) != 1:
            why = f"the custom metrics API server returned {len(items)} results when we asked for exactly one"
            raise NoProposal(f"unable to fetch metrics from custom metrics API: {why}")
        return quantity.milli(items[0]["value"])

    async def external(self, namespace: str, metric: Json) -> list[int]:
        """The values of an external metric."""
        path = f"{EXTERNAL_API}/namespaces/{namespace}/{quote(metric['name'], safe='')}"
        query = {"labelSelector": selector_text(metric.get("selector"))}
        try:
            items = await self._items(path, query, f"{metric['name']}.external.metrics.k8s.io")
        except NoProposal as error:
            raise NoProposal(f"unable to fetch metrics from external metrics API: {error}") from error
        if not items:
            raise NoProposal("no metrics returned from external metrics API")
        return [quantity.milli(i["value"]) for i in items]


def _seconds(text: Any) -> float:
    """A duration such as ``30s`` or ``1m0s``; a minute when it can't be read."""
    total, number = 0.0, ""
    rest = str(text or "")
    while rest:
        if rest[0].isdigit() or rest[0] == ".":
            number, rest = number + rest[0], rest[1:]
            continue
        unit = next((u for u in ("ms", "us", "µs", "ns", "s", "m", "h") if rest.startswith(u)), "")
        if not unit or not number:
            return 60.0
        total, number, rest = total + float(number) * _UNITS[unit], "", rest[len(unit) :]
    return total or 60.0
