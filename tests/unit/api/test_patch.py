"""The three patches: what they make, and how they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from portside.api.patch import json_patch, merge_patch, strategic_merge
from portside.api.schema import schema_of
from portside.api.status import ApiError

DEPLOYMENT = schema_of("apps", "v1", "Deployment")
POD = schema_of("", "v1", "Pod")
FAILED = (422, "the server rejected our request due to an error in our request")


def refused(call: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.code, caught.value.message


def test_json_patch_operations() -> None:
    obj = {"data": {"k": "v", "a/b": "1"}, "list": ["a", "b"]}
    ops = [
        {"op": "test", "path": "/data/k", "value": "v"},
        {"op": "test", "path": "/data/none", "value": None},
        {"op": "replace", "path": "/data/new", "value": "x"},
        {"op": "replace", "path": "/data/a~1b", "value": "2"},
        {"op": "copy", "from": "/data/absent", "path": "/data/empty"},
        {"op": "move", "from": "/data/k", "path": "/data/moved"},
        {"op": "add", "path": "/list/0", "value": "first"},
        {"op": "add", "path": "/list/-", "value": "last"},
        {"op": "remove", "path": "/list/1"},
    ]
    assert json_patch(obj, ops) == {
        "data": {"a/b": "2", "empty": None, "moved": "v", "new": "x"},
        "list": ["first", "b", "last"],
    }
    assert obj == {"data": {"k": "v", "a/b": "1"}, "list": ["a", "b"]}


@pytest.mark.parametrize(
    "op",
    [
        {"op": "test", "path": "/data/k", "value": "other"},
        {"op": "test", "path": "/data/none", "value": "x"},
        {"op": "remove", "path": "/data/none"},
        {"op": "add", "path": "/missing/x", "value": 1},
        {"op": "move", "from": "/data/none", "path": "/data/x"},
        {"op": "remove", "path": "/list/9"},
        {"op": "remove", "path": "data/k"},
        {"op": "merge", "path": "/data", "value": {}},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "", "value": [1]},
        {"op": "test", "path": "/one", "value": True},
    ],
)
def test_json_patch_that_fails_has_one_text(op: dict[str, Any]) -> None:
    assert refused(lambda: json_patch({"data": {"k": "v"}, "list": ["a"], "one": 1}, [op])) == FAILED


def test_json_patch_limits() -> None:
    assert refused(lambda: json_patch({}, {"op": "add"}))[0] == 400
    assert refused(lambda: json_patch({}, [{"op": "test", "path": ""}] * 10001))[0] == 413


def test_merge_patch_removes_by_null_and_replaces_lists() -> None:
    old = {"a": {"x": 1, "y": 2}, "l": [1, 2], "k": "v"}
    assert merge_patch(old, {"a": {"x": None, "z": {"n": None}}, "l": [3], "none": None}) == {
        "a": {"y": 2, "z": {}},
        "l": [3],
        "k": "v",
    }
    assert old["a"] == {"x": 1, "y": 2}
    assert refused(lambda: merge_patch({}, None)) == (400, "Invalid JSON Patch")


def template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec}}}


def live() -> dict[str, Any]:
    return {
        "spec": {
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {
                "spec": {
                    "containers": [
                        {"name": "c", "image": "i", "args": ["a"], "env": [{"name": "A", "value": "1"}]},
                        {"name": "side", "image": "s"},
                    ],
                    "tolerations": [{"key": "t"}],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                }
            },
        },
        "metadata": {"finalizers": ["x", "y"]},
    }


def containers(patch: dict[str, Any]) -> Any:
    return strategic_merge(live(), patch, DEPLOYMENT)["spec"]["template"]["spec"]["containers"]


def test_lists_with_a_key_merge_by_it_and_others_are_replaced() -> None:
    patched = strategic_merge(
        live(),
        template(containers=[{"name": "c", "args": ["b"], "env": [{"name": "B"}]}], tolerations=[{"key": "u"}]),
        DEPLOYMENT,
    )["spec"]["template"]["spec"]
    assert patched["containers"][0] == {
        "name": "c", "image": "i", "args": ["b"], "env": [{"name": "B"}, {"name": "A", "value": "1"}],
    }  # fmt: skip
    assert patched["tolerations"] == [{"key": "u"}]


def test_new_elements_come_first_and_deleted_ones_go() -> None:
    assert [c["name"] for c in containers(template(containers=[{"name": "new", "image": "n"}]))] == ["new", "c", "side"]
    assert [c["name"] for c in containers(template(containers=[{"name": "c", "$patch": "delete"}]))] == ["side"]
    assert containers(template(containers=[{"$patch": "replace"}, {"name": "z"}])) == [{"name": "z"}]


def test_order_is_taken_from_the_directive() -> None:
    patch = template(**{"$setElementOrder/containers": [{"name": "side"}, {"name": "c"}]})
    assert [c["name"] for c in containers(patch)] == ["side", "c"]
    wrong = template(
        **{"$setElementOrder/containers": [{"name": "side"}], "containers": [{"name": "c", "image": "i3"}]}
    )
    assert refused(lambda: containers(wrong)) == (
        500,
        "The order in patch list:\n[map[image:i3 name:c]]\n doesn't match $setElementOrder list:\n[map[name:side]]\n",
    )


def test_primitive_lists_union_and_delete() -> None:
    patch = {"metadata": {"finalizers": ["y", "z"], "$deleteFromPrimitiveList/finalizers": ["x"]}}
    assert strategic_merge(live(), patch, DEPLOYMENT)["metadata"]["finalizers"] == ["y", "z"]


def test_retain_keys_and_map_directives() -> None:
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(live(), patch, DEPLOYMENT)["spec"]["strategy"] == {"type": "Recreate"}
    bad = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "R", "rollingUpdate": {}}}}
    assert refused(lambda: strategic_merge(live(), bad, DEPLOYMENT)) == (400, "invalid patch format of retainKeys")
    replaced = {"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}}
    assert strategic_merge(live(), replaced, DEPLOYMENT)["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("patch", "code", "text"),
    [
        (template(containers=[{"image": "x"}]), 500, "map: map[image:x] does not contain declared merge key: name"),
        (
            {"spec": {"strategy": {"$patch": "shuffle"}}},
            500,
            "unknown patch type: shuffle in map: map[$patch:shuffle]",
        ),
        (
            template(containers={"name": "c"}),
            422,
            ' "" is invalid: patch: Invalid value: "map[spec:map[template:map[spec:map[containers:map[name:c]]]]]": '
            "cannot restore slice from map",
        ),
    ],
)
def test_strategic_refusals(patch: dict[str, Any], code: int, text: str) -> None:
    assert refused(lambda: strategic_merge(live(), patch, DEPLOYMENT)) == (code, text)


def test_null_removes_and_the_live_object_is_left_alone() -> None:
    obj = live()
    patched = strategic_merge(obj, {"metadata": {"finalizers": None}, "spec": {"strategy": None}}, DEPLOYMENT)
    assert patched["metadata"] == {} and "strategy" not in patched["spec"]
    assert obj == live()
