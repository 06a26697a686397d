"""From a request's body to an object of the wanted kind: media type, size, parsing, strictness, defaults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from portside.api import protobuf
from portside.api.kinds import Kind
from portside.api.managed_empty import Path, given_empty
from portside.api.schema import in_order, parse_json, parse_yaml, strict_text
from portside.api.schema_tree import definition_name
from portside.api.status import ApiError, bad_request
from portside.base.remembered import Remembered
from portside.server.negotiate import JSON, OFFERED, YAML, body_media, unsupported_body
from portside.server.request import Request

if TYPE_CHECKING:
    from portside.api.schema import Schema

Json = dict[str, Any]
# Kinds that older groups had: known to upstream's decoder, not to this table of kinds.
OLD_HOMES = {("extensions", "Scale"), ("apps", "Scale")}
SCHEME = "pkg/runtime/scheme.go:111"
LIMIT = 3145728
LARGE_YAML = 128 * 1024
"""Bytes of YAML from which on it is parsed beside the loop: at 2.5 MB a second everybody else would wait."""
BODIES_MET = 64
"""Bodies per kind remembered in each of two generations."""
LARGEST_MET = 16 * 1024
"""Bytes of a body beyond which it is not remembered."""
# A number that YAML's rules write otherwise than JSON's: 1.0 becomes 1.
_FRACTION = re.compile(rb"[:,\[]\s*-?\d+[.eE]")
_EMPTY_LIST = re.compile(rb"\[\s*\]")
T = TypeVar("T")


def too_large() -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {LIMIT}")


def check_size(request: Request) -> None:
    if request.too_large:
        raise too_large()


def read(request: Request, kind: Kind | None = None) -> tuple[bytes, str]:
    """The body and its media type; protobuf, which custom resources don't have, is turned into JSON here. Raises 415 and
    413, in this order."""
    media = body_media(request.header("content-type"))
    if media not in OFFERED or (media == protobuf.MEDIA and kind is not None and kind.custom):
        raise unsupported_body()
    check_size(request)
    if media == protobuf.MEDIA:
        return (orjson.dumps(protobuf.decode(request.body)) if request.body else b""), JSON
    return request.body, media


def parse(raw: bytes, media: str) -> tuple[Any, list[str]]:
    """The document and its duplicate fields. Raises 400."""
    if media != YAML:
        return parse_json(raw)
    if raw.startswith(b"{") and not _FRACTION.search(raw):  # kubectl and helm apply JSON under YAML's name
        try:
            value, problems = parse_json(raw)
        except ApiError:
            return parse_yaml(raw)
        if not problems:
            return value, problems
    return parse_yaml(raw)


async def beside(raw: bytes, media: str, work: Callable[..., T], *given: Any) -> T:
    """``work(*given)``; in a thread when it parses much YAML, so that the server goes on answering."""
    if media == YAML and len(raw) >= LARGE_YAML:
        return await asyncio.to_thread(work, *given)
    return work(*given)


class Met:
    """Bodies of one kind that come again and again, with what becomes of them: those of objects that leave their name to the
    server, such as the pods of a ReplicaSet. None of them had a problem to be told."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: Remembered[bytes, bytes] = Remembered(BODIES_MET)

    def key(self, raw: bytes, media: str, namespace: str, manager: str) -> bytes | None:
        """Under what the body, sent to a namespace by a field manager, is remembered; None for one that hardly comes again."""
        if media != JSON or len(raw) > LARGEST_MET or b'"generateName":"' not in raw or b'"managedFields"' in raw:
            return None
        return blake2b(b"%s\n%s\n%s" % (namespace.encode(), manager.encode(), raw), digest_size=16).digest()

    def owned(self, key: bytes | None, now: str) -> Json | None:
        """An object of one's own with its first manager as of ``now``, None when the body was not met before."""
        known = self._known.get(key) if key is not None else None
        if known is None:
            return None
        obj: Json = orjson.loads(known)
        for entry in obj["metadata"].get("managedFields") or ():
            entry["time"] = now
        return obj

    def put(self, key: bytes | None, obj: Json) -> None:
        if key is not None:
            self._known.put(key, orjson.dumps(obj))


def _internal_name(kind: Kind) -> str:
    return (kind.group.partition(".")[0] or "core") + "." + kind.kind


def check_type(value: Json, kind: Kind, raw: bytes) -> None:
    """Fills in what is left out of apiVersion and kind; raises 400 when they name something else."""
    if kind.custom:
        _check_custom(value, kind, raw)
        return
    version, name = value.get("apiVersion") or kind.api_version, value.get("kind") or kind.kind
    if not isinstance(version, str) or not isinstance(name, str):
        raise bad_request("couldn't get version/kind; json parse error: json: cannot unmarshal into Go struct field")
    if version.count("/") > 1:
        start = raw[:30].decode("utf-8", "replace")
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): unexpected GroupVersion string: "
            f"{version} ({start} ...)"
        )
    group, _, short = version.rpartition("/")
    if version != kind.api_version or name != kind.kind:
        prefix = f'{name} in version "{short}" cannot be handled as a {kind.kind}: '
        known = definition_name(group, short, name) is not None
        if name == kind.kind and group != kind.group and (group, name) in OLD_HOMES:
            raise bad_request(
                f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
            )
        if not known:
            raise bad_request(f'{prefix}no kind "{name}" is registered for version "{version}" in scheme "{SCHEME}"')
        if name != kind.kind or group != kind.group:
            raise bad_request(f"{prefix}converting ({short}.{name}) to ({_internal_name(kind)}): unknown conversion")
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
        )
    value["apiVersion"], value["kind"] = version, name


def _check_custom(value: Json, kind: Kind, raw: bytes) -> None:
    """A custom resource says what it is. Another kind is refused by validation, another version here. Raises 400."""
    text = raw.decode("utf-8", "replace")
    if any(value.get(field) is not None and not isinstance(value[field], str) for field in ("kind", "apiVersion")):
        raise bad_request("couldn't get version/kind; json parse error: json: cannot unmarshal into Go struct field")
    if not value.get("kind") and raw:
        start = text if len(text) <= 30 else f"{text[:30]} ..."
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): Object 'Kind' is missing in '{text}' "
            f"({start})"
        )
    version = value.get("apiVersion") or ""
    if version != kind.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
        )


def prefix_of(kind: Kind) -> str:
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '


def decode(raw: bytes, media: str, kind: Kind, schema: Schema, validation: str, warnings: list[str]) -> Json:
    """The object of a body: parsed, its type checked, unknown fields dropped. Problems are refused, told or ignored as
    ``validation`` (Strict, Warn, Ignore) says."""
    try:
        value, problems = parse(raw, media)
    except ApiError as error:
        raise _told(error, kind) from None
    value = {} if value is None else getattr(problems, "typed", None) or value
    if not isinstance(value, dict):
        what = {list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        raise bad_request(
            "couldn't get version/kind; json parse error: json: cannot unmarshal "
            f'{what} into Go value of type struct {{ APIVersion string "json:\\"apiVersion,omitempty\\""; '
            'Kind string "json:\\"kind,omitempty\\"" }'
        )
    check_type(value, kind, raw)
    try:
        unknown = schema.decode(value)
    except ApiError as error:
        raise _told(error, kind) from None
    if not isinstance(value.get("metadata"), dict):
        value["metadata"] = {}
    if (unknown or problems) and validation != "Ignore":
        if validation == "Strict":
            if kind.custom:
                raise bad_request(f"{prefix_of(kind)}strict decoding error: {', '.join((*problems, *unknown))}")
            raise bad_request(prefix_of(kind) + strict_text(problems, unknown))
        warnings.extend((*problems, *unknown) if kind.custom else in_order(problems, unknown))
    return value


def empty_lists(raw: bytes, media: str, schema: Schema) -> list[Path]:
    """Where a body that was decoded before has empty lists which its writer owns."""
    return given_empty(schema, parse(raw, media)[0]) if _EMPTY_LIST.search(raw) else []


def _told(error: ApiError, kind: Kind) -> ApiError:
    prefix = prefix_of(kind)
    if error.code != 400 or error.message.startswith((prefix, "couldn't get", "the object provided")):
        return error
    return bad_request(prefix + error.message)
