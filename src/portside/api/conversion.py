"""Kinds served in two versions from one stored form: Event (core and events.k8s.io) and HorizontalPodAutoscaler (v1 and v2).

The stored forms are core/v1 Event and autoscaling/v2. All functions return new objects and leave their argument alone.
"""

from __future__ import annotations

from typing import Any

from portside.api import conversion_hpa

Json = dict[str, Any]

# core field -> events.k8s.io field, in the order of upstream's JSON
_EVENT = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENT_BACK = {new: old for old, new in _EVENT.items()}
STORED = {
    ("events.k8s.io/v1", "Event"): "v1",
    ("autoscaling/v1", "HorizontalPodAutoscaler"): "autoscaling/v2",
}


def event_filled(obj: Json, *, core: bool) -> Json:
    """An Event with the fields that upstream writes even when they are zero (core says more of them than the new form)."""
    out = dict(obj)
    for field in ("firstTimestamp", "lastTimestamp", "source"):
        name = field if core else _EVENT[field]
        if out.get(name) is None:
            out[name] = {} if field == "source" else None
    out.setdefault("eventTime", None)
    out.setdefault("involvedObject" if core else "regarding", {})
    for name in ("reportingComponent" if core else "reportingController", "reportingInstance"):
        if core:
            out.setdefault(name, "")
        elif out.get(name) == "":
            del out[name]
    return out


def event_to_events_v1(obj: Json) -> Json:
    """A core Event as events.k8s.io/v1."""
    out = {_EVENT.get(k, k): v for k, v in obj.items()}
    if "apiVersion" in out:
        out["apiVersion"] = "events.k8s.io/v1"
    return event_filled(out, core=False)


def event_to_core(obj: Json) -> Json:
    """An events.k8s.io/v1 Event as core/v1."""
    out = {_EVENT_BACK.get(k, k): v for k, v in obj.items()}
    if "apiVersion" in out:
        out["apiVersion"] = "v1"
    return event_filled(out, core=True)


hpa_v1_to_v2 = conversion_hpa.v1_to_v2
hpa_v2_to_v1 = conversion_hpa.v2_to_v1
_STEPS = {
    ("Event", "v1"): event_to_core,
    ("Event", "events.k8s.io/v1"): event_to_events_v1,
    ("HorizontalPodAutoscaler", "autoscaling/v1"): hpa_v2_to_v1,
    ("HorizontalPodAutoscaler", "autoscaling/v2"): hpa_v1_to_v2,
}


def stored_version(api_version: str, kind: str) -> str:
    """The version in which a kind is stored; the served one unless the kind is served in two."""
    return STORED.get((api_version, kind), api_version)


def convert(obj: Json, api_version: str) -> Json:
    """``obj`` in ``api_version``; itself when it already is. KeyError when there is no such conversion."""
    if obj.get("apiVersion") == api_version:
        return obj
    return _STEPS[obj["kind"], api_version](obj)
