"""Quantities: ``quantity('1.5Gi')``."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from portside.api import quantity
from portside.api.cel.values import INT_MAX, INT_MIN, CelRuntimeError, Opaque

DECLARATIONS = """
string_to_quantity: quantity(string) -> Quantity
is_quantity_string: isQuantity(string) -> bool
quantity_sign: sign(Quantity) -> int
quantity_is_greater_than: Quantity :: isGreaterThan(Quantity) -> bool
quantity_is_less_than: Quantity :: isLessThan(Quantity) -> bool
quantity_compare_to: Quantity :: compareTo(Quantity) -> int
quantity_get_float: Quantity :: asApproximateFloat() -> double
quantity_get_int: Quantity :: asInteger() -> int
quantity_is_integer: Quantity :: isInteger() -> bool
quantity_add: Quantity :: add(Quantity) -> Quantity
quantity_add_int: Quantity :: add(int) -> Quantity
quantity_sub: Quantity :: sub(Quantity) -> Quantity
quantity_sub_int: Quantity :: sub(int) -> Quantity
"""


class Quantity(Opaque):
    """An exact amount."""

    __slots__ = ("amount",)
    TYPE_NAME = "kubernetes.Quantity"

    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.amount == other.amount

    def __hash__(self) -> int:
        return hash(self.amount)

    def __repr__(self) -> str:
        return f"quantity({self.amount})"


def parse(text: str) -> Quantity:
    try:
        return Quantity(quantity.parse(text))
    except quantity.QuantityError as problem:
        raise CelRuntimeError(str(problem)) from None


def _is_integer(q: Quantity) -> bool:
    return q.amount == q.amount.to_integral_value() and INT_MIN <= q.amount <= INT_MAX


def _integer(q: Quantity) -> int:
    if not _is_integer(q):
        raise CelRuntimeError("cannot convert value to integer")
    return int(q.amount)


def _compare(a: Quantity, b: Quantity) -> int:
    return (a.amount > b.amount) - (a.amount < b.amount)


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "string_to_quantity": parse,
    "is_quantity_string": quantity.valid,
    "quantity_sign": lambda q: (q.amount > 0) - (q.amount < 0),
    "quantity_is_greater_than": lambda a, b: a.amount > b.amount,
    "quantity_is_less_than": lambda a, b: a.amount < b.amount,
    "quantity_compare_to": _compare,
    "quantity_get_float": lambda q: float(q.amount),
    "quantity_get_int": _integer,
    "quantity_is_integer": _is_integer,
    "quantity_add": lambda a, b: Quantity(a.amount + b.amount),
    "quantity_add_int": lambda a, b: Quantity(a.amount + b),
    "quantity_sub": lambda a, b: Quantity(a.amount - b.amount),
    "quantity_sub_int": lambda a, b: Quantity(a.amount - b),
}
