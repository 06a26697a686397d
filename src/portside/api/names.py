"""Validators of names, each ``(name, prefix) -> problems`` in upstream's words. ``prefix``: a generateName is checked."""

from __future__ import annotations

import re

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
ENV_NAME = r"[-._a-zA-Z][-._a-zA-Z0-9]*"
CONFIG_KEY = r"[-._a-zA-Z0-9]+"

_LABEL = re.compile(LABEL + r"\Z")
_SUBDOMAIN = re.compile(SUBDOMAIN + r"\Z")
_LABEL_1035 = re.compile(LABEL_1035 + r"\Z")
_QUALIFIED = re.compile(QUALIFIED + r"\Z")
_LABEL_VALUE = re.compile(rf"({QUALIFIED})?\Z")
_RELAXED_ENV = re.compile(r"[ -<>-~]+\Z")
_CONFIG_KEY = re.compile(CONFIG_KEY + r"\Z")
_PORT_CHARS = re.compile(r"[-a-z0-9]+\Z")
_WILDCARD = re.compile(rf"\*\.{SUBDOMAIN}\Z")
_LETTER = re.compile(r"[a-z]")

EMPTY = "must be non-empty"
LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    f"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
)
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    f"with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
)
LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and "
    f"end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '{LABEL_1035}')"
)
QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{QUALIFIED}')"
)
LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'({QUALIFIED})?')"
)
ENV_TEXT = (
    "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start "
    f"with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is '{ENV_NAME}')"
)
RELAXED_ENV_TEXT = "a valid environment variable name must consist only of printable ASCII characters other than '='"
CONFIG_KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{CONFIG_KEY}')"
)


def too_long(maximum: int) -> str:
    return f"must be no more than {maximum} characters"


def too_many_bytes(maximum: int) -> str:
    """Keys and values of labels are counted in bytes by upstream's text, names in characters."""
    return f"must be no more than {maximum} bytes"


def _size(name: str) -> int:
    return len(name) if name.isascii() else len(name.encode())


def _masked(name: str, prefix: bool) -> str:
    """A prefix may end with '-': what the server appends follows. Upstream puts an 'a' there."""
    return name[:-1] + "a" if prefix and len(name) > 1 and name.endswith("-") else name


def is_label(value: str) -> list[str]:
    problems = [too_long(63)] if _size(value) > 63 else []
    if not _LABEL.match(value):
        problems.append(_label_text(value))
    return problems


def _label_text(value: str) -> str:
    """The label text, or the hint that dots are not allowed."""
    if _SUBDOMAIN.match(value):
        return "must not contain dots"
    return LABEL_TEXT


def is_subdomain(value: str) -> list[str]:
    problems = [too_long(253)] if _size(value) > 253 else []
    if not _SUBDOMAIN.match(value):
        problems.append(SUBDOMAIN_TEXT)
    return problems


def is_label_1035(value: str) -> list[str]:
    problems = [too_long(63)] if _size(value) > 63 else []
    if not _LABEL_1035.match(value):
        problems.append(LABEL_1035_TEXT)
    return problems


def is_wildcard_subdomain(value: str) -> list[str]:
    problems = [too_long(253)] if _size(value) > 253 else []
    if not _WILDCARD.match(value):
        problems.append(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
            "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
            rf"regex used for validation is '\*\.{SUBDOMAIN}')"
        )
    return problems


def dns_label(name: str, prefix: bool = False) -> list[str]:
    return is_label(_masked(name, prefix))


def dns_subdomain(name: str, prefix: bool = False) -> list[str]:
    return is_subdomain(_masked(name, prefix))


def dns_label_1035(name: str, prefix: bool = False) -> list[str]:
    return is_label_1035(_masked(name, prefix))


def path_segment(name: str, prefix: bool = False) -> list[str]:
    """The least a name must fulfil to stand in a path; RBAC's kinds have no other rule."""
    if not prefix:
        if name == ".":
            return ["may not be '.'"]
        if name == "..":
            return ["may not be '..'"]
    return [f"may not contain '{c}'" for c in ("/", "%") if c in name]


def qualified_name(value: str) -> list[str]:
    """A label key or resource name: ``[prefix/]name``."""
    parts = value.split("/")
    problems: list[str] = []
    if len(parts) == 1:
        name = parts[0]
    elif len(parts) == 2:
        prefix, name = parts
        if not prefix:
            problems.append(f"prefix part {EMPTY}")
        else:
            problems += [f"prefix part {too_many_bytes(253)}"] if _size(prefix) > 253 else []
            if not _SUBDOMAIN.match(prefix):
                problems.append(f"prefix part {SUBDOMAIN_TEXT}")
    else:
        return [
            f"a valid label key {QUALIFIED_TEXT} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    if not name:
        problems.append(f"name part {EMPTY}")
    elif _size(name) > 63:
        problems.append(f"name part {too_many_bytes(63)}")
    if not _QUALIFIED.match(name):
        problems.append(f"name part {QUALIFIED_TEXT}")
    return problems


def label_value(value: str) -> list[str]:
    problems = [too_many_bytes(63)] if _size(value) > 63 else []
    if not _LABEL_VALUE.match(value):
        problems.append(LABEL_VALUE_TEXT)
    return problems


def env_name(value: str) -> list[str]:
    """Environment variable names are relaxed since 1.34: printable ASCII other than '='."""
    return [] if _RELAXED_ENV.match(value) else [RELAXED_ENV_TEXT]


def config_key(value: str) -> list[str]:
    problems = [too_long(253)] if _size(value) > 253 else []
    if not _CONFIG_KEY.match(value):
        problems.append(CONFIG_KEY_TEXT)
    if value == ".":
        problems.append("must not be '.'")
    elif value == "..":
        problems.append("must not be '..'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def port_name(value: str) -> list[str]:
    """An IANA service name."""
    problems = ["must be no more than 15 characters"] if len(value) > 15 else []
    if not _PORT_CHARS.match(value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not _LETTER.search(value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]
