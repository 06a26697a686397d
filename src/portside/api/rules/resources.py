"""Resource names and amounts (ResourceQuota, LimitRange, Node, claims): which names exist, and what an amount may be."""

from __future__ import annotations

from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, invalid_value

Json = dict[str, Any]
Errors = list[FieldError]
_COUNTED = (
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
)
INTEGER = frozenset(_COUNTED)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
QUOTA = frozenset(
    (*_COUNTED, *_COMPUTE, *(f"{p}.{r}" for p in ("requests", "limits") for r in _COMPUTE), "requests.storage")
)
STANDARD = QUOTA | {"storage"}


def is_hugepages(name: str) -> bool:
    return name.startswith("hugepages-")


def is_standard(name: str) -> bool:
    return name in STANDARD or name.startswith(("hugepages-", "requests.hugepages-"))


def is_quota(name: str) -> bool:
    return name in QUOTA or name.startswith(("hugepages-", "requests.hugepages-"))


def is_extended(name: str) -> bool:
    """A resource of somebody's domain: counted in whole units, never overcommitted."""
    if "/" not in name or "kubernetes.io/" in name or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")


def name_problems(name: str, path: str) -> Errors:
    problems = [invalid_value(path, name, p) for p in names.qualified_name(name)]
    if problems:
        return problems
    if "/" not in name and not is_standard(name):
        return [invalid_value(path, name, "must be a standard resource type or fully qualified")]
    return []


def shown(amount: Any) -> str:
    """The canonical text of an amount, or the text itself when it is none."""
    try:
        return quantity.canonical(amount)
    except quantity.QuantityError:
        return str(amount)


def canonicalize(amounts: Any) -> None:
    """Rewrites a map of amounts as upstream writes them, in place."""
    if isinstance(amounts, dict):
        for name, amount in amounts.items():
            amounts[name] = shown(amount)


def not_negative(amount: Any, path: str) -> Errors:
    if quantity.compare(amount, "0") < 0:
        return [invalid_value(path, shown(amount), "must be greater than or equal to 0")]
    return []


def amount_problems(name: str, amount: Any, path: str) -> Errors:
    errors = not_negative(amount, path)
    if (name in INTEGER or is_extended(name)) and quantity.parse(amount) % 1 != 0:
        errors.append(invalid_value(path, shown(amount), "must be an integer"))
    return errors
