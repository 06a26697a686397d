"""Says of every FlowSchema whether the priority level that it names is there, and brings back what must always be there."""

from __future__ import annotations

from collections.abc import Iterable

from portside.api.rules import flowcontrol_fixed as fixed
from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, create, patch
from portside.controllers.pods import condition

GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS: Resource = (GROUP, "v1", "flowschemas")
LEVELS: Resource = (GROUP, "v1", "prioritylevelconfigurations")
MANAGER = "api-priority-and-fairness-config-consumer-v1"


def plan(view: View, key: str, now: float) -> Plan:
    schema = view.key(SCHEMAS, key)
    if schema is None:
        return _bring_back("FlowSchema", SCHEMAS, key, fixed.SCHEMAS)
    level = str(((schema.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name") or "")
    there = view.key(LEVELS, level) is not None
    text = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
    wanted = {
        "type": "Dangling",
        "status": "False" if there else "True",
        "reason": "Found" if there else "NotFound",
        "message": text + ("and it exists" if there else "but there is no such object"),
    }
    have = condition(schema, "Dangling") or {}
    if all(have.get(k) == v for k, v in wanted.items()):
        return NOTHING
    changed = have.get("status") != wanted["status"]
    wanted["lastTransitionTime"] = rfc3339(now) if changed else have.get("lastTransitionTime") or rfc3339(now)
    body = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "FlowSchema",
        "metadata": {"name": key},
        "status": {"conditions": [wanted]},
    }
    ignore = frozenset({404})
    write = patch(SCHEMAS, schema, body, patch_type="apply", subresource="status", ignore=ignore, manager=MANAGER)
    return Plan([write])


def plan_level(view: View, key: str, now: float) -> Plan:
    if view.key(LEVELS, key) is not None:
        return NOTHING
    return _bring_back("PriorityLevelConfiguration", LEVELS, key, fixed.LEVELS)


def _bring_back(kind: str, resource: Resource, name: str, mandatory: dict[str, Json]) -> Plan:
    """Somebody deleted it: without the mandatory ones there would be requests that belong nowhere."""
    if name not in mandatory:
        return NOTHING
    meta = {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}
    body = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": meta, "spec": mandatory[name]}
    return Plan([create(resource, body, ignore=frozenset({409}))])


def _naming(view: View, level: Json) -> Iterable[str]:
    """The schemas that name a level."""
    name = level["metadata"]["name"]
    for schema in view.all(SCHEMAS):
        if ((schema.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name") == name:
            yield str(schema["metadata"]["name"])


CONTROLLERS = (
    Controller(
        "priority-and-fairness-config-consumer",
        SCHEMAS,
        plan,
        watches={LEVELS: _naming},
        workers=1,
        always=tuple(fixed.SCHEMAS),
    ),
    Controller("priority-and-fairness-config-producer", LEVELS, plan_level, workers=1, always=tuple(fixed.LEVELS)),
)
