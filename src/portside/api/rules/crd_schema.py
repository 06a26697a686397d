"""What a CustomResourceDefinition's schema may say: keywords that are not supported, list and map types and their keys.

Every node is checked by itself; whether all of them together describe a structure is ``crd_structural``'s question, and
what defaults must be ``crd_defaults``'s. Fields of one node come in upstream's order, properties by name.
"""

from __future__ import annotations

from typing import Any

from portside.api.custom_formats import unrecognized
from portside.api.custom_rules import check_rules
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.rules.crd_defaults import validate_defaults
from portside.api.rules.crd_structural import validate_structure

Json = dict[str, Any]
Errors = list[FieldError]
TYPES = ("array", "boolean", "integer", "number", "object", "string")
_AT_STATUS_ROOT = (
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
)
_GO_NAMES = {
    "$ref": "Ref",
    "$schema": "Schema",
    "id": "ID",
    "x-kubernetes-preserve-unknown-fields": "XPreserveUnknownFields",
    "x-kubernetes-embedded-resource": "XEmbeddedResource",
    "x-kubernetes-int-or-string": "XIntOrString",
    "x-kubernetes-list-map-keys": "XListMapKeys",
    "x-kubernetes-list-type": "XListType",
    "x-kubernetes-map-type": "XMapType",
    "x-kubernetes-validations": "XValidations",
}
_QUADRATIC = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
_MAP_KEY = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"


def validate_schema(schema: Json, path: str, *, status: bool = False) -> Errors:
    """All problems of a version's openAPIV3Schema. ``status``: the version has the status subresource."""
    errors = _status_root(schema, path) if status else []
    if schema.get("nullable"):
        errors.append(forbidden_field(f"{path}.nullable", "nullable cannot be true at the root"))
    errors += _node(schema, path, root=True)
    later = validate_structure(schema, path) or validate_defaults(schema, path)
    broken = [path] if later else [e.field for e in errors]
    return errors + check_rules(schema, path, broken) + later


def unrecognized_formats(schema: Any) -> list[str]:
    """Words in ``format`` anywhere in a schema that mean nothing."""
    if not isinstance(schema, dict):
        return []
    found = [schema["format"]] if unrecognized(schema.get("format") or "") else []
    for child in (*(v for _, v in sorted((schema.get("properties") or {}).items())), schema.get("items")):
        found += unrecognized_formats(child)
    return found + unrecognized_formats(schema.get("additionalProperties"))


def _status_root(schema: Json, path: str) -> Errors:
    """With a status of its own the root may only say what still holds when status is taken out."""
    if schema.get("type") not in (None, "", "object"):
        text = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
        return [invalid_value(f"{path}.type", schema["type"], text)]
    for field, value in schema.items():
        name = _GO_NAMES.get(field) or field[:1].upper() + field[1:]
        if value not in (None, "", False, [], {}) and name not in _AT_STATUS_ROOT:
            listed = " ".join(_AT_STATUS_ROOT)
            text = f"only [{listed}] fields are allowed at the root of the schema if the status subresource is enabled"
            return [invalid_value(path, schema, text)]
    return []


def _standard(schema: Json, path: str, no_default: str, inside_meta: bool) -> Errors:
    """Keywords that definitions do without."""
    errors: Errors = []
    type_ = schema.get("type")
    if type_ and type_ not in TYPES:
        errors.append(not_supported(f"{path}.type", type_, TYPES))
    if schema.get("default") is not None and no_default:
        errors.append(forbidden_field(f"{path}.default", f"must not be set {no_default}"))
    for field in ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"):
        value = schema.get(field)
        if value is not None and (field in ("additionalItems", "dependencies", "$ref") or value):
            errors.append(forbidden_field(f"{path}.{field}", f"{field} is not supported"))
    if type_ == "null":
        text = "type cannot be set to null, use nullable as an alternative"
        errors.append(forbidden_field(f"{path}.type", text))
    if isinstance(schema.get("items"), list):
        errors.append(forbidden_field(f"{path}.items", "items must be a schema object and not an array"))
    if inside_meta and schema.get("x-kubernetes-embedded-resource"):
        text = "must not be used inside of resource meta"
        errors.append(forbidden_field(f"{path}.x-kubernetes-embedded-resource", text))
    return errors


def _node(schema: Any, path: str, *, root: bool = False, no_default: str = "", inside_meta: bool = False) -> Errors:
    """One schema and all below it."""
    if not isinstance(schema, dict):
        return []
    errors = _standard(schema, path, no_default, inside_meta)
    if schema.get("uniqueItems"):
        errors.append(forbidden_field(f"{path}.uniqueItems", _QUADRATIC))
    more = schema.get("additionalProperties")
    if more is not None:
        if schema.get("properties") and (isinstance(more, dict) or more):
            text = "additionalProperties and properties are mutual exclusive"
            errors.append(forbidden_field(f"{path}.additionalProperties", text))
        errors += _node(more, f"{path}.additionalProperties", no_default=no_default, inside_meta=inside_meta)
    resource = root or schema.get("x-kubernetes-embedded-resource")
    for name, child in sorted((schema.get("properties") or {}).items()):
        denied, inner = no_default, inside_meta
        if resource and name == "metadata":
            inner = True
            denied = "in top-level metadata" if root else "in metadata of an embedded resource"
        errors += _node(child, f"{path}.properties[{name}]", no_default=denied, inside_meta=inner)
    errors += _node(schema.get("not"), f"{path}.not", no_default=no_default, inside_meta=inside_meta)
    for field in ("allOf", "oneOf", "anyOf"):
        for at, child in enumerate(schema.get(field) or ()):
            errors += _node(child, f"{path}.{field}[{at}]", no_default=no_default, inside_meta=inside_meta)
    errors += _node(schema.get("items"), f"{path}.items", no_default=no_default, inside_meta=inside_meta)
    return errors + _extensions(schema, path)


def _of_type(schema: Json, path: str, wanted: str, extension: str) -> Errors:
    text = f"must be {wanted} if {extension} is specified"
    type_ = schema.get("type") or ""
    return [required(f"{path}.type", text) if not type_ else invalid_value(f"{path}.type", type_, text)]


def _extensions(schema: Json, path: str) -> Errors:
    errors: Errors = []
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        text = "must be true or undefined"
        errors.append(invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, text))
    map_type, list_type = schema.get("x-kubernetes-map-type"), schema.get("x-kubernetes-list-type")
    if map_type is not None and schema.get("type") != "object":
        errors += _of_type(schema, path, "object", "x-kubernetes-map-type")
    if map_type is not None and map_type not in ("atomic", "granular"):
        errors.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular")))
    items = schema.get("items") if isinstance(schema.get("items"), dict) else None
    if list_type is not None and schema.get("type") != "array":
        errors += _of_type(schema, path, "array", "x-kubernetes-list-type")
    elif list_type == "set" and items is not None:
        errors += _set_items(items, f"{path}.items")
    if list_type is not None and list_type not in ("atomic", "set", "map"):
        errors.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map")))
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        at = f"{path}.x-kubernetes-list-type"
        errors.append(required(at, text) if list_type is None else invalid_value(at, list_type, text))
    if list_type == "map":
        errors += _map_list(schema, items, keys, path)
    if list_type in ("set", "map") and items is not None:
        errors += _nullable_members(items, list_type, keys, path)
    return errors


def _set_items(items: Json, path: str) -> Errors:
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    kind, map_type = items.get("x-kubernetes-list-type"), items.get("x-kubernetes-map-type")
    if items.get("type") == "array" and kind not in (None, "atomic"):
        return [invalid_value(f"{path}.x-kubernetes-list-type", kind, text)]
    if items.get("type") == "object" and map_type != "atomic":
        return [invalid_value(f"{path}.x-kubernetes-map-type", map_type, text)]
    return []


def _map_list(schema: Json, items: Json | None, keys: list[str], path: str) -> Errors:
    errors: Errors = []
    at = f"{path}.x-kubernetes-list-map-keys"
    if not keys:
        errors.append(required(at, "must not be empty if x-kubernetes-list-type is map"))
    if schema.get("items") is None:
        errors.append(required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map"))
    if items is None:
        return errors
    if items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        return [*errors, invalid_value(f"{path}.items.type", items.get("type") or "", text)]
    named = items.get("properties") or {}
    seen: set[str] = set()
    for key in keys:
        if key not in named:
            errors.append(invalid_value(at, keys, "entries must all be names of item properties"))
        elif named[key].get("type") in ("array", "object"):
            text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            errors.append(invalid_value(f"{path}.items.properties[{key}].type", items["type"], text))
        if key in seen:
            errors.append(invalid_value(at, keys, "must not contain duplicate entries"))
        seen.add(key)
    return errors


def _nullable_members(items: Json, list_type: str, keys: list[str], path: str) -> Errors:
    errors: Errors = []
    if items.get("nullable"):
        text = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        errors.append(forbidden_field(f"{path}.items.nullable", text))
    if list_type != "map":
        return errors
    needed = items.get("required") or ()
    for key in keys:
        child = (items.get("properties") or {}).get(key)
        if child is None:
            continue
        at = f"{path}.items.properties[{key}]"
        if key not in needed and child.get("default") is None:
            errors.append(required(f"{at}.default", _MAP_KEY))
        if child.get("nullable"):
            text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            errors.append(forbidden_field(f"{at}.nullable", text))
    return errors
