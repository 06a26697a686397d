"""Refusals as Kubernetes words them: ApiError carries a v1 Status. Texts follow apimachinery's ``errors`` package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portside.api.field import FieldError

Json = dict[str, Any]


class ApiError(Exception):
    """A refusal with its HTTP code and the Status object that goes to the client."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    @property
    def status(self) -> Json:
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body

    @classmethod
    def from_status(cls, body: Json) -> ApiError:
        """The error a client raises for a Status it received."""
        return cls(
            int(body.get("code") or 500),
            str(body.get("reason") or ""),
            str(body.get("message") or ""),
            details=body.get("details"),
        )


def qualified(plural: str, group: str) -> str:
    """``deployments.apps``; the core group has no suffix."""
    return f"{plural}.{group}" if group else plural


def _details(name: str, group: str, kind: str, **more: Any) -> Json:
    details: Json = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    return details | more


def not_found(plural: str, name: str, group: str = "") -> ApiError:
    return ApiError(
        404, "NotFound", f'{qualified(plural, group)} "{name}" not found', details=_details(name, group, plural)
    )


def already_exists(plural: str, name: str, group: str = "") -> ApiError:
    return ApiError(
        409,
        "AlreadyExists",
        f'{qualified(plural, group)} "{name}" already exists',
        details=_details(name, group, plural),
    )


def conflict(plural: str, name: str, why: str, group: str = "") -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(name, group, plural))


def forbidden(plural: str, name: str, why: str, group: str = "") -> ApiError:
    what = f'{qualified(plural, group)} "{name}" is' if name else f"{qualified(plural, group)} is"
    message = f"{what} forbidden: {why}" if plural else f"forbidden: {why}"
    return ApiError(403, "Forbidden", message, details=_details(name, group, plural))


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def internal(message: str) -> ApiError:
    return ApiError(
        500, "InternalError", f"Internal error occurred: {message}", details={"causes": [{"message": message}]}
    )


def invalid(kind: str, name: str, errors: Sequence[FieldError], group: str = "", *, once: bool = False) -> ApiError:
    """422 with every field error, worded as upstream's aggregate: one alone, several in brackets, repeats once. ``once``:
    a repeat is no cause of its own either, as for built-in kinds that are stored."""
    causes: list[Json] = []
    texts: list[str] = []
    for error in errors:
        if once and str(error) in texts:
            continue
        cause: Json = {"reason": error.reason, "message": error.detail_text}
        if error.field:
            cause["field"] = error.field
        causes.append(cause)
        if str(error) not in texts:
            texts.append(str(error))
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    message = (
        f'{qualified(kind, group)} "{name}" is invalid: {text}'
        if texts
        else f'{qualified(kind, group)} "{name}" is invalid'
    )
    return ApiError(422, "Invalid", message, details=_details(name, group, kind, causes=causes))
