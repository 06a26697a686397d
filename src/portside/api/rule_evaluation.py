"""Validation rules at work: every rule at its place in an object, with the old value where it can be told which one it was.

A rule that fails on a value that did not change only warns (ratcheting), unless it compares with the old value. All rules of an
object share a budget; when it is used up, nothing more is checked and the object is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from portside.api import cel
from portside.api.cel.types import Type
from portside.api.cel.values import Optional
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, required
from portside.api.schema_rules import OLD_SELF, SELF, CompiledRule, RulePlace

Json = dict[str, Any]
Errors = list[FieldError]
OBJECT_BUDGET = 10_000_000  # cost units of all rules of one object
MAX_MESSAGE = 5 * 1024  # bytes of an evaluated message
NOWHERE = "<nil>"
_SPENT = "validation failed due to running out of cost budget, no further validation rules will be run"
_NO_OVERLOAD = "call arguments did not match a supported operator, function or macro signature for rule"
_CUT = "no further validation rules will be run due to call cost exceeds limit for"
_MESSAGE_SPENT = (
    "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
)


class _Exhausted(Exception):
    """The budget is used up."""


class _Pair:
    """A value and the one it was, as far as the schema's keys tell."""

    __slots__ = ("_same", "new", "old", "place")

    def __init__(self, new: Any, old: Any, place: Json) -> None:
        self.new = new
        self.old = old
        self.place = place
        self._same: bool | None = None

    def same(self) -> bool:
        if self._same is None:
            self._same = unchanged(self.new, self.old, self.place)
        return self._same

    def field(self, name: str, schema: Json) -> _Pair | None:
        if not isinstance(self.old, dict) or name not in self.old:
            return None
        return _Pair(self.new[name], self.old[name], schema)


def _by_key(schema: Json, values: Any) -> dict[tuple[str, ...], Any]:
    """Members of a list of type map by their keys."""
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    found: dict[tuple[str, ...], Any] = {}
    for value in values if isinstance(values, list) else ():
        if isinstance(value, dict):
            found.setdefault(_key(value, keys), value)
    return found


def _key(value: Json, keys: Any) -> tuple[str, ...]:
    return tuple(repr(value.get(k)) for k in keys)


def unchanged(new: Any, old: Any, schema: Json) -> bool:
    """Whether a value is what it was; a keyed list may be in another order."""
    if isinstance(new, bool) or isinstance(old, bool):
        return new is old
    if isinstance(new, list) and isinstance(old, list):
        items = schema.get("items")
        items = items if isinstance(items, dict) else {}
        if len(new) != len(old):
            return False
        if schema.get("x-kubernetes-list-type") == "map":
            before = _by_key(schema, old)
            keys = schema.get("x-kubernetes-list-map-keys") or ()
            return all(
                isinstance(v, dict) and (k := _key(v, keys)) in before and unchanged(v, before[k], items) for v in new
            )
        return all(unchanged(a, b, items) for a, b in zip(new, old, strict=True))
    if isinstance(new, dict) and isinstance(old, dict):
        return new.keys() == old.keys() and all(unchanged(v, old[k], _child(schema, k)) for k, v in new.items())
    return bool(new == old)


def _child(schema: Json, name: str) -> Json:
    found = (schema.get("properties") or {}).get(name)
    if found is None:
        found = schema.get("additionalProperties")
    return found if isinstance(found, dict) else {}


def validate_rules(
    compiled: RulePlace, new: Any, old: Any, path: str = "", *, budget: int = OBJECT_BUDGET, ratchet: bool = True
) -> tuple[Errors, list[str]]:
    """What the rules say of ``new``: errors, and warnings for what unchanged values are spared. ``old`` is None on creation."""
    walk = _Walk(budget)
    pair = _Pair(new, old, compiled.schema) if old is not None and ratchet else None
    with suppress(_Exhausted):
        walk.visit(compiled, new, old, path, pair, None)
    return walk.errors, walk.warnings


class _Walk:
    def __init__(self, budget: int) -> None:
        self.left = budget
        self.errors: Errors = []
        self.warnings: list[str] = []

    def visit(self, place: RulePlace, new: Any, old: Any, path: str, pair: _Pair | None, above: _Pair | None) -> None:
        """One value. ``pair`` correlates it with its old self, ``above`` the nearest value around it that could be."""
        if new is None:
            return
        spared = pair.same if pair is not None else (above.same if above is not None else None)
        if place.rules:
            _Rules(self, place, new, old, path, spared).run()
        if isinstance(new, list):
            self._list(place, new, old, path, pair, above)
        elif isinstance(new, dict):
            self._map(place, new, old, path, pair, above)

    def _map(self, place: RulePlace, new: Json, old: Any, path: str, pair: _Pair | None, above: _Pair | None) -> None:
        before = old if isinstance(old, dict) else {}
        for name, value, child, at in _children(place, new, path):
            inner = pair.field(name, child.schema) if pair is not None else None
            around = pair or above
            if pair is not None and above is None and name in ("apiVersion", "kind"):
                inner = around = None  # both are converted to the same version before: a change is not visible
            self.visit(child, value, before.get(name), at, inner, around)

    def _list(
        self, place: RulePlace, new: list[Any], old: Any, path: str, pair: _Pair | None, above: _Pair | None
    ) -> None:
        child = place.items
        if child is None:
            return
        keyed = place.schema.get("x-kubernetes-list-type") == "map"
        before = _by_key(place.schema, old) if keyed else {}
        keys = place.schema.get("x-kubernetes-list-map-keys") or ()
        for index, value in enumerate(new):
            was = before.get(_key(value, keys)) if keyed and isinstance(value, dict) else None
            inner = _Pair(value, was, child.schema) if pair is not None and was is not None else None
            self.visit(child, value, was, f"{path}[{index}]", inner, pair or above)


def _children(place: RulePlace, new: Json, path: str) -> Iterator[tuple[str, Any, RulePlace, str]]:
    if place.values is not None:
        for name, value in new.items():
            yield name, value, place.values, f"{path}[{name}]"
    for name, child in place.fields.items():
        if name in new:
            yield name, new[name], child, f"{path}.{name}" if path else name


class _Rules:
    """The rules of one place on one value."""

    def __init__(self, walk: _Walk, place: RulePlace, new: Any, old: Any, path: str, spared: Any) -> None:
        self.walk = walk
        self.place = place
        self.new = new
        self.old = old
        self.path = path
        self.spared = spared
        self.kind = str(place.schema.get("type") or "")

    def run(self) -> None:
        if self.walk.left <= 0:
            self.fail(_SPENT)
            raise _Exhausted
        assert self.place.type is not None
        new, old = _reader(self.place.type, self.new), None
        if self.old is not None and self.place.needs_old:
            old = _reader(self.place.type, self.old)
        for rule in self.place.rules:
            if rule.error:
                self.fail(f"rule compile error: {rule.error}")
            elif rule.program is not None and not (rule.uses_old and old is None and not rule.optional_old):
                self.one(rule, rule.program, new, old)

    def one(self, rule: CompiledRule, program: cel.Program, new: Any, old: Any) -> None:
        before = old
        if rule.optional_old:
            before = (lambda: Optional(old())) if old is not None else Optional.NONE
        text = _named(rule)
        try:
            holds = self.evaluate(program, {SELF: new, OLD_SELF: before})
        except cel.CostExceeded as problem:
            self.fail(f"'{problem}': {_CUT} rule: {text}")
            raise _Exhausted from None
        except cel.CelRuntimeError as problem:
            if str(problem).startswith("no such overload"):
                self.fail(f"'{problem}': {_NO_OVERLOAD}: {text}")
            else:
                self.fail(f"{problem} evaluating rule: {text}")
            return
        if holds is not True:
            self.refuse(rule, self.detail(rule, new, old))

    def evaluate(self, program: cel.Program, bindings: Json) -> Any:
        """The value. Counts its cost; raises _Exhausted when that is more than is left."""
        try:
            return program.evaluate(bindings)
        finally:
            self.walk.left -= program.spent
            if self.walk.left < 0:
                self.fail(_SPENT)
                raise _Exhausted

    def detail(self, rule: CompiledRule, new: Any, old: Any) -> str:
        """Why the value is refused: the message expression's text when it yields one, else the message, else the rule."""
        plain = (rule.rule.get("message") or "").strip() or f"failed rule: {(rule.rule.get('rule') or '').strip()}"
        if rule.message is None:
            return plain
        try:
            text = rule.message.evaluate({SELF: new, OLD_SELF: old if old is not None else None})
        except cel.CostExceeded:
            source = rule.rule["messageExpression"]
            self.add(rule, invalid_value(self.at(rule), self.kind, f'{_CUT} messageExpression: "{source}"'))
            raise _Exhausted from None
        except cel.CelRuntimeError:
            text = ""
        finally:
            self.walk.left -= rule.message.spent
        if self.walk.left < 0:
            self.add(rule, invalid_value(self.at(rule), self.kind, _MESSAGE_SPENT))
            raise _Exhausted
        text = text.strip() if isinstance(text, str) else ""
        return plain if not text or "\n" in text or len(text.encode()) > MAX_MESSAGE else text

    def at(self, rule: CompiledRule) -> str:
        if not rule.field_path:
            return self.path or NOWHERE
        if not self.path or rule.field_path.startswith("["):
            return self.path + rule.field_path
        return f"{self.path}.{rule.field_path}"

    def refuse(self, rule: CompiledRule, detail: str) -> None:
        path, reason = self.at(rule), rule.rule.get("reason")
        known = not isinstance(self.new, dict | list) and not rule.field_path
        if reason == "FieldValueForbidden":
            error = forbidden_field(path, detail)
        elif reason == "FieldValueRequired":
            error = required(path, detail)
        elif reason == "FieldValueDuplicate":
            error = duplicate(path, self.new) if known else FieldError(path, reason, "Duplicate value")
        elif known:
            error = invalid_value(path, self.new, detail)
        else:
            error = FieldError(path, "FieldValueInvalid", f"Invalid value: {detail}")
        self.add(rule, error)

    def add(self, rule: CompiledRule, error: FieldError) -> None:
        if not rule.uses_old and self.spared is not None and self.spared():
            self.walk.warnings.append(str(error))
        else:
            self.walk.errors.append(error)

    def fail(self, detail: str) -> None:
        self.walk.errors.append(invalid_value(self.path or NOWHERE, self.kind, detail))


def _named(rule: CompiledRule) -> str:
    return (rule.rule.get("message") or "").strip() or (rule.rule.get("rule") or "").strip()


def _reader(type_: Type, value: Any) -> Any:
    """The value as its type reads it, when it is asked for: reading may fail, and then the rule does."""
    convert = type_.convert
    return lambda: value if convert is None else convert(value)
