"""The ApplyConfiguration of a mutating policy: a partial object merged into another, as server-side apply merges, without owners.

Atomic values are refused, because a policy that means to set one member of them would drop all others.
"""

from __future__ import annotations

from typing import Any

from portside.api.managed_merge import merge, problems
from portside.api.managed_tree import Shape, shape
from portside.api.schema_tree import Schema

Json = dict[str, Any]


class CannotApply(Exception):
    """The configuration does not fit the kind; upstream's words."""


def apply_configuration(obj: Json, configuration: Json, schema: Schema) -> Json:
    """``obj`` with the members of the configuration. Raises CannotApply."""
    top = shape(schema)
    applied = configuration | {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind")}
    found = problems(top, applied)
    if found:
        text = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {line}" for line in found)
        raise CannotApply(f"failed to convert patch object to typed object: {text}")
    atomic = atomics(top, applied)
    if atomic:
        text = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
        raise CannotApply(f"invalid ApplyConfiguration: {text}")
    made: Json = merge(top, obj, applied)
    return made


def atomics(at: Shape, value: Any, path: str = "") -> list[str]:
    """Where a value holds atomic lists, maps or structs."""
    schema, found = at.schema, []
    if schema is None or not isinstance(value, (dict, list)):
        return []
    if at.kind == "leaf" and schema.form in ("struct", "map", "crd", "array"):
        found.append(path)
    if isinstance(value, list):
        child = at.item()
        for index, entry in enumerate(value):
            found += atomics(child, entry, f"{path}[{index}]")
        return found
    for key in sorted(value):
        known = at.field(key) if schema.fields else ("", at.value())
        if known is not None:
            found += atomics(known[1], value[key], f"{path}.{key}")
    return found
