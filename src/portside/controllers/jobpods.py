"""The pods of a Job: tracked by a finalizer; of an indexed Job with their index in name, labels and environment."""

from __future__ import annotations

from portside.client.protocol import Json
from portside.controllers.jobindex import FAILURES, IGNORED, INDEX, failures_of, ignored_of
from portside.controllers.pods import from_template

TRACKING = "batch.kubernetes.io/job-tracking"


def pod_of(job: Json, index: int | None, last: Json | None, *, counted: bool) -> Json:
    """The next pod. ``last``: the failed pod of the index that it succeeds; ``counted``: whether that failure counts."""
    pod = from_template(job, job["spec"]["template"], "batch/v1", "Job")
    meta = pod["metadata"]
    meta["finalizers"] = [*meta.get("finalizers", ()), TRACKING]
    if index is None:
        return pod
    name = job["metadata"]["name"]
    meta["generateName"] = f"{name}-{index}-"
    meta["labels"] = {**meta.get("labels", {}), INDEX: str(index)}
    meta["annotations"] = {**meta.get("annotations", {}), INDEX: str(index)}
    if job["spec"].get("backoffLimitPerIndex") is not None:
        meta["annotations"] |= _failures_before(last, counted=counted)
    pod["spec"] = _with_index(pod["spec"], f"{name}-{index}")
    return pod


def _failures_before(last: Json | None, *, counted: bool) -> dict[str, str]:
    """The annotations that carry an index's failures on to the next pod."""
    if last is None:
        return {FAILURES: "0"}
    found = {FAILURES: str(failures_of(last) + (1 if counted else 0))}
    ignored = ignored_of(last) + (0 if counted else 1)
    return found | ({IGNORED: str(ignored)} if ignored else {})


def _with_index(spec: Json, hostname: str) -> Json:
    """The pod knows its index by host name and environment."""
    path = f"metadata.labels['{INDEX}']"
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}}
    changed = {**spec, "hostname": hostname}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            changed[field] = [
                c if any(e.get("name") == variable["name"] for e in c.get("env") or ()) else _add_env(c, variable)
                for c in spec[field]
            ]
    return changed


def _add_env(container: Json, variable: Json) -> Json:
    return {**container, "env": [*(container.get("env") or ()), variable]}
