"""Who owns which field after updates and applies."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from portside.api import managed
from portside.api.managed_scale import after_scale, after_scale_applied
from portside.api.schema import schema_of
from portside.api.status import ApiError

Json = dict[str, Any]
T1, T2 = "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z"
MAP = schema_of("", "v1", "ConfigMap")


def config(**data: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": data}


def updated(old: Json | None, new: Json, manager: str, now: str = T1, sub: str = "", kind: str = "ConfigMap") -> Json:
    new = copy.deepcopy(new)
    if old is not None:
        new["metadata"].setdefault("uid", "u")
        old = {**old, "metadata": {**old["metadata"], "uid": "u"}}
    schema = schema_of("", "v1", kind)
    managed.after_update(old, new, manager=manager, api_version="v1", subresource=sub, now=now, schema=schema)
    return new


def applied(live: Json | None, new: Json, manager: str, force: bool = False, now: str = T1) -> Json:
    return managed.apply(
        copy.deepcopy(live),
        copy.deepcopy(new),
        manager=manager,
        force=force,
        api_version="v1",
        subresource="",
        now=now,
        schema=MAP,
    )


def owners(obj: Json) -> dict[str, Any]:
    return {f"{e['manager']}/{e['operation']}": e["fieldsV1"] for e in obj["metadata"].get("managedFields", [])}


def conflict(call: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value


def test_create_owns_what_was_sent_and_not_what_the_server_says() -> None:
    made = updated(None, config(k="v"), "me")
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "me", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {".": {}, "f:k": {}}}, "time": T1,
        }
    ]  # fmt: skip
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u", "generation": 1}}
    assert "managedFields" not in updated(None, bare, "me")["metadata"]


def test_a_pod_is_walked_by_the_keys_of_its_lists() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "finalizers": ["x/y"], "ownerReferences": [{"uid": "1", "name": "o"}]},
        "spec": {
            "containers": [{"name": "c", "ports": [{"containerPort": 80}], "args": ["a"], "resources": {}}],
            "nodeSelector": {"a": "b"},
            "securityContext": {},
        },
        "status": {"phase": "Pending"},
    }
    assert owners(updated(None, pod, "me", kind="Pod"))["me/Update"] == {
        "f:metadata": {
            "f:finalizers": {".": {}, 'v:"x/y"': {}},
            "f:ownerReferences": {".": {}, 'k:{"uid":"1"}': {}},
        },
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {
                    ".": {},
                    "f:name": {},
                    "f:ports": {".": {}, 'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                    "f:args": {},
                    "f:resources": {},
                }
            },
            "f:nodeSelector": {},
            "f:securityContext": {},
        },
    }


def test_objects_of_one_template_own_the_same_and_are_apart() -> None:
    def pod(name: str, **spec: Any) -> Json:
        body = {"containers": [{"name": "c"}], **spec}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"a": "b"}}, "spec": body}

    first = updated(None, pod("one"), "me", kind="Pod")
    second = updated(None, pod("two"), "you", T2, kind="Pod")
    assert owners(first)["me/Update"] == owners(second)["you/Update"]
    owners(first)["me/Update"]["f:spec"].clear()
    assert owners(second)["you/Update"]["f:spec"] == {"f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}}}}
    third = updated(None, pod("three", hostname="h"), "me", kind="Pod")
    assert owners(third)["me/Update"]["f:spec"].keys() == {"f:containers", "f:hostname"}


def test_an_update_takes_what_it_changes() -> None:
    first = updated(None, config(k="1"), "one")
    second = updated(first, config(k="2", l="3"), "two", T2)
    assert owners(second) == {"one/Update": {"f:data": {}}, "two/Update": {"f:data": {"f:k": {}, "f:l": {}}}}
    third = updated(second, config(l="3"), "two", T2)
    assert owners(third) == {"one/Update": {"f:data": {}}, "two/Update": {"f:data": {"f:l": {}}}}


def test_an_update_that_changes_nothing_keeps_the_times() -> None:
    first = updated(None, config(k="1"), "one")
    again = updated(first, config(k="1"), "one", T2)
    assert again["metadata"]["managedFields"] == first["metadata"]["managedFields"]


def test_emptied_managers_stay_away_until_the_next_apply() -> None:
    first = updated(None, config(k="1"), "one")
    for empty in ([], [{}]):
        new = config(k="1")
        new["metadata"]["managedFields"] = empty
        gone = updated(first, new, "two")
        assert "managedFields" not in gone["metadata"]
        later = updated(gone, config(k="2"), "three")
        assert "managedFields" not in later["metadata"]
        assert owners(applied(later, config(o="z"), "four")) == {
            "four/Apply": {"f:data": {"f:o": {}}},
            "before-first-apply/Update": {"f:data": {".": {}, "f:k": {}}},
        }


def test_status_and_spec_are_owned_where_they_can_be_written() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {}}
    first = updated(None, pod, "me", kind="Pod")
    after = copy.deepcopy(pod)
    after["spec"]["hostname"] = "h"
    after["status"] = {"phase": "Running"}
    second = updated(first, after, "node", T2, "status", "Pod")
    assert owners(second)["node/Update"] == {"f:status": {"f:phase": {}}}
    assert second["metadata"]["managedFields"][1]["subresource"] == "status"


def test_apply_owns_what_it_says_and_merges() -> None:
    live = updated(None, config(k="1"), "one")
    after = applied(live, config(m="2"), "two", now=T2)
    assert after["data"] == {"k": "1", "m": "2"}
    assert owners(after) == {"two/Apply": {"f:data": {"f:m": {}}}, "one/Update": {"f:data": {".": {}, "f:k": {}}}}


def test_apply_again_changes_nothing_and_a_shared_value_gets_no_time() -> None:
    live = applied(None, config(k="1"), "one")
    assert applied(live, config(k="1"), "one", now=T2) == live
    shared = applied(live, config(k="1"), "two", now=T2)
    assert [e.get("time") for e in shared["metadata"]["managedFields"] if e["manager"] == "two"] == [None]
    assert shared["metadata"]["managedFields"][0]["manager"] == "two"


def test_leaving_a_field_out_removes_it_unless_somebody_else_owns_it() -> None:
    live = applied(applied(None, config(k="1", s="x"), "one"), config(s="x"), "two")
    after = applied(live, config(), "one", now=T2)
    assert after["data"] == {"s": "x"}
    assert owners(after)["two/Apply"] == {"f:data": {"f:s": {}}}
    assert after["metadata"]["name"] == "a"
    alone = applied(applied(None, config(k="1"), "one"), {k: v for k, v in config().items() if k != "data"}, "one")
    assert "data" not in alone and "managedFields" not in alone["metadata"]


def test_conflicts_name_managers_and_paths_and_force_takes() -> None:
    live = applied(None, config(k="1", l="1"), "one")
    error = conflict(lambda: applied(live, config(k="2"), "two"))
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    assert error.details == {
        "causes": [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}]
    }
    both = conflict(lambda: applied(live, config(k="2", l="2"), "two"))
    assert both.message == 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.k\n- .data.l'
    forced = applied(live, config(k="2"), "two", True, T2)
    assert owners(forced) == {"one/Apply": {"f:data": {"f:l": {}}}, "two/Apply": {"f:data": {"f:k": {}}}}
    by_update = conflict(lambda: applied(updated(None, config(k="1"), "hand"), config(k="2"), "two"))
    assert by_update.message == 'Apply failed with 1 conflict: conflict with "hand" using v1: .data.k'


def test_kubectl_takes_over_what_it_applied_on_the_client() -> None:
    note = "kubectl.kubernetes.io/last-applied-configuration"
    old = config(k="1")
    old["metadata"]["annotations"] = {note: '{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"1"}}'}
    live = updated(None, old, "kubectl-client-side-apply")
    after = applied(live, {k: v for k, v in config(k="2").items()}, "kubectl", now=T2)
    assert after["data"] == {"k": "2"}
    assert after["metadata"]["annotations"][note] == (
        '{"apiVersion":"v1","data":{"k":"2"},"kind":"ConfigMap","metadata":{"name":"a","namespace":"n"}}\n'
    )
    assert conflict(lambda: applied(live, config(k="2"), "other")).code == 409


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (
            {"dta": {}},
            500,
            "failed to create typed patch object (n/a; /v1, Kind=ConfigMap): .dta: field not declared in schema",
        ),
        (
            {"data": {"k": 1}},
            500,
            "failed to create typed patch object (n/a; /v1, Kind=ConfigMap): "
            ".data.k: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            {"metadata": {"name": "a", "finalizers": ["x", "x"]}},
            500,
            'failed to create typed patch object (/a; /v1, Kind=ConfigMap): .metadata.finalizers: duplicate entries for key [="x"]',
        ),
        ({"metadata": {"name": "a", "managedFields": []}}, 400, "metadata.managedFields must be nil"),
        (
            {"apiVersion": "v2"},
            400,
            "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1",
        ),
    ],
)
def test_apply_refusals(change: Json, code: int, text: str) -> None:
    error = conflict(lambda: applied(None, {**config(), **change}, "m"))
    assert (error.code, error.message) == (code, text)


def test_sets_keep_upstreams_order() -> None:
    def with_finalizers(*names: str) -> Json:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": list(names)}}

    live = applied(None, with_finalizers("a", "b"), "one")
    both = applied(live, with_finalizers("c", "b"), "two")
    assert both["metadata"]["finalizers"] == ["a", "c", "b"]
    assert applied(both, with_finalizers(), "one")["metadata"]["finalizers"] == ["c", "b"]


def test_only_ten_updaters_are_kept_apart() -> None:
    live = updated(None, config(k="0"), "m0")
    for number in range(1, 14):
        data = {f"k{i}": "1" for i in range(number)}
        live = updated(live, config(k="0", **data), f"m{number:02}", f"2026-01-01T00:01:{number:02}Z")
    names = [e["manager"] for e in live["metadata"]["managedFields"]]
    assert len(names) == 10 and "ancient-changes" in names


def test_scale_moves_the_ownership_of_replicas() -> None:
    def deployment(count: int, *entries: Json) -> Json:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"managedFields": list(entries)},
            "spec": {"replicas": count},
        }

    fields = {"f:spec": {"f:replicas": {}, "f:paused": {}}}
    entry = {
        "manager": "m1",
        "operation": "Apply",
        "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "time": T1,
    }
    old, new = deployment(2, entry), deployment(4)
    after_scale(old, new, manager="hpa", api_version="apps/v1")
    assert owners(new) == {"m1/Apply": {"f:spec": {"f:paused": {}}}, "hpa/Update": {"f:spec": {"f:replicas": {}}}}
    assert new["metadata"]["managedFields"][1].get("time") is None
    scale = {"spec": {"replicas": 3}}
    with pytest.raises(ApiError) as caught:
        after_scale_applied(old, deployment(3), scale, manager="x", api_version="apps/v1", force=False)
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "m1": .spec.replicas'


def test_owned_fields_are_written_in_upstreams_order() -> None:
    spec = {"replicas": 1, "containers": [{"name": "b", "image": "i"}, {"name": "a", "args": ["x"]}]}
    made = updated(None, {"metadata": {"name": "p"}, "spec": spec | {"activeDeadlineSeconds": 1}}, "m", kind="Pod")
    owned = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert list(owned) == sorted(owned)
    containers = owned["f:containers"]
    assert list(containers) == ['k:{"name":"a"}', 'k:{"name":"b"}']
    assert [list(c) for c in containers.values()] == [[".", "f:args", "f:name"], [".", "f:image", "f:name"]]
