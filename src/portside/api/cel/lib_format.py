"""Named formats: ``format.dns1123Label().validate(self)`` yields the problems, or nothing."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from portside.api import names
from portside.api.cel import lib_url, stdlib_time
from portside.api.cel.values import Opaque, Optional

_UUID = re.compile(r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


def _byte(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _uri(text: str) -> list[str]:
    problem = lib_url.problem_of(text)
    return [problem] if problem else []


_FORMATS: dict[str, Callable[[str], list[str]]] = {
    "byte": _byte,
    "date": lambda text: [] if stdlib_time.parse_date(text) else ["invalid date"],
    "datetime": lambda text: [] if stdlib_time.parse_timestamp(text) else ["invalid datetime"],
    "dns1035Label": names.dns_label_1035,
    "dns1035LabelPrefix": lambda text: names.dns_label_1035(text, prefix=True),
    "dns1123Label": names.dns_label,
    "dns1123LabelPrefix": lambda text: names.dns_label(text, prefix=True),
    "dns1123Subdomain": names.dns_subdomain,
    "dns1123SubdomainPrefix": lambda text: names.dns_subdomain(text, prefix=True),
    "labelValue": names.label_value,
    "qualifiedName": names.qualified_name,
    "uri": _uri,
    "uuid": lambda text: [] if _UUID.match(text) else ["does not match the UUID format"],
}
_SIZES = {
    "byte": 84,
    "date": 72,
    "datetime": 72,
    "dns1035Label": 32,
    "dns1035LabelPrefix": 32,
    "dns1123Label": 32,
    "dns1123LabelPrefix": 32,
    "dns1123Subdomain": 60,
    "dns1123SubdomainPrefix": 60,
    "labelValue": 40,
    "qualifiedName": 60,
    "uri": 1104,
    "uuid": 72,
}
DECLARATIONS = "\n".join(f"format.{name}: format.{name}() -> NamedFormat" for name in _FORMATS) + (
    """
format-named: format.named(string) -> optional(NamedFormat)
format-validate: NamedFormat :: validate(string) -> optional(list(string))
"""
)


class NamedFormat(Opaque):
    """A format by its name."""

    __slots__ = ("name",)
    TYPE_NAME = "kubernetes.NamedFormat"

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def SIZE(self) -> int:
        """The length of the pattern that checking the format is accounted as."""
        return _SIZES[self.name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedFormat) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def _named(name: str) -> Optional:
    return Optional(NamedFormat(name)) if name in _FORMATS else Optional.NONE


def _validate(named: NamedFormat, text: str) -> Optional:
    problems = _FORMATS[named.name](text)
    return Optional(problems) if problems else Optional.NONE


def _maker(name: str) -> Callable[[], NamedFormat]:
    made = NamedFormat(name)
    return lambda: made


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    **{f"format.{name}": _maker(name) for name in _FORMATS},
    "format-named": _named,
    "format-validate": _validate,
}
