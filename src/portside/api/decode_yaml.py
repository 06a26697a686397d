"""Bodies in YAML 1.1, turned into JSON the way upstream does it: words for booleans, keys as text, numbers as numbers.

Aliases are expanded under upstream's budget, so that a short text can't become a huge object. Only the first document counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from portside.api.decode_json import DEPTH, MOST_DIGITS, Problems
from portside.api.status import bad_request

_TRUE = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"}
_FALSE = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"}
_NULL = {"", "~", "null", "Null", "NULL"}
_SPECIAL = {
    ".inf": math.inf, ".Inf": math.inf, ".INF": math.inf, "+.inf": math.inf, "+.Inf": math.inf, "+.INF": math.inf,
    "-.inf": -math.inf, "-.Inf": -math.inf, "-.INF": -math.inf, ".nan": math.nan, ".NaN": math.nan, ".NAN": math.nan,
}  # fmt: skip
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_INT = re.compile(r"[-+]?(0b[01]+|0o?[0-7]+|0x[0-9a-fA-F]+|[1-9][0-9]*|0)\Z")
_ALIAS_FLOOR = 100
_NODE_FLOOR = 1000


class _Loader(yaml.CSafeLoader):
    """Composes nodes only; every plain scalar keeps its text and is read by ``_scalar``."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


def _allowed_share(nodes: int) -> float:
    """Go-yaml's budget: small documents may consist of aliases, large ones must not."""
    if nodes <= 400_000:
        return 0.99
    if nodes >= 4_000_000:
        return 0.10
    return 0.99 - 0.89 * (nodes - 400_000) / 3_600_000


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    tag = node.tag
    if node.style or tag == "tag:yaml.org,2002:binary":
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text in _SPECIAL:
        return _SPECIAL[text]
    plain = text.replace("_", "") if text[:1] in "0123456789+-" else text
    if _INT.match(plain):
        sign = -1 if plain[0] == "-" else 1
        digits = plain.lstrip("+-")
        if len(digits) > MOST_DIGITS:  # no field holds it: not worked out
            return text
        base = {"0b": 2, "0o": 8, "0x": 16}.get(digits[:2].lower())
        if base:
            return sign * int(digits[2:], base)
        return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)
    if _FLOAT.match(plain):
        number = float(plain)
        return int(number) if number.is_integer() and abs(number) < 1e21 else number
    return text


class _Convert:
    def __init__(self) -> None:
        self.problems: list[str] = []
        self.nodes = 0
        self.aliased = 0
        self.seen: set[int] = set()
        self.open: set[int] = set()
        self.inside = 0

    def count(self, node: yaml.Node, depth: int) -> bool:
        """Counts a node against the budget; true when it is reached again through an alias."""
        again = id(node) in self.seen
        self.seen.add(id(node))
        self.nodes += 1
        if again or self.inside:
            self.aliased += 1
        if id(node) in self.open:
            raise bad_request(
                f"error converting YAML to JSON: yaml: anchor contains itself (line {node.start_mark.line + 1})"
            )
        if depth > DEPTH:
            raise bad_request("error converting YAML to JSON: yaml: exceeded max depth")
        if (
            self.aliased > _ALIAS_FLOOR
            and self.nodes > _NODE_FLOOR
            and self.aliased / self.nodes > _allowed_share(self.nodes)
        ):
            raise bad_request("error converting YAML to JSON: yaml: document contains excessive aliasing")
        return again

    def value(self, node: yaml.Node, depth: int = 0) -> Any:
        again = self.count(node, depth)
        if isinstance(node, yaml.ScalarNode):
            return _tagged(node)
        self.inside += again
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(entry, depth + 1) for entry in node.value]
            return self.mapping(node, depth)
        finally:
            self.open.discard(id(node))
            self.inside -= again

    def mapping(self, node: yaml.Node, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<" and not key_node.style:
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in sources:
                    found = self.value(source, depth + 1)
                    if not isinstance(found, dict):
                        raise bad_request(
                            "error converting YAML to JSON: yaml: map merge requires map or sequence of maps as the value"
                        )
                    merged = found | merged
                continue
            key = _key(key_node)
            if key in out and not self.inside:
                line = key_node.start_mark.line + 1
                self.problems.append(f"line {line}: key {json.dumps(key, ensure_ascii=False)} already set in map")
            out[key] = self.value(value_node, depth + 1)
        return dict(sorted((merged | out).items()))


def _tagged(node: yaml.ScalarNode) -> Any:
    tag = node.tag
    if tag == "tag:yaml.org,2002:str" and not node.style:
        return _scalar(node)
    if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"):
        return _scalar(yaml.ScalarNode("tag:yaml.org,2002:str", node.value, node.start_mark, node.end_mark, None))
    return node.value


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise bad_request("error converting YAML to JSON: unsupported map key type")
    value = _tagged(node)
    if value is True or value is False:
        return "true" if value else "false"
    if value is None:
        raise bad_request("error converting YAML to JSON: Unsupported map key of type: nil, key: <nil>")
    return str(value)


def parse_yaml(raw: bytes) -> tuple[Any, list[str]]:
    """The first document as JSON, and its duplicate keys (a Problems). Raises ApiError 400 with upstream's words."""
    return next(parse_documents(raw), (None, []))


def parse_documents(raw: bytes) -> Iterator[tuple[Any, list[str]]]:
    """Every document as ``parse_yaml`` gives the first; an empty one is None. Raises ApiError 400."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise bad_request("error converting YAML to JSON: yaml: invalid leading UTF-8 octet") from None
    loader = _Loader(text)
    try:
        while (node := _next_node(loader)) is not None:
            convert = _Convert()
            try:
                value = convert.value(node)
            except RecursionError:
                raise bad_request("error converting YAML to JSON: yaml: exceeded max depth") from None
            yield value, Problems(convert.problems, yaml=True) if convert.problems else []
    finally:
        loader.dispose()


def _next_node(loader: _Loader) -> yaml.Node | None:
    try:
        return loader.get_node() if loader.check_node() else None
    except yaml.MarkedYAMLError as error:
        line = (error.problem_mark.line + 1) if error.problem_mark else 0
        where = f"line {line}: " if line > 1 else ""
        raise bad_request(f"error converting YAML to JSON: yaml: {where}{error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise bad_request(f"error converting YAML to JSON: yaml: {error}") from None
