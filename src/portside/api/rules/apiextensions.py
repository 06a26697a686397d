"""CustomResourceDefinition: names, versions, scope, and what may not change."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.admissionregistration import service_problems, url_problems
from portside.api.rules.crd_schema import validate_schema
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
SCOPES = ("Cluster", "Namespaced")
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_FIXED = ("spec.scope", "spec.names.kind", "spec.group", "spec.names.plural")


def default(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    kinds = spec.setdefault("names", {})
    if not kinds.get("singular") and kinds.get("kind"):
        kinds["singular"] = kinds["kind"].lower()
    if not kinds.get("listKind") and kinds.get("kind"):
        kinds["listKind"] = kinds["kind"] + "List"
    conversion = spec.setdefault("conversion", {})
    conversion.setdefault("strategy", "None")
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is not None:
        service.setdefault("port", 443)
    status = obj.setdefault("status", {})
    status.setdefault("conditions", None)
    status.setdefault("acceptedNames", {"plural": "", "kind": ""})
    status.setdefault("storedVersions", None)


def _stored(obj: Json) -> list[str]:
    return [v["name"] for v in obj["spec"].get("versions") or () if v.get("storage") and v.get("name")]


def _create(obj: Json, ctx: Context) -> None:
    names_ = {"plural": "", "kind": ""}
    obj["status"] = {"conditions": None, "acceptedNames": names_, "storedVersions": _stored(obj) or None}


def _update(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = dict(old.get("status") or {})
    stored = list(obj["status"].get("storedVersions") or ())
    stored += [v for v in _stored(obj) if v not in stored]
    obj["status"]["storedVersions"] = stored


def _versions(spec: Json) -> Errors:
    versions, errors = spec.get("versions") or [], []
    if not versions:
        return [required("spec.versions")]
    stored = 0
    for i, version in enumerate(versions):
        at, name = f"spec.versions[{i}]", version.get("name") or ""
        stored += bool(version.get("storage"))
        errors += [invalid_value(f"{at}.name", name, p) for p in names.is_label_1035(name)]
        if any(v.get("name") == name for v in versions[:i]):
            errors.append(duplicate(f"{at}.name", name))
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        same = all((v.get("schema") or {}) == (version.get("schema") or {}) for v in versions)
        if schema is None:
            errors.append(required(f"{at}.schema.openAPIV3Schema", "schemas are required"))
        elif not same or i == 0:
            errors += validate_schema(
                schema, "spec.validation.openAPIV3Schema" if same else f"{at}.schema.openAPIV3Schema"
            )
        errors += _columns(version.get("additionalPrinterColumns") or [], f"{at}.additionalPrinterColumns")
    if stored != 1:
        errors.append(
            invalid_value("spec.versions", _shown(versions), "must have exactly one version marked as storage version")
        )
    return errors


def _shown(versions: list[Json]) -> list[Json]:
    return [
        {
            "Name": v.get("name", ""),
            "Served": bool(v.get("served")),
            "Storage": bool(v.get("storage")),
            "Deprecated": bool(v.get("deprecated")),
            "DeprecationWarning": v.get("deprecationWarning"),
            "Schema": v.get("schema"),
            "Subresources": v.get("subresources"),
            "AdditionalPrinterColumns": v.get("additionalPrinterColumns"),
            "SelectableFields": v.get("selectableFields"),
        }
        for v in versions
    ]


def _columns(columns: list[Json], path: str) -> Errors:
    errors: Errors = []
    for i, column in enumerate(columns):
        at, type_, format_ = f"{path}[{i}]", column.get("type") or "", column.get("format") or ""
        if not column.get("name"):
            errors.append(required(f"{at}.name"))
        if not type_:
            errors.append(required(f"{at}.type", f"must be one of {','.join(_COLUMN_TYPES)}"))
        elif type_ not in _COLUMN_TYPES:
            errors.append(invalid_value(f"{at}.type", type_, f"must be one of {','.join(_COLUMN_TYPES)}"))
        if format_ and format_ not in _COLUMN_FORMATS:
            errors.append(invalid_value(f"{at}.format", format_, f"must be one of {','.join(_COLUMN_FORMATS)}"))
        if not column.get("jsonPath"):
            errors.append(required(f"{at}.JSONPath"))
    return errors


def _names(spec: Json) -> Errors:
    given, path, errors = spec.get("names") or {}, "spec.names", []
    plural, singular, kind, listed = (given.get(f) or "" for f in ("plural", "singular", "kind", "listKind"))
    for field, value in (("plural", plural), ("singular", singular)):
        errors += [invalid_value(f"{path}.{field}", value, p) for p in names.is_label_1035(value)]
    for field, value in (("kind", kind), ("listKind", listed)):
        errors += [invalid_value(f"{path}.{field}", value, _mixed(p)) for p in names.is_label_1035(value.lower())]
    for i, short in enumerate(given.get("shortNames") or ()):
        errors += [invalid_value(f"{path}.shortNames[{i}]", short, p) for p in names.is_label_1035(short)]
    if kind and kind == listed:
        errors.append(invalid_value(f"{path}.listKind", listed, "kind and listKind may not be the same"))
    for i, category in enumerate(given.get("categories") or ()):
        errors += [invalid_value(f"{path}.categories[{i}]", category, p) for p in names.is_label_1035(category)]
    return errors


def _mixed(problem: str) -> str:
    return f"may have mixed case, but should otherwise match: {problem}"


def _conversion(spec: Json) -> Errors:
    conversion, path = spec.get("conversion") or {}, "spec.conversion"
    strategy, hook = conversion.get("strategy") or "", conversion.get("webhook")
    if strategy not in ("None", "Webhook"):
        return [not_supported(f"{path}.strategy", strategy, ("None", "Webhook"))]
    if strategy == "None":
        text = "should not be set when strategy is not set to Webhook"
        return [forbidden_field(f"{path}.webhook", text)] if hook is not None else []
    client = (hook or {}).get("clientConfig")
    if client is None:
        return [required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook")]
    errors: Errors = []
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        errors.append(required(f"{path}.webhookClientConfig", "exactly one of url or service is required"))
    elif url is not None:
        errors += url_problems(url, f"{path}.webhookClientConfig.url")
    else:
        errors += service_problems(service or {}, f"{path}.webhookClientConfig.service")
    if not (hook or {}).get("conversionReviewVersions"):
        errors.append(required(f"{path}.conversionReviewVersions"))
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
    group, plural, scope = (
        spec.get("group") or "",
        (spec.get("names") or {}).get("plural") or "",
        spec.get("scope") or "",
    )
    errors: Errors = []
    if name != f"{plural}.{group}":
        errors.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if not group:
        errors.append(required("spec.group"))
    else:
        errors += [invalid_value("spec.group", group, p) for p in names.is_subdomain(group)]
        if "." not in group:
            errors.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    errors += (
        [] if scope in SCOPES else ([not_supported("spec.scope", scope, SCOPES)] if scope else [required("spec.scope")])
    )
    if spec.get("preserveUnknownFields"):
        text = "must be false in order to use defaults in the schema"
        errors.append(invalid_value("spec.preserveUnknownFields", True, text))
    return errors + _versions(spec) + _names(spec) + _conversion(spec)


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors: Errors = []
    established = any(
        c.get("type") == "Established" and c.get("status") == "True"
        for c in (old.get("status") or {}).get("conditions") or ()
    )
    for path in _FIXED if established else ("spec.group", "spec.names.plural"):
        have, had = _at(spec, path), _at(before, path)
        if have != had:
            errors.append(invalid_value(path, have, "field is immutable"))
    if errors:
        return errors
    known = [v.get("name") for v in spec.get("versions") or ()]
    for i, version in enumerate((obj.get("status") or {}).get("storedVersions") or ()):
        if version not in known:
            text = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions "
                f"until a storage migration ensures no data remains persisted in {version} and removes {version} from "
                "status.storedVersions"
            )
            errors.append(invalid_value(f"status.storedVersions[{i}]", version, text))
    return errors + validate(obj, ctx)


def _at(spec: Json, path: str) -> Any:
    value: Any = spec
    for part in path.split(".")[1:]:
        value = (value or {}).get(part)
    return value


RULES = {
    ("v1", "CustomResourceDefinition"): Rules(
        BY_KIND["apiextensions.k8s.io", "v1", "CustomResourceDefinition"],
        default=default,
        prepare_create=_create,
        prepare_update=_update,
        validate=validate,
        validate_update=validate_update,
        subresources={"status": SubRules(STATUS_ONLY.prepare_update)},
        generation=True,
    )
}
