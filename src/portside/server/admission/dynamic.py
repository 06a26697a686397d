"""What the cluster's users have put into admission: webhooks and policies, compiled from their objects as they change.

The mirrors feed it from within each commit, so a change holds for the next request. A cluster without any pays for two
attribute reads per write.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from portside.server.admission.match_conditions import Conditions
from portside.server.admission.matching import Match

if TYPE_CHECKING:
    from portside.server.admission.policy import Policy
    from portside.server.live import Live, Mirror

Json = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
WEBHOOKS = {True: "mutatingwebhookconfigurations", False: "validatingwebhookconfigurations"}
POLICIES = {True: "mutatingadmissionpolicies", False: "validatingadmissionpolicies"}
BINDINGS = {True: "mutatingadmissionpolicybindings", False: "validatingadmissionpolicybindings"}
REVIEWS = ("v1", "v1beta1")


@dataclass(eq=False)
class Hook:
    """One webhook of ``configuration``. ``key`` names it for reinvocation, ``seconds`` is its time."""

    key: str
    configuration: str
    said: Json

    @property
    def name(self) -> str:
        return str(self.said.get("name") or "")

    @cached_property
    def match(self) -> Match:
        return Match.of(self.said, "rules")

    @cached_property
    def conditions(self) -> Conditions:
        return Conditions(self.said.get("matchConditions") or (), fails=not self.ignores)

    @property
    def client(self) -> Json:
        found: Json = self.said.get("clientConfig") or {}
        return found

    @property
    def ignores(self) -> bool:
        """A call that fails is no reason to refuse."""
        return self.said.get("failurePolicy") == "Ignore"

    @property
    def seconds(self) -> int:
        return int(self.said.get("timeoutSeconds") or 10)

    @property
    def dry_run_ok(self) -> bool:
        return self.said.get("sideEffects") in ("None", "NoneOnDryRun")

    @property
    def repeatable(self) -> bool:
        return self.said.get("reinvocationPolicy") == "IfNeeded"

    @property
    def version(self) -> str:
        """The AdmissionReview version to speak, "" when it knows none of ours."""
        return next((v for v in self.said.get("admissionReviewVersions") or () if v in REVIEWS), "")


def compile_hooks(configurations: list[Json]) -> tuple[Hook, ...]:
    """All webhooks in the order of their calls: configurations by name, within one as written."""
    ordered = sorted(configurations, key=lambda c: str(c["metadata"].get("name")))
    return tuple(
        Hook(f"{name}/{hook.get('name')}/{at}", name, hook)
        for c in ordered
        for name in (str(c["metadata"].get("name")),)
        for at, hook in enumerate(c.get("webhooks") or ())
    )


class Half:
    """The mutating or the validating half."""

    def __init__(self, live: Live, mutating: bool) -> None:
        self.mutating = mutating
        self._webhooks = live.of(WEBHOOKS[mutating], GROUP)
        self._policies = live.of(POLICIES[mutating], GROUP)
        self._bindings = live.of(BINDINGS[mutating], GROUP)
        self.active = False
        self._hooks: tuple[Hook, ...] | None = None
        self._compiled: tuple[Policy, ...] | None = None
        self._kept: dict[str, tuple[Json, Policy]] = {}
        self._webhooks.on_change(self._webhooks_changed)
        for mirror in (self._policies, self._bindings):
            mirror.on_change(self._policies_changed)

    def _webhooks_changed(self, key: str) -> None:
        self._hooks = None
        self._count()

    def _policies_changed(self, key: str) -> None:
        self._compiled = None
        self._count()

    def _count(self) -> None:
        self.active = bool(len(self._webhooks) or (len(self._policies) and len(self._bindings)))

    @property
    def hooks(self) -> tuple[Hook, ...]:
        if self._hooks is None:
            self._hooks = compile_hooks(list(self._webhooks.items()))
        return self._hooks

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Policies with their bindings, both by name; those without a binding do nothing and are left out."""
        if self._compiled is None:
            self._compiled = self._compile()
        return self._compiled

    def _compile(self) -> tuple[Policy, ...]:
        if not len(self._policies) or not len(self._bindings):
            self._kept.clear()
            return ()
        from portside.server.admission.policy import Policy, bindings_by_policy

        bound = bindings_by_policy(self._bindings.items())
        kept: dict[str, tuple[Json, Policy]] = {}
        for said in _by_name(self._policies):
            name = str(said["metadata"]["name"])
            if name not in bound:
                continue
            before = self._kept.get(name)
            # Compiled expressions are kept while the policy itself stays as it is.
            policy = before[1] if before is not None and before[0] is said else Policy(said, self.mutating)
            policy.bindings = bound[name]
            kept[name] = (said, policy)
        self._kept = kept
        return tuple(policy for _, policy in kept.values())


def _by_name(mirror: Mirror) -> list[Json]:
    return sorted(mirror.items(), key=lambda o: str(o["metadata"]["name"]))


class Dynamic:
    """Both halves."""

    def __init__(self, live: Live) -> None:
        self.mutating = Half(live, True)
        self.validating = Half(live, False)

    @property
    def active(self) -> bool:
        """Whether anybody is asked about anything."""
        return self.mutating.active or self.validating.active
