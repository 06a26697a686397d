"""What the conformance tests of admission share: a webhook server of their own, and namespaces that webhooks look at."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.conformance.ground import complete
from tests.conftest import Cluster
from tests.webhook_server import Decide, WebhookServer

Json = dict[str, Any]
API = "admissionregistration.k8s.io/v1"


def rule(resource: str, *operations: str, group: str = "", version: str = "v1") -> Json:
    """One rule of a webhook or a policy."""
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": list(operations or ("CREATE", "UPDATE")),
        "resources": [resource],
    }


class Ground:
    """A namespace of the test's own, with webhooks and policies that see nothing else of the cluster."""

    def __init__(self, cluster: Cluster, hooks: WebhookServer) -> None:
        self.cluster = cluster
        self.hooks = hooks
        self.name = f"adm-{uuid.uuid4().hex[:8]}"
        self._made: list[str] = []
        cluster.kubectl("create", "namespace", self.name)
        cluster.kubectl("label", "namespace", self.name, f"ground={self.name}")
        complete(cluster, self.name)  # webhooks are asked of what controllers put into it as well

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.name, *words, stdin=stdin, check=check)

    def refused(self, *words: str, stdin: str | None = None) -> str:
        """What a command says that must fail."""
        said = self("--request-timeout=35s", *words, stdin=stdin, check=False)
        assert re.search(r"\b(error|Error|denied|forbidden|invalid)\b", said), (
            f"kubectl {' '.join(words)} went through: {said}"
        )
        return said

    def put(self, body: Json, *, check: bool = True) -> str:
        """Create any object."""
        return self("create", "-f", "-", stdin=json.dumps(body), check=check)

    def replace(self, kind: str, name: str, edit: Callable[[Json], Any], *words: str) -> None:
        """Get, ``edit`` and replace with kubectl: anew where a controller wrote in between, as kubectl itself says."""
        end = time.monotonic() + 60
        while True:
            body = self.get(kind, name)
            edit(body)
            said = self("replace", "-f", "-", *words, stdin=json.dumps(body), check=False)
            if " replaced\n" in said:
                return
            assert "(Conflict)" in said and time.monotonic() < end, said

    def get(self, *words: str) -> Json:
        found: Json = json.loads(self("get", *words, "-o", "json"))
        return found

    @property
    def selector(self) -> Json:
        return {"matchLabels": {"ground": self.name}}

    def hook(self, name: str, decide: Decide | None, *rules: Json, delay: float = 0, **more: Any) -> Json:
        """One webhook of a configuration; without ``decide`` nobody is there."""
        path = f"/{self.name}/{name}"
        if decide is not None:
            self.hooks.on(path, decide, delay=delay)
        said = {
            "name": f"{name}.{self.name}.example.com",
            "clientConfig": self.hooks.at(path) if decide is not None else {"url": "https://127.0.0.1:1/none"},
            "rules": list(rules),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": self.selector,
        }
        return said | more

    def asked(self, name: str) -> list[Json]:
        return [review["request"] for review in self.hooks.asked[f"/{self.name}/{name}"]]

    def configure(self, kind: str, name: str, *hooks: Json) -> str:
        """A configuration of webhooks; answers its name for kubectl. ``kind``: Mutating or Validating."""
        full = f"{name}-{self.name}"
        self.put(
            {
                "apiVersion": API,
                "kind": f"{kind}WebhookConfiguration",
                "metadata": {"name": full, "labels": {"ground": self.name}},
                "webhooks": list(hooks),
            }
        )
        self._made.append(f"{kind.lower()}webhookconfiguration/{full}")
        return self._made[-1]

    def policy(self, kind: str, name: str, **spec: Any) -> str:
        """A policy; answers its full name."""
        full = f"{name}-{self.name}"
        rules = spec.pop("rules")
        constraints = {"resourceRules": rules, "namespaceSelector": self.selector}
        body = {
            "apiVersion": API,
            "kind": f"{kind}AdmissionPolicy",
            "metadata": {"name": full, "labels": {"ground": self.name}},
        }
        self.put(body | {"spec": {"matchConstraints": constraints} | spec})
        self._made.append(f"{kind.lower()}admissionpolicy/{full}")
        return full

    def bind(self, kind: str, policy: str, **spec: Any) -> str:
        body = {
            "apiVersion": API,
            "kind": f"{kind}AdmissionPolicyBinding",
            "metadata": {"name": policy, "labels": {"ground": self.name}},
        }
        self.put(body | {"spec": {"policyName": policy} | spec})
        self._made.append(f"{kind.lower()}admissionpolicybinding/{policy}")
        return policy

    def leave(self) -> None:
        """Take everything away."""
        for made in reversed(self._made):
            self.cluster.kubectl("delete", made, "--ignore-not-found", check=False)
        self.cluster.kubectl("delete", "namespace", self.name, "--wait=false", check=False)
