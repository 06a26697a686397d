"""Large lists in every form: in pieces, and the same as in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import yaml
from tests.unit.server.test_engine import Caller, call, pki_home  # noqa: F401  (fixtures)

from portside.api import protobuf_encode
from portside.api.kinds import BY_KIND
from portside.api.protobuf import decode
from portside.server import forms, watchcache_object
from portside.server.forms import partial
from portside.server.listing import collection, document, formed
from portside.server.negotiate import JSON, PROTOBUF, YAML, Wanted, encode, negotiate
from portside.server.pieces import Pieces, bracketed
from portside.server.request import Response

Json = dict[str, Any]
META = {"resourceVersion": "7", "continue": "abc"}
CONFIGMAP = BY_KIND[("", "v1", "ConfigMap")]
CM = "/api/v1/namespaces/default/configmaps"


def config(number: int) -> Json:
    meta = {
        "name": f"c{number}",
        "namespace": "default",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"n": "1"},
    }
    data = {"text": "many\nlines: [] here\nitems: []\n", "long": "word " * 40, "n": str(number)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def slices(count: int, size: int = 3) -> Iterator[list[Json]]:
    for at in range(0, count, size):
        yield [config(n) for n in range(at, min(at + size, count))]


def whole(answer: Response) -> bytes:
    return answer.stream.joined() if isinstance(answer.stream, Pieces) else answer.body


@pytest.mark.parametrize("count", [0, 1, 3, 4, 20])
async def test_a_list_in_pieces_is_the_same_list(count: int) -> None:
    items = [{k: v for k, v in config(n).items() if k not in ("apiVersion", "kind")} for n in range(count)]
    made = {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": META, "items": items}
    for media in (JSON, YAML):
        assert collection(CONFIGMAP, META, slices(count), media).joined() == encode(made, media)
    answer = await formed(CONFIGMAP, META, slices(count), Wanted(PROTOBUF))
    assert whole(answer) == protobuf_encode.encode(made | {"items": [config(n) for n in range(count)]})
    assert answer.content_type == PROTOBUF


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("count", [0, 2, 20])
async def test_metadata_alone_in_pieces_is_the_same_list(count: int, version: str) -> None:
    items = [forms.partial(config(n), version) for n in range(count)]
    top = {"kind": "PartialObjectMetadataList", "apiVersion": f"meta.k8s.io/{version}", "metadata": META}
    for media in (JSON, YAML, PROTOBUF):
        answer = await formed(CONFIGMAP, META, slices(count), Wanted(media, "PartialObjectMetadataList", version))
        assert whole(answer) == encode(top | {"items": items}, media)


@pytest.mark.parametrize("include", ["Metadata", "Object", "None"])
@pytest.mark.parametrize("count", [0, 2, 20])
async def test_a_table_in_pieces_is_the_same_table(count: int, include: str) -> None:
    table = forms.table(CONFIGMAP, [config(n) for n in range(count)], META, "v1", include)
    for media in (JSON, YAML):
        answer = await formed(CONFIGMAP, META, slices(count), Wanted(media, "Table"), include)
        assert whole(answer) == encode(table, media)
        assert (answer.stream is not None) == (count > 4)


def test_brackets_close_around_any_number_of_parts() -> None:
    assert b"".join(bracketed(iter(()))) == b"[]"
    assert list(bracketed(iter((b"1", b"2,3", b"4")))) == [b"[1", b",2,3", b",4]"]


def test_a_document_in_yaml_keeps_what_stands_around_the_items() -> None:
    made = document({"kind": "X", "alpha": [1], "zulu": {"items": []}}, "items", slices(5), YAML).joined()
    assert yaml.safe_load(made) == {
        "kind": "X",
        "alpha": [1],
        "zulu": {"items": []},
        "items": [config(n) for n in range(5)],
    }


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/yaml",
        PROTOBUF,
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    ],
)
async def test_every_form_of_a_large_list_comes_in_pieces(
    call: Caller,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    accept: str,
) -> None:
    for number in range(12):
        assert (await call("POST", CM, config(number)))[0] == 201
    monkeypatch.setattr(watchcache_object, "PIECE_BYTES", 1500)
    answer = await call.raw("GET", CM, accept=accept)
    assert (
        isinstance(answer.stream, Pieces)
        and answer.stream.large
        and answer.content_type == negotiate(accept, forms=True).media
    )
    body = answer.stream.joined()
    if answer.content_type == PROTOBUF:
        made = decode(body)
    else:
        made = yaml.safe_load(body) if answer.content_type == YAML else orjson.loads(body)
    if made["kind"] == "Table":
        assert [row["cells"][0] for row in made["rows"]] == sorted(f"c{n}" for n in range(12))
    else:
        assert [item["metadata"]["name"] for item in made["items"]] == sorted(f"c{n}" for n in range(12))


async def test_a_deleted_collection_is_told_as_it_was(call: Caller) -> None:  # noqa: F811
    for number in range(40):
        await call("POST", CM, config(number))
    answer = await call.raw("DELETE", CM)
    made = orjson.loads(whole(answer))
    assert (made["kind"], len(made["items"])) == ("ConfigMapList", 40) and "kind" not in made["items"][0]
    assert (await call("GET", CM))[1]["items"] == []


@pytest.mark.parametrize(("kind", "key"), [
    ("DaemonSet", "deprecated.daemonset.template.generation"),
    ("HorizontalPodAutoscaler", "autoscaling.alpha.kubernetes.io/metrics"),
])  # fmt: skip
def test_metadata_alone_goes_without_what_a_newer_version_has_fields_for(kind: str, key: str) -> None:
    group = "apps" if kind == "DaemonSet" else "autoscaling"
    obj: dict[str, Any] = {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": "x", "annotations": {key: "1", "mine": "y"}},
    }
    assert partial(obj, "v1")["metadata"] == {"name": "x", "annotations": {"mine": "y"}}
    del obj["metadata"]["annotations"]["mine"]
    assert partial(obj, "v1")["metadata"] == {"name": "x"}
    assert obj["metadata"]["annotations"] == {key: "1"}
