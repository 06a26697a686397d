"""Who may write which part of a ResourceClaim's status: allocations and reservations, drivers' reports, and access for
administration (KEP-4680, KEP-5018)."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, forbidden_field
from portside.api.rules.registry import Context

Json = dict[str, Any]
Errors = list[FieldError]
ADMIN_LABEL = "resource.kubernetes.io/admin-access"
ASSOCIATED, ARBITRARY = "associated-node:", "arbitrary-node:"


def may_administer(path: str, ctx: Context) -> Errors:
    """Access for administration is for namespaces whose label says so."""
    labels = ((ctx.space() or {}).get("metadata") or {}).get("labels") or {}
    if labels.get(ADMIN_LABEL) == "true":
        return []
    text = f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
    return [forbidden_field(path, text)]


def validate(status: Json, before: Json, ctx: Context) -> Errors:
    """What the writer of a claim's status may not change."""
    return _administration(status, before, ctx) + _binding(status, before, ctx) + _reports(status, before, ctx)


def _results(status: Json) -> list[Json]:
    return ((status.get("allocation") or {}).get("devices") or {}).get("results") or []


def _administration(status: Json, before: Json, ctx: Context) -> Errors:
    if any(r.get("adminAccess") for r in _results(before)):
        return []
    given = next((i for i, r in enumerate(_results(status)) if r.get("adminAccess")), None)
    return [] if given is None else may_administer(f"status.allocation.devices.results[{given}].adminAccess", ctx)


def _binding(status: Json, before: Json, ctx: Context) -> Errors:
    if all((status.get(f) or None) == (before.get(f) or None) for f in ("allocation", "reservedFor")):
        return []
    if not (why := ctx.refused(ctx.verb, "binding", "", "")):
        return []
    asked = f'resource="resourceclaims/binding", verb="{ctx.verb}"'
    text = f"changing status.allocation or status.reservedFor requires {asked} permission: {why}"
    return [forbidden_field("status.allocation", text)]


def _reports(status: Json, before: Json, ctx: Context) -> Errors:
    """Reports are for those whom each driver's name is granted, on every node or on their own."""
    if not status.get("allocation"):
        return []
    had, have = ({_key(d): d for d in s.get("devices") or ()} for s in (before, status))
    drivers = {key[0] for key in had.keys() | have.keys() if had.get(key) != have.get(key)}
    verbs = [ARBITRARY + ctx.verb]
    if ctx.node and ctx.node == _node(status["allocation"]):
        verbs.insert(0, ASSOCIATED + ctx.verb)
    errors = []
    for name in sorted(drivers):
        refusals = [ctx.refused(verb, "driver", ctx.namespace, name) for verb in verbs]
        if all(refusals):
            asked = f'resource="resourceclaims/driver", verb="[{" ".join(verbs)}]"'
            text = f"changing status.devices requires {asked} permission: {refusals[0]}"
            errors.append(forbidden_field("status.devices", text))
    return errors


def _key(device: Json) -> tuple[str, ...]:
    return tuple(device.get(f) or "" for f in ("driver", "pool", "device", "shareID"))


def _node(allocation: Json) -> str:
    """The one node that an allocation is for, "" when it is for others too."""
    terms = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchExpressions") or len(terms[0].get("matchFields") or ()) != 1:
        return ""
    field = terms[0]["matchFields"][0]
    named = (
        field.get("key") == "metadata.name" and field.get("operator") == "In" and len(field.get("values") or ()) == 1
    )
    return str(field["values"][0]) if named else ""
