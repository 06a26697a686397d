"""Objects in protobuf: whatever is written is read back the same."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portside.api import protobuf, protobuf_encode
from portside.api.kinds import KINDS
from portside.api.protobuf import LISTS, SPECIAL, UNIONS, _table
from portside.api.schema_cache import load
from portside.api.status import ApiError

Json = dict[str, Any]
# Kinds that are never listed have no message of a list.
KINDS_BY_NAME = {f"{k.api_version} {k.kind}": k for k in KINDS}
DEPTH = 3

_SPECIAL: dict[str, Any] = {
    "meta.v1.Time": st.integers(0, 2**32).map(lambda s: protobuf._time(b"\x08" + protobuf_encode._varint(s), False)),
    "meta.v1.MicroTime": st.just("2026-01-02T03:04:05.000006Z"),
    "meta.v1.Duration": st.just("90s"),
    "meta.v1.FieldsV1": st.just({"f:metadata": {".": {}}}),
    "api.resource.Quantity": st.sampled_from(["100m", "1Gi", "0"]),
    "api.resource.QuantityValue": st.sampled_from(["5", "2k"]),
    "util.intstr.IntOrString": st.one_of(st.integers(-5, 70000), st.sampled_from(["http", "25%", ""])),
    "pkg.runtime.RawExtension": st.just({"apiVersion": "x/v1", "kind": "Y", "z": [1, None]}),
    "apiextensions.v1.JSON": st.sampled_from([{"a": 1}, [1], "t", 3, False]),
}
_SCALARS: dict[str, Any] = {
    "string": st.text(max_size=8),
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "bytes": st.binary(max_size=8).map(lambda b: base64.b64encode(b).decode()),
}


def _value(kind: str, depth: int) -> Any:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind in _SPECIAL:
        return _SPECIAL[kind]
    if kind.endswith(LISTS):
        return st.lists(_SCALARS["string"], min_size=1, max_size=2)
    if kind in UNIONS:
        return st.nothing()
    return _message(kind, depth + 1)


@cache
def _message(name: str, depth: int) -> Any:
    """Any object of a message: some of its fields, empty lists and maps left out as Go leaves them out."""
    if name not in _table():
        return st.nothing()
    optional: dict[str, Any] = {}
    for _, field, kind, shape in _table()[name]:
        if (depth >= DEPTH and "." in kind and kind not in _SPECIAL) or kind in UNIONS:
            continue
        if not field:
            for _, inner, inner_kind, inner_shape in _table()[kind]:
                if inner and not inner_shape and ("." not in inner_kind or depth < DEPTH):
                    optional[inner] = _value(inner_kind, depth)
            continue
        value = _value(kind, depth)
        if shape == "repeated":
            value = st.lists(value, min_size=1, max_size=2)
        elif shape == "map":
            value = st.dictionaries(st.text(max_size=4), value, min_size=1, max_size=2)
        optional[field] = value
    return st.fixed_dictionaries({}, optional=optional)


@pytest.mark.parametrize("name", KINDS_BY_NAME)
@settings(max_examples=6)
@given(data=st.data())
def test_what_is_written_is_read_back(name: str, data: st.DataObject) -> None:
    kind = KINDS_BY_NAME[name]
    head = {"apiVersion": kind.api_version, "kind": kind.kind}
    obj = head | data.draw(_message(protobuf.message_of(kind.api_version, kind.kind), 0)) | head
    assert protobuf.decode(protobuf_encode.encode(obj)) == obj


# Alpha, switched off, and not in the published table.
UNPUBLISHED = "scheduling.v1alpha3.WorkloadPodGroup"


def _fields(message: str) -> dict[str, str]:
    """The fields of a message and of those within it that JSON does not show, each with its type."""
    found: dict[str, str] = {}
    for _, field, kind, _ in _table()[message]:
        found |= {field: kind} if field else _fields(kind)
    return found


def _unwritten(definition: str, message: str, place: str, seen: set[tuple[str, str]]) -> list[str]:
    """Fields of the schema that the message does not have: a client that reads and writes back would lose them."""
    if (definition, message) in seen or message in SPECIAL or message in UNIONS or message.endswith(LISTS):
        return []
    seen.add((definition, message))
    if message.startswith(UNPUBLISHED):
        return []
    known, lost = _fields(message), []
    for name, prop in (load()["defs"][definition].get("p") or {}).items():
        if name not in known:
            lost += [] if name in ("apiVersion", "kind") else [f"{place}.{name}"]
            continue
        inner = prop.get("r") or (prop.get("i") or {}).get("r") or (prop.get("v") or {}).get("r")
        if inner and "." in known[name] and load()["defs"].get(inner, {}).get("p"):
            lost += _unwritten(inner, known[name], f"{place}.{name}", seen)
    return lost


def test_every_field_of_every_kind_has_its_number() -> None:
    seen: set[tuple[str, str]] = set()
    lost = []
    for kind in KINDS:
        definition = load()["kinds"].get(f"{kind.group}/{kind.version}/{kind.kind}")
        if definition is not None:
            lost += _unwritten(definition, protobuf.message_of(kind.api_version, kind.kind), kind.kind, seen)
    assert lost == []
    assert len(seen) > 400


def test_a_list_of_items_is_the_same_as_the_list_encoded() -> None:
    items = [{"metadata": {"name": "a"}, "data": {"k": "v"}}, {"metadata": {"name": "b"}}]
    meta = {"resourceVersion": "7"}
    whole = {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": meta, "items": items}
    some = [protobuf_encode.list_items("v1", "ConfigMap", [item]) for item in items]
    head = protobuf_encode.list_head("v1", "ConfigMap", meta, sum(map(len, some)))
    made = head + b"".join(some) + protobuf_encode.list_tail()
    assert made == protobuf_encode.encode(whole)
    assert protobuf.decode(made) == whole


def test_schemas_with_all_their_unions_come_back() -> None:
    schema = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"type": "string"}},
            "free": {"type": "object", "additionalProperties": True, "x-kubernetes-preserve-unknown-fields": True},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "default": 3}},
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "xs", "kind": "X"}
    spec = {"group": "g.example", "names": names, "scope": "Namespaced", "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    back = protobuf.decode(protobuf_encode.encode(crd))
    assert back["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["list"]["items"] == {"type": "string"}
    shown = back["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["map"]
    assert shown["additionalProperties"] == {"type": "integer", "default": 3}


def test_a_status_is_told_in_its_envelope() -> None:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404}
    raw = protobuf_encode.encode(status)
    assert raw.startswith(protobuf.MAGIC)
    assert protobuf.decode(raw) == status | {"metadata": protobuf_encode.LIST_META}


def test_a_watch_event_is_framed_by_its_length() -> None:
    frame = protobuf_encode.encode_event("ADDED", b"abc")
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert set(_SPECIAL) == set(SPECIAL)


def test_owned_fields_are_told_in_order() -> None:
    """A Go client that reads an object as JSON and as protobuf holds both for equal only when their bytes are."""
    fields = {"f:spec": {"f:b": {}, "f:a": {}, ".": {}}, "f:metadata": {}}
    entry = {"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": fields}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [entry]}}
    assert b'{"f:metadata":{},"f:spec":{".":{},"f:a":{},"f:b":{}}}' in protobuf_encode.encode(made)


def test_times_of_any_year_are_read_and_those_beyond_are_refused() -> None:
    """Go's zero time and its neighbours have four digits of a year; what no time can be is the client's mistake."""
    head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    early = head | {"spec": {"acquireTime": "0001-01-01T00:00:02.000000Z"}}
    made = protobuf_encode.encode(early)
    assert protobuf.decode(made) == early
    seconds = protobuf_encode._varint(2**64 - 62135596798)
    assert made.count(seconds) == 1 and len(seconds) == 10
    beyond = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00"  # the largest number
    for number in (beyond[:9] + b"\x10", b"\x80" * 6 + b"\x80\x80\x01\x10"):
        with pytest.raises(ApiError) as refused:
            protobuf.decode(made.replace(seconds, number))
        assert refused.value.code == 400
