"""Label selectors: the query syntax, the LabelSelector object, and matching. Texts follow apimachinery's ``labels`` package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, go_value, invalid_value, required
from portside.api.fieldselector import FieldSelector, parse_fields
from portside.api.status import bad_request

Labels = Mapping[str, str]
BINARY = {"in": "in", "notin": "notin", "=": "=", "==": "==", "!=": "!=", ">": "gt", "<": "lt"}
_SYMBOLS = "=!(),<>"
_TOKENS = {")", ",", "!", "==", "=", ">", "<", "!=", "("}
_INT = re.compile(r"^[+-]?[0-9]+$")


label_key_problems = names.qualified_name
label_value_problems = names.label_value


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on labels. ``op``: in, notin, =, ==, !=, exists, !, gt, lt; ``values`` sorted and distinct."""

    key: str
    op: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Labels) -> bool:
        have = labels.get(self.key)
        if self.op in ("=", "==", "in"):
            return have is not None and have in self.values
        if self.op in ("!=", "notin"):
            return have is None or have not in self.values
        if self.op == "exists":
            return have is not None
        if self.op == "!":
            return have is None
        if have is None or not _INT.match(have):
            return False
        return int(have) > int(self.values[0]) if self.op == "gt" else int(have) < int(self.values[0])

    def __str__(self) -> str:
        if self.op == "exists":
            return self.key
        if self.op == "!":
            return f"!{self.key}"
        if self.op in ("in", "notin"):
            return f"{self.key} {self.op} ({','.join(self.values)})"
        return f"{self.key}{ {'gt': '>', 'lt': '<'}.get(self.op, self.op) }{self.values[0]}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold. Without requirements everything matches, unless ``nothing``."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False
    _match: Callable[[Labels], bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_match", _compile(self.requirements, self.nothing))

    @property
    def everything(self) -> bool:
        return not self.requirements and not self.nothing

    def matches(self, labels: Labels | None) -> bool:
        return self._match(labels or {})

    def matches_object(self, obj: Mapping[str, Any]) -> bool:
        return self._match((obj.get("metadata") or {}).get("labels") or {})

    def exact(self, key: str) -> str | None:
        """The one value that ``key`` must have, when the selector says so."""
        for r in self.requirements:
            if r.key == key and len(r.values) == 1 and r.op in ("=", "==", "in"):
                return r.values[0]
        return None

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)


def _compile(requirements: tuple[Requirement, ...], nothing: bool) -> Callable[[Labels], bool]:
    if nothing:
        return lambda labels: False
    if not requirements:
        return lambda labels: True
    if all(r.op in ("=", "==") for r in requirements):
        pairs = tuple((r.key, r.values[0]) for r in requirements)
        if len(pairs) == 1:
            key, value = pairs[0]
            return lambda labels: labels.get(key) == value
        return lambda labels: all(labels.get(k) == v for k, v in pairs)
    tests = tuple(r.matches for r in requirements)
    return lambda labels: all(test(labels) for test in tests)


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


def requirement(key: str, op: str, values: Iterable[str]) -> Requirement:
    """A checked requirement; raises ValueError with upstream's text."""
    listed = tuple(sorted(set(values)))
    errors = [f"key: Invalid value: {go_value(key)}: {'; '.join(p)}"] if (p := label_key_problems(key)) else []
    if op in ("in", "notin") and not listed:
        errors.append("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    elif op in ("gt", "lt") and not _INT.match(listed[0]):
        detail = "for 'Gt', 'Lt' operators, the value must be an integer"
        errors.append(f"values[0]: Invalid value: {go_value(listed[0])}: {detail}")
    for i, value in enumerate(listed):
        if problems := label_value_problems(value):
            errors.append(f"values[{i}][{key}]: Invalid value: {go_value(value)}: {'; '.join(problems)}")
    if errors:
        raise ValueError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
    return Requirement(key, op, listed)


def _scan(text: str) -> list[tuple[str, str]]:
    """Tokens as (kind, text); kind is the symbol itself, "word", "error" or "end"."""
    tokens: list[tuple[str, str]] = []
    i, end = 0, len(text)
    while i < end:
        if text[i] in " \t\r\n":
            i += 1
        elif text[i] in _SYMBOLS:
            start, i = i, i + 1
            while i < end and text[i] in _SYMBOLS and text[start : i + 1] in _TOKENS:
                i += 1
            tokens.append((text[start:i], text[start:i]))
        else:
            start = i
            while i < end and text[i] not in _SYMBOLS and text[i] not in " \t\r\n":
                i += 1
            tokens.append(("word", text[start:i]))
    tokens.append(("end", ""))
    return tokens


class _Parser:
    """Recursive descent over the query syntax; every refusal is a ValueError with upstream's text."""

    def __init__(self, text: str) -> None:
        self.tokens = _scan(text)
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            kind, text = self.peek()
            if kind == "end":
                return found
            if kind not in ("word", "!"):
                raise ValueError(f"found '{text}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.one())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            kind, text = self.take()
            if kind == "end":
                return found
            if kind != ",":
                raise ValueError(f"found '{text}', expected: ',' or 'end of string'")
            kind, text = self.peek()
            if kind not in ("word", "!"):
                raise ValueError(f"found '{text}', expected: identifier after ','")

    def one(self) -> Requirement:
        kind, key = self.take()
        negated = kind == "!"
        if negated:
            kind, key = self.take()
        if kind != "word":
            raise ValueError(f"found '{key}', expected: identifier")
        if problems := label_key_problems(key):
            raise ValueError(f"<nil>: Invalid value: {go_value(key)}: {'; '.join(problems)}")
        if negated or self.peek()[0] in ("end", ","):
            return Requirement(key, "!" if negated else "exists")
        kind, text = self.take()
        op = BINARY.get(text)
        if op is None:
            raise ValueError(f"found '{text}', expected: in, notin, =, ==, !=, gt, lt")
        return requirement(key, op, self.values() if op in ("in", "notin") else [self.value()])

    def value(self) -> str:
        if self.peek()[0] in ("end", ","):
            return ""
        kind, text = self.take()
        if kind != "word":
            raise ValueError(f"found '{text}', expected: identifier")
        return text

    def values(self) -> set[str]:
        kind, text = self.take()
        if kind != "(":
            raise ValueError(f"found '{text}' expected: '('")
        kind, text = self.peek()
        if kind == ")":
            self.take()
            return {""}  # upstream reads an empty list as one empty value
        if kind not in ("word", ","):
            raise ValueError(f"found '{text}', expected: ',', ')' or identifier")
        found = self.listed()
        self.take()
        return found

    def listed(self) -> set[str]:
        found: set[str] = set()
        while True:
            kind, text = self.take()
            after, after_text = self.peek()
            if kind == "word":
                found.add(text)
                if after == ")":
                    return found
                if after != ",":
                    raise ValueError(f"found '{after_text}', expected: ',' or ')'")
            elif kind == ",":
                if not found:
                    found.add("")
                if after == ")":
                    found.add("")
                    return found
                if after == ",":
                    self.take()
                    found.add("")
            else:
                raise ValueError(f"found '{text}', expected: ',', or identifier")


@lru_cache(maxsize=2048)
def _parse(text: str) -> LabelSelector:
    found = _Parser(text).parse()
    return LabelSelector(tuple(sorted(found, key=lambda r: r.key))) if found else EVERYTHING


def parse_labels(text: str) -> LabelSelector:
    """The selector of a ``labelSelector`` query; raises ApiError 400 with upstream's parse error."""
    try:
        return _parse(text)
    except ValueError as error:
        raise bad_request(str(error)) from None


_OBJECT_OPS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


def from_labels(pairs: Labels | None) -> LabelSelector:
    """The selector of a plain map (Service, ReplicationController); None and {} match everything."""
    return LabelSelector(tuple(Requirement(k, "=", (v,)) for k, v in sorted((pairs or {}).items())))


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """The selector of a LabelSelector object: None matches nothing, {} everything. Raises ValueError if it is not valid."""
    if selector is None:
        return NOTHING
    found = [Requirement(k, "=", (v,)) for k, v in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        op = _OBJECT_OPS.get(expression.get("operator", ""))
        if op is None:
            raise ValueError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        found.append(requirement(expression.get("key", ""), op, expression.get("values") or ()))
    return LabelSelector(tuple(sorted(found, key=lambda r: r.key)))


def format_object(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector object as kubectl prints it."""
    try:
        text = str(from_object(selector))
    except ValueError as error:
        return f"<error: {error}>"
    return text or "<none>"


def validate_object(
    selector: Mapping[str, Any] | None, path: str, *, invalid_values_ok: bool = False
) -> list[FieldError]:
    """Field errors of a LabelSelector object, in upstream's order."""
    errors: list[FieldError] = []
    if selector is None:
        return errors
    for key, value in sorted((selector.get("matchLabels") or {}).items()):
        errors += [invalid_value(f"{path}.matchLabels", key, p) for p in names.qualified_name(key)]
        if not invalid_values_ok:
            errors += [invalid_value(f"{path}.matchLabels", value, p) for p in label_value_problems(value)]
    for i, expression in enumerate(selector.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{i}]"
        op, values, key = expression.get("operator", ""), expression.get("values") or [], expression.get("key", "")
        if op in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif op in ("Exists", "DoesNotExist"):
            if values:
                text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(forbidden_field(f"{at}.values", text))
        else:
            errors.append(invalid_value(f"{at}.operator", op, "not a valid selector operator"))
        errors += [invalid_value(f"{at}.key", key, p) for p in names.qualified_name(key)]
        if not invalid_values_ok:
            for j, value in enumerate(values):
                errors += [invalid_value(f"{at}.values[{j}]", value, p) for p in label_value_problems(value)]
    return errors


__all__ = [
    "EVERYTHING",
    "NOTHING",
    "FieldSelector",
    "LabelSelector",
    "Requirement",
    "format_object",
    "from_labels",
    "from_object",
    "label_key_problems",
    "label_value_problems",
    "parse_fields",
    "parse_labels",
    "requirement",
    "validate_object",
]
