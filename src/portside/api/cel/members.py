"""Members of lists and maps: indexing, ``in``, and adding to a map."""

from __future__ import annotations

from typing import Any

from portside.api.cel.go_numbers import format_double
from portside.api.cel.type_values import go_type, no_overload, type_name
from portside.api.cel.values import CelRuntimeError, Optional, Uint, equal


def as_index(value: Any) -> int:
    """A list index; whole doubles and unsigned numbers count."""
    if value.__class__ is int or value.__class__ is Uint:
        return int(value)
    if value.__class__ is float and value.is_integer():
        return int(value)
    if value.__class__ is float:
        raise CelRuntimeError(f"unsupported index value {format_double(value)} in list")
    if value.__class__ in (str, bool):
        raise CelRuntimeError(f"unsupported index type '{type_name(value)}' in list")
    raise CelRuntimeError(f"invalid qualifier type: {go_type(value)}")


def key_text(key: Any) -> str:
    """A missing key as errors name it."""
    if key.__class__ is bool:
        return "true" if key else "false"
    if key.__class__ is float:
        return format_double(key)
    return str(int(key)) if key.__class__ is Uint else str(key)


def has_key(mapping: dict[Any, Any], key: Any) -> bool:
    """Whether a map has the key; true is not 1."""
    try:
        if key not in mapping:
            return False
    except TypeError:
        return False
    if key.__class__ is bool or key.__class__ in (int, Uint, float):
        return any(k == key and (k.__class__ is bool) is (key.__class__ is bool) for k in mapping)
    return True


def index(value: Any, key: Any) -> Any:
    """``value[key]`` of a list, a map, or an optional one."""
    kind = value.__class__
    if kind is list:
        at = as_index(key)
        if 0 <= at < len(value):
            return value[at]
        raise CelRuntimeError(f"index out of bounds: {at}")
    if kind is dict:
        if key.__class__ is str:
            if key in value:
                return value[key]
        elif has_key(value, key):
            return value[key]
    elif kind is Optional:
        return optional_index(value, key)
    elif isinstance(value, dict):
        try:
            return value[key]
        except (KeyError, TypeError):
            pass
    if key.__class__ not in _KEYS:
        raise CelRuntimeError(f"invalid qualifier type: {go_type(key)}")
    raise CelRuntimeError(f"no such key: {key_text(key)}")


_KEYS = frozenset((str, int, bool, Uint, float))


def optional_index(value: Any, key: Any) -> Optional:
    """``value[?key]``."""
    if value.__class__ is Optional:
        if not value.present:
            return Optional.NONE
        value = value.value
    if value.__class__ is list:
        at = as_index(key)
        return Optional(value[at]) if 0 <= at < len(value) else Optional.NONE
    if isinstance(value, dict):
        return Optional(value[key]) if has_key(value, key) else Optional.NONE
    return Optional.NONE


def contained(item: Any, container: Any) -> bool:
    """``item in container``."""
    if container.__class__ is list:
        if item.__class__ is str:
            return item in container
        return any(equal(item, member) for member in container)
    if isinstance(container, dict):
        return item in container if item.__class__ is str else has_key(container, item)
    return bool(no_overload())


def map_insert(mapping: dict[Any, Any], *rest: Any) -> dict[Any, Any]:
    more = rest[0] if len(rest) == 1 else {rest[0]: rest[1]}
    for key in more:
        if has_key(mapping, key):
            raise CelRuntimeError(f"insert failed: key {key_text(key)} already exists")
    return {**mapping, **more}
