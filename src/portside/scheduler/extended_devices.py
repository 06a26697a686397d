"""Extended resources that nodes provide as devices (KEP-5004): which class stands for a resource, and the special claim
that a pod gets for what its containers ask of such resources.

A container that runs on gets its own devices; an init container that ends uses those of later containers first, and of
what such init containers ask beyond that only the largest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from portside.api.quantity import parse

Json = dict[str, Any]
IMPLICIT = "deviceclass.resource.kubernetes.io/"
ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
UNMADE = "<extended-resources>"  # where a name is needed before there is one; no claim can be called so
STALE = "cannot schedule extended resource claim"


def classes_of(classes: Iterable[Json]) -> dict[str, str]:
    """Resource name -> device class. Of classes with one name the newest counts, then the first by name."""
    found: dict[str, str] = {}
    best: dict[str, tuple[str, str]] = {}
    for one in sorted(classes, key=lambda c: str(c["metadata"]["name"])):
        meta = one["metadata"]
        found[IMPLICIT + meta["name"]] = meta["name"]
        name = (one.get("spec") or {}).get("extendedResourceName")
        created = meta.get("creationTimestamp") or ""
        if name and (name not in best or created > best[name][0]):
            best[name] = created, meta["name"]
    return found | {name: held for name, (_, held) in best.items()}


def template(pod: Json) -> Json:
    """The special claim before a node is chosen: without requests."""
    meta = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta.get("uid", ""), "controller": True}
    made = {
        "generateName": f"{meta['name']}-extended-resources-",
        "namespace": meta["namespace"],
        "annotations": {ANNOTATION: "true"},
        "ownerReferences": [owner],
    }
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": made, "spec": {}}


def is_special(claim: Json, uid: str) -> bool:
    """Whether a claim was made for the extended resources of the pod with this uid."""
    meta = claim["metadata"]
    if (meta.get("annotations") or {}).get(ANNOTATION) != "true":
        return False
    return any(o.get("controller") and o.get("uid") == uid for o in meta.get("ownerReferences") or ())


def requests(spec: Json, classes: Mapping[str, str]) -> tuple[list[Json], list[Json]]:
    """(requests of the special claim, which container uses which of them) for resources that are devices on a node.

    ``classes``: resource name -> device class, of those resources alone.
    """
    inits, mains = spec.get("initContainers") or [], spec.get("containers") or []
    containers = [*inits, *mains]
    ends = [i for i, c in enumerate(inits) if c.get("restartPolicy") != "Always"]
    made: list[Json] = []
    uses: list[Json] = []
    for resource in sorted(classes):
        lasting: dict[int, Json] = {}
        for i, container in enumerate(containers):
            if i not in ends and (asked := _request(i, container, resource, classes[resource], [])) is not None:
                request, used = asked
                lasting[i] = request or {}
                uses += used
        largest: Json | None = None
        passing: list[Json] = []
        names: set[str] = set()
        for i in ends:
            reusable = [lasting[j] for j in sorted(lasting) if j >= i]
            if (asked := _request(i, containers[i], resource, classes[resource], reusable)) is None:
                continue
            request, used = asked
            passing += used
            if request is not None:
                names.add(request["name"])
                if largest is None or largest["exactly"]["count"] < request["exactly"]["count"]:
                    largest = request
        if largest is not None:
            passing = [u | {"requestName": largest["name"]} if u["requestName"] in names else u for u in passing]
            made.append(largest)
        made += lasting.values()
        uses += passing
    return sorted(made, key=lambda r: str(r["name"])), uses


def _request(
    index: int, container: Json, resource: str, class_name: str, reusable: list[Json]
) -> tuple[Json | None, list[Json]] | None:
    """(a request for what ``reusable`` ones do not give, what the container uses); None when it asks for nothing."""
    asked = (container.get("resources") or {}).get("requests") or {}
    amount = parse(asked.get(resource, "0"))
    if not amount or amount != amount.to_integral_value():
        return None
    count, uses = int(amount), []
    for one in reusable:
        uses.append(_use(container, resource, one["name"]))
        count -= one["exactly"]["count"]
        if count <= 0:
            return None, uses
    name = f"container-{index}-request-{sorted(asked).index(resource)}"
    exactly = {"deviceClassName": class_name, "allocationMode": "ExactCount", "count": count}
    return {"name": name, "exactly": exactly}, [*uses, _use(container, resource, name)]


def _use(container: Json, resource: str, request: str) -> Json:
    return {"containerName": container["name"], "resourceName": resource, "requestName": request}
