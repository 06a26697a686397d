"""Role, ClusterRole and their bindings."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import Context, Rules
from portside.api.selector import validate_object

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "rbac.authorization.k8s.io"
# kind of a subject -> the API group it must name
_SUBJECTS = {"ServiceAccount": "", "User": GROUP, "Group": GROUP}


def default_role(obj: Json) -> None:
    obj.setdefault("rules", None)


def default_binding(obj: Json) -> None:
    role = obj.setdefault("roleRef", {})
    if not role.get("apiGroup"):
        role["apiGroup"] = GROUP
    for subject in obj.get("subjects") or ():
        if not subject.get("apiGroup") and _SUBJECTS.get(subject.get("kind", "")):
            subject["apiGroup"] = GROUP
    if "subjects" in obj and not obj["subjects"]:
        del obj["subjects"]


def rule_problems(rule: Json, at: str, namespaced: bool) -> Errors:
    """What is wrong with one rule, but for missing verbs, which upstream tells last."""
    urls, resources, groups = (rule.get(f) or [] for f in ("nonResourceURLs", "resources", "apiGroups"))
    errors: Errors = []
    if urls:
        if namespaced:
            text = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid_value(f"{at}.nonResourceURLs", urls, text))
        if groups or resources or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid_value(f"{at}.nonResourceURLs", urls, text))
        return errors
    if not groups:
        errors.append(required(f"{at}.apiGroups", "resource rules must supply at least one api group"))
    if not resources:
        errors.append(required(f"{at}.resources", "resource rules must supply at least one resource"))
    return errors


def validate_role(obj: Json, ctx: Context) -> Errors:
    rules, namespaced = obj.get("rules") or [], bool(obj["metadata"].get("namespace"))
    errors = [e for i, r in enumerate(rules) for e in rule_problems(r, f"rules[{i}]", namespaced)]
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        path, selectors = "aggregationRule.clusterRoleSelectors", aggregation.get("clusterRoleSelectors") or []
        if not selectors:
            text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            errors.append(required(path, text))
        for i, selector in enumerate(selectors):
            found = validate_object(selector, f"{path}[{i}]")
            errors += found
            if found:
                errors.append(invalid_value(f"{path}[{i}]", None, "invalid label selector."))
    return errors + [required(f"rules[{i}].verbs") for i, r in enumerate(rules) if not r.get("verbs")]


def _role_ref(obj: Json, kinds: tuple[str, ...]) -> Errors:
    ref, errors = obj.get("roleRef") or {}, []
    if ref.get("apiGroup") != GROUP:
        errors.append(not_supported("roleRef.apiGroup", ref.get("apiGroup") or "", (GROUP,)))
    if ref.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", ref.get("kind") or "", kinds))
    name = ref.get("name") or ""
    errors += [invalid_value("roleRef.name", name, p) for p in names.path_segment(name)] if name else []
    return errors


def _subject(subject: Json, at: str, namespaced: bool) -> Errors:
    kind, group, name = (subject.get(f) or "" for f in ("kind", "apiGroup", "name"))
    if kind not in _SUBJECTS:
        return [not_supported(f"{at}.kind", kind, tuple(_SUBJECTS))]
    errors: Errors = []
    if kind == "ServiceAccount":
        if name:
            errors += [invalid_value(f"{at}.name", name, p) for p in names.dns_subdomain(name)]
        if group:
            errors.append(not_supported(f"{at}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{at}.namespace"))
    elif group != GROUP:
        errors.append(not_supported(f"{at}.apiGroup", group, (GROUP,)))
    return errors


def _validate_binding(obj: Json, ctx: Context) -> Errors:
    namespaced = bool(obj["metadata"].get("namespace"))
    errors = _role_ref(obj, ("Role", "ClusterRole") if namespaced else ("ClusterRole",))
    subjects = obj.get("subjects") or []
    for i, subject in enumerate(subjects):
        errors += _subject(subject, f"subjects[{i}]", namespaced)
    if not (obj.get("roleRef") or {}).get("name"):
        errors.append(required("roleRef.name"))
    return errors + [required(f"subjects[{i}].name") for i, s in enumerate(subjects) if not s.get("name")]


def _update_role(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate_role(obj, ctx)


def _update_binding(obj: Json, old: Json, ctx: Context) -> Errors:
    errors, ref = _validate_binding(obj, ctx), obj.get("roleRef") or {}
    if ref != (old.get("roleRef") or {}):
        shown = {"APIGroup": ref.get("apiGroup", ""), "Kind": ref.get("kind", ""), "Name": ref.get("name", "")}
        errors.append(invalid_value("roleRef", shown, "field is immutable"))
    return errors


def _role(kind: str) -> Rules:
    return Rules(
        BY_KIND[GROUP, "v1", kind],
        default=default_role,
        validate=validate_role,
        validate_update=_update_role,
        name=names.path_segment,
        create_on_update=True,
    )


def _binding(kind: str) -> Rules:
    return Rules(
        BY_KIND[GROUP, "v1", kind],
        default=default_binding,
        validate=_validate_binding,
        validate_update=_update_binding,
        name=names.path_segment,
        create_on_update=True,
    )


RULES = {("v1", k): _role(k) for k in ("Role", "ClusterRole")} | {
    ("v1", k): _binding(k) for k in ("RoleBinding", "ClusterRoleBinding")
}
