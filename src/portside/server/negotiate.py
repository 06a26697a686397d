"""Content negotiation: what the Accept header asks for, which forms are offered, and how an answer is written in it.

Upstream's rules: types in order of weight, then as written; parameters choose Table or PartialObjectMetadata; a form of
another group or version makes the type unacceptable; weight zero counts as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from portside.api.kinds import BY_KIND, Kind
from portside.api.status import ApiError

JSON = "application/json"
YAML = "application/yaml"
YAML_WIDTH = 80  # texts are folded at the next space behind it
PROTOBUF = "application/vnd.kubernetes.protobuf"
OFFERED = (JSON, YAML, PROTOBUF)
TEXTS = (JSON, YAML)
FORMS = {
    ("Table", "meta.k8s.io"),
    ("PartialObjectMetadata", "meta.k8s.io"),
    ("PartialObjectMetadataList", "meta.k8s.io"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """``form`` is "", Table, PartialObjectMetadata or PartialObjectMetadataList, in ``version`` of meta.k8s.io.
    ``profile`` is the discovery profile of ``as=APIGroupDiscoveryList``."""

    media: str = JSON
    form: str = ""
    version: str = "v1"
    profile: str = ""
    pretty: bool = False


PLAIN = Wanted()


@lru_cache(256)
def _clauses(accept: str) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    found: list[tuple[float, int, str, dict[str, str]]] = []
    for at, clause in enumerate(accept.split(",")):
        pieces = clause.split(";")
        media = pieces[0].strip().lower()
        if not media:
            continue
        params: dict[str, str] = {}
        for piece in pieces[1:]:
            name, _, value = piece.strip().partition("=")
            params[name.strip().lower()] = value.strip().strip('"')
        try:
            weight = float(params.pop("q", "1"))
        except ValueError:
            weight = 1.0
        found.append((-weight, at, media, params))
    found.sort(key=lambda f: (f[0], f[1]))
    return tuple((media, tuple(params.items())) for _, _, media, params in found)


def _matches(media: str, offered: str) -> bool:
    if media in (offered, "*/*"):
        return True
    return media.endswith("/*") and media == offered.partition("/")[0] + "/*" and media != "application/*"


def offers_of(kind: Kind) -> tuple[str, ...]:
    """The media types of a kind: protobuf is there for built-in ones alone."""
    return OFFERED if BY_KIND.get((kind.group, kind.version, kind.kind)) is kind else TEXTS


def not_acceptable() -> ApiError:
    """The filter's words, for types that nothing here could write."""
    return ApiError(
        406,
        "NotAcceptable",
        "406: Not Acceptable\n\nAvailable representations: " + ", ".join(OFFERED),
        details={},
    )


def _no_form(streamed: bool) -> ApiError:
    offered = ("application/json;stream=watch", YAML, OFFERED[2] + ";stream=watch") if streamed else OFFERED
    return ApiError(406, "NotAcceptable", "only the following media types are accepted: " + ", ".join(offered))


@lru_cache(512)
def negotiate(accept: str, *, forms: bool = False, tables: bool = True, offers: tuple[str, ...] = OFFERED) -> Wanted:
    """The form of the answer. ``forms`` says whether the metadata forms are offered here, ``tables`` whether a Table is;
    ``offers`` are the media types. Raises 406."""
    if not accept or accept == JSON or accept == "*/*":
        return PLAIN
    known = False
    for media, params in _clauses(accept):
        for offered in offers:
            if not _matches(media, offered):
                continue
            known = True
            given = dict(params)
            form, group, version = given.get("as", ""), given.get("g", ""), given.get("v", "")
            if not form:
                return Wanted(offered, pretty=given.get("pretty") == "1")
            shows = forms and (form != "Table" or (tables and offered != PROTOBUF))
            if shows and (form, group) in FORMS and version in ("v1", "v1beta1"):
                return Wanted(offered, form, version)
            if (
                form == "APIGroupDiscoveryList"
                and offered != PROTOBUF
                and group == "apidiscovery.k8s.io"
                and version == "v2"
            ):
                return Wanted(offered, form, version, given.get("profile", ""))
            break
        # Named in refusals as if it were there for custom resources too, as upstream does.
        known = known or _matches(media, PROTOBUF)
    raise _no_form(False) if known else not_acceptable()


def error_media(accept: str) -> str:
    """How an error is written: in the first type that is asked for and offered, else JSON."""
    if not accept or accept == JSON:
        return JSON
    for media, params in _clauses(accept):
        for offered in OFFERED:
            if _matches(media, offered) and not dict(params).get("as"):
                return offered
    return JSON


def dump_yaml(value: Any) -> bytes:
    """YAML with sorted keys, as upstream's converter writes it."""
    import yaml

    text = yaml.dump(
        value, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=True, default_flow_style=False,
        allow_unicode=True, width=YAML_WIDTH,
    )  # fmt: skip
    return str(text).encode()


def encode(value: Any, media: str = JSON) -> bytes:
    """A document in a negotiated media type."""
    if media == PROTOBUF:
        from portside.api.protobuf_encode import encode as encode_protobuf

        return encode_protobuf(value)
    return dump_yaml(value) if media == YAML else orjson.dumps(value)


def reencode(raw: bytes, media: str) -> bytes:
    """Ready JSON bytes in the negotiated media type."""
    return raw if media == JSON else encode(orjson.loads(raw), media)


def body_media(content_type: str) -> str:
    """The body's media type without parameters; nothing said is JSON."""
    media = content_type.partition(";")[0].strip().lower()
    return media or JSON


def unsupported_body() -> ApiError:
    return ApiError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: " + ", ".join(OFFERED),
    )


def unsupported_patch() -> ApiError:
    """A patch of a type that no patch has: refused before the route's handler."""
    return ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})
