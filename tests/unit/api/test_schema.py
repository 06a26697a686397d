"""Bodies become objects as a round trip through upstream's types leaves them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from portside.api import schema_cache, schema_strict
from portside.api.kinds import KINDS
from portside.api.schema import (
    definition,
    in_order,
    parse_json,
    parse_yaml,
    schema_for,
    schema_from_crd,
    schema_of,
    strict_text,
    zero,
)
from portside.api.status import ApiError

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
POD = schema_of("", "v1", "Pod")
MAP = schema_of("", "v1", "ConfigMap")


def decoded(group: str, version: str, kind: str, obj: Any) -> Any:
    made = copy.deepcopy(obj)
    assert schema_of(group, version, kind).decode(made) == []
    return made


def refusal(raw: bytes, kind: str = "Pod", group: str = "") -> str:
    value, _ = parse_json(raw)
    with pytest.raises(ApiError) as caught:
        schema_of(group, "v1", kind).decode(value)
    assert caught.value.code == 400
    return caught.value.message


def test_every_served_kind_has_a_schema_and_decodes_its_own_zero() -> None:
    for kind in KINDS:
        schema = schema_for(kind)
        made = zero(schema)
        again = copy.deepcopy(made)
        assert schema.decode(again) == []
        assert again == made, kind.kind


def test_nulls_and_empty_values_go_where_go_leaves_them_out() -> None:
    pod = {
        "metadata": {"name": "p", "labels": None, "annotations": {}, "finalizers": []},
        "spec": {"nodeSelector": None, "hostNetwork": False, "priority": 0, "hostname": "", "containers": [None]},
    }
    assert decoded("", "v1", "Pod", pod) == {
        "metadata": {"name": "p"},
        "spec": {"priority": 0, "containers": [{"name": "", "resources": {}}]},
        "status": {},
    }


def test_fields_that_are_always_written_come_back_when_left_out() -> None:
    role = decoded("rbac.authorization.k8s.io", "v1", "Role", {"metadata": {"name": "r"}, "rules": []})
    assert role["rules"] is None
    event = decoded("", "v1", "Event", {"metadata": {}, "involvedObject": {}})
    assert event["reportingComponent"] == "" and event["eventTime"] is None and event["source"] == {}


def test_null_in_a_map_of_texts_is_an_empty_text() -> None:
    assert decoded("", "v1", "ConfigMap", {"data": {"k": None}})["data"] == {"k": ""}


def test_quantities_are_canonical_and_times_in_utc() -> None:
    spec = {"containers": [{"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x.y/z": "1e9"}}}]}
    pod = decoded("", "v1", "Pod", {"metadata": {"creationTimestamp": "2020-01-01T02:00:00.5+02:00"}, "spec": spec})
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi", "x.y/z": "1e9"}
    assert pod["metadata"]["creationTimestamp"] == "2020-01-01T00:00:00Z"


def test_an_empty_list_of_managers_stays_because_it_means_forget_them() -> None:
    assert decoded("", "v1", "ConfigMap", {"metadata": {"managedFields": []}})["metadata"] == {"managedFields": []}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            b'{"spec":{"terminationGracePeriodSeconds":"30"}}',
            "json: cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            b'{"spec":{"containers":[{"name":"c","env":[{"name":"a","value":1}]}]}}',
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            b'{"spec":{"containers":[{"ports":[{"protocol":1}]}]}}',
            "json: cannot unmarshal number into Go struct field ContainerPort.spec.containers.ports.protocol of type v1.Protocol",
        ),
        (
            b'{"spec":{"containers":{"name":"c"}}}',
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            b'{"metadata":{"labels":["a"]}}',
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            b'{"spec":{"hostNetwork":"true"}}',
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            b'{"spec":{"priority":99999999999}}',
            "json: cannot unmarshal number 99999999999 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            b'{"spec":{"priority":1.5}}',
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            b'{"metadata":{"creationTimestamp":"yesterday"}}',
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"',
        ),
        (
            b'{"metadata":{"creationTimestamp":"0001-01-01T00:00:00+01:00"}}',
            'parsing time "0001-01-01T00:00:00+01:00": year out of range',
        ),
        (
            b'{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}',
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ],
)
def test_wrong_types_are_refused_in_gos_words(raw: bytes, text: str) -> None:
    assert refusal(raw) == text


@pytest.mark.parametrize(
    ("text", "at"),
    [("not base64!", 3), ("abc", 0), ("YWJjZ", 4), ("YWJjZGVm=", 8), ("YW=j", 2), ("YW=", 3), ("YWI=YWI=", 4)],
)
def test_base64_is_checked_as_gos_decoder_does(text: str, at: int) -> None:
    raw = json.dumps({"data": {"a": text}}).encode()
    assert refusal(raw, "Secret") == f"illegal base64 data at input byte {at}"


def test_unknown_fields_are_told_in_order_and_dropped() -> None:
    value, _ = parse_json(b'{"zz":1,"metadata":{"label":{}},"spec":{"containers":[{"name":"c","imagee":1}]}}')
    assert POD.decode(value) == [
        'unknown field "zz"',
        'unknown field "metadata.label"',
        'unknown field "spec.containers[0].imagee"',
    ]
    assert value == {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}, "status": {}}


def test_duplicates_and_unknown_fields_are_told_as_one_pass_meets_them() -> None:
    raw = b'{"kind":"ConfigMap","zzz":1,"data":{"k":"1","k":"2"},"aaa":{"x":1,"x":2},"data" : {"l":"3"}}'
    value, duplicate = parse_json(raw)
    value = duplicate.typed  # type: ignore[attr-defined]
    unknown = MAP.decode(value)
    assert value["data"] == {"k": "2", "l": "3"}
    assert strict_text(duplicate, unknown) == (
        'strict decoding error: unknown field "zzz", duplicate field "data.k", unknown field "aaa", duplicate field "data"'
    )
    assert in_order([], unknown) == unknown


def test_text_that_looks_like_keys_is_no_duplicate() -> None:
    raw = b'{"data": {"a": "x\\":1,\\"a\\":2", "b\\u0022": "y"}}'
    assert parse_json(raw)[1] == []


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"a":', "unexpected end of JSON input"),
        (b"", "unexpected end of JSON input"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"{} {}", "invalid character '{' after top-level value"),
        (b'{"x":007}', "invalid character '0' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[" * 20000 + b"]" * 20000, "exceeded max depth"),
        (b"[" * 400 + b"]" * 400, "exceeded max depth"),
    ],
)
def test_broken_json_is_refused_in_gos_words(raw: bytes, text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_json(raw)
    assert (caught.value.code, caught.value.message) == (400, text)


def test_nesting_of_two_hundred_is_read() -> None:
    raw = b"[" * 200 + b"]" * 200
    assert parse_json(raw)[0] == parse_yaml(raw)[0]


def test_yaml_is_read_as_version_1_1_reads_it() -> None:
    text = b"a: y\nb: 0777\nc: 1_000\nd: 2001-01-01\ne: 1.0\nf: 1:30\n1: on\ng: 'no'\nh: ~\ni: &x {k: 1}\nj: {<<: *x, l: 2}\n"
    assert parse_yaml(text)[0] == {
        "a": True, "b": 511, "c": 1000, "d": "2001-01-01", "e": 1, "f": "1:30", "1": True, "g": "no", "h": None,
        "i": {"k": 1}, "j": {"k": 1, "l": 2},
    }  # fmt: skip


def test_yaml_tells_duplicate_keys_with_their_line() -> None:
    value, duplicate = parse_yaml(b"data:\n  k: a\n  k: b\n")
    assert value == {"data": {"k": "b"}}
    assert duplicate == ['line 3: key "k" already set in map']
    assert strict_text(duplicate, []) == (
        'strict decoding error: yaml: unmarshal errors:\n  line 3: key "k" already set in map'
    )


def test_a_yaml_bomb_and_a_loop_are_refused() -> None:
    layers = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True))
    for text in (f"a: &a [x,x,x,x,x,x,x,x,x]\n{layers}", "a: &a [*a]"):
        with pytest.raises(ApiError) as caught:
            parse_yaml(text.encode())
        assert caught.value.code == 400
    with pytest.raises(ApiError):
        parse_yaml(b"a: [")


def test_custom_resources_are_pruned_but_keep_nulls() -> None:
    schema = schema_from_crd(
        {
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "n": {"type": "integer"},
                        "keep": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        "list": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
                    },
                }
            },
        }
    )
    obj = {
        "metadata": {"name": "a", "nope": 1},
        "spec": {"zz": 1, "n": 2.0, "keep": {"any": [1e3, -0.0]}, "list": [{"u": 1, "x": None}]},
    }
    assert schema.decode(obj) == [
        'unknown field "metadata.nope"',
        'unknown field "spec.list[0].u"',
        'unknown field "spec.zz"',
    ]
    assert obj == {"metadata": {"name": "a"}, "spec": {"n": 2, "keep": {"any": [1000, 0]}, "list": [{"x": None}]}}


def test_the_cache_is_rebuilt_when_it_is_broken(tmp_path: Path) -> None:
    path = schema_cache.cache_path(str(tmp_path))
    path.write_bytes(b"rubbish")
    schema_cache.load.cache_clear()
    try:
        assert schema_cache.load(str(tmp_path))["kinds"]["/v1/Pod"] == "io.k8s.api.core.v1.Pod"
        assert path.stat().st_size > 1000
    finally:
        schema_cache.load.cache_clear()


def test_option_kinds_and_merge_facts() -> None:
    assert definition("DeleteOptions").child("propagationPolicy") is not None
    containers = definition("io.k8s.api.core.v1.PodSpec").child("containers")
    assert containers is not None
    assert (containers.list_type, containers.list_keys, containers.merge_key) == ("map", ("name",), "name")
    assert "strategicpatch" not in schema_cache.raw_definition("io.k8s.api.core.v1.Pod")


def _times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _times(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_times(v) for v in value]
    return (
        {"<time>": "2020-01-01T00:00:00Z", "<microtime>": "2020-01-01T00:00:00.000000Z"}.get(value, value)
        if isinstance(value, str)
        else value
    )


@pytest.mark.skipif(not GOLDEN.exists(), reason="../shared/golden is not there")
def test_recorded_objects_come_through_unchanged() -> None:
    """What upstream answered is a fixed point, apart from status, which some recordings leave out."""
    checked = 0
    for file in GOLDEN.glob("*/*.answers.json"):
        for step in json.loads(file.read_text()):
            body = step.get("body")
            if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
                continue
            group, _, version = str(body.get("apiVersion")).rpartition("/")
            kind = str(body.get("kind"))
            text = json.dumps(body)
            if (
                kind in ("Status", "Table", "Scale")
                or kind.endswith("List")
                or '"<port>"' in text
                or "<nodeport>" in text
            ):
                continue
            try:
                schema = schema_of(group, version, kind)
            except KeyError:
                continue
            want = _times(body)
            got = copy.deepcopy(want)
            try:
                assert schema_strict.decode(schema, got) == []
            except ApiError as error:
                assert "Port" in error.message
                continue
            got.pop("status", None)
            if "spec" in want and "metadata" in want and "uid" in want["metadata"]:
                checked += 1
                assert {k: v for k, v in want.items() if k not in ("status", "spec")} == {
                    k: v for k, v in got.items() if k not in ("status", "spec")
                }, (file.name, step["step"])
    assert checked > 100
