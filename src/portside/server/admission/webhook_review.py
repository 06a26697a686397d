"""AdmissionReview: what a webhook is asked, and what its answer means. Pure.

Field for field as upstream writes them, in v1 and v1beta1; and upstream's words for answers that are none.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import orjson

from portside.api.status import ApiError

Json = dict[str, Any]
GROUP = "admission.k8s.io"
LEAST_CODE = 400


class BadAnswer(Exception):
    """The answer is no AdmissionReview that can be used."""


class BadPatch(Exception):
    """The answer's patch is no JSON patch."""


@dataclass(slots=True)
class Answer:
    """``patch`` is a JSON patch as it came, empty without one."""

    allowed: bool
    status: Json
    patch: bytes = b""
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)


def ask(
    version: str, uid: str, request: Json, obj: Json | None, old: Json | None, dry_run: bool, options: Any
) -> bytes:
    """The body of the call."""
    asked = {"uid": uid} | request | {"object": obj, "oldObject": old, "dryRun": dry_run, "options": options}
    return orjson.dumps({"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": asked})


def read(raw: bytes, version: str, uid: str, *, mutating: bool) -> Answer:
    """The answer's meaning. Raises BadAnswer."""
    try:
        said = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadAnswer("couldn't get version/kind; json parse error: invalid answer") from None
    if not isinstance(said, dict):
        raise BadAnswer("couldn't get version/kind; json parse error: the answer is not an object")
    _check_type(said, version)
    response = said.get("response")
    if not isinstance(response, dict):
        raise BadAnswer("webhook response was absent")
    if version == "v1" and response.get("uid") != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    status = response.get("status")
    warnings, notes = response.get("warnings") or [], response.get("auditAnnotations") or {}
    return Answer(
        bool(response.get("allowed")),
        status if isinstance(status, dict) else {},
        _patch(response, version, mutating),
        [w for w in warnings if isinstance(w, str)] if isinstance(warnings, list) else [],
        {k: v for k, v in notes.items() if isinstance(v, str)} if isinstance(notes, dict) else {},
    )


def _check_type(said: Json, version: str) -> None:
    have, kind = said.get("apiVersion") or "", said.get("kind") or ""
    if version == "v1beta1" and not have and not kind:
        return
    if have != f"{GROUP}/{version}" or kind != "AdmissionReview":
        group, _, short = have.rpartition("/")
        got = f"{group}/{short}, Kind={kind}"
        raise BadAnswer(f"expected webhook response of {GROUP}/{version}, Kind=AdmissionReview, got {got}")


def _patch(response: Json, version: str, mutating: bool) -> bytes:
    patch, kind = response.get("patch") or "", response.get("patchType")
    if version == "v1" and not mutating:
        if patch:
            raise BadAnswer("validating webhook may not return response.patch")
        if kind is not None:
            raise BadAnswer("validating webhook may not return response.patchType")
    if not mutating:
        return b""
    if version == "v1" and patch and kind is None:
        raise BadAnswer("webhook returned response.patch but not response.patchType")
    if version == "v1" and not patch and kind is not None:
        raise BadAnswer("webhook returned response.patchType but not response.patch")
    if patch and kind not in ("JSONPatch", None):
        raise BadAnswer(f'webhook returned invalid response.patchType of "{kind}"')
    try:
        return base64.b64decode(patch, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise BadAnswer("illegal base64 data in response.patch") from None


def operations(patch: bytes) -> list[Any]:
    """The operations of a patch. Raises BadPatch."""
    try:
        made = orjson.loads(patch) if patch else None
    except orjson.JSONDecodeError:
        raise BadPatch("invalid character in the patch") from None
    if made is None:
        return []
    if not isinstance(made, list) or not all(isinstance(op, dict) for op in made):
        kind = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(made), "number")
        raise BadPatch(f"json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch")
    return made


def refusal(name: str, status: Json) -> ApiError:
    """The denial of a webhook: its own status, never below 400, never a success."""
    denied = f'admission webhook "{name}" denied the request'
    message, reason = str(status.get("message") or ""), str(status.get("reason") or "")
    if message:
        text = f"{denied}: {message}"
    elif reason:
        text = f"{denied}: {reason}"
    else:
        text = f"{denied} without explanation"
    code, details = status.get("code"), status.get("details")
    return ApiError(
        code if isinstance(code, int) and code >= LEAST_CODE else LEAST_CODE,
        reason,
        text,
        details=details if isinstance(details, dict) else None,
    )
