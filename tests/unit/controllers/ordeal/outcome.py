"""The state of a cluster without what differs from run to run: generated names, uids, times, revisions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
DRAWN = re.compile(  # by lot, or by the minute
    r'(?<=kube-api-access-)[a-z0-9]{5}|(?<=tick-)\d{8}|10\.96\.\d+\.\d+|(?<="nodePort": )\d+'
)
UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PASSING = ("Event", "Lease")
UNKNOWABLE = {  # a revision, and a time that only who wrote the size knows
    "StorageVersionMigration": ("resourceVersion",),
    "HorizontalPodAutoscaler": ("lastScaleTime",),
}
MADE_ANEW = ("resourceVersion", "uid", "selfLink", "managedFields")


def drawn(meta: Json) -> str | None:
    """How a name that the server drew is shown, None for a name that somebody gave."""
    begin = meta.get("generateName")
    return f"{begin}*" if begin and re.fullmatch(re.escape(begin) + "[a-z0-9]{5}", meta["name"]) else None


def outcome(objects: Iterable[Json], once: Mapping[str, str]) -> list[str]:
    """One line per object, sorted; equal for equal clusters. ``once``: drawn names of all objects that ever were."""
    found = [o for o in objects if o["kind"] not in PASSING]
    names = dict(once)
    for obj in found:
        meta = obj["metadata"]
        names[meta["uid"]] = f"<{obj['kind']} {drawn(meta) or meta['name']}>"
    pattern = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "$^")
    lines = []
    for obj in found:
        text = json.dumps(_plain(obj), sort_keys=True)
        text = pattern.sub(lambda m: names[m.group()], text)
        text = UID.sub("<gone>", text)
        lines.append(DRAWN.sub("*", TIME.sub("<time>", text)))
    return sorted(lines)


def _plain(obj: Json) -> Json:
    """Without server-made fields; conditions by type; an observed generation that is the present one says so."""
    meta = {k: v for k, v in obj["metadata"].items() if k not in MADE_ANEW}
    generation = meta.pop("generation", None)
    found = {**obj, "metadata": meta}
    status = found.get("status")
    if isinstance(status, dict):
        status = dict(status)
        for name in UNKNOWABLE.get(obj["kind"], ()):
            status.pop(name, None)
        if "observedGeneration" in status:
            status["observedGeneration"] = "present" if status["observedGeneration"] == generation else "past"
        if isinstance(status.get("conditions"), list):
            status["conditions"] = sorted((_settled(c) for c in status["conditions"]), key=lambda c: str(c.get("type")))
        found["status"] = status
    return found


def _settled(condition: Json) -> Json:
    return {k: v for k, v in condition.items() if k != "observedGeneration"}
