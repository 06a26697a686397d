"""LimitRanger: fills in default requests and limits, and holds pods and claims to a namespace's minima and maxima."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from portside.api.quantity import compare, milli, parse
from portside.api.usage import pod_amounts
from portside.server.admission.review import Review

Json = dict[str, Any]
ANNOTATION = "kubernetes.io/limit-ranger"


def mutate(review: Review) -> None:
    """Defaults for a new pod's containers, noted in an annotation."""
    ranges = review.server.live.of("limitranges")
    if not ranges.any_in(review.namespace):
        return
    notes: list[str] = []
    for limit_range in ranges.items(review.namespace):
        requests, limits = _defaults(limit_range)
        for field, word in (("containers", "container"), ("initContainers", "init container")):
            for container in review.obj["spec"].get(field) or ():
                notes.extend(_fill(container, requests, limits, word))
    if notes:
        annotations = review.obj["metadata"].get("annotations") or {}
        review.obj["metadata"]["annotations"] = annotations
        annotations[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)


def _defaults(limit_range: Json) -> tuple[Json, Json]:
    requests: Json = {}
    limits: Json = {}
    for item in limit_range["spec"].get("limits") or ():
        if item.get("type") == "Container":
            requests |= item.get("defaultRequest") or {}
            limits |= item.get("default") or {}
    return requests, limits


def _fill(container: Json, requests: Json, limits: Json, word: str) -> Iterator[str]:
    resources = container.get("resources") or {}
    container["resources"] = resources
    for field, defaults, noun in (("requests", requests, "request"), ("limits", limits, "limit")):
        held = resources.get(field) or {}
        fresh = sorted(name for name in defaults if name not in held)
        if fresh:
            resources[field] = held | {name: defaults[name] for name in fresh}
            yield f"{', '.join(fresh)} {noun} for {word} {container['name']}"


def validate(review: Review) -> None:
    """Raises ApiError 403 with every bound that is not kept."""
    ranges = review.server.live.of("limitranges")
    if not ranges.any_in(review.namespace):
        return
    claims = review.attributes.resource == "persistentvolumeclaims"
    for limit_range in ranges.items(review.namespace):
        problems: list[str] = []
        for item in limit_range["spec"].get("limits") or ():
            problems.extend(_claim(item, review.obj) if claims else _pod(item, review.obj))
        if problems:
            problems = list(dict.fromkeys(problems))
            raise review.refuse(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _claim(item: Json, claim: Json) -> Iterator[str]:
    if item.get("type") != "PersistentVolumeClaim":
        return
    requests = (claim["spec"].get("resources") or {}).get("requests") or {}
    for name, bound in sorted((item.get("min") or {}).items()):
        yield from _minimum("PersistentVolumeClaim", name, bound, requests, {})
    for name, bound in sorted((item.get("max") or {}).items()):
        asked = requests.get(name)
        head = f"maximum {name} usage per PersistentVolumeClaim is {bound}"
        if asked is None:
            yield f"{head}.  No request is specified"
        elif compare(asked, bound) > 0:
            yield f"{head}, but request is {asked}"


def _pod(item: Json, pod: Json) -> Iterator[str]:
    spec = pod["spec"]
    if item.get("type") == "Container":
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            resources = container.get("resources") or {}
            yield from _bounds("Container", item, resources.get("requests") or {}, resources.get("limits") or {})
    elif item.get("type") == "Pod":
        yield from _bounds("Pod", item, pod_amounts(spec, "requests"), pod_amounts(spec, "limits"))


def _bounds(kind: str, item: Json, requests: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    for name, bound in sorted((item.get("min") or {}).items()):
        yield from _minimum(kind, name, bound, requests, limits)
    for name, bound in sorted((item.get("max") or {}).items()):
        head = f"maximum {name} usage per {kind} is {bound}"
        limit, asked = limits.get(name), requests.get(name)
        if limit is None:
            yield f"{head}.  No limit is specified"
        elif compare(limit, bound) > 0:
            yield f"{head}, but limit is {limit}"
        elif asked is not None and compare(asked, bound) > 0:
            yield f"{head}, but request is {asked}"
    for name, bound in sorted((item.get("maxLimitRequestRatio") or {}).items()):
        yield from _ratio(kind, name, bound, requests.get(name), limits.get(name))


def _minimum(kind: str, name: str, bound: str, requests: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    head = f"minimum {name} usage per {kind} is {bound}"
    asked, limit = requests.get(name), limits.get(name)
    if asked is None:
        yield f"{head}.  No request is specified"
    elif compare(asked, bound) < 0:
        yield f"{head}, but request is {asked}"
    elif limit is not None and compare(limit, bound) < 0:
        yield f"{head}, but limit is {limit}"


def _ratio(kind: str, name: str, bound: str, asked: str | None, limit: str | None) -> Iterator[str]:
    head = f"{name} max limit to request ratio per {kind} is {bound}"
    if asked is None or not parse(asked):
        yield f"{head}, but no request is specified or request is 0"
    elif limit is None or not parse(limit):
        yield f"{head}, but no limit is specified or limit is 0"
    else:
        ratio = milli(limit) / milli(asked)
        if ratio * 1000 > milli(bound):
            yield f"{head}, but provided ratio is {ratio:.6f}"
