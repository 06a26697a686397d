"""CustomResourceDefinition: names, versions, scope, what may not change, and the order in which all of it is refused.

Upstream keeps what all versions say alike once, at the top: such schemas, subresources, columns and selectable fields are
refused as ``spec.validation…``, ``spec.subresources…`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.admissionregistration import service_problems, url_problems
from portside.api.rules.crd_schema import unrecognized_formats, validate_schema
from portside.api.rules.crd_status import APPROVAL, approval, find, protected
from portside.api.rules.crd_versions import columns, deprecation, selectable, subresources
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules
from portside.api.schema_strict import go_word
from portside.api.schema_tree import definition
from portside.api.status import bad_request

Json = dict[str, Any]
Errors = list[FieldError]
SCOPES = ("Cluster", "Namespaced")
REVIEWS = ("v1", "v1beta1")
IMMUTABLE = "field is immutable"
PROPS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
# What all versions may say alike: its field, where it is then refused, and its check.
_SHARED = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")


def typed(schema: Any) -> None:
    """Schemas within ``items`` and ``additionalProperties``, which may be something else too, typed as all others are:
    what they do not know goes, a wrong type is refused. Raises ApiError 400."""
    if not isinstance(schema, dict):
        return
    for field in ("items", "additionalProperties"):
        value = schema.get(field)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, dict):
                definition(PROPS).decode(child)
                typed(child)
            elif not isinstance(child, bool) and child is not None:
                kind = "JSONSchemaPropsOrArray" if field == "items" else "JSONSchemaPropsOrBool"
                raise bad_request(f"json: cannot unmarshal {go_word(child)} into Go value of type v1.{kind}")
    typed(schema.get("not"))
    for field in ("allOf", "anyOf", "oneOf"):
        for child in schema.get(field) or ():
            typed(child)
    for field in ("properties", "definitions", "patternProperties"):
        for child in (schema.get(field) or {}).values():
            typed(child)


def default(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    for version in spec.get("versions") or ():
        typed((version.get("schema") or {}).get("openAPIV3Schema"))
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
    return [v["name"] for v in obj["spec"].get("versions") or () if v.get("storage") and v.get("name")][:1]


def _create(obj: Json, ctx: Context) -> None:
    names_ = {"plural": "", "kind": ""}
    obj["status"] = {"conditions": None, "acceptedNames": names_, "storedVersions": _stored(obj) or None}


def _update(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = dict(old.get("status") or {})
    stored = list(obj["status"].get("storedVersions") or ())
    stored += [v for v in _stored(obj) if v not in stored]
    obj["status"]["storedVersions"] = stored


def _status_update(obj: Json, old: Json, ctx: Context) -> None:
    STATUS_ONLY.prepare_update(obj, old, ctx)
    status = obj.get("status")
    if isinstance(status, dict) and not status.get("storedVersions"):
        status["storedVersions"] = _stored(obj) or None


# --- the specification -------------------------------------------------------------------------------------------------


def _alike(versions: list[Json], field: str) -> bool:
    """Whether all versions say the same, so that it is kept at the top."""
    return all((v.get(field) or None) == (versions[0].get(field) or None) for v in versions)


def _group_and_scope(spec: Json) -> Errors:
    group, scope = spec.get("group") or "", spec.get("scope") or ""
    errors: Errors = []
    if not group:
        errors.append(required("spec.group"))
    elif problems := names.is_subdomain(group):
        errors.append(invalid_value("spec.group", group, ",".join(problems)))
    elif "." not in group:
        errors.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    if not scope:
        errors.append(required("spec.scope"))
    elif scope not in SCOPES:
        errors.append(not_supported("spec.scope", scope, SCOPES))
    return errors


def _version_part(version: Json, field: str, at: str, status: bool) -> Errors:
    """One part of a version; ``at`` is the path of what the part is in."""
    value = version.get(field)
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if field == "schema":
        return validate_schema(schema, f"{at}.openAPIV3Schema", status=status) if isinstance(schema, dict) else []
    if field == "subresources":
        return subresources(value or {}, at)
    if field == "additionalPrinterColumns":
        return columns(value or [], at)
    return selectable(value or [], schema, at)


def _has_status(version: Json) -> bool:
    return (version.get("subresources") or {}).get("status") is not None


def _versions(spec: Json) -> Errors:
    versions, errors = spec.get("versions") or [], []
    for i, version in enumerate(versions):
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            errors.append(required(f"spec.versions[{i}].schema.openAPIV3Schema"))
    if spec.get("preserveUnknownFields") and any(_has_default(v.get("schema")) for v in versions):
        text = "must be false in order to use defaults in the schema"
        errors.append(invalid_value("spec.preserveUnknownFields", True, text))
    own = [f for f in _SHARED if not _alike(versions, f)] if versions else []
    for i, version in enumerate(versions):
        at, name = f"spec.versions[{i}]", version.get("name") or ""
        if problems := names.is_label_1035(name):
            errors.append(invalid_value(f"{at}.name", name, ",".join(problems)))
        errors += deprecation(version, f"{at}.deprecationWarning")
        for field in own:
            errors += _version_part(version, field, f"{at}.{field}", _has_status(version))
    shown = None if spec.get("versions") is None else _shown(versions, own)
    if len({v.get("name") for v in versions}) != len(versions):
        errors.append(invalid_value("spec.versions", shown, "must contain unique version names"))
    if sum(bool(v.get("storage")) for v in versions) != 1:
        errors.append(invalid_value("spec.versions", shown, "must have exactly one version marked as storage version"))
    return errors


def _has_default(schema: Any) -> bool:
    if isinstance(schema, dict):
        return "default" in schema or any(_has_default(v) for v in schema.values())
    return isinstance(schema, list) and any(_has_default(v) for v in schema)


def _shown(versions: list[Json], own: list[str]) -> list[Json]:
    """Versions as upstream's internal type prints them."""

    def part(version: Json, field: str) -> Any:
        return version.get(field) if field in own else None

    return [
        {
            "Name": v.get("name", ""),
            "Served": bool(v.get("served")),
            "Storage": bool(v.get("storage")),
            "Deprecated": bool(v.get("deprecated")),
            "DeprecationWarning": v.get("deprecationWarning"),
            "Schema": part(v, "schema"),
            "Subresources": part(v, "subresources"),
            "AdditionalPrinterColumns": part(v, "additionalPrinterColumns"),
            "SelectableFields": part(v, "selectableFields"),
        }
        for v in versions
    ]


def _top(spec: Json) -> Errors:
    """What all versions say alike."""
    versions = spec.get("versions") or []
    if not versions:
        return []
    errors: Errors = []
    status = any(_has_status(v) for v in versions)
    for field in _SHARED:
        if _alike(versions, field):
            at = "spec.validation" if field == "schema" else f"spec.{field}"
            errors += _version_part(versions[0], field, at, status)
    return errors


def _names(spec: Json) -> Errors:
    given, path = spec.get("names") or {}, "spec.names"
    said = {f: given.get(f) or "" for f in ("plural", "singular", "kind", "listKind")}
    errors: Errors = [required(f"{path}.{field}") for field, value in said.items() if not value]
    for field, value in said.items():
        mixed = field in ("kind", "listKind")
        if value and (problems := names.is_label_1035(value.lower() if mixed else value)):
            text = ",".join(problems)
            told = f"may have mixed case, but should otherwise match: {text}" if mixed else text
            errors.append(invalid_value(f"{path}.{field}", value, told))
    for field in ("shortNames", "categories"):
        if field == "categories" and said["kind"] and said["kind"] == said["listKind"]:
            text = "kind and listKind may not be the same"
            errors.append(invalid_value(f"{path}.listKind", said["listKind"], text))
        for i, value in enumerate(given.get(field) or ()):
            if problems := names.is_label_1035(value):
                errors.append(invalid_value(f"{path}.{field}[{i}]", value, ",".join(problems)))
    return errors


def _conversion(spec: Json) -> Errors:
    conversion, path = spec.get("conversion") or {}, "spec.conversion"
    strategy, hook = conversion.get("strategy") or "", conversion.get("webhook") or {}
    errors: Errors = []
    if not strategy:
        errors.append(required(f"{path}.strategy"))
    elif strategy not in ("None", "Webhook"):
        errors.append(not_supported(f"{path}.strategy", strategy, ("None", "Webhook")))
    client, at = hook.get("clientConfig"), f"{path}.webhookClientConfig"
    versions = hook.get("conversionReviewVersions") or []
    if strategy != "Webhook":
        text = "should not be set when strategy is not set to Webhook"
        errors += [forbidden_field(at, text)] if client is not None else []
        return errors + ([forbidden_field(f"{path}.conversionReviewVersions", text)] if versions else [])
    if client is None:
        errors.append(required(at, "required when strategy is set to Webhook"))
    elif (client.get("url") is None) == (client.get("service") is None):
        errors.append(required(at, "exactly one of url or service is required"))
    elif client.get("url") is not None:
        errors += url_problems(client["url"], f"{at}.url")
    else:
        errors += service_problems(client.get("service") or {}, f"{at}.service")
    return errors + _reviews(versions, f"{path}.conversionReviewVersions")


def _reviews(versions: list[str], path: str) -> Errors:
    if not versions:
        return [required(path)]
    errors: Errors = []
    for i, version in enumerate(versions):
        if version in versions[:i]:
            errors.append(invalid_value(f"{path}[{i}]", version, "duplicate version"))
        else:
            errors += [invalid_value(f"{path}[{i}]", version, p) for p in names.is_label_1035(version)]
    if not any(v in REVIEWS for v in versions):
        errors.append(invalid_value(path, versions, f"must include at least one of {', '.join(REVIEWS)}"))
    return errors


def _spec(spec: Json) -> Errors:
    return _group_and_scope(spec) + _versions(spec) + _names(spec) + _top(spec) + _conversion(spec)


# --- the whole ---------------------------------------------------------------------------------------------------------


def _stored_versions(obj: Json) -> Errors:
    known = [v.get("name") for v in obj["spec"].get("versions") or ()]
    errors: Errors = []
    stored = (obj.get("status") or {}).get("storedVersions")
    if not stored:
        return [invalid_value("status.storedVersions", stored, "must have at least one stored version")]
    for i, version in enumerate(stored):
        if version not in known:
            text = (
                f"missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions "
                f"until a storage migration ensures no data remains persisted in {version} and removes {version} from "
                "status.storedVersions"
            )
            errors.append(invalid_value(f"status.storedVersions[{i}]", version, text))
    return errors


def _approved(obj: Json, old: Json | None) -> Errors:
    """Definitions in the project's own groups name who approved them. What was missing may stay so."""
    if not protected((obj.get("spec") or {}).get("group") or ""):
        return []
    annotations = obj["metadata"].get("annotations") or {}
    state, reason = approval(annotations)
    if old is not None and approval(old["metadata"].get("annotations"))[0] == state:
        return []
    at = f"metadata.annotations[{APPROVAL}]"
    if state == "invalid":
        return [invalid_value(at, annotations.get(APPROVAL, ""), reason)]
    return [required(at, reason)] if state == "missing" else []


def _preserves(obj: Json, old: Json | None) -> Errors:
    if not obj["spec"].get("preserveUnknownFields") or (old or {}).get("spec", {}).get("preserveUnknownFields"):
        return []
    text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return [invalid_value("spec.preserveUnknownFields", True, text)]


def validate(obj: Json, ctx: Context) -> Errors:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
    errors: Errors = []
    if name != f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}":
        errors.append(invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    errors += _spec(spec) + _stored_versions(obj)
    return errors + _approved(obj, None) + _preserves(obj, None)


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = _spec(spec)
    fixed: tuple[Callable[[Json], tuple[str, Any]], ...] = (
        lambda s: ("spec.scope", s.get("scope")),
        lambda s: ("spec.names.kind", (s.get("names") or {}).get("kind")),
        lambda s: ("spec.group", s.get("group")),
        lambda s: ("spec.names.plural", (s.get("names") or {}).get("plural")),
    )
    established = (find(old.get("status") or {}, "Established") or {}).get("status") == "True"
    for read in fixed if established else fixed[2:]:
        path, have = read(spec)
        if have != read(before)[1]:
            errors.append(invalid_value(path, have, IMMUTABLE))
    return errors + _stored_versions(obj) + _approved(obj, old) + _preserves(obj, old)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    """Formats that mean nothing, once each."""
    versions = (obj.get("spec") or {}).get("versions") or ()
    found = [f for v in versions for f in unrecognized_formats((v.get("schema") or {}).get("openAPIV3Schema"))]
    return [f'unrecognized format "{f}"' for f in dict.fromkeys(found)]


RULES = {
    ("v1", "CustomResourceDefinition"): Rules(
        BY_KIND["apiextensions.k8s.io", "v1", "CustomResourceDefinition"],
        default=default,
        prepare_create=_create,
        prepare_update=_update,
        validate=validate,
        validate_update=validate_update,
        warnings=warnings,
        subresources={"status": SubRules(_status_update)},
        generation=True,
        unconditional_update=False,
        any_finalizer=True,
    )
}
