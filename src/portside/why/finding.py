"""What a cause says of an object: one sentence, the fields and events it rests on, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portside.why.world import World

Json = dict[str, Any]
MAX_VALUE = 600  # characters of a field or message that are shown
Step = str | int


class Grade(IntEnum):
    """How bad it is; the worst is told first. NOTE is somebody's wish (paused, suspended), not a fault."""

    NOTE = 1
    WAITS = 2
    FAULT = 3
    CLUSTER = 4


class Role(Enum):
    """Whether a finding answers the question. A LINK does unless something the object depends on explains it; a SYMPTOM
    never does, and is told as a consequence, or as what is known."""

    ROOT = "root"
    LINK = "link"
    SYMPTOM = "symptom"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was seen: ``object`` is KIND/NAME, ``path`` a field of it, or ``event REASON``."""

    object: str
    path: str
    value: str

    def __str__(self) -> str:
        return f"{self.object} {self.path} = {self.value}" if self.value else f"{self.object} {self.path}"


@dataclass(frozen=True, slots=True)
class Finding:
    """``says`` does not name the object itself, so that what many objects suffer from reads the same for all of them."""

    says: str
    facts: tuple[Fact, ...]
    todo: tuple[str, ...]


Find = Callable[["World", Json], Finding | None]


@dataclass(frozen=True, slots=True)
class Cause:
    """One row of the table.

    ``kinds`` are the plurals it is asked of (``*`` all, ``*.*`` all that are not built in), ``needs`` those that ``find``
    reads besides.
    """

    name: str
    kinds: tuple[str, ...]
    find: Find
    means: str
    needs: tuple[str, ...] = ()
    grade: Grade = Grade.FAULT
    role: Role = Role.ROOT


def title(obj: Json) -> str:
    """``pod/web-0``"""
    return f"{obj['kind'].lower()}/{obj['metadata']['name']}"


def shown(value: Any) -> str:
    """A field's value in one line of limited length; control characters never reach a terminal."""
    text = _flat(value)
    if not text.isprintable():
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def _flat(value: Any, *, inner: bool = False) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "(not set)"
    if isinstance(value, list):
        text = ", ".join(_flat(v, inner=True) for v in value)
        return f"[{text}]" if inner else text or "(none)"
    if isinstance(value, dict):
        text = ", ".join(f"{k}={_flat(v, inner=True)}" for k, v in value.items())
        return f"{{{text}}}" if inner else text or "(none)"
    return str(value)


def lookup(obj: Any, *path: Step) -> Any:
    """The value at a path; None where there is none. In a list, a text chooses the entry of that name or type."""
    for step in path:
        if isinstance(obj, dict):
            obj = obj.get(str(step))
        elif isinstance(obj, list) and isinstance(step, int):
            obj = obj[step] if step < len(obj) else None
        elif isinstance(obj, list):
            obj = next((e for e in obj if isinstance(e, dict) and step in (e.get("name"), e.get("type"))), None)
        else:
            return None
    return obj


def seen(obj: Json, *path: Step) -> Fact:
    """A field as evidence; ``status.conditions[Ready].reason``."""
    text, at = "", obj
    for step in path:
        text += f"[{step}]" if isinstance(at, list) else f".{step}"
        at = lookup(at, step)
    return Fact(title(obj), text.lstrip("."), shown(at))


def condition(obj: Json, kind: str) -> Json:
    """The condition of a type; {} when there is none."""
    found = lookup(obj, "status", "conditions", kind)
    return found if isinstance(found, dict) else {}


def said(obj: Json, kind: str) -> tuple[Fact, ...]:
    """A condition as evidence: status, reason and message, as far as it has them."""
    held = condition(obj, kind)
    return tuple(seen(obj, "status", "conditions", kind, f) for f in ("status", "reason", "message") if held.get(f))


def space(obj: Json) -> str:
    """`` -n shop`` for commands; nothing for what has no namespace."""
    namespace = obj["metadata"].get("namespace")
    return f" -n {namespace}" if namespace else ""


def describe(obj: Json) -> str:
    return f"kubectl describe {title(obj)}{space(obj)}"
