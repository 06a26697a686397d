"""Watched objects in one process: parsed once, held by all who watch, gone with the last of them."""

from __future__ import annotations

import gc

from portside.client.shared import SharedObjects

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
