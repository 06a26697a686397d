"""Writes the type check of every ValidatingAdmissionPolicy into its status, once for each generation."""

from __future__ import annotations

from typing import Any

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.served import CRDS

POLICIES: Resource = ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
MANAGER = "validatingadmissionpolicy-status"


def plan(view: View, key: str, now: float) -> Plan:
    policy = view.key(POLICIES, key)
    if policy is None:
        return NOTHING
    generation = int(policy["metadata"].get("generation") or 0)
    if generation <= int((policy.get("status") or {}).get("observedGeneration") or 0):
        return NOTHING
    from portside.api.admission_typecheck import expression_warnings

    schemas = _Schemas(view)
    spec = policy.get("spec") or {}
    found = expression_warnings(spec, schemas.of, schemas.param(spec.get("paramKind") or {}))
    checking: Json = {"expressionWarnings": found} if found else {}
    status = {"observedGeneration": generation, "typeChecking": checking}
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": key},
        "status": status,
    }
    return Plan(
        [
            patch(
                POLICIES,
                policy,
                body,
                patch_type="apply",
                subresource="status",
                ignore=frozenset({404}),
                manager=MANAGER,
            )
        ]
    )


class _Schemas:
    """Schemas by resource, built-in and custom; the published definitions are read when first asked for."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._definitions: Json | None = None

    def of(self, group: str, version: str, plural: str) -> tuple[str, Json] | None:
        from portside.api.kinds import KINDS

        for kind in KINDS:
            if (kind.group, kind.version, kind.plural) == (group, version, plural):
                return self._built_in(group, version, kind.kind)
        return self._custom(group, version, lambda names: names.get("plural") == plural)

    def param(self, said: Json) -> Json | None:
        """The schema of a paramKind, None when there is none."""
        group, _, version = str(said.get("apiVersion") or "").rpartition("/")
        kind = str(said.get("kind") or "")
        found = self._built_in(group, version, kind) or self._custom(group, version, lambda n: n.get("kind") == kind)
        return found[1] if found else None

    def _built_in(self, group: str, version: str, kind: str) -> tuple[str, Json] | None:
        from portside.api.admission_typecheck import resolved
        from portside.api.schema import all_definitions
        from portside.api.schema_tree import definition_name

        name = definition_name(group, version, kind)
        if name is None:
            return None
        if self._definitions is None:
            self._definitions = all_definitions()
        return kind, resolved(self._definitions[name], self._definitions)

    def _custom(self, group: str, version: str, fits: Any) -> tuple[str, Json] | None:
        from portside.api.cel.declared import with_root

        for crd in self._view.all(CRDS):
            spec = crd["spec"]
            if spec.get("group") != group or not fits(spec.get("names") or {}):
                continue
            for served in spec.get("versions") or ():
                if served.get("name") == version and served.get("served"):
                    schema = (served.get("schema") or {}).get("openAPIV3Schema")
                    return (spec["names"]["kind"], with_root(schema)) if schema else None
        return None


CONTROLLER = Controller("validatingadmissionpolicy-status-controller", POLICIES, plan, reads=(CRDS,), workers=1)
