"""Selectors of devices: expressions over ``device``, compiled to find mistakes before a claim is stored."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from portside.api.field import FieldError, forbidden_field, invalid_value, required, too_long
from portside.api.rules.declared import LONGEST_DOMAIN, LONGEST_NAME
from portside.api.rules.device_declared import MOST_SELECTORS

if TYPE_CHECKING:
    from portside.api.cel.types import Type

Json = dict[str, Any]
Errors = list[FieldError]
LONGEST_EXPRESSION = 10 * 1024
MOST_COST = 1_000_000
MOST_ENTRIES = 32  # attributes and capacities of a device


@lru_cache(maxsize=1)
def _variables() -> dict[str, Type]:
    """``device`` as expressions see it: attributes and capacity by domain, then by name."""
    from portside.api.cel import types as t

    domain = t.Type("string", "string", limit=LONGEST_DOMAIN)
    name = t.Type("string", "string", limit=LONGEST_NAME)
    quantity = t.opaque("kubernetes.Quantity")
    attributes = t.map_of(domain, t.map_of(name, t.DYN, limit=MOST_ENTRIES), limit=MOST_ENTRIES)
    capacity = t.map_of(domain, t.map_of(name, quantity, limit=MOST_ENTRIES), limit=MOST_ENTRIES)
    fields = {
        "driver": t.Field(domain, "driver", True),
        "attributes": t.Field(attributes, "attributes", True),
        "capacity": t.Field(capacity, "capacity", True),
        "allowMultipleAllocations": t.Field(t.BOOL, "allowMultipleAllocations", True),
    }
    return {"device": t.struct("kubernetes.DRADevice", fields)}


@lru_cache(maxsize=1024)
def problem(expression: str, path: str) -> FieldError | None:
    """What is wrong with an expression; the many claims of one template ask again."""
    from portside.api.cel import CompileFailure, InstantiationFailure, ResultTypeFailure, compile_expression
    from portside.api.cel import types as t

    try:
        program = compile_expression(expression, variables=_variables(), result=t.BOOL, bindings=True)
    except ResultTypeFailure as failure:
        text = f"must evaluate to bool or the unknown type, not {t.show(failure.found)}"
        return invalid_value(path, expression, text)
    except InstantiationFailure as failure:
        return invalid_value(path, expression, f"program instantiation failed: {failure}")
    except CompileFailure as failure:
        return invalid_value(path, expression, f"compilation failed: {failure}")
    if program.estimate()[1] > MOST_COST:
        return forbidden_field(path, "too complex, exceeds cost limit")
    return None


def _selector(selector: Json, path: str, stored: bool) -> Errors:
    cel = selector.get("cel")
    if cel is None:
        return [required(f"{path}.cel")]
    text, at = cel.get("expression") or "", f"{path}.cel.expression"
    if stored:
        return []
    if len(text.encode()) > LONGEST_EXPRESSION:
        return [too_long(at, LONGEST_EXPRESSION)]
    found = problem(text, at)
    return [] if found is None else [found]


def validate(selectors: list[Json] | None, path: str, *, stored: bool = False) -> Errors:
    """Each selector; ``stored`` ones were compiled when they came."""
    if not selectors or len(selectors) > MOST_SELECTORS:
        return []
    return [e for i, s in enumerate(selectors) for e in _selector(s, f"{path}[{i}]", stored)]
