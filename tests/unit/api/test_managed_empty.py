"""Lists given empty: their writer owns them."""

from __future__ import annotations

from typing import Any

import pytest

from portside.api import managed
from portside.api.managed_empty import given_empty, with_empty
from portside.api.schema import schema_of

Json = dict[str, Any]


@pytest.mark.parametrize(("group", "kind", "body", "owned"), [
    ("rbac.authorization.k8s.io", "Role", {"rules": []}, {"f:rules": {}}),
    ("", "LimitRange", {"spec": {"limits": []}}, {"f:spec": {"f:limits": {}}}),
    ("storage.k8s.io", "CSINode", {"spec": {"drivers": []}}, {"f:spec": {"f:drivers": {}}}),
    ("resource.k8s.io", "ResourceClaim", {"spec": {"devices": {"requests": []}}}, {"f:spec": {"f:devices": {"f:requests": {}}}}),
    ("discovery.k8s.io", "EndpointSlice", {"addressType": "IPv4", "endpoints": [], "ports": []}, {
        "f:addressType": {}, "f:endpoints": {}, "f:ports": {},
    }),
    ("", "Service", {"spec": {"ports": []}}, None),
])  # fmt: skip
def test_a_list_given_empty_is_owned_and_stored_as_before(
    group: str, kind: str, body: Json, owned: Json | None
) -> None:
    schema = schema_of(group, "v1", kind)
    paths = given_empty(schema, body)
    obj: Json = {"metadata": {"name": "x"}} | body
    schema.decode(obj)
    before = {key: value for key, value in obj.items() if key != "metadata"}
    shown = repr(before)
    with with_empty(obj, paths):
        version = f"{group}/v1".lstrip("/")
        managed.after_update(None, obj, manager="me", api_version=version, subresource="", now="t", schema=schema)
    entries = obj["metadata"].get("managedFields")
    assert (entries[0]["fieldsV1"] if entries else None) == owned
    assert repr({key: value for key, value in obj.items() if key != "metadata"}) == shown


def test_paths_that_are_gone_are_left_alone() -> None:
    obj: Json = {"spec": {"items": [{"a": None}], "kept": ["x"]}}
    with with_empty(obj, [("spec", "items", 0, "a"), ("spec", "items", 7, "a"), ("gone", "a"), ("spec", "kept")]):
        assert obj == {"spec": {"items": [{"a": []}], "kept": ["x"]}}
    assert obj == {"spec": {"items": [{"a": None}], "kept": ["x"]}}
