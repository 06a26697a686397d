"""Rows of the kinds that run pods: controllers, jobs, budgets, revisions, scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portside.api.selector import format_object
from portside.api.tables_format import age, epoch, human, labels, name, since, templated

Json = Mapping[str, Any]


def _parts(obj: Json) -> tuple[Json, Json]:
    return obj.get("spec") or {}, obj.get("status") or {}


def row_podtemplate(obj: Json, now: float) -> list[Any]:
    template = obj.get("template") or {}
    return [name(obj), *templated(template), labels((template.get("metadata") or {}).get("labels"))]


def _replicas(obj: Json, now: float, selector: str) -> list[Any]:
    spec, status = _parts(obj)
    counts = [spec.get("replicas") or 0, status.get("replicas") or 0, status.get("readyReplicas") or 0]
    return [name(obj), *counts, age(obj, now), *templated(spec.get("template")), selector]


def row_replicaset(obj: Json, now: float) -> list[Any]:
    return _replicas(obj, now, format_object(_parts(obj)[0].get("selector")))


def row_replicationcontroller(obj: Json, now: float) -> list[Any]:
    return _replicas(obj, now, labels(_parts(obj)[0].get("selector")))


def row_daemonset(obj: Json, now: float) -> list[Any]:
    spec, status = _parts(obj)
    counted = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    node_selector = ((spec.get("template") or {}).get("spec") or {}).get("nodeSelector")
    return [
        name(obj),
        *(status.get(c) or 0 for c in counted),
        labels(node_selector),
        age(obj, now),
        *templated(spec.get("template")),
        format_object(spec.get("selector")),
    ]


def row_deployment(obj: Json, now: float) -> list[Any]:
    spec, status = _parts(obj)
    return [
        name(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(obj, now),
        *templated(spec.get("template")),
        format_object(spec.get("selector")),
    ]


def row_statefulset(obj: Json, now: float) -> list[Any]:
    spec, status = _parts(obj)
    ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
    return [name(obj), ready, age(obj, now), *templated(spec.get("template"))]


def row_controllerrevision(obj: Json, now: float) -> list[Any]:
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    shown = "<none>"
    if owner is not None:
        group = owner.get("apiVersion", "").partition("/")[0] if "/" in owner.get("apiVersion", "") else ""
        kind = owner.get("kind", "").lower()
        shown = f"{kind}.{group}/{owner.get('name', '')}" if group else f"{kind}/{owner.get('name', '')}"
    return [name(obj), shown, obj.get("revision") or 0, age(obj, now)]


def _job_status(spec: Json, status: Json, deleted: bool) -> str:
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    for type_ in ("Complete", "Failed"):
        if type_ in true:
            return type_
    if deleted:
        return "Terminating"
    for type_ in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if type_ in true:
            return type_
    return "Running"


def row_job(obj: Json, now: float) -> list[Any]:
    spec, status = _parts(obj)
    succeeded, parallelism = status.get("succeeded") or 0, spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        completions = f"{succeeded}/{spec['completions']}"
    else:
        completions = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    duration = ""
    if status.get("startTime"):
        end = epoch(status["completionTime"]) if status.get("completionTime") else now
        duration = human(end - epoch(status["startTime"]))
    return [
        name(obj),
        _job_status(spec, status, bool(obj["metadata"].get("deletionTimestamp"))),
        completions,
        duration,
        age(obj, now),
        *templated(spec.get("template")),
        format_object(spec.get("selector")),
    ]


def row_cronjob(obj: Json, now: float) -> list[Any]:
    spec, status = _parts(obj)
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        name(obj),
        spec.get("schedule", ""),
        spec.get("timeZone") or "<none>",
        "True" if spec.get("suspend") else "False",
        len(status.get("active") or ()),
        since(last, now) if last else "<none>",
        age(obj, now),
        *templated(job.get("template")),
        format_object(job["selector"]) if job.get("selector") is not None else "<none>",
    ]


def row_scale(obj: Json, now: float) -> list[Any]:
    spec, status = _parts(obj)
    return [name(obj), spec.get("replicas") or 0, status.get("replicas") or 0, age(obj, now)]


def row_poddisruptionbudget(obj: Json, now: float) -> list[Any]:
    spec, status = _parts(obj)
    shown = [str(spec[f]) if spec.get(f) is not None else "N/A" for f in ("minAvailable", "maxUnavailable")]
    return [name(obj), *shown, status.get("disruptionsAllowed") or 0, age(obj, now)]


ROWS = {
    "PodTemplate": row_podtemplate,
    "ReplicationController": row_replicationcontroller,
    "ReplicaSet": row_replicaset,
    "DaemonSet": row_daemonset,
    "Deployment": row_deployment,
    "StatefulSet": row_statefulset,
    "ControllerRevision": row_controllerrevision,
    "Job": row_job,
    "CronJob": row_cronjob,
    "Scale": row_scale,
    "PodDisruptionBudget": row_poddisruptionbudget,
}
