"""Expressions of webhooks and policies: compiled once, run against a request within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portside.server.admission.subject import Gvr, Subject

Json = dict[str, Any]


class Failed(Exception):
    """The expression has no value; the text is upstream's."""


class OutOfBudget(Exception):
    """The expressions together cost more than they may."""


class Budget:
    """What is left to spend, in CEL's units."""

    def __init__(self, left: int) -> None:
        self.left = left


class Variables:
    """The named expressions of a policy."""

    def __init__(self, said: Sequence[Json], *, params: bool) -> None:
        self.said = tuple(said)
        self.params = params


class Activation:
    """What expressions see of one request."""

    def __init__(self, bindings: Json) -> None:
        self.bindings = bindings

    @classmethod
    async def of(
        cls,
        subject: Subject,
        gvr: Gvr,
        *,
        params: Json | None = None,
        namespace: bool = True,
        variables: Variables | None = None,
    ) -> Activation:
        obj, old = await subject.shown(gvr)
        return cls({"object": obj, "oldObject": old, "params": params})


class Expression:
    """One expression."""

    def __init__(
        self, text: str, result: str = "", *, params: bool = False, authorizer: bool = False,
        variables: Variables | None = None,
    ) -> None:  # fmt: skip
        self.text = text.strip()
        self.result = result

    def run(self, activation: Activation, budget: Budget) -> Any:
        """Its value. Raises Failed and OutOfBudget."""
        raise Failed(f"expression '{self.text}' resulted in error: expressions are not evaluated by this server")
