"""CEL selectors over devices, compiled once per expression and answered once per device as published."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

Json = dict[str, Any]
MOST_ANSWERS = 100_000  # (expression, device) pairs remembered


MISSING = ". consider using CEL optional chaining (.? followed by orValue()) or guarding the check with has() for optional fields"


class SelectorFailed(Exception):
    """A selector that says neither yes nor no of a device; the text is upstream's."""


class Matcher:
    """``matches(expression, id, device, version)``. Raises SelectorFailed, also for the remembered."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, tuple[str, str, str], str], bool | str] = OrderedDict()

    def matches(self, expression: str, id_: tuple[str, str, str], device: Json, version: str) -> bool:
        key = (expression, id_, version)
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._evaluate(expression, id_, device)
            if len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
        if isinstance(found, str):
            raise SelectorFailed(found)
        return found

    def _evaluate(self, expression: str, id_: tuple[str, str, str], device: Json) -> bool | str:
        from portside.api.cel.values import EvaluationFailed
        from portside.api.device_selectors import SelectorProblem, compile_selector, matches

        try:
            return matches(compile_selector(expression), device, id_[0])
        except SelectorProblem as problem:
            return f": CEL compile error: {problem}"
        except EvaluationFailed as error:
            hint = MISSING if "no such key:" in str(error) else ""
            return f" on device {'/'.join(id_)}: CEL runtime error: {error}{hint}"
