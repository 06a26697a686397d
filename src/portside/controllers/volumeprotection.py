"""Lets a PersistentVolume that is being deleted go when it is not bound any more."""

from __future__ import annotations

from portside.client.cache import View
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import is_terminating
from portside.controllers.volumematch import VOLUMES, phase_of

FINALIZER = "kubernetes.io/pv-protection"


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a volume."""
    volume = view.get(VOLUMES, "", key)
    if volume is None:
        return NOTHING
    meta = volume["metadata"]
    held = FINALIZER in (meta.get("finalizers") or ())
    if is_terminating(volume) and held and phase_of(volume) != "Bound":
        kept: list[str] | None = [f for f in meta["finalizers"] if f != FINALIZER] or None
    elif not is_terminating(volume) and not held:
        kept = [*(meta.get("finalizers") or ()), FINALIZER]
    else:
        return NOTHING
    body = {"metadata": {"finalizers": kept, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    return Plan([patch(VOLUMES, volume, body, ignore=frozenset({404}))])


CONTROLLER = Controller("pv-protection-controller", VOLUMES, plan, workers=2)
