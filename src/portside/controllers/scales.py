"""How many pods a pod's controller is to have: its own replicas, its Deployment's, or, of a custom resource, its scale's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from portside.api.status import ApiError
from portside.client.cache import View, controller_of
from portside.client.protocol import Client, Json, Resource
from portside.controllers.served import BUILT_IN, CRDS, of_definition

REPLICASETS: Resource = ("apps", "v1", "replicasets")
SCALED: dict[tuple[str, str], Resource] = {
    ("ReplicaSet", "apps"): REPLICASETS,
    ("Deployment", "apps"): ("apps", "v1", "deployments"),
    ("StatefulSet", "apps"): ("apps", "v1", "statefulsets"),
    ("ReplicationController", ""): ("", "v1", "replicationcontrollers"),
}


class ScaleUnknown(Exception):
    """The size can't be found out; the text says why, in upstream's words."""


Answer = tuple[str, int] | None | ScaleUnknown  # (uid and size of what scales), gone, or unknown
Answers = Mapping[str, Answer]  # by the uid of the owner


def foreign(pods: Iterable[Json]) -> list[Json]:
    """The controllers of these pods that only a question to the server can tell the size of; each once."""
    found: dict[str, Json] = {}
    for pod in pods:
        ref = controller_of(pod)
        if ref is not None and (str(ref.get("kind")), _group(ref)) not in SCALED:
            found.setdefault(str(ref.get("uid")), ref)
    return list(found.values())


def size(view: View, namespace: str, ref: Json, answers: Answers) -> tuple[str, int] | None:
    """The uid and size of what scales a pod's controller, None when that is gone. Raises ScaleUnknown."""
    resource = SCALED.get((str(ref.get("kind")), _group(ref)))
    if resource is None:
        answer = answers.get(str(ref.get("uid")))
        if isinstance(answer, ScaleUnknown):
            raise answer
        return answer
    owner = view.get(resource, namespace, ref["name"])
    if owner is None or owner["metadata"]["uid"] != ref["uid"]:
        return None
    above = controller_of(owner)
    if resource == REPLICASETS and above is not None and above.get("kind") == "Deployment":
        whole = size(view, namespace, above, answers)
        if whole is not None:
            return whole
    return owner["metadata"]["uid"], int(owner["spec"].get("replicas", 1))


async def ask(client: Client, view: View, namespace: str, ref: Json) -> Answer:
    """The scale of a controller that is none of ours."""
    kind, version = str(ref.get("kind", "")), str(ref.get("apiVersion", "")).rpartition("/")[2]
    group = _group(ref)
    built_in = next((s for s in BUILT_IN if s.kind == kind and s.group == group), None)
    if built_in is not None:
        return _without(built_in.resource)
    definition = next(
        (c for c in view.all(CRDS) if c["spec"]["group"] == group and c["spec"]["names"]["kind"] == kind), None
    )
    served = of_definition(definition) if definition is not None else None
    named = next((v for v in (definition or {}).get("spec", {}).get("versions") or () if v["name"] == version), None)
    if served is None or named is None or not named.get("served"):
        return ScaleUnknown(f'no matches for kind "{kind}" in version "{ref.get("apiVersion", "")}"')
    if not (named.get("subresources") or {}).get("scale"):
        return _without(served.resource)
    resource = (group, version, served.resource[2])
    try:
        scale = await client.get(resource, ref["name"], namespace=namespace, subresource="scale")
    except ApiError as error:
        return None if error.code == 404 else ScaleUnknown(error.message)
    uid = str(scale["metadata"].get("uid", ""))
    return (uid, int((scale.get("spec") or {}).get("replicas") or 0)) if uid == ref.get("uid") else None


def _group(ref: Json) -> str:
    return str(ref.get("apiVersion", "")).rpartition("/")[0]


def _without(resource: Resource) -> ScaleUnknown:
    name = f"{resource[2]}.{resource[0]}" if resource[0] else resource[2]
    return ScaleUnknown(f"{name} does not implement the scale subresource")
