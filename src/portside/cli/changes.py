"""What differs between two versions of an object: in a few words, and line by line."""

from __future__ import annotations

import difflib
import json
from typing import Any

Json = dict[str, Any]
# What the server keeps for itself: no change by anybody.
OWN = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")
SHOWN = 3
LONGEST = 40


def cleaned(obj: Json) -> Json:
    """The object as its author would write it: without what the server fills in, and without its status."""
    meta = {k: v for k, v in obj.get("metadata", {}).items() if k not in OWN}
    return {k: v for k, v in obj.items() if k != "status"} | {"metadata": meta}


def same(old: Json | None, new: Json | None) -> bool:
    """Whether an author would see no difference: only the status or the server's own fields differ, if anything."""
    if old is None or new is None:
        return old is new
    return cleaned(old) == cleaned(new)


def summary(old: Json | None, new: Json | None) -> str:
    """``spec.replicas 2 -> 3, metadata.labels.tier added``; ``status`` when only that differs."""
    if new is None:
        return "deleted"
    if old is None:
        return "created"
    found = _differences(cleaned(old), cleaned(new), "")
    if not found:
        return "status" if old.get("status") != new.get("status") else "nothing of substance"
    more = f", {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _differences(old: Any, new: Any, path: str) -> list[str]:
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for key in [*old, *(k for k in new if k not in old)]:
            here = f"{path}.{key}" if path else str(key)
            if key not in new:
                found.append(f"{here} removed")
            elif key not in old:
                found.append(f"{here} added")
            else:
                found += _differences(old[key], new[key], here)
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new, strict=True)) for d in _differences(a, b, f"{path}[{i}]")]
    if isinstance(old, dict | list) or isinstance(new, dict | list):
        return [f"{path} changed"]
    return [f"{path} {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def lines(old: Json | None, new: Json | None, old_title: str, new_title: str) -> list[str]:
    """A unified diff of the two as YAML, [] when their authors wrote the same."""
    return list(difflib.unified_diff(_yaml(old), _yaml(new), old_title, new_title, lineterm=""))


def _yaml(obj: Json | None) -> list[str]:
    import yaml

    if obj is None:
        return []
    return yaml.safe_dump(cleaned(obj), sort_keys=False, allow_unicode=True).splitlines()
