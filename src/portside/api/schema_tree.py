"""Schema: one node of a kind's type tree, as decoding, patches and field ownership read it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from portside.api import schema_cache

Json = dict[str, Any]
Decoder = Callable[[Any], Any]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
FORMS = {
    META + "Time": "time",
    META + "MicroTime": "microtime",
    META + "FieldsV1": "any",
    META + "Patch": "any",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intstr",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
}
ZERO = {"string": "", "integer": 0, "number": 0, "boolean": False, "byte": "", "quantity": "0", "intstr": 0}
STORED_AS_JSON = ("io.k8s.apiextensions-apiserver.", "io.k8s.kube-aggregator.")
"""Types that upstream stores as JSON: an empty list of a field that is always written stays one (elsewhere: null)."""


class Schema:
    """A type and what its place in the tree adds. ``type`` is the JSON type; ``form`` what decoding makes of it:
    struct, map, array, string, integer, number, boolean, byte, time, microtime, quantity, intstr, any, or crd."""

    __slots__ = (
        "_fast",
        "_fields",
        "_items",
        "_loading",
        "_spec",
        "_values",
        "_zero",
        "flags",
        "form",
        "format",
        "go_types",
        "key_defaults",
        "list_keys",
        "list_type",
        "map_type",
        "merge_key",
        "name",
        "ownership",
        "patch_strategy",
        "preserve_unknown",
        "required",
        "status_apart",
        "type",
    )

    def __init__(self, name: str, spec: Json, form: str) -> None:
        self.name = name
        self._spec = spec
        self.form = form
        self.type = {
            "struct": "object",
            "map": "object",
            "time": "string",
            "microtime": "string",
            "byte": "string",
        }.get(form, form)
        self.format: str = spec.get("f", "")
        self.list_type: str = spec.get("lt", "")
        self.list_keys: tuple[str, ...] = tuple(spec.get("lk", ()))
        self.map_type: str = spec.get("mt", "")
        self.merge_key: str = spec.get("mk", "")
        self.patch_strategy: str = spec.get("ps", "")
        self.required: tuple[str, ...] = tuple(spec.get("q", ()))
        self.preserve_unknown = False
        self.status_apart = True
        self.key_defaults: Json | None = None
        self.flags: dict[str, str] = {}
        self.go_types: dict[str, str] = {}
        self._fields: dict[str, Schema] | None = None
        self._zero: Json | None = None
        self._items: Schema | None = None
        self._values: Schema | None = None
        self._fast: Decoder | None = None
        self._loading = False
        self.ownership: Any = None

    def __repr__(self) -> str:
        return f"Schema({self.name or self.form})"

    @property
    def fields(self) -> dict[str, Schema]:
        """The fields of a struct, by JSON name; empty for everything else."""
        if self._fields is None:
            made: dict[str, Schema] = {}
            for name, spec in self._spec.get("p", {}).items():
                made[name] = node(spec)
                self.flags[name] = spec.get("e", "")
                if "g" in spec:
                    self.go_types[name] = spec["g"]
            if self.name == META + "ObjectMeta":
                self.flags["managedFields"] = "ek"
            self._fields = made
        return self._fields

    @property
    def items(self) -> Schema | None:
        """The element type of an array."""
        if self._items is None and "i" in self._spec:
            self._items = node(self._spec["i"])
        return self._items

    @property
    def values(self) -> Schema | None:
        """The value type of a map."""
        if self._values is None and "v" in self._spec:
            self._values = node(self._spec["v"])
        return self._values

    def child(self, name: str) -> Schema | None:
        """The type of a field of a struct, or of a map's values; None when there is no such field."""
        return self.fields.get(name) if self.form in ("struct", "crd") and self.fields else self.values

    @property
    def keeps_empty_lists(self) -> bool:
        return self.name.startswith(STORED_AS_JSON)

    @property
    def zero(self) -> Json:
        """Of a struct: the fields that are always written, as they are when nothing is set. Shared: see ``zero``."""
        if self._zero is None:
            told = ((name, self.missing(name)) for name in self.fields)
            self._zero = {name: value for name, (written, value) in told if written}
        return self._zero

    def missing(self, field: str) -> tuple[bool, Any]:
        """Whether Go writes ``field`` when it was never set, and as what."""
        child, flags = self.fields[field], self.flags.get(field, "ep")
        if "p" in flags:
            return ("e" not in flags, None)
        if (
            child.form in ("struct", "quantity", "intstr", "time", "microtime")
            or child.go_name == "runtime.RawExtension"
        ):
            return ("z" not in flags, zero(child))
        return ("e" not in flags, zero(child))

    @property
    def go_name(self) -> str:
        """``v1.Pod``: the type as Go's error texts name it."""
        parts = self.name.split(".")
        return f"{parts[-2]}.{parts[-1]}" if len(parts) > 1 else ""

    @property
    def go_type(self) -> str:
        """The type in Go's words, as far as the schema tells it (named strings are in the parent's ``go_types``)."""
        if self.form == "array":
            return "[]" + (self.items.go_type if self.items else "interface {}")
        if self.form == "map":
            return "map[string]" + (self.values.go_type if self.values else "interface {}")
        plain = {"string": "string", "boolean": "bool", "number": "float64", "byte": "[]uint8"}.get(self.form)
        if self.form == "integer":
            return self.format or "int64"
        return plain or self.go_name

    def decode(self, obj: Json) -> list[str]:
        """Prune, normalise and type-check ``obj`` in place, as a round trip through upstream's types would leave it.

        Returns the problems of strict decoding (``unknown field "spec.x"``) in the order of the document. Raises
        ApiError 400 with Go's text when a value has the wrong type.
        """
        from portside.api.schema_decode import decode

        return decode(self, obj)


def zero(schema: Schema) -> Any:
    """Go's zero value of the type, as JSON: a struct with the fields that are always written."""
    if schema.form != "struct":
        return ZERO.get(schema.form)
    kept = schema.zero
    return {name: zero(schema.fields[name]) if value.__class__ is dict else value for name, value in kept.items()}


def _form(spec: Json) -> str:
    kind = spec.get("t", "")
    if kind == "string" and spec.get("f") == "byte":
        return "byte"
    if kind == "object" or not kind:
        return "struct" if "p" in spec else "any"
    return "array" if kind == "array" else str(kind)


def node(spec: Json) -> Schema:
    """The Schema of a shrunk property: the shared one of a definition, or a copy when its place adds something."""
    if "r" not in spec:
        return Schema("", spec, _form(spec))
    base = definition(spec["r"])
    extra = {k: spec[k] for k in ("lt", "lk", "mt", "mk", "ps") if k in spec}
    if not extra:
        return base
    return Schema(base.name, base._spec | extra, base.form)


@lru_cache(maxsize=2048)
def definition(name: str) -> Schema:
    """The Schema of a definition, e.g. ``io.k8s.api.core.v1.PodSpec``. Raises KeyError for an unknown name."""
    spec = schema_cache.load()["defs"][name]
    form = FORMS.get(name) or ("struct" if spec.get("t") == "object" else _form(spec))
    return Schema(name, spec, form)


def definition_name(group: str, version: str, kind: str) -> str | None:
    """The definition of a served kind, None when there is none."""
    found: str | None = schema_cache.load()["kinds"].get(f"{group}/{version}/{kind}")
    return found
