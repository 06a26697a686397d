"""CEL selectors over devices, compiled once per expression and answered once per device as published."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

Json = dict[str, Any]
log = logging.getLogger("portside.scheduler")
MOST_ANSWERS = 100_000  # (expression, device) pairs remembered


class Matcher:
    """``matches(expression, id, device, version)``. An expression that fails on a device does not match it."""

    def __init__(self) -> None:
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
        from portside.api.device_selectors import SelectorProblem, compile_selector, matches

        try:
            return matches(compile_selector(expression), device, driver)
        except SelectorProblem as problem:
            log.warning("selector %s can't be compiled: %s", expression, problem)
        except EvaluationFailed as error:
            log.debug("selector %s on %s: %s", expression, device.get("name"), error)
        return False
