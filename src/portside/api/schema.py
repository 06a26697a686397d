"""Schemas of kinds and option kinds, and the readers of bodies: the one door to everything named schema_* and decode_*."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from portside.api.decode_json import Problems, in_order, parse_json, strict_text
from portside.api.kinds import Kind
from portside.api.schema_cache import all_definitions, raw_definition
from portside.api.schema_tree import META, Schema, definition_name, zero
from portside.api.schema_tree import definition as _definition

__all__ = [
    "Problems",
    "Schema",
    "all_definitions",
    "definition",
    "in_order",
    "parse_json",
    "parse_yaml",
    "raw_definition",
    "schema_for",
    "schema_from_crd",
    "schema_of",
    "strict_text",
    "zero",
]


@lru_cache(maxsize=512)
def schema_of(group: str, version: str, kind: str) -> Schema:
    """The Schema of a kind by its name. Raises KeyError when it is not built in."""
    name = definition_name(group, version, kind)
    if name is None:
        raise KeyError(f"{group}/{version} {kind}")
    return _definition(name)


def parse_yaml(raw: bytes) -> tuple[Any, list[str]]:
    """See decode_yaml; imported on first use, because most servers never see YAML."""
    from portside.api import decode_yaml

    return decode_yaml.parse_yaml(raw)


def schema_from_crd(published: dict[str, Any], *, status_apart: bool = False) -> Schema:
    """See schema_custom; imported on first use."""
    from portside.api import schema_custom

    return schema_custom.schema_from_crd(published, status_apart=status_apart)


def schema_for(kind: Kind, *, list_ok: bool = False) -> Schema:
    """The Schema of a served kind; with ``list_ok`` that of its list. Raises KeyError when it is not built in."""
    return schema_of(kind.group, kind.version, kind.kind + "List" if list_ok else kind.kind)


def definition(name: str) -> Schema:
    """A Schema by definition name, or by the short name of an option kind (``DeleteOptions``)."""
    return _definition(name if "." in name else META + name)
