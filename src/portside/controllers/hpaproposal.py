"""What each metric of an autoscaler asks for: the reading of it, the size, and how status and messages name it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from portside.api import quantity
from portside.client.cache import View
from portside.client.protocol import Client, Json, Resource
from portside.controllers import hpareplicas as calculate
from portside.controllers.goselector import go_selector
from portside.controllers.hpametrics import MetricsReader
from portside.controllers.hpareplicas import NoProposal, Tolerances
from portside.controllers.served import all_served

FAILED = {
    "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric",
    "Pods": "FailedGetPodsMetric",
    "Object": "FailedGetObjectMetric",
    "External": "FailedGetExternalMetric",
}
# What stands before a metric's trouble where the troubles of all are told.
OUTER = {
    "Resource": "failed to get {} resource metric value: ",
    "ContainerResource": "failed to get {} container metric value: ",
    "Pods": "failed to get pods metric value: ",
    "Object": "failed to get object metric value: ",
    "External": "failed to get {} external metric value: ",
}
# What upstream puts between that and the trouble, with a target for all pods together and with a share per pod.
BETWEEN = {
    "Object": ("", "failed to get {} object metric: "),
    "External": ("failed to get external metric {}: ", "failed to get {} external metric: "),
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one metric asks for."""

    size: int
    name: str
    status: Json


def outer(metric: Json) -> str:
    kind = metric["type"]
    source = metric.get(kind[:1].lower() + kind[1:]) or {}
    name = source.get("container") or source.get("name") or (source.get("metric") or {}).get("name", "")
    shared = (source.get("target") or {}).get("averageValue") is not None
    return (OUTER.get(kind, "") + BETWEEN.get(kind, ("", ""))[shared]).format(name, name)


def resource_of(view: View, ref: Json) -> Resource:
    """The resource that a reference's apiVersion and kind name. Raises NoProposal when nothing serves it."""
    group, kind = str(ref.get("apiVersion") or "").rpartition("/")[0], ref.get("kind")
    for served in all_served(view):
        if served.kind == kind and served.group == group:
            return served.resource
    raise NoProposal(f'no matches for kind "{kind}" in group "{group}"')


class Proposer:
    """Asks one autoscaler's metrics, of a target as its scale shows it."""

    def __init__(self, client: Client, view: View, hpa: Json, scale: Json, pods: list[Json], now: float) -> None:
        status, behavior = scale.get("status") or {}, hpa["spec"].get("behavior") or {}
        self.client, self.view, self.pods, self.now = client, view, pods, now
        self.namespace = str(hpa["metadata"]["namespace"])
        self.selector = str(status.get("selector") or "")
        self.current = int((scale.get("spec") or {}).get("replicas") or 0)
        self.replicas = int(status.get("replicas") or 0)

        def tolerance(name: str) -> float:
            said = (behavior.get(name) or {}).get("tolerance")
            return calculate.TOLERANCE if said is None else float(quantity.parse(said))

        self.tolerances = Tolerances(tolerance("scaleDown"), tolerance("scaleUp"))

    async def propose(self, metric: Json) -> Proposal:
        """What one metric asks for. Raises NoProposal."""
        kind = metric["type"]
        if kind == "Resource":
            return await self._resource(metric["resource"], "")
        if kind == "ContainerResource":
            source = metric["containerResource"]
            return await self._resource(source, source["container"])
        if kind == "Pods":
            return await self._pods(metric["pods"])
        if kind == "Object":
            return await self._object(metric["object"])
        if kind == "External":
            return await self._external(metric["external"])
        raise NoProposal(f'unknown metric source type "{kind}"')

    async def _resource(self, source: Json, container: str) -> Proposal:
        name, target = source["name"], source["target"]
        by_average = target.get("averageValue") is not None
        try:
            try:
                reader = MetricsReader(self.client)
                samples = await reader.resource(self.namespace, self.selector, name, container)
            except NoProposal as error:
                raise NoProposal(f"unable to get metrics for resource {name}: {error}") from error
            if by_average:
                wanted = quantity.milli(target["averageValue"])
                size, average = calculate.by_average(
                    self.current, wanted, samples, self.pods, name, self.tolerances, self.now
                )
                value: Json = {"averageValue": _amount(name, average)}
            else:
                size, percent, average = calculate.by_utilization(
                    self.current,
                    int(target["averageUtilization"]),
                    samples,
                    self.pods,
                    container,
                    name,
                    self.tolerances,
                    self.now,
                )
                value = {"averageUtilization": percent, "averageValue": _amount(name, average)}
        except NoProposal as error:
            raise NoProposal(f"failed to get {name} {'usage' if by_average else 'utilization'}: {error}") from error
        place = f"{name} container resource" if container else f"{name} resource"
        title = f"{name} resource" if by_average else f"{place} utilization (percentage of request)"
        status: Json = {"name": name, "current": value}
        if container:
            return Proposal(
                size, title, {"type": "ContainerResource", "containerResource": {"container": container, **status}}
            )
        return Proposal(size, title, {"type": "Resource", "resource": status})

    async def _pods(self, source: Json) -> Proposal:
        metric, wanted = source["metric"], quantity.milli(source["target"]["averageValue"])
        try:
            samples = await MetricsReader(self.client).pods(self.namespace, self.selector, metric)
        except NoProposal as error:
            raise NoProposal(f"unable to get metric {metric['name']}: {error}") from error
        size, average = calculate.by_average(self.current, wanted, samples, self.pods, "", self.tolerances, self.now)
        status = {"metric": metric, "current": {"averageValue": _milli(average)}}
        return Proposal(size, f"pods metric {metric['name']}", {"type": "Pods", "pods": status})

    async def _object(self, source: Json) -> Proposal:
        metric, place = source["metric"], source["describedObject"]
        found = resource_of(self.view, place)
        plural = f"{found[2]}.{found[0]}" if found[0] else found[2]
        try:
            value = await MetricsReader(self.client).object(self.namespace, plural, place["name"], metric)
        except NoProposal as error:
            where = f"{place['kind']} on {self.namespace} {place['name']}"
            raise NoProposal(f"unable to get metric {metric['name']}: {where}/{error}") from error
        size, shown = self._total(source["target"], value)
        status = {"metric": metric, "current": shown, "describedObject": place}
        shared = source["target"].get("averageValue") is not None  # upstream calls that external
        title = _external_title(metric) if shared else f"{place['kind']} metric {metric['name']}"
        return Proposal(size, title, {"type": "Object", "object": status})

    async def _external(self, source: Json) -> Proposal:
        metric = source["metric"]
        name, selector = metric["name"], metric.get("selector")
        try:
            values = await MetricsReader(self.client).external(self.namespace, metric)
        except NoProposal as error:
            where = f"{self.namespace}/{name}/{go_selector(selector)}"
            raise NoProposal(f"unable to get external metric {where}: {error}") from error
        size, shown = self._total(source["target"], sum(values))
        return Proposal(
            size, _external_title(metric), {"type": "External", "external": {"metric": metric, "current": shown}}
        )

    def _total(self, target: Json, value: int) -> tuple[int, Json]:
        """For one value: a target for all pods together, or a share per pod."""
        if target.get("averageValue") is not None:
            wanted = quantity.milli(target["averageValue"])
            size, share = calculate.by_share(self.replicas, value, wanted, self.tolerances)
            return size, {"averageValue": _milli(share)}
        size = calculate.by_value(self.current, value, quantity.milli(target["value"]), self.pods, self.tolerances)
        return size, {"value": _milli(value)}


def _external_title(metric: Json) -> str:
    return f"external metric {metric['name']}({go_selector(metric.get('selector'))})"


def _amount(resource: str, value: int) -> str:
    """Memory is told in powers of two where that is exact."""
    return quantity.format_value(Decimal(value) / 1000, "bin" if resource == "memory" else "dec")


def _milli(value: int) -> str:
    return quantity.format_value(Decimal(value) / 1000)
