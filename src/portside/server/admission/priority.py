"""Priority: that of a pod or a group of pods, and a pod's preemption policy, come from its class; one class alone is the default."""

from __future__ import annotations

from typing import Any

from portside.server.admission.review import Review

Json = dict[str, Any]
GROUP = "scheduling.k8s.io"


def _class_of(review: Review) -> Json | None:
    """The class that the spec names, else the default one, which is written into the spec. Raises ApiError 403."""
    spec = review.obj["spec"]
    classes = review.server.live.of("priorityclasses", GROUP)
    if name := spec.get("priorityClassName"):
        found = classes.get(name)
        if found is None:
            raise review.refuse(f"no PriorityClass with name {name} was found")
        return found
    defaults = [c for c in classes.items() if c.get("globalDefault")]
    chosen: Json | None = min(defaults, key=lambda c: c["value"], default=None)
    if chosen is not None:
        spec["priorityClassName"] = chosen["metadata"]["name"]
    return chosen


def mutate_group(review: Review) -> None:
    """A group of pods has the priority of its class, as its pods have. Raises ApiError 403."""
    spec = review.obj["spec"]
    found = _class_of(review)
    value = found["value"] if found is not None else 0
    if spec.get("priority") is not None and spec["priority"] != value:
        raise review.refuse(
            f"priority set in the pod group ({spec['priority']}) must match the priority computed ({value}) "
            "based on the priority class set in the spec"
        )
    spec["priority"] = value


def mutate(review: Review) -> None:
    """Raises ApiError 403 for an unknown class or a number that differs from the class's."""
    spec = review.obj["spec"]
    found = _class_of(review)
    value = found["value"] if found is not None else 0
    if spec.get("priority") is not None and spec["priority"] != value:
        raise review.refuse(
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {value} from the given PriorityClass name"
        )
    spec["priority"] = value
    policy = (found or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    if spec.get("preemptionPolicy") and spec["preemptionPolicy"] != policy:
        raise review.refuse(
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
            f"priority admission controller computed {policy} from the given PriorityClass name"
        )
    spec["preemptionPolicy"] = policy


def validate(review: Review) -> None:
    """For PriorityClass itself: only one may be the default."""
    if not review.obj.get("globalDefault"):
        return
    name = review.obj["metadata"].get("name")
    for other in review.server.live.of("priorityclasses", GROUP).items():
        if other.get("globalDefault") and other["metadata"]["name"] != name:
            raise review.refuse(
                f"PriorityClass {other['metadata']['name']} is already marked as default. Only one default can exist"
            )
