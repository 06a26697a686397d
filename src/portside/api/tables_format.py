"""Words in table cells: ages, selectors, lists that are cut short. As upstream's duration and printers packages print them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

Json = Mapping[str, Any]
Now = float | str | datetime


@lru_cache(maxsize=8192)
def _parse_time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def epoch(when: Now) -> float:
    """Seconds since 1970."""
    if isinstance(when, str):
        return _parse_time(when)
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return float(when)


def human(seconds: float) -> str:
    """A duration in two units at most: 90s, 5m30s, 4h, 3d2h, 400d, 2y1d."""
    if seconds <= -2:
        return "<invalid>"
    s = int(seconds)
    if s < 0 or seconds < 0:
        return "0s"
    if s < 120:
        return f"{s}s"
    m, h = s // 60, s // 3600
    if m < 10:
        return f"{m}m{s % 60}s" if s % 60 else f"{m}m"
    if m < 180:
        return f"{m}m"
    if h < 8:
        return f"{h}h{m % 60}m" if m % 60 else f"{h}h"
    if h < 48:
        return f"{h}h"
    if h < 192:
        return f"{h // 24}d{h % 24}h" if h % 24 else f"{h // 24}d"
    if h < 24 * 365 * 2:
        return f"{h // 24}d"
    years, days = h // 24 // 365, h // 24 % 365
    if years < 8:
        return f"{years}y{days}d" if days else f"{years}y"
    return f"{years}y"


def since(when: str | None, now: float) -> str:
    """The age of a time; ``<unknown>`` when there is none."""
    return human(now - _parse_time(when)) if when else "<unknown>"


def age(obj: Json, now: float) -> str:
    """The age of an object."""
    return since(obj["metadata"].get("creationTimestamp"), now)


def name(obj: Json) -> str:
    """The name of an object."""
    return str(obj["metadata"].get("name") or "")


def labels(pairs: Mapping[str, str] | None) -> str:
    """A map as ``a=1,b=2``, sorted; ``<none>`` when empty."""
    return ",".join(f"{k}={pairs[k]}" for k in sorted(pairs)) if pairs else "<none>"


def some(items: Iterable[str], most: int = 3) -> str:
    """The first items, and how many more there are."""
    listed = list(items)
    text = ",".join(listed[:most])
    return f"{text} + {len(listed) - most} more..." if len(listed) > most else text


def templated(template: Json | None) -> list[Any]:
    """Container names and images of a pod template."""
    containers = ((template or {}).get("spec") or {}).get("containers") or []
    return [",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)]
