"""The answer: what explains the state of an object, told once for all that suffer from it, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from portside.why.causes import causes_of, subjects
from portside.why.finding import Cause, Fact, Finding, Grade, Role, condition, lookup, said, title
from portside.why.reach import below, consumers, replaced
from portside.why.world import World, plural_of

Json = dict[str, Any]
FIRST_ONLY = (
    "pods",
    "persistentvolumeclaims",
)  # their rows stand in order: a later one repeats what an earlier one says
WELL, EXPLAINED, UNKNOWN = "well", "explained", "unknown"
MAX_CAUSES = 200  # told of a whole cluster
MAX_EVENTS = 5


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from a cause for an object; or, of an object that nothing explains, what is known."""

    cause: Cause
    obj: Json
    says: str

    def as_json(self) -> Json:
        return {"cause": self.cause.name, "object": reference(self.obj), "says": self.says}


@dataclass(slots=True)
class Told:
    """A cause with the first object that has it, the others, and what follows from it."""

    cause: Cause
    finding: Finding
    obj: Json
    also: list[Json] = field(default_factory=list)
    so: list[Consequence] = field(default_factory=list)

    @property
    def count(self) -> int:
        return 1 + len(self.also)

    def as_json(self) -> Json:
        return {
            "cause": self.cause.name,
            "grade": self.cause.grade.name.lower(),
            "object": reference(self.obj),
            "says": self.finding.says,
            "count": self.count,
            "also": [reference(o) for o in self.also],
            "evidence": [{"object": f.object, "path": f.path, "value": f.value} for f in self.finding.facts],
            "consequences": [c.as_json() for c in self.so],
            "todo": list(self.finding.todo),
        }


@dataclass(slots=True)
class Answer:
    """``state`` is well, explained or unknown. ``known`` is what can be said when nothing explains it."""

    about: str
    state: str
    causes: list[Told] = field(default_factory=list)
    known: list[Consequence] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    left_out: int = 0
    unread: dict[str, str] = field(default_factory=dict)
    partial: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        return {
            "about": self.about,
            "state": self.state,
            "causes": [t.as_json() for t in self.causes],
            "known": [c.as_json() for c in self.known],
            "evidence": [{"object": f.object, "path": f.path, "value": f.value} for f in self.facts],
            "leftOut": self.left_out,
            "unread": self.unread,
            "partial": self.partial,
        }


def reference(obj: Json) -> Json:
    meta = obj["metadata"]
    found = {"kind": obj["kind"], "namespace": meta.get("namespace"), "name": meta["name"]}
    return {k: v for k, v in found.items() if v}


class Diagnosis:
    """What the table finds of each object, asked once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._found: dict[int, list[tuple[Cause, Finding]]] = {}
        self._explained: dict[int, list[Json]] = {}

    def of(self, obj: Json) -> list[tuple[Cause, Finding]]:
        if id(obj) not in self._found:
            self._found[id(obj)] = self._ask(obj)
        return self._found[id(obj)]

    def _ask(self, obj: Json) -> list[tuple[Cause, Finding]]:
        plural = plural_of(obj)
        found: list[tuple[Cause, Finding]] = []
        for cause in causes_of(plural):
            answers = plural in FIRST_ONLY and cause.role is not Role.SYMPTOM
            if answers and any(c.role is not Role.SYMPTOM for c, _ in found):
                continue
            finding = cause.find(self.world, obj)
            if finding is not None:
                found.append((cause, finding))
        return found

    def explaining(self, obj: Json) -> list[Json]:
        """The nearest objects below with a finding that explains what this one suffers from."""
        if id(obj) not in self._explained:
            near = (o for o in below(self.world, obj) if any(_explains(c) for c, _ in self.of(o)))
            self._explained[id(obj)] = list(near)
        return self._explained[id(obj)]

    def role(self, obj: Json, cause: Cause) -> Role:
        """What a finding is here: a LINK with something below is a SYMPTOM, one without is a ROOT."""
        if cause.role is not Role.LINK:
            return cause.role
        return Role.SYMPTOM if self.explaining(obj) else Role.ROOT


def _explains(cause: Cause) -> bool:
    return cause.role is not Role.SYMPTOM and cause.grade > Grade.NOTE


def tell(diagnosis: Diagnosis, objects: Iterable[Json]) -> tuple[list[Told], list[Consequence]]:
    """(the causes, worst first; what nothing explains). What many objects of a namespace suffer from is told once."""
    told: dict[tuple[str, str, str], Told] = {}
    of_object: dict[int, list[Told]] = {}
    symptoms: list[Consequence] = []
    for obj in objects:
        for cause, finding in diagnosis.of(obj):
            if diagnosis.role(obj, cause) is Role.SYMPTOM:
                if cause.role is Role.LINK or all(c.role is Role.SYMPTOM for c, _ in diagnosis.of(obj)):
                    symptoms.append(Consequence(cause, obj, finding.says))  # else the object's own finding says more
                continue
            key = (cause.name, finding.says, obj["metadata"].get("namespace", ""))
            if key in told:
                told[key].also.append(obj)
            else:
                told[key] = Told(cause, finding, obj)
            of_object.setdefault(id(obj), []).append(told[key])
    known = []
    for symptom in symptoms:
        obj = symptom.obj
        behind = [t for o in (obj, *diagnosis.explaining(obj)) for t in of_object.get(id(o), ())]
        for found in {id(t): t for t in behind}.values():
            if found.obj is not obj and all(o is not obj for o in found.also):
                found.so.append(symptom)
        if not behind:
            known.append(symptom)
    return sorted(told.values(), key=lambda t: (-t.cause.grade, -t.count)), known


def explain(world: World, start: Json) -> Answer:
    """Of one object, and of all that it depends on."""
    diagnosis = Diagnosis(world)
    objects = [start, *below(world, start)]
    if start["kind"] == "PersistentVolumeClaim":
        objects += [o for p in consumers(world, start) for o in (p, *below(world, p)) if o is not start]
    objects = list({id(o): o for o in objects}.values())
    causes, known = tell(diagnosis, objects)
    about = title(start)
    if namespace := start["metadata"].get("namespace"):
        about += f" in namespace {namespace}"
    state = EXPLAINED if causes else UNKNOWN if known else WELL
    facts = []
    if state == UNKNOWN:
        for obj in {id(k.obj): k.obj for k in known}.values():
            facts += shown_conditions(obj)
            facts += [f for e in world.events(obj)[:MAX_EVENTS] for f in world.told(obj, e)]
    return Answer(about, state, causes, known, facts[:40], 0, world.unread, sorted(world.partial))


def shown_conditions(obj: Json) -> list[Fact]:
    kinds = [c.get("type", "") for c in lookup(obj, "status", "conditions") or () if isinstance(c, dict)]
    return [fact for kind in kinds for fact in said(obj, kind)]


def survey(world: World, about: str, namespace: str | None = None) -> Answer:
    """Of everything that was read; within a namespace also of nodes that are not ready."""
    diagnosis = Diagnosis(world)
    wanted = [p for p in world.plurals() if p in subjects() or "." in p]
    objects = [o for plural in wanted for o in world.all(plural) if not replaced(world, o)]
    if namespace is not None:
        broken = [n for n in world.all("nodes") if condition(n, "Ready").get("status") != "True"]
        objects = [o for o in objects if o["metadata"].get("namespace") or o["kind"] == "Namespace"] + broken
    objects = list({o["metadata"].get("uid", id(o)): o for o in objects}.values())
    causes, known = tell(diagnosis, objects)
    state = EXPLAINED if any(t.cause.grade > Grade.NOTE for t in causes) else UNKNOWN if known else WELL
    left_out = max(0, len(causes) - MAX_CAUSES)
    return Answer(about, state, causes[:MAX_CAUSES], known, [], left_out, world.unread, sorted(world.partial))
