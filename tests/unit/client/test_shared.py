"""Watched objects in one process: parsed once, held by all who watch, gone with the last of them."""

from __future__ import annotations

import gc
import json

from portside.client.shared import POOLED_PARTS, Parts, SharedObjects

POD = b'{"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"7","name":"a"},"spec":{}}'


def line(kind: bytes, obj: bytes = POD, end: bytes = b"}\n") -> bytes:
    return b'{"type":"' + kind + b'","object":' + obj + end


def test_two_watches_of_one_state_hold_the_same_object():
    shared = SharedObjects()
    first, second = shared.event(line(b"ADDED")), shared.event(line(b"MODIFIED", end=b"}"))
    assert (first.type, second.type) == ("ADDED", "MODIFIED")
    assert first.object is second.object
    assert first.object["metadata"] == {"resourceVersion": "7", "name": "a"}


def test_another_revision_kind_or_version_is_another_object():
    shared = SharedObjects()
    first = shared.event(line(b"ADDED")).object
    assert shared.event(line(b"MODIFIED", POD.replace(b'"7"', b'"70"'))).object["metadata"]["resourceVersion"] == "70"
    assert shared.event(line(b"ADDED", POD.replace(b"Pod", b"Job"))).object["kind"] == "Job"
    assert shared.event(line(b"ADDED", POD.replace(b'"v1"', b'"v2"'))).object["apiVersion"] == "v2"
    assert shared.event(line(b"ADDED")).object is first


def test_bookmarks_and_errors_are_read_for_each():
    shared = SharedObjects()
    bookmark = line(b"BOOKMARK")
    assert shared.event(bookmark).object is not shared.event(bookmark).object
    error = shared.event(b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n')
    assert (error.type, error.object["code"]) == ("ERROR", 410)


def test_an_object_nobody_holds_is_let_go():
    shared = SharedObjects()
    shared.event(line(b"ADDED"))
    gc.collect()
    assert not shared._held


def test_managed_fields_are_not_kept():
    pod = POD.replace(b'"name":"a"', b'"name":"a","managedFields":[{"manager":"x"}]')
    assert SharedObjects().event(line(b"ADDED", pod)).object["metadata"] == {"resourceVersion": "7", "name": "a"}


def test_what_pods_of_one_template_have_in_common_is_held_once():
    shared = SharedObjects()
    template = (
        b'{"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"%d","name":"p%d","labels":{"app":"a"}},"spec":'
        b'{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}],"tolerations":[{"key":"k"}]},'
        b'"status":{"conditions":[{"type":"Ready","status":"True"}],"podIP":"10.0.0.%d"}}'
    )
    one, other = (shared.event(line(b"ADDED", template % (n, n, n))).object for n in (1, 2))
    assert one["metadata"]["labels"] is other["metadata"]["labels"]
    assert one["spec"]["tolerations"] is other["spec"]["tolerations"]
    assert one["spec"]["containers"] is other["spec"]["containers"]
    assert one["status"]["conditions"][0] is other["status"]["conditions"][0]
    assert (one["metadata"]["name"], other["metadata"]["name"]) == ("p1", "p2")
    assert (one["status"]["podIP"], other["status"]["podIP"]) == ("10.0.0.1", "10.0.0.2")


def test_custom_resources_of_any_shape_are_taken_as_they_are():
    for rest in (
        b'"spec":[1]',
        b'"spec":"x"',
        b'"spec":{"volumes":["a",{"b":[1]}],"containers":3}',
        b'"status":{"conditions":{}}',
    ):
        obj = b'{"apiVersion":"x/v1","kind":"X","metadata":{"resourceVersion":"9","name":"a"},' + rest + b"}"
        made = SharedObjects().event(line(b"ADDED", obj)).object
        assert made == {
            "apiVersion": "x/v1",
            "kind": "X",
            "metadata": {"resourceVersion": "9", "name": "a"},
        } | json.loads(b"{" + rest + b"}")


def test_the_pool_of_parts_is_bounded_and_keeps_what_comes_again():
    parts = Parts()
    often = parts.one({"often": "met"})
    for n in range(5 * POOLED_PARTS):
        parts.one({"n": n})
        assert parts.one({"often": "met"}) is often
    assert len(parts._known) <= 2 * POOLED_PARTS
