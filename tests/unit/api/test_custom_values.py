"""Values of custom resources: what a schema refuses and in which words, what it drops, what it fills in."""

from __future__ import annotations

from typing import Any

import pytest

from portside.api.custom_defaults import compile_defaults
from portside.api.custom_embedded import duplicates
from portside.api.custom_formats import FORMATS
from portside.api.custom_old import Old
from portside.api.custom_values import Validator
from portside.api.customkind import kinds_of, version_order
from portside.api.goregexp import RegexpError, go_regexp
from portside.api.jsonpath import PathError, parse_path
from portside.api.rules.crd_schema import validate_schema
from portside.api.rules.crd_status import Taken, accept, approval
from portside.api.rules.crd_versions import selectable
from portside.api.schema_custom import prune_value

Json = dict[str, Any]
STRING, INTEGER = {"type": "string"}, {"type": "integer"}


def told(schema: Json, value: Any, old: Any = None) -> list[str]:
    before = Old(old, schema) if old is not None else None
    return [str(e) for e in Validator(schema).errors(value, before)]


def struct(**properties: Any) -> Json:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (STRING, 1, 'x: Invalid value: "integer": x in body must be of type string: "integer"'),
        (STRING, None, 'x: Invalid value: "null": x in body must be of type string: "null"'),
        (STRING | {"nullable": True}, None, ""),
        (INTEGER, 1.0, ""),
        (INTEGER, True, 'x: Invalid value: "boolean": x in body must be of type integer: "boolean"'),
        ({"type": "number"}, 3, ""),
        (STRING | {"maxLength": 2}, "äö", ""),
        (STRING | {"maxLength": 2}, "abc", "x: Too long: may not be more than 2 bytes"),
        (STRING | {"minLength": 2, "pattern": "b"}, "a", 'x: Invalid value: "a": x in body should be at least 2 chars long'),
        (INTEGER | {"maximum": 1.5}, 2, "x: Invalid value: 2: x in body should be less than or equal to 1.5"),
        (
            INTEGER | {"minimum": 0, "exclusiveMinimum": True},
            0,
            "x: Invalid value: 0: x in body should be greater than 0",
        ),
        ({"type": "number", "multipleOf": 0.1}, 0.3, ""),
        (
            STRING | {"format": "date", "enum": ["2024-01-01"]},
            "2024-02-01",
            'x: Unsupported value: "2024-02-01": supported values: "2024-01-01"',
        ),
        (STRING | {"format": "date"}, 5, 'x: Invalid value: "int64": x in body must be of type date: "int64"'),
        (STRING | {"format": "of-nothing"}, "anything", ""),
        ({"type": "array", "items": STRING, "maxItems": 1}, ["a", "b"], "x: Too many: 2: must have at most 1 item"),
        ({"type": "array", "items": INTEGER}, [1, "a"], 'x[1]: Invalid value: "string": x[1] in body must be of type integer: "string"'),
        ({"type": "object", "additionalProperties": INTEGER}, {"k": "v"}, 'x.k: Invalid value: "string": x.k in body must be of type integer: "string"'),
        (struct(y=STRING) | {"required": ["y"]}, {}, "x.y: Required value"),
        (struct(y=STRING | {"default": "d"}) | {"required": ["y"]}, {}, ""),
        ({"x-kubernetes-int-or-string": True}, "1", ""),
        (STRING | {"not": {"pattern": "b"}}, "ab", '<nil>: Invalid value: "": "x" must not validate the schema (not)'),
    ],
)  # fmt: skip
def test_a_value_is_refused_in_upstreams_words(schema: Json, value: Any, expected: str) -> None:
    assert ", ".join(told(struct(x=schema), {"x": value})) == expected


def test_of_alternatives_that_fail_the_nearest_is_told() -> None:
    choices = [{"required": ["a"]}, {"required": ["b"], "properties": {"n": {"minimum": 5}}}]
    schema = struct(a=STRING, b=STRING, n=INTEGER) | {"oneOf": choices}
    assert told(struct(s=schema), {"s": {"n": 1}}) == [
        '<nil>: Invalid value: "": "s" must validate one and only one schema (oneOf). Found none valid',
        "s.n: Invalid value: 1: s.n in body should be greater than or equal to 5",
        "s.b: Required value",
    ]


def test_what_was_wrong_before_and_did_not_change_is_spared() -> None:
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": struct(k=STRING, v=INTEGER | {"maximum": 10}),
    }
    schema = struct(e=STRING | {"enum": ["Red"]}, l=keyed, plain={"type": "array", "items": STRING | {"maxLength": 1}})
    old = {"e": "Blue", "l": [{"k": "a", "v": 99}, {"k": "b", "v": 1}], "plain": ["long"]}
    assert told(schema, {**old, "l": [{"k": "b", "v": 2}, {"k": "a", "v": 99}]}, old) == []
    assert len(told(schema, {**old, "e": "Pink"}, old)) == 1
    assert len(told(schema, {**old, "l": [{"k": "a", "v": 98}]}, old)) == 1
    assert len(told(schema, {**old, "plain": ["long", "x"]}, old)) == 1


def test_defaults_fill_what_is_absent_and_nulls_go_where_none_may_be() -> None:
    schema = struct(
        a=STRING | {"default": "d"},
        b=STRING | {"nullable": True, "default": "d"},
        c=struct(inner=INTEGER | {"default": 1}),
        gone=STRING,
        items={"type": "array", "items": struct(v=INTEGER | {"default": 2})},
        map={"type": "object", "additionalProperties": struct(v=INTEGER | {"default": 3})},
    )
    value = {"a": None, "b": None, "c": {}, "gone": None, "items": [{}, {"v": 9}], "map": {"k": {}}, "free": None}
    compile_defaults(schema)(value)
    assert value == {
        "a": "d",
        "b": None,
        "c": {"inner": 1},
        "items": [{"v": 2}, {"v": 9}],
        "map": {"k": {"v": 3}},
        "free": None,
    }


def test_pruning_keeps_what_is_named_and_what_is_free() -> None:
    schema = struct(
        keep={"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"k": struct(x=INTEGER)}},
        wrong=STRING,
    )
    value = {"keep": {"other": {"deep": 1}, "k": {"x": 1, "y": 2}}, "wrong": {"a": 1}, "unknown": 1}
    assert prune_value(schema, value, root=False) == {"keep": {"other": {"deep": 1}, "k": {"x": 1}}, "wrong": {}}


def test_members_of_sets_and_keyed_lists_come_once() -> None:
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "proto"],
        "items": struct(port=INTEGER, proto=STRING),
    }
    schema = struct(set={"type": "array", "items": STRING, "x-kubernetes-list-type": "set"}, ports=keyed)
    value = {"set": ["a", "b", "a", "a"], "ports": [{"port": 1, "proto": "x"}, {"proto": "x", "port": 1, "more": 2}]}
    assert [str(e) for e in duplicates(schema, value)] == [
        'ports[1]: Duplicate value: {"port":1,"proto":"x"}',
        'set[2]: Duplicate value: "a"',
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-01-01T00:00:00.5+02:00", "2024-01-01 00:00"),
        ("duration", "5 minutes maybe", "soon"),
        ("email", "a@example.com", "nobody"),
        ("ipv6", "fd00::1", "1.2.3.4"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("uuid4", "9b0c5b1e-6a9e-4f3a-8d57-0d6f4a0b7c11", "9b0c5b1e-6a9e-1f3a-8d57-0d6f4a0b7c11"),
        ("hostname", "h.example.com", "-a-."),
        ("isbn", "9780306406157", "9780306406158"),
        ("k8s-long-name", "a.b", "A.b"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    assert FORMATS[name](good) and not FORMATS[name](bad)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("(?=x)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?<!x)", "invalid or unsupported Perl syntax: `(?<!`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("[a", "missing closing ]: `[a`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
    ],
)
def test_patterns_that_go_refuses(pattern: str, problem: str) -> None:
    with pytest.raises(RegexpError) as refused:
        go_regexp(pattern)
    assert str(refused.value) == f"error parsing regexp: {problem}"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^a$", "a\n", False),
        ("(?m)^b$", "a\nb\nc", True),
        (r"^[[:alpha:]]+\z", "abc", True),
        (r"^\Qa.b\E$", "a.b", True),
        ("x(?i)y", "xY", True),
        (r"^\d+$", "١", False),
        (r"^\p{L}+$", "ä", True),
    ],
)
def test_patterns_mean_what_they_mean_in_go(pattern: str, text: str, found: bool) -> None:
    assert bool(go_regexp(pattern).search(text)) is found


def test_paths_of_columns() -> None:
    obj = {"a": {"b/c": 1, "l": [{"n": "x", "p": 1}, {"n": "y", "p": 2}]}}
    for path, found in {
        ".a.b/c": [1],
        ".a['b/c']": [1],
        ".a.l[1].p": [2],
        ".a.l[-1].p": [2],
        ".a.l[*].p": [1, 2],
        '.a.l[?(@.n=="y")].p': [2],
        ".a.l[0:1].n": ["x"],
        "..p": [1, 2],
        ".no.such": [],
    }.items():
        assert parse_path(path)(obj) == found, path
    with pytest.raises(PathError):
        parse_path(".a[")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (struct(a={}), "s.properties[a].type: Required value: must not be empty for specified object fields"),
        (struct(a={"type": "array"}), "s.properties[a].items: Required value: must be specified"),
        (
            struct(a=STRING) | {"anyOf": [{"properties": {"b": {"minLength": 1}}}]},
            "s.properties[b]: Required value: because it is defined in s.anyOf[0].properties[b]",
        ),
        (
            struct(a=STRING | {"allOf": [{"type": "string"}]}),
            "s.properties[a].allOf[0].type: Forbidden: must be empty to be structural",
        ),
        (struct(a=INTEGER | {"default": "x"}), 's.properties[a].default: Invalid value: "string":  in body must be of type integer: "string"'),
        ({"type": "object", "nullable": True}, "s.nullable: Forbidden: nullable cannot be true at the root"),
        (
            struct(a={"type": "array", "items": STRING | {"nullable": True}, "x-kubernetes-list-type": "set"}),
            "s.properties[a].items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set",
        ),
    ],
)  # fmt: skip
def test_schemas_that_are_refused(schema: Json, problem: str) -> None:
    assert [str(e) for e in validate_schema(schema, "s")] == [problem]


def test_selectable_fields_are_scalars_that_exist() -> None:
    schema = struct(spec=struct(a=STRING, o={"type": "object"}))
    paths = (".spec.a", ".spec.o", ".spec.zz", ".metadata.name", ".spec.a")
    found = [str(e) for e in selectable([{"jsonPath": p} for p in paths], schema, "f")]
    assert found[0].startswith(
        'f[1]: Invalid value: ".spec.o": must point to a field of type string, boolean or integer'
    )
    assert found[1].startswith('f[2].jsonPath: Invalid value: ".spec.zz": is an invalid path')
    assert found[2:] == [
        'f[3]: Invalid value: ".metadata.name": must not point to fields in metadata',
        'f[4]: Duplicate value: ".spec.a"',
    ]


def test_versions_are_preferred_by_stability_then_age() -> None:
    names = ["v1alpha1", "v10", "foo", "v2", "v1beta2", "v1", "v2beta1"]
    assert sorted(names, key=version_order) == ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]


def test_a_definition_has_rows_only_once_its_names_are_accepted() -> None:
    crd: Json = {
        "metadata": {"name": "ws.ex.io"},
        "spec": {
            "group": "ex.io",
            "scope": "Cluster",
            "names": {"plural": "ws", "kind": "W"},
            "versions": [{"name": "v1beta1", "served": True, "deprecated": True}, {"name": "v1", "served": True, "storage": True}],
        },
        "status": {},
    }  # fmt: skip
    assert kinds_of(crd) == []
    crd["status"] = {
        "acceptedNames": {"plural": "ws", "kind": "W", "singular": "w", "listKind": "Ws"},
        "conditions": [{"type": "NamesAccepted", "status": "True"}],
    }
    first, second = kinds_of(crd)
    assert (first.version, first.storage, first.list_kind, first.singular) == ("v1", True, "Ws", "w")
    assert second.warning == "ex.io/v1beta1 W is deprecated; use ex.io/v1 W"


def test_names_in_use_are_not_accepted_and_the_rest_is() -> None:
    taken = Taken([{"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}])
    wanted = {
        "plural": "things",
        "singular": "thing",
        "kind": "Widget",
        "listKind": "ThingList",
        "shortNames": ["widgets"],
    }
    made, reason, message = accept(wanted, {}, taken)
    assert made == {"plural": "things", "singular": "thing", "listKind": "ThingList"}
    assert (reason, message) == ("KindConflict", '"Widget" is already in use')


def test_approval_of_protected_groups() -> None:
    assert approval(None)[0] == "missing"
    assert approval({"api-approved.kubernetes.io": "unapproved, a test"})[0] == "bypassed"
    assert approval({"api-approved.kubernetes.io": "https://example.com/pull/1"})[0] == "approved"
    assert approval({"api-approved.kubernetes.io": "sure"})[0] == "invalid"
