"""What the kinds with a pod template share: counts, percentages, selectors against template labels, statuses."""

from __future__ import annotations

import re
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.rules.pod_affinity import validate_label_selector
from portside.api.rules.pod_spec import validate_template
from portside.api.rules.pod_warnings import spec_warnings

Json = dict[str, Any]
Errors = list[FieldError]

NOT_NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"
_PERCENT = re.compile(r"[0-9]+%\Z")
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)


def not_negative(obj: Json, path: str, *fields: str) -> Errors:
    """Errors of the counts among ``fields`` that are below zero."""
    found: Errors = []
    for name in fields:
        value = obj.get(name)
        if value is not None and value < 0:
            found.append(invalid_value(f"{path}.{name}", value, NOT_NEGATIVE))
    return found


def int_or_percent(value: Any, path: str) -> Errors:
    if isinstance(value, str):
        return [] if _PERCENT.match(value) else [invalid_value(path, value, _PERCENT_TEXT)]
    if value is not None and value < 0:
        return [invalid_value(path, value, NOT_NEGATIVE)]
    return []


def at_most_all(value: Any, path: str) -> Errors:
    if isinstance(value, str) and _PERCENT.match(value) and int(value[:-1]) > 100:
        return [invalid_value(path, value, "must not be greater than 100%")]
    return []


def amount(value: Any) -> int:
    """The number in an int-or-percent; 0 for what cannot be read."""
    if isinstance(value, str):
        return int(value[:-1]) if _PERCENT.match(value) else 0
    return int(value or 0)


def matches(selector: Json | None, labels: Json | None) -> bool:
    """Whether a LabelSelector object selects ``labels``; nothing matches None."""
    if selector is None:
        return False
    have = labels or {}
    if any(have.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for item in selector.get("matchExpressions") or ():
        key, operator, values = item.get("key"), item.get("operator"), item.get("values") or ()
        good = {
            "In": key in have and have.get(key) in values,
            "NotIn": key not in have or have.get(key) not in values,
            "Exists": key in have,
            "DoesNotExist": key not in have,
        }.get(operator, False)
        if not good:
            return False
    return True


def empty_selector(selector: Json) -> bool:
    return not selector.get("matchLabels") and not selector.get("matchExpressions")


def mismatch(template: Json, path: str) -> FieldError:
    labels = (template.get("metadata") or {}).get("labels")
    shown = dict(sorted(labels.items())) if labels else None
    return invalid_value(f"{path}.metadata.labels", shown, "`selector` does not match template `labels`")


def always_running(template: Json, path: str, kind: str) -> Errors:
    """Pods of these kinds restart always and have no deadline."""
    spec = template.get("spec") or {}
    errors: Errors = []
    if spec.get("restartPolicy") != "Always" and spec.get("restartPolicy") in ("OnFailure", "Never"):
        errors.append(not_supported(f"{path}.spec.restartPolicy", spec["restartPolicy"], ("Always",)))
    elif spec.get("restartPolicy") != "Always":
        errors.append(not_supported(f"{path}.spec.restartPolicy", spec.get("restartPolicy"), ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden_field(f"{path}.spec.activeDeadlineSeconds", text))
    return errors


def validate_selector(selector: Json | None, path: str, kind: str) -> Errors:
    """Required, well-formed, not empty."""
    if selector is None:
        return [required(path)]
    errors = validate_label_selector(selector, path)
    if empty_selector(selector):
        errors.append(invalid_value(path, selector, f"empty selector is invalid for {kind}"))
    return errors


def selected_template(spec: Json, path: str, kind: str) -> Errors:
    """The template of a kind whose selector must match it, in upstream's order."""
    template = spec.get("template")
    if template is None:
        return [required(f"{path}.template")]
    errors: Errors = []
    selector = spec.get("selector")
    where = f"{path}.template"
    if selector is None or not empty_selector(selector):
        if validate_label_selector(selector, ""):
            return [invalid_value(f"{path}.selector", selector, "invalid label selector")]
        if not matches(selector, (template.get("metadata") or {}).get("labels")):
            errors.append(mismatch(template, where))
    errors += validate_template(template, where)
    return errors + always_running(template, where, kind)


def immutable_selector(obj: Json, old: Json) -> Errors:
    mine, theirs = obj["spec"].get("selector"), old["spec"].get("selector")
    return [] if mine == theirs else [invalid_value("spec.selector", mine, IMMUTABLE)]


def at_most_replicas(status: Json, *fields: str) -> Errors:
    """Status counts that exceed the replicas, then available above ready."""
    total = status.get("replicas") or 0
    errors: Errors = []
    for name in fields:
        value = status.get(name) or 0
        if value > total:
            errors.append(invalid_value(f"status.{name}", value, "cannot be greater than status.replicas"))
    return errors


def available_above_ready(status: Json, text: str = "cannot be greater than readyReplicas") -> Errors:
    available, ready = status.get("availableReplicas") or 0, status.get("readyReplicas") or 0
    return [invalid_value("status.availableReplicas", available, text)] if available > ready else []


def template_warnings(obj: Json, old: Json | None, path: str = "spec.template") -> list[str]:
    """Warnings of the template; on update only when it changed."""
    template: Json = obj
    for part in path.split("."):
        template = template.get(part) or {}
    if old is not None:
        before: Json = old
        for part in path.split("."):
            before = before.get(part) or {}
        if before == template:
            return []
    if not template:
        return []
    return spec_warnings(template.get("spec") or {}, template.get("metadata") or {}, f"{path}.spec", f"{path}.metadata")


def hostname_warnings(obj: Json, old: Json | None) -> list[str]:
    """On creation, a word on a name that is no DNS label: it becomes part of the pods' names."""
    problems = names.is_label(obj["metadata"].get("name") or "") if old is None else []
    if not problems:
        return []
    text = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
    return [f"{text}a DNS label is recommended: [{', '.join(problems)}]"]


def tidy_conditions(status: Json, *times: str) -> None:
    """Conditions as Go writes them: times null when absent, empty texts left out."""
    for condition in status.get("conditions") or ():
        for name in times:
            condition.setdefault(name, None)
        for name in ("reason", "message"):
            if name in condition and not condition[name]:
                del condition[name]


def drop_zeros(obj: Json, *fields: str) -> None:
    """Removes fields that Go leaves out when they are zero or empty."""
    for name in fields:
        if name in obj and not obj[name]:
            del obj[name]
