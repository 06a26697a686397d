"""Lets a VolumeAttributesClass that is being deleted go when no claim and no volume names it any more."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import is_terminating
from portside.controllers.volumematch import CLAIMS, VOLUMES

ATTRIBUTES: Resource = ("storage.k8s.io", "v1", "volumeattributesclasses")
FINALIZER = "kubernetes.io/vac-protection"


def named_by(obj: Json) -> set[str]:
    """The classes that a claim or volume asks for, has, or is being changed to."""
    status = obj.get("status") or {}
    names = (
        (obj.get("spec") or {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return {n for n in names if n}


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a class."""
    held = view.get(ATTRIBUTES, "", key)
    if held is None:
        return NOTHING
    meta = held["metadata"]
    kept: list[str] = list(meta.get("finalizers") or ())
    if not is_terminating(held):
        if FINALIZER in kept:
            return NOTHING
        kept.append(FINALIZER)
    elif FINALIZER not in kept or any(key in named_by(o) for r in (CLAIMS, VOLUMES) for o in view.all(r)):
        return NOTHING
    else:
        kept.remove(FINALIZER)
    body = {"metadata": {"finalizers": kept or None, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    return Plan([patch(ATTRIBUTES, held, body, ignore=frozenset({404}))])


def _classes(view: View, obj: Json) -> Iterable[str]:
    return named_by(obj)


CONTROLLER = Controller(
    "vac-protection-controller",
    ATTRIBUTES,
    plan,
    watches={CLAIMS: _classes, VOLUMES: _classes},
    relevant={CLAIMS: (Fact(named_by),), VOLUMES: (Fact(named_by),)},
    workers=1,
)
