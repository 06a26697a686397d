"""The standard functions: arithmetic within 64 bits, order, conversions, sizes, strings. Times are in stdlib_time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from portside.api.cel import patterns
from portside.api.cel.go_numbers import format_double
from portside.api.cel.members import contained, index, map_insert, optional_index
from portside.api.cel.stdlib_time import duration_text, instant, timestamp_text
from portside.api.cel.type_values import TypeValue, type_name
from portside.api.cel.values import (
    INT_MAX,
    INT_MIN,
    MAX_MEMBERS,
    UINT_MAX,
    CelRuntimeError,
    Duration,
    Uint,
    bounded,
)

_PAIRS = (
    ("bool", "bool, bool"),
    ("int64", "int, int"),
    ("int64_double", "int, double"),
    ("int64_uint64", "int, uint"),
    ("uint64", "uint, uint"),
    ("uint64_double", "uint, double"),
    ("uint64_int64", "uint, int"),
    ("double", "double, double"),
    ("double_int64", "double, int"),
    ("double_uint64", "double, uint"),
    ("string", "string, string"),
    ("bytes", "bytes, bytes"),
    ("timestamp", "timestamp, timestamp"),
    ("duration", "duration, duration"),
)
_ORDERED = "\n".join(
    f"{word}_{suffix}: {symbol}({pair}) -> bool"
    for word, symbol in (("less", "_<_"), ("less_equals", "_<=_"), ("greater", "_>_"), ("greater_equals", "_>=_"))
    for suffix, pair in _PAIRS
)
DECLARATIONS = (
    _ORDERED
    + """
equals: _==_(A, A) -> bool
not_equals: _!=_(A, A) -> bool
logical_and: _&&_(bool, bool) -> bool
logical_or: _||_(bool, bool) -> bool
logical_not: !_(bool) -> bool
not_strictly_false: @not_strictly_false(bool) -> bool
conditional: _?_:_(bool, A, A) -> A
negate_double: -_(double) -> double
negate_int64: -_(int) -> int
in_list: @in(A, list(A)) -> bool
in_map: @in(A, map(A, B)) -> bool
add_bytes: _+_(bytes, bytes) -> bytes
add_double: _+_(double, double) -> double
add_duration_duration: _+_(duration, duration) -> duration
add_duration_timestamp: _+_(duration, timestamp) -> timestamp
add_timestamp_duration: _+_(timestamp, duration) -> timestamp
add_int64: _+_(int, int) -> int
add_list: _+_(list(A), list(A)) -> list(A)
add_string: _+_(string, string) -> string
add_uint64: _+_(uint, uint) -> uint
subtract_double: _-_(double, double) -> double
subtract_duration_duration: _-_(duration, duration) -> duration
subtract_int64: _-_(int, int) -> int
subtract_timestamp_duration: _-_(timestamp, duration) -> timestamp
subtract_timestamp_timestamp: _-_(timestamp, timestamp) -> duration
subtract_uint64: _-_(uint, uint) -> uint
multiply_double: _*_(double, double) -> double
multiply_int64: _*_(int, int) -> int
multiply_uint64: _*_(uint, uint) -> uint
divide_double: _/_(double, double) -> double
divide_int64: _/_(int, int) -> int
divide_uint64: _/_(uint, uint) -> uint
modulo_int64: _%_(int, int) -> int
modulo_uint64: _%_(uint, uint) -> uint
index_list: _[_](list(A), int) -> A
index_map: _[_](map(A, B), A) -> B
optional_list_index_int: _[_](optional(list(V)), int) -> optional(V)
optional_map_index_value: _[_](optional(map(K, V)), K) -> optional(V)
list_optindex_optional_int: _[?_](list(V), int) -> optional(V)
optional_list_optindex_optional_int: _[?_](optional(list(V)), int) -> optional(V)
map_optindex_optional_value: _[?_](map(K, V), K) -> optional(V)
optional_map_optindex_optional_value: _[?_](optional(map(K, V)), K) -> optional(V)
size_bytes: size(bytes) -> int
bytes_size: bytes :: size() -> int
size_list: size(list(A)) -> int
list_size: list(A) :: size() -> int
size_map: size(map(A, B)) -> int
map_size: map(A, B) :: size() -> int
size_string: size(string) -> int
string_size: string :: size() -> int
contains_string: string :: contains(string) -> bool
ends_with_string: string :: endsWith(string) -> bool
starts_with_string: string :: startsWith(string) -> bool
matches: matches(string, string) -> bool
matches_string: string :: matches(string) -> bool
bool_to_bool: bool(bool) -> bool
string_to_bool: bool(string) -> bool
bytes_to_bytes: bytes(bytes) -> bytes
string_to_bytes: bytes(string) -> bytes
double_to_double: double(double) -> double
int64_to_double: double(int) -> double
string_to_double: double(string) -> double
uint64_to_double: double(uint) -> double
to_dyn: dyn(A) -> dyn
type: type(A) -> type(A)
int64_to_int64: int(int) -> int
double_to_int64: int(double) -> int
duration_to_int64: int(duration) -> int
string_to_int64: int(string) -> int
timestamp_to_int64: int(timestamp) -> int
uint64_to_int64: int(uint) -> int
uint64_to_uint64: uint(uint) -> uint
double_to_uint64: uint(double) -> uint
int64_to_uint64: uint(int) -> uint
string_to_uint64: uint(string) -> uint
string_to_string: string(string) -> string
bool_to_string: string(bool) -> string
bytes_to_string: string(bytes) -> string
double_to_string: string(double) -> string
duration_to_string: string(duration) -> string
int64_to_string: string(int) -> string
timestamp_to_string: string(timestamp) -> string
uint64_to_string: string(uint) -> string
ip_to_string: string(IP) -> string
cidr_to_string: string(CIDR) -> string
@mapInsert_map_key_value: cel.@mapInsert(map(K, V), K, V) -> map(K, V)
@mapInsert_map_map: cel.@mapInsert(map(K, V), map(K, V)) -> map(K, V)
"""
)
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_UNSIGNED = re.compile(r"[0-9]+\Z")
_FLOAT = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)\Z", re.I)
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def whole(value: int) -> int:
    """``value`` when it fits in 64 bits."""
    if -INT_MAX - 1 <= value <= INT_MAX:
        return value
    raise CelRuntimeError("integer overflow")


def unsigned(value: int) -> Uint:
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise CelRuntimeError("unsigned integer overflow")


def divide_whole(a: int, b: int) -> int:
    if not b:
        raise CelRuntimeError("division by zero")
    result = abs(a) // abs(b)
    return whole(result if (a < 0) == (b < 0) else -result)


def modulo_whole(a: int, b: int) -> int:
    if not b:
        raise CelRuntimeError("modulus by zero")
    if a == INT_MIN and b == -1:
        raise CelRuntimeError("integer overflow")
    return abs(a) % abs(b) if a >= 0 else -(abs(a) % abs(b))


def divide_double(a: float, b: float) -> float:
    if b:
        return a / b
    if not a or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _zero_checked(text: str, operation: Callable[[int, int], int]) -> Callable[[int, int], Uint]:
    def run(a: int, b: int) -> Uint:
        if not b:
            raise CelRuntimeError(text)
        return Uint(operation(int(a), int(b)))

    return run


def _duration(nanos: int) -> Duration:
    return Duration(whole(nanos))


def to_bool(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise CelRuntimeError("type conversion error from 'string' to 'bool'")


def _to_int(text: str) -> int:
    if _INTEGER.match(text) and INT_MIN <= int(text) <= INT_MAX:
        return int(text)
    raise CelRuntimeError("type conversion error from 'string' to 'int'")


def _to_uint(text: str) -> Uint:
    if _UNSIGNED.match(text) and int(text) <= UINT_MAX:
        return Uint(int(text))
    raise CelRuntimeError("type conversion error from 'string' to 'uint'")


def _to_double(text: str) -> float:
    if _FLOAT.match(text):
        value = float(text)
        if not math.isinf(value) or "inf" in text.lower():
            return value
    raise CelRuntimeError("type conversion error from 'string' to 'double'")


def _double_to_int(value: float) -> int:
    if math.isnan(value) or not -(2.0**63) < value < 2.0**63:
        raise CelRuntimeError("integer overflow")
    return int(value)


def _double_to_uint(value: float) -> Uint:
    if math.isnan(value) or not 0 <= value < 2.0**64:
        raise CelRuntimeError("unsigned integer overflow")
    return Uint(int(value))


def _bytes_to_string(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelRuntimeError("invalid UTF-8 in bytes, cannot convert to string") from None


_ORDER_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "less": lambda a, b: a < b,
    "less_equals": lambda a, b: not b < a,
    "greater": lambda a, b: b < a,
    "greater_equals": lambda a, b: not a < b,
}


def _ordering(word: str, suffix: str) -> Callable[[Any, Any], bool]:
    test = _ORDER_TESTS[word]
    if "double" not in suffix:
        return test

    def ordered(a: Any, b: Any) -> bool:
        if a != a or b != b:
            raise CelRuntimeError("NaN values cannot be ordered")
        return test(a, b)

    return ordered


def _not(value: bool) -> bool:
    return not value


def add_bytes(a: Any, b: Any) -> Any:
    return a + b


def add_lists(a: list[Any], b: list[Any]) -> list[Any]:
    bounded(len(a) + len(b), MAX_MEMBERS, "list")
    return a + b


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    **{f"{word}_{suffix}": _ordering(word, suffix) for word in _ORDER_TESTS for suffix, _ in _PAIRS},
    "logical_not": _not,
    "negate_double": lambda a: -a,
    "negate_int64": lambda a: whole(-a),
    "in_list": contained,
    "in_map": contained,
    "add_bytes": add_bytes,
    "add_double": add_bytes,
    "add_list": add_lists,
    "add_string": add_bytes,
    "add_int64": lambda a, b: whole(a + b),
    "add_uint64": lambda a, b: unsigned(a + b),
    "add_duration_duration": lambda a, b: _duration(a.nanos + b.nanos),
    "add_duration_timestamp": lambda a, b: instant(a.nanos + b.nanos, b.offset),
    "add_timestamp_duration": lambda a, b: instant(a.nanos + b.nanos, a.offset),
    "subtract_double": lambda a, b: a - b,
    "subtract_int64": lambda a, b: whole(a - b),
    "subtract_uint64": lambda a, b: unsigned(int(a) - int(b)),
    "subtract_duration_duration": lambda a, b: _duration(a.nanos - b.nanos),
    "subtract_timestamp_duration": lambda a, b: instant(a.nanos - b.nanos, a.offset),
    "subtract_timestamp_timestamp": lambda a, b: _duration(a.nanos - b.nanos),
    "multiply_double": lambda a, b: a * b,
    "multiply_int64": lambda a, b: whole(a * b),
    "multiply_uint64": lambda a, b: unsigned(int(a) * int(b)),
    "divide_double": divide_double,
    "divide_int64": divide_whole,
    "divide_uint64": _zero_checked("division by zero", lambda a, b: a // b),
    "modulo_int64": modulo_whole,
    "modulo_uint64": _zero_checked("modulus by zero", lambda a, b: a % b),
    **dict.fromkeys(("index_list", "index_map", "optional_list_index_int", "optional_map_index_value"), index),
    **dict.fromkeys(("list_optindex_optional_int", "map_optindex_optional_value"), optional_index),
    **dict.fromkeys(("optional_list_optindex_optional_int", "optional_map_optindex_optional_value"), optional_index),
    **{f"size_{k}": len for k in ("bytes", "list", "map", "string")},
    **{f"{k}_size": len for k in ("bytes", "list", "map", "string")},
    "contains_string": lambda a, b: b in a,
    "ends_with_string": lambda a, b: a.endswith(b),
    "starts_with_string": lambda a, b: a.startswith(b),
    "matches": patterns.matches,
    "matches_string": patterns.matches,
    **dict.fromkeys(("bool_to_bool", "bytes_to_bytes", "double_to_double", "to_dyn"), lambda a: a),
    **dict.fromkeys(("int64_to_int64", "uint64_to_uint64", "string_to_string"), lambda a: a),
    "string_to_bool": to_bool,
    "string_to_bytes": lambda a: a.encode(),
    "int64_to_double": float,
    "uint64_to_double": float,
    "string_to_double": _to_double,
    "type": lambda a: TypeValue(type_name(a)),
    "double_to_int64": _double_to_int,
    "duration_to_int64": lambda a: a.nanos,
    "duration_to_string": duration_text,
    "timestamp_to_string": timestamp_text,
    "string_to_int64": _to_int,
    "timestamp_to_int64": lambda a: a.nanos // 1_000_000_000,
    "uint64_to_int64": lambda a: whole(int(a)),
    "double_to_uint64": _double_to_uint,
    "int64_to_uint64": unsigned,
    "string_to_uint64": _to_uint,
    "bool_to_string": lambda a: "true" if a else "false",
    "bytes_to_string": _bytes_to_string,
    "double_to_string": lambda a: format_double(a, 6),
    "int64_to_string": str,
    "uint64_to_string": lambda a: str(int(a)),
    "ip_to_string": str,
    "cidr_to_string": str,
    "@mapInsert_map_key_value": map_insert,
    "@mapInsert_map_map": map_insert,
}
