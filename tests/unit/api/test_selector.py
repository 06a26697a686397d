"""Selectors: what matches, and the words of each refusal."""

from __future__ import annotations

import pytest

from portside.api.selector import format_object, from_object, parse_fields, parse_labels, validate_object
from portside.api.status import ApiError


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a in (b, c),d", {"a": "c", "d": ""}, True),
        (" a notin ( b ) , !x ", {"a": "b"}, False),
        ("!a", {"a": ""}, False),
        ("n>7", {"n": "10"}, True),
        ("n<7", {"n": "x"}, False),
        ("e in (,x)", {"e": ""}, True),
        ("in in (in)", {"in": "in"}, True),
        ("e=", {"e": ""}, True),
    ],
)
def test_label_query(text: str, labels: dict[str, str], expected: bool) -> None:
    assert parse_labels(text).matches(labels) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("a=x,", "found '', expected: identifier after ','"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("t in", "unable to parse requirement: found '' expected: '('"),
        ("t in (w", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("l in red", "unable to parse requirement: found 'red' expected: '('"),
        (
            "n>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, "
            "the value must be an integer",
        ),
    ],
)
def test_label_query_refused(text: str, message: str) -> None:
    with pytest.raises(ApiError) as error:
        parse_labels(text)
    assert error.value.message == message and error.value.code == 400


def test_field_query() -> None:
    pod = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"hostNetwork": True}, "status": {"phase": "Running"}}
    assert parse_fields("metadata.name=a,status.phase!=Failed,spec.nodeName=,spec.hostNetwork=true", "", "Pod").matches(
        pod
    )
    assert parse_fields("metadata.name=a", "", "Pod").exact("metadata.name") == "a"
    assert not parse_fields("spec.color=red", custom=("spec.color",)).matches({"spec": {"color": "blue"}})


@pytest.mark.parametrize(
    ("text", "group", "kind", "message"),
    [
        ("metadata.name", "", "Secret", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name in (a,b)", "", "Secret", "invalid selector: 'metadata.name in (a,b)'; can't understand 'b)'"),
        ("metadata.name=a=b", "", "Secret", "invalid field selector: unescaped character in value: 61"),
        ("data.k=v", "", "Secret", "field label not supported: data.k"),
        (
            "x=v",
            "",
            "ConfigMap",
            '"x" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("status.active=0", "batch", "Job", 'field label "status.active" not supported for Job'),
    ],
)
def test_field_query_refused(text: str, group: str, kind: str, message: str) -> None:
    with pytest.raises(ApiError) as error:
        parse_fields(text, group, kind)
    assert error.value.message == message


def test_object_selectors() -> None:
    selector = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["y", "x"]}],
    }
    assert format_object(selector) == "a=1,c notin (x,y)"
    assert from_object(None).nothing and from_object({}).everything
    bad = {"matchExpressions": [{"key": "", "operator": "In"}, {"key": "k", "operator": "Is"}]}
    assert [e.field for e in validate_object(bad, "s")][:2] == [
        "s.matchExpressions[0].values",
        "s.matchExpressions[0].key",
    ]
