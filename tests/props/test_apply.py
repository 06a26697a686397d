"""Sentences that hold for every object: decoding, field sets and server-side apply."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from portside.api import managed, schema_decode, schema_strict
from portside.api import managed_sets as sets
from portside.api.schema import parse_json, schema_of
from portside.api.status import ApiError

MAP, POD = schema_of("", "v1", "ConfigMap"), schema_of("", "v1", "Pod")
NOW = "2026-01-01T00:00:00Z"
names = st.sampled_from(["a", "b", "c", "d"])
values = st.sampled_from(["1", "2"])
data = st.dictionaries(names, values, max_size=4)
managers = st.sampled_from(["m1", "m2", "m3"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text("ab1.", max_size=3))
fields = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", 'v:"x"', "."]), inner, max_size=3),
    max_leaves=8,
)


def _clean(node: Any) -> Any:
    """A drawn set in its proper form: the mark of a member is a leaf, and only below the top."""
    return {k: {} if k == "." else _clean(v) for k, v in node.items()}


trees = fields.map(_clean).map(lambda n: {k: v for k, v in n.items() if k != "."})


def config(content: dict[str, str]) -> dict[str, Any]:
    """Without ``data`` when there is none: an empty map is a field of its own."""
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    return made | {"data": dict(content)} if content else made


def apply(live: Any, content: dict[str, str], manager: str, force: bool = True) -> Any:
    return managed.apply(
        copy.deepcopy(live), config(content), manager=manager, force=force, api_version="v1", subresource="", now=NOW, schema=MAP
    )  # fmt: skip


@given(trees, trees)
def test_what_is_joined_contains_both_and_taking_one_leaves_the_rest(a: Any, b: Any) -> None:
    whole = set(sets.paths(sets.union(a, b)))
    left, right = set(sets.paths(a)), set(sets.paths(b))
    assert whole == left | right
    assert set(sets.paths(sets.difference(a, b))) == left - right
    assert set(sets.paths(sets.intersection(a, b))) == left & right


@settings(max_examples=60)
@given(st.lists(st.tuples(managers, data), min_size=1, max_size=6))
def test_forced_applies_leave_the_last_word_and_nothing_unowned(steps: list[tuple[str, dict[str, str]]]) -> None:
    live: Any = None
    wanted: dict[str, dict[str, str]] = {}
    for manager, content in steps:
        live = apply(live, content, manager)
        wanted[manager] = content
        held = live.get("data") or {}
        assert all(held.get(k) == v for k, v in content.items())
        owned = {
            p[1][2:]
            for e in live["metadata"].get("managedFields", ())
            for p in sets.paths(e["fieldsV1"])
            if len(p) == 2
        }
        assert set(held) == owned
        assert set(held) <= {k for content in wanted.values() for k in content}
    manager, content = steps[-1]
    assert apply(live, content, manager, False) == live


some = st.dictionaries(names, values, min_size=1, max_size=4)


@settings(max_examples=60)
@given(some, some)
def test_an_apply_by_another_conflicts_exactly_where_values_differ(
    first: dict[str, str], second: dict[str, str]
) -> None:
    live = apply(None, first, "m1")
    differing = {k for k in first if k in second and first[k] != second[k]}
    try:
        apply(live, second, "m2", False)
    except ApiError as error:
        assert {cause["field"] for cause in (error.details or {})["causes"]} == {f".data.{k}" for k in differing}
    else:
        assert not differing


@settings(max_examples=120)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "hostNetwork": st.sampled_from([True, False, None]),
            "priority": st.sampled_from([0, 5, None]),
            "hostname": st.sampled_from(["", "h", None]),
            "nodeSelector": st.one_of(st.none(), st.dictionaries(names, st.one_of(st.none(), values))),
            "containers": st.lists(
                st.one_of(
                    st.none(),
                    st.fixed_dictionaries(
                        {"name": names}, optional={"args": st.lists(values), "resources": st.none(), "odd": scalars}
                    ),
                ),
                max_size=2,
            ),
        },
    )
)
def test_the_fast_and_the_exact_decoder_leave_the_same_and_a_second_pass_nothing(spec: dict[str, Any]) -> None:
    quick, exact = {"spec": copy.deepcopy(spec)}, {"spec": copy.deepcopy(spec)}
    problems = schema_decode.decode(POD, quick)
    assert schema_strict.decode(POD, exact) == problems
    assert quick == exact
    again = copy.deepcopy(quick)
    assert schema_decode.decode(POD, again) == [] and again == quick


@given(st.dictionaries(st.text('ab":{}\\ ', max_size=4), st.text('ab":{}\\ ', max_size=6), max_size=4), st.booleans())
def test_no_body_without_duplicates_is_suspected(content: dict[str, str], spaced: bool) -> None:
    import json

    raw = json.dumps({"data": content}, separators=(", ", " : ") if spaced else (",", ":")).encode()
    value, duplicate = parse_json(raw)
    assert value == {"data": content} and duplicate == []
