"""CEL selectors over devices, compiled once per expression and answered once per device as published."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from typing import Any

Json = dict[str, Any]
log = logging.getLogger("portside.scheduler")
MOST_ANSWERS = 100_000  # (expression, device) pairs remembered
MOST_PROGRAMS = 1000
_QUOTED = re.compile(r"""["']([^"'\\]+)["']""")


class Matcher:
    """``matches(expression, id, device, version)``. An expression that fails on a device does not match it."""

    def __init__(self) -> None:
        self._programs: OrderedDict[str, Any] = OrderedDict()
        self._answers: OrderedDict[tuple[str, tuple[str, str, str], str], bool] = OrderedDict()

    def matches(self, expression: str, id_: tuple[str, str, str], device: Json, version: str) -> bool:
        key = (expression, id_, version)
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._evaluate(expression, id_[0], device)
            if len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
        return found

    def _evaluate(self, expression: str, driver: str, device: Json) -> bool:
        from portside.api.cel.values import EvaluationFailed

        program = self._program(expression)
        if program is None:
            return False
        try:
            return program.evaluate({"device": view(driver, device, domains_in(expression))}) is True
        except EvaluationFailed as error:
            log.debug("selector %s on %s: %s", expression, device.get("name"), error)
            return False

    def _program(self, expression: str) -> Any:
        from portside.api.cel import CompileFailure, compile_expression
        from portside.api.cel.types import DYN

        if expression not in self._programs:
            try:
                made: Any = compile_expression(expression, variables={"device": DYN})
            except CompileFailure as error:
                log.warning("selector %s can't be compiled: %s", expression, error)
                made = None
            self._programs[expression] = made
            if len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)
        return self._programs[expression]


def domains_in(expression: str) -> list[str]:
    """Quoted words of an expression: the domains it may ask for. One that a device lacks is empty, not an error."""
    return _QUOTED.findall(expression)


def view(driver: str, device: Json, domains: list[str]) -> Json:
    """The variable ``device``: driver, attributes and capacity by domain; a name without a domain is the driver's."""
    from portside.api.cel import lib_quantity, lib_semver

    def split(name: str) -> tuple[str, str]:
        domain, slash, short = name.partition("/")
        return (domain, short) if slash else (driver, name)

    attributes: dict[str, Json] = {domain: {} for domain in domains}
    capacity: dict[str, Json] = {domain: {} for domain in domains}
    for name, held in (device.get("attributes") or {}).items():
        domain, short = split(name)
        kind, found = next(iter(held.items()), ("string", ""))
        if kind == "version":
            found = lib_semver.parse(found)
        elif kind == "versions":
            found = [lib_semver.parse(v) for v in found]
        attributes.setdefault(domain, {})[short] = found
    for name, held in (device.get("capacity") or {}).items():
        domain, short = split(name)
        capacity.setdefault(domain, {})[short] = lib_quantity.parse(str(held["value"]))
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
    }
