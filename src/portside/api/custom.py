"""One version of a custom resource, compiled once per state of its definition: schema, defaults, checks, rules.

The order of checks is upstream's: type, metadata, values, scale, embedded resources, lists, CEL rules.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cached_property
from typing import Any

from portside.api.custom_defaults import compile_defaults
from portside.api.custom_embedded import duplicates, embedded, has_embedded, has_lists
from portside.api.custom_old import GONE, Old
from portside.api.custom_rules import compile_rules, validate_rules
from portside.api.custom_values import ROOTLESS, Validator
from portside.api.customkind import CustomKind
from portside.api.field import FieldError, invalid_value
from portside.api.jsonpath import at_path
from portside.api.rules.registry import Context, Rules, SubRules
from portside.api.schema_custom import schema_from_crd
from portside.api.schema_tree import Schema
from portside.api.status import invalid

Json = dict[str, Any]
Errors = list[FieldError]
BLOCKING = frozenset(
    ("FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid", "FieldValueNotSupported")
)
UNCHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)
INT32 = 2**31 - 1
ABSENT: Any = object()


class Custom:
    """``published`` is the version's openAPIV3Schema. Everything is made when first needed."""

    def __init__(self, kind: CustomKind, published: Json) -> None:
        self.kind = kind
        self.published = published
        self.status_apart = kind.sub("status") is not None

    @cached_property
    def schema(self) -> Schema:
        return schema_from_crd(self.published, status_apart=self.status_apart)

    @cached_property
    def fill(self) -> Any:
        """Fills in defaults; see ``compile_defaults``."""
        return compile_defaults(self.published)

    @cached_property
    def _validator(self) -> Validator:
        return Validator(self.published)

    @cached_property
    def _status_validator(self) -> Validator:
        return Validator((self.published.get("properties") or {}).get("status") or {})

    @cached_property
    def _lists(self) -> bool:
        return has_lists(self.published)

    @cached_property
    def _embedded(self) -> bool:
        return has_embedded(self.published)

    @cached_property
    def _rules(self) -> Any:
        return compile_rules(self.published)

    @cached_property
    def rules(self) -> Rules:
        """What the generic engine asks of a kind."""
        return Rules(
            self.kind,
            default=self.fill,
            prepare_create=self._begin,
            prepare_update=self._next,
            validate=self._validate,
            validate_update=self._validate_update,
            warnings=_finalizer_warnings,
            subresources={"status": SubRules(self._only_status, self._validate_status)} if self.status_apart else {},
            status=self.status_apart,
            unconditional_update=False,
            any_finalizer=True,
        )

    def coerce(self, obj: Json) -> list[str]:
        """Prune in place; the unknown fields."""
        return self.schema.decode(obj)

    # --- preparation -----------------------------------------------------------------------------------------------

    def _begin(self, obj: Json, ctx: Context) -> None:
        obj["metadata"]["generation"] = 1

    def _next(self, obj: Json, old: Json, ctx: Context) -> None:
        """Anything that differs outside of metadata is a new generation."""
        if {k: v for k, v in obj.items() if k != "metadata"} != {k: v for k, v in old.items() if k != "metadata"}:
            obj["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1

    def _only_status(self, obj: Json, old: Json, ctx: Context) -> None:
        """A status write changes status and the record of who owns it, nothing else."""
        status, fields = obj.get("status", ABSENT), obj["metadata"].get("managedFields")
        obj.clear()
        obj.update(deepcopy(old))
        obj["metadata"].pop("managedFields", None)
        if fields:
            obj["metadata"]["managedFields"] = fields
        obj.pop("status", None)
        if status is not ABSENT:
            obj["status"] = status

    # --- checks ----------------------------------------------------------------------------------------------------

    def _check_type(self, obj: Json) -> None:
        """Raises 422 as the kind the object says it is, as upstream does."""
        errors: Errors = []
        version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
        if kind != self.kind.kind:
            errors.append(invalid_value("kind", kind, f"must be {self.kind.kind}"))
        if version != self.kind.api_version:
            errors.append(invalid_value("apiVersion", version, f"must be {self.kind.api_version}"))
        if errors:
            raise invalid(str(kind), str(obj["metadata"].get("name") or ""), errors, str(version).rpartition("/")[0])

    def _validate(self, obj: Json, ctx: Context) -> Errors:
        self._check_type(obj)
        errors = self._validator.errors(obj) + self._scale_errors(obj) + self._extension_errors(obj, None)
        return errors + self._rule_errors(errors, obj, None, ctx)

    def _validate_update(self, obj: Json, old: Json, ctx: Context) -> Errors:
        self._check_type(obj)
        errors = self._validator.errors(obj, Old(old, self.published))
        errors += self._scale_errors(obj) + self._extension_errors(obj, old)
        return errors + self._rule_errors(errors, obj, old, ctx)

    def _validate_status(self, obj: Json, old: Json, ctx: Context) -> Errors:
        errors: Errors = []
        if "status" in obj:
            schema = (self.published.get("properties") or {}).get("status")
            before = Old(old.get("status", GONE), schema)
            errors = self._status_validator.errors(obj["status"], before, "status")
        errors += self._scale_errors(obj, of_status=True) + self._extension_errors(obj, old)
        return errors + self._rule_errors(errors, obj, old, ctx)

    def _extension_errors(self, obj: Json, old: Json | None) -> Errors:
        errors: Errors = []
        if self._embedded:
            errors += embedded(self.published, obj)
        twice = duplicates(self.published, obj) if self._lists else []
        # An object that had duplicates before may keep them.
        return errors if twice and old is not None and duplicates(self.published, old) else errors + twice

    def _rule_errors(self, errors: Errors, obj: Json, old: Json | None, ctx: Context) -> Errors:
        if self._rules is None:
            return []
        if any(e.reason in BLOCKING for e in errors):
            return [invalid_value(ROOTLESS, None, UNCHECKED)]
        found, warnings = validate_rules(self._rules, obj, old, "")
        ctx.warnings.extend(warnings)
        return found

    def _scale_errors(self, obj: Json, *, of_status: bool = False) -> Errors:
        if self.kind.scale is None:
            return []
        spec, status, _ = self.kind.scale
        errors = [] if of_status else _count_errors(obj, spec)
        return errors + _count_errors(obj, status)


def _count_errors(obj: Json, path: str) -> Errors:
    """A number of replicas is a whole number that an int32 holds."""
    value = at_path(obj, path)
    if value is None:
        return []
    if isinstance(value, bool) or not isinstance(value, int):
        kind = {str: "string", float: "float64", bool: "bool"}.get(type(value), "map[string]interface {}")
        text = f"{path} accessor error: {value} is of the type {kind}, expected int64"
        return [invalid_value(path, value, text)]
    if value < 0:
        return [invalid_value(path, value, "should be a non-negative integer")]
    if value > INT32:
        return [invalid_value(path, value, f"should be less than or equal to {INT32}")]
    return []


def _finalizer_warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    """Finalizers that others could choose too."""
    known = set((old or {}).get("metadata", {}).get("finalizers") or ())
    return [
        f'metadata.finalizers: "{f}": prefer a domain-qualified finalizer name including a path (/) to avoid accidental '
        "conflicts with other finalizer writers"
        for f in obj["metadata"].get("finalizers") or ()
        if f not in known and "/" not in f and f not in ("orphan", "foregroundDeletion")
    ]
