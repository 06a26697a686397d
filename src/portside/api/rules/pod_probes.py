"""Validation of probes and lifecycle handlers, in upstream's order and words."""

from __future__ import annotations

import re
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required

Json = dict[str, Any]
Errors = list[FieldError]

_HEADER = re.compile(r"[-A-Za-z0-9]+\Z")
_HEADER_TEXT = (
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation "
    "is '[-A-Za-z0-9]+')"
)
NOT_NEGATIVE = "must be greater than or equal to 0"
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")


def validate_port(port: Any, path: str) -> Errors:
    """A port number or a port's name."""
    if isinstance(port, str):
        return [invalid_value(path, port, p) for p in names.port_name(port)]
    number = port or 0
    return [] if 1 <= number <= 65535 else [invalid_value(path, number, "must be between 1 and 65535, inclusive")]


def _exec(action: Json, path: str) -> Errors:
    return [] if action.get("command") else [required(f"{path}.command")]


def _http(action: Json, path: str) -> Errors:
    errors: Errors = []
    if not action.get("path"):
        errors.append(required(f"{path}.path"))
    errors += validate_port(action.get("port"), f"{path}.port")
    if action.get("scheme") not in ("HTTP", "HTTPS"):
        errors.append(not_supported(f"{path}.scheme", action.get("scheme") or "", ("HTTP", "HTTPS")))
    for header in action.get("httpHeaders") or ():
        name = header.get("name") or ""
        if not _HEADER.match(name):
            errors.append(invalid_value(f"{path}.httpHeaders", name, _HEADER_TEXT))
    return errors


def _tcp(action: Json, path: str) -> Errors:
    return validate_port(action.get("port"), f"{path}.port")


def _sleep(action: Json, grace: int, path: str) -> Errors:
    seconds = action.get("seconds") or 0
    if 0 <= seconds <= grace:
        return []
    text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
    return [invalid_value(path, seconds, text)]


def _handler(handler: Json, kinds: tuple[str, ...], grace: int, path: str) -> Errors:
    errors: Errors = []
    count = 0
    for kind in kinds:
        action = handler.get(kind)
        if action is None:
            continue
        where = f"{path}.{kind}"
        count += 1
        if count > 1:
            errors.append(forbidden_field(where, "may not specify more than 1 handler type"))
        elif kind == "exec":
            errors += _exec(action, where)
        elif kind == "httpGet":
            errors += _http(action, where)
        elif kind == "sleep":
            errors += _sleep(action, grace, where)
        else:
            errors += _tcp(action, where)
    if not count:
        errors.append(required(path, "must specify a handler type"))
    return errors


def _probe(probe: Json, grace: int, path: str) -> Errors:
    errors = _handler(probe, _PROBE_HANDLERS, grace, path)
    for key in _COUNTS:
        value = probe.get(key) or 0
        if value < 0:
            errors.append(invalid_value(f"{path}.{key}", value, NOT_NEGATIVE))
    seconds = probe.get("terminationGracePeriodSeconds")
    if seconds is not None and seconds <= 0:
        errors.append(invalid_value(f"{path}.terminationGracePeriodSeconds", seconds, "must be greater than 0"))
    return errors


def validate_probes(container: Json, grace: int, path: str) -> Errors:
    """Liveness, readiness and startup probe of a container that may have them."""
    errors: Errors = []
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(key)
        if probe is None:
            continue
        where = f"{path}.{key}"
        errors += _probe(probe, grace, where)
        if key != "readinessProbe":
            if probe.get("successThreshold") not in (None, 1):
                errors.append(invalid_value(f"{where}.successThreshold", probe["successThreshold"], "must be 1"))
        elif probe.get("terminationGracePeriodSeconds") is not None and probe["terminationGracePeriodSeconds"] > 0:
            seconds = probe["terminationGracePeriodSeconds"]
            text = "must not be set for readinessProbes"
            errors.append(invalid_value(f"{where}.terminationGracePeriodSeconds", seconds, text))
    return errors


def validate_lifecycle(lifecycle: Json, grace: int, path: str) -> Errors:
    errors: Errors = []
    for key in ("postStart", "preStop"):
        handler = lifecycle.get(key)
        if handler is not None:
            errors += _handler(handler, _HANDLERS, grace, f"{path}.{key}")
    return errors
