"""Checks that upstream declares on its types, as small rules put together: they come after the hand-written checks.

A rule is ``(value, old, path) -> errors``. ``old`` is the same value of the stored object, ABSENT on creation or when
nothing corresponds to it; what is unchanged is not checked again, so an object that was stored once can be stored again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, not_supported, required, too_long, too_many
from portside.api.protobuf import in_field_order

Errors = list[FieldError]
Rule = Callable[[Any, Any, str], Errors]
ABSENT: Any = object()
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_C_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or "
    "'_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
)
_CASELESS_TEXT = (
    "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an "
    f"alphanumeric character (e.g. 'Example.com', regex used for validation is '{names.SUBDOMAIN}')"
)
LONGEST_NAME = 32
LONGEST_DOMAIN = 63


def fields(*rows: tuple[str, Rule]) -> Rule:
    """The rules of an object's fields, in order."""

    def check(value: Any, old: Any, path: str) -> Errors:
        errors: Errors = []
        for name, rule in rows:
            mine = value.get(name)
            theirs = old.get(name) if isinstance(old, dict) else ABSENT
            if theirs is ABSENT or mine != theirs:
                errors += rule(mine, theirs, f"{path}.{name}" if path else name)
        return errors

    return check


def optional(*rules: Rule) -> Rule:
    """Nothing to check when there is nothing."""

    def check(value: Any, old: Any, path: str) -> Errors:
        return [] if not value else [e for rule in rules for e in rule(value, old, path)]

    return check


def needed(*rules: Rule) -> Rule:
    """A value there must be; only then the other rules speak."""

    def check(value: Any, old: Any, path: str) -> Errors:
        return [required(path)] if not value else [e for rule in rules for e in rule(value, old, path)]

    return check


def listed(item: Rule | None = None, *, most: int = 0, key: Sequence[str] | None = None, message: str = "") -> Rule:
    """A list: its size, then that items (by ``key``; ``()`` compares whole items) come once, then each item.

    ``message`` is the items' type in the table of protobuf fields: a repeated object is printed in its field order.
    """

    def same(a: Any, b: Any) -> bool:
        return bool(a == b) if not key else all((a.get(k) or "") == (b.get(k) or "") for k in key)

    def check(value: Any, old: Any, path: str) -> Errors:
        if most and len(value) > most:
            return [too_many(path, len(value), most)]
        errors: Errors = []
        if key is not None:
            for i, one in enumerate(value):
                if any(same(one, before) for before in value[:i]):
                    errors.append(duplicate(f"{path}[{i}]", in_field_order(one, message) if message else one))
        before = old if isinstance(old, list) else []
        for i, one in enumerate(value):
            match = next((b for b in before if (same(one, b) if key else one == b)), ABSENT)
            if item is not None and (match is ABSENT or one != match):
                errors += item(one, match, f"{path}[{i}]")
        return errors

    return optional(check)


def mapped(item: Rule | None = None, *, names_: Callable[[str], list[str]] | None = None) -> Rule:
    """A map: every key's name, then every value."""

    def check(value: Any, old: Any, path: str) -> Errors:
        before = old if isinstance(old, dict) else {}
        errors: Errors = []
        for key in sorted(value):
            if names_ is not None and key not in before:
                errors += [invalid_value(path, key, p) for p in names_(key)]
        for key in sorted(value):
            match = before.get(key, ABSENT)
            if item is not None and (match is ABSENT or value[key] != match):
                errors += item(value[key], match, f"{path}[{key}]")
        return errors

    return check


def one_of(*supported: str) -> Rule:
    return lambda value, old, path: [] if value in supported else [not_supported(path, value, supported)]


def texts(problems: Callable[[str], list[str]]) -> Rule:
    """A text that ``problems`` finds nothing wrong with."""
    return lambda value, old, path: [invalid_value(path, value, p) for p in problems(value)]


def at_most(bytes_: int) -> Rule:
    return lambda value, old, path: [too_long(path, bytes_)] if len(value.encode()) > bytes_ else []


def at_most_characters(count: int) -> Rule:
    text = f"Too long: may not be more than {count} characters"
    return lambda value, old, path: [FieldError(path, "FieldValueTooLong", text)] if len(value) > count else []


def union(*members: str) -> Rule:
    """Exactly one of the members is there."""
    shown = ", ".join(f"`{m}`" for m in members)

    def check(value: Any, old: Any, path: str) -> Errors:
        given = [m for m in members if value.get(m) is not None]
        if not given:
            return [invalid_value(path, "", f"must specify one of: {shown}")]
        if len(given) > 1:
            return [invalid_value(path, "{" + ", ".join(given) + "}", f"must specify exactly one of: {shown}")]
        return []

    return check


def caseless_subdomain(value: str) -> list[str]:
    problems = [names.too_long(253)] if len(value) > 253 else []
    if names.SUBDOMAIN_TEXT in names.is_subdomain(value.lower()):
        problems.append(_CASELESS_TEXT)
    return problems


def uuid(value: str) -> list[str]:
    return [] if _UUID.match(value) else ["must be a lowercase UUID in 8-4-4-4-12 format"]


def c_identifier(value: str, path: str) -> Errors:
    errors = [too_long(path, LONGEST_NAME)] if len(value) > LONGEST_NAME else []
    return errors if _C_NAME.match(value) else [*errors, invalid_value(path, value, _C_TEXT)]


def pool_name(value: Any, old: Any, path: str) -> Errors:
    """Subdomains with slashes between them."""
    errors = [too_long(path, 253)] if len(value) > 253 else []
    for i, part in enumerate(value.split("/")):
        if not part:
            errors.append(invalid_value(path, value, f"segment {i}: must not be empty"))
            continue
        errors += [invalid_value(path, part, f"segment {i}: {p}") for p in names.is_subdomain(part)]
    return errors


def fully_qualified(value: Any, old: Any, path: str) -> Errors:
    """A domain, a slash, a C identifier. More than one slash is let through, as upstream does."""
    parts = value.split("/")
    if len(parts) == 1:
        text = "a fully qualified name must be a domain and a name separated by a slash"
        return [*c_identifier(value, path), invalid_value(path, value, text)]
    if len(parts) > 2:
        return []
    domain, name = parts
    errors: Errors = []
    if not domain:
        errors.append(invalid_value(path, "", "prefix must not be empty"))
    else:
        errors += [too_long(path, LONGEST_DOMAIN)] if len(domain) > LONGEST_DOMAIN else []
        errors += [invalid_value(path, domain, f"prefix: {p}") for p in names.is_subdomain(domain)]
    if not name:
        return [*errors, invalid_value(path, "", "name must not be empty")]
    return errors + c_identifier(name, path)


def extended_resource(value: str) -> list[str]:
    problems = []
    if "/" not in value:
        problems.append("a name must be a domain-prefixed path, such as 'example.com/my-prop'")
    elif "kubernetes.io/" in value:
        problems.append('must not have "kubernetes.io/" domain')
    if value.startswith("requests."):
        problems.append('must not have "requests." prefix')
    return problems + names.qualified_name(f"requests.{value}")
