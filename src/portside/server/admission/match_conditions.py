"""matchConditions of webhooks and policies: expressions that may take a request out. Upstream's rule for errors: one condition
that is false decides; else an error is a refusal where failures are, and means "not concerned" where they are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portside.server.admission.expressions import Expression
    from portside.server.admission.subject import Gvr, Subject

Json = dict[str, Any]
BUDGET = 2_500_000
"""What all conditions of one webhook or policy may cost together, in CEL's units."""


class Cannot(Exception):
    """No condition says no, but some could not be evaluated."""


class Conditions:
    """The conditions of one webhook or policy, compiled when first asked."""

    def __init__(self, said: Sequence[Json], *, fails: bool, params: bool = False) -> None:
        self._said = tuple(said)
        self._fails = fails
        self._params = params

    def __bool__(self) -> bool:
        return bool(self._said)

    @cached_property
    def _expressions(self) -> tuple[Expression, ...]:
        from portside.server.admission.expressions import Expression

        return tuple(Expression(c.get("expression") or "", params=self._params, authorizer=True) for c in self._said)

    async def hold(self, subject: Subject, gvr: Gvr, params: Json | None = None) -> bool:
        """Whether the request stays concerned. Raises Cannot."""
        if not self._said:
            return True
        from portside.server.admission.expressions import Activation, Budget, Failed, OutOfBudget

        activation = await Activation.of(subject, gvr, params=params, namespace=False)
        budget, problems = Budget(BUDGET), []
        for expression in self._expressions:
            try:
                if expression.run(activation, budget) is False:
                    return False
            except OutOfBudget as spent:
                problems = [str(spent)]
                break
            except Failed as problem:
                problems.append(str(problem))
        if not problems:
            return True
        if not self._fails:
            return False
        raise Cannot(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
