"""certificates.k8s.io: signing requests, trust bundles, pods' certificate requests."""

from __future__ import annotations

import base64
import re
from typing import Any

from portside.api import meta, names
from portside.api.field import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
    too_long,
)
from portside.api.kinds import BY_KIND
from portside.api.rules.podcertificate import validate_status
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "certificates.k8s.io"
USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
_SIGNER_FORM = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----", re.S)
_SOONEST = 600
LONGEST_UID = 128
_PATH = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_OMITTED = "<value omitted>"


def pem_blocks(text: str) -> list[tuple[str, bytes]]:
    """The blocks of a PEM text: type and content."""
    found = []
    for match in _PEM.finditer(text):
        try:
            found.append((match[1], base64.b64decode("".join(match[2].split()))))
        except ValueError:
            continue
    return found


def _decoded(value: str | None) -> str:
    try:
        return base64.b64decode(value or "").decode(errors="replace")
    except ValueError:
        return ""


def signer(name: str, path: str) -> Errors:
    """A signer's name: a domain of two parts at least, a slash, a path."""
    if not name:
        return [required(path)]
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        return [invalid_value(path, name, _SIGNER_FORM)]
    if "." not in domain or names.is_subdomain(domain) or not _PATH.match(rest):
        return [invalid_value(path, name, _SIGNER_FORM)]
    return []


def _request(value: str | None) -> Errors:
    blocks = pem_blocks(_decoded(value))
    if not blocks or blocks[0][0] != "CERTIFICATE REQUEST":
        return [invalid_value("spec.request", value, "PEM block type must be CERTIFICATE REQUEST")]
    return []


def validate_request(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    errors, usages = _request(spec.get("request")), spec.get("usages") or []
    if not usages:
        errors.append(required("spec.usages"))
    for i, usage in enumerate(usages):
        if usage not in USAGES:
            errors.append(not_supported(f"spec.usages[{i}]", usage, USAGES))
        if usage in usages[:i]:
            errors.append(duplicate(f"spec.usages[{i}]", usage))
    name = spec.get("signerName") or ""
    if name == "kubernetes.io/legacy-unknown":
        text = "the legacy signerName is not allowed via this API version"
        errors.append(invalid_value("spec.signerName", name, text))
    else:
        errors += signer(name, "spec.signerName")
    lasts = spec.get("expirationSeconds")
    if lasts is not None and lasts < _SOONEST:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid_value("spec.expirationSeconds", lasts, text))
    return errors


def default_request(obj: Json) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def _create_request(obj: Json, ctx: Context) -> None:
    """Who asks is written by the server alone; the caller's word is dropped."""
    for field in ("username", "uid", "groups", "extra"):
        obj["spec"].pop(field, None)
    if ctx.user:
        obj["spec"]["username"] = ctx.user
    user = getattr(ctx, "requester", None)
    if user is not None:
        obj["spec"].update(user)
    obj["status"] = {}


def _update_request(obj: Json, old: Json, ctx: Context) -> None:
    obj["spec"], obj["status"] = old.get("spec") or {}, old.get("status") or {}


def _conditions(obj: Json, old: Json) -> Errors:
    errors: Errors = []
    conditions = (obj.get("status") or {}).get("conditions") or []
    path = "status.conditions"
    for i, condition in enumerate(conditions):
        at, type_, state = f"{path}[{i}]", condition.get("type") or "", condition.get("status") or ""
        if not type_:
            errors.append(required(f"{at}.type"))
        if not state:
            errors.append(required(f"{at}.status"))
        elif type_ in ("Approved", "Denied", "Failed") and state != "True":
            errors.append(not_supported(f"{at}.status", state, ("True",)))
        elif state not in ("True", "False", "Unknown"):
            errors.append(not_supported(f"{at}.status", state, ("False", "True", "Unknown")))
        if type_ and any(c.get("type") == type_ for c in conditions[:i]):
            errors.append(duplicate(f"{at}.type", type_))
    types = [c.get("type") for c in conditions]
    had = [c.get("type") for c in (old.get("status") or {}).get("conditions") or ()]
    if "Approved" in types and "Denied" in types and not ("Approved" in had and "Denied" in had):
        pair = [f'conditions[{{"type": "{t}"}}]' for t in types if t in ("Approved", "Denied")]
        shown = ", ".join(f"`{p}`" for p in pair)
        errors.append(invalid_value(path, "{" + ", ".join(pair) + "}", f"must specify at most one of: {shown}"))
    return errors


def _kept_conditions(obj: Json, old: Json, *, may_add: bool) -> Errors:
    have, had = ([c.get("type") for c in (o.get("status") or {}).get("conditions") or ()] for o in (obj, old))
    errors: Errors = []
    for type_ in ("Approved", "Denied", "Failed"):
        if type_ in had and type_ not in have:
            text = f'updates may not remove a condition of type "{type_}"'
            errors.append(forbidden_field("status.conditions", text))
        if type_ in have and type_ not in had and not may_add and type_ != "Failed":
            text = f'updates may not add a condition of type "{type_}"'
            errors.append(forbidden_field("status.conditions", text))
    return errors


def _certificate(obj: Json, old: Json) -> Errors:
    value = (obj.get("status") or {}).get("certificate")
    before = (old.get("status") or {}).get("certificate")
    if value == before:
        return []
    kept = "updates may not set certificate content on existing certificates"
    refused = [forbidden_field("status.certificate", kept)] if before else []
    if not value:
        return refused
    blocks = pem_blocks(_decoded(value))
    if not any(type_ == "CERTIFICATE" for type_, _ in blocks):
        text = "must contain at least one CERTIFICATE PEM block"
        return [invalid_value("status.certificate", "<certificate data>", text)]
    if any(type_ != "CERTIFICATE" for type_, _ in blocks):
        text = "only CERTIFICATE PEM blocks are allowed, found " + next(
            repr(t) for t, _ in blocks if t != "CERTIFICATE"
        )
        return [invalid_value("status.certificate", "<certificate data>", text.replace("'", '"'))]
    return refused


def _approval(obj: Json, old: Json, ctx: Context) -> None:
    """Approving changes conditions alone; the certificate is the signer's to write."""
    STATUS_ONLY.prepare_update(obj, old, ctx)
    status = obj.setdefault("status", {})
    status.pop("certificate", None)
    if "certificate" in (old.get("status") or {}):
        status["certificate"] = old["status"]["certificate"]
    _stamp(obj, old, ctx)


def _status_write(obj: Json, old: Json, ctx: Context) -> None:
    STATUS_ONLY.prepare_update(obj, old, ctx)
    _stamp(obj, old, ctx)


def _stamp(obj: Json, old: Json, ctx: Context) -> None:
    before = {c.get("type"): c for c in (old.get("status") or {}).get("conditions") or ()}
    for condition in (obj.get("status") or {}).get("conditions") or ():
        had = before.get(condition.get("type"))
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = ctx.now
        if not condition.get("lastTransitionTime"):
            same = had is not None and had.get("status") == condition.get("status")
            condition["lastTransitionTime"] = (had or {}).get("lastTransitionTime") if same else ctx.now


def _approval_problems(obj: Json, old: Json, ctx: Context) -> Errors:
    return _conditions(obj, old) + _kept_conditions(obj, old, may_add=True)


def _status_problems(obj: Json, old: Json, ctx: Context) -> Errors:
    return _conditions(obj, old) + _certificate(obj, old) + _kept_conditions(obj, old, may_add=False)


def validate_bundle(obj: Json, ctx: Context) -> Errors:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
    who, errors = spec.get("signerName") or "", []
    if who:
        prefix = who.replace("/", ":") + ":"
        if not name.startswith(prefix):
            text = f"ClusterTrustBundle for signerName {who} must be named with prefix {prefix}"
            errors.append(invalid_value("metadata.name", name, text))
        errors += signer(who, "spec.signerName")
    elif ":" in name:
        text = 'ClusterTrustBundle without signer name must not have ":" in its name'
        errors.append(invalid_value("metadata.name", name, text))
    return errors + _anchors(spec.get("trustBundle") or "")


def _anchors(text: str) -> Errors:
    path, blocks, errors = "spec.trustBundle", pem_blocks(text), []
    if not blocks:
        return [invalid_value(path, _OMITTED, "at least one trust anchor must be provided")]
    seen: dict[bytes, int] = {}
    for i, (type_, content) in enumerate(blocks):
        if type_ != "CERTIFICATE":
            errors.append(invalid_value(path, _OMITTED, f"entry {i} has bad block type: {type_}"))
            continue
        problem = _authority(content)
        if problem:
            errors.append(invalid_value(path, _OMITTED, f"entry {i} {problem}"))
        elif content in seen:
            errors.append(invalid_value(path, _OMITTED, f"duplicate trust anchor (indices [{seen[content]} {i}])"))
        seen.setdefault(content, i)
    return errors


def _authority(content: bytes) -> str:
    """Why a certificate is no trust anchor; empty when it is one."""
    from cryptography import x509

    try:
        found = x509.load_der_x509_certificate(content).extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return "does not have the CA bit set"
    except ValueError:
        return "does not parse as X.509"
    return "" if found.value.ca else "does not have the CA bit set"


def _bundle_name(name: str, prefix: bool = False) -> list[str]:
    tail = name.rpartition(":")[2]
    return names.dns_subdomain(tail, prefix) if tail else []


def _update_bundle(obj: Json, old: Json, ctx: Context) -> Errors:
    errors = validate_bundle(obj, ctx)
    who, before = ((o.get("spec") or {}).get("signerName") or "" for o in (obj, old))
    if who != before:
        errors.append(invalid_value("spec.signerName", who, "field is immutable"))
    return errors


def default_pod_request(obj: Json) -> None:
    obj.setdefault("spec", {}).setdefault("maxExpirationSeconds", 86400)
    obj.setdefault("status", {})


def _pkcs10(value: str) -> bool:
    from cryptography import x509

    try:
        x509.load_der_x509_csr(base64.b64decode(value))
    except ValueError:
        return False
    return True


def _user_annotations(annotations: Json, path: str) -> Errors:
    """Keys with a domain, whatever their case, within the size of an object's annotations."""
    errors: Errors = []
    for key in sorted(annotations):
        low = key.lower()
        problems = names.qualified_name(low) if low else []
        if not low:
            errors.append(required(path))
        elif not problems and "/" not in low:
            problems = ['must be a domain-prefixed key (such as "acme.io/foo")']
        errors += [invalid_value(path, low, problem) for problem in problems]
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > meta.ANNOTATIONS_LIMIT:
        errors.append(too_long(path, meta.ANNOTATIONS_LIMIT))
    return errors


def validate_pod_request(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    errors = signer(spec.get("signerName") or "", "spec.signerName")
    errors += _user_annotations(spec.get("unverifiedUserAnnotations") or {}, "spec.unverifiedUserAnnotations")
    for who in ("pod", "serviceAccount", "node"):
        name, uid = spec.get(f"{who}Name") or "", spec.get(f"{who}UID") or ""
        errors += [invalid_value(f"spec.{who}Name", name, p) for p in names.is_subdomain(name)]
        if not uid:
            errors.append(invalid_value(f"spec.{who}UID", uid, "must not be empty"))
        elif len(uid.encode()) > LONGEST_UID:
            errors.append(too_long(f"spec.{who}UID", LONGEST_UID))
    lasts = spec.get("maxExpirationSeconds")
    least, most = (3600, 86400) if str(spec.get("signerName")).startswith("kubernetes.io/") else (3600, 7862400)
    if lasts is not None and not least <= lasts <= most:
        text = f"must be in the range [{least}, {most}]"
        errors.append(invalid_value("spec.maxExpirationSeconds", lasts, text))
    stub, key, proof = (spec.get(f) for f in ("stubPKCS10Request", "pkixPublicKey", "proofOfPossession"))
    if bool(stub) == bool(key or proof):
        text = "Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"
        errors.append(FieldError("spec", "FieldValueInvalid", text))
    elif stub and not _pkcs10(stub):
        text = "Invalid value: must be a valid PKCS#10 CSR"
        errors.append(FieldError("spec.stubPKCS10Request", "FieldValueInvalid", text))
    return errors


_POD_REQUEST = {
    "signerName": "SignerName",
    "podName": "PodName",
    "podUID": "PodUID",
    "serviceAccountName": "ServiceAccountName",
    "serviceAccountUID": "ServiceAccountUID",
    "nodeName": "NodeName",
    "nodeUID": "NodeUID",
    "maxExpirationSeconds": "MaxExpirationSeconds",
    "pkixPublicKey": "PKIXPublicKey",
    "proofOfPossession": "ProofOfPossession",
    "stubPKCS10Request": "StubPKCS10Request",
    "unverifiedUserAnnotations": "UnverifiedUserAnnotations",
}


def _update_pod_request(obj: Json, old: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    if spec == (old.get("spec") or {}):
        return []
    shown = {inner: spec.get(field) for field, inner in _POD_REQUEST.items()}
    return [invalid_value("spec", shown, "field is immutable")]


def _clear(obj: Json, ctx: Context) -> None:
    obj["status"] = {}


def _keep(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


RULES = {
    ("v1", "CertificateSigningRequest"): Rules(
        BY_KIND[GROUP, "v1", "CertificateSigningRequest"],
        default=default_request,
        prepare_create=_create_request,
        prepare_update=_update_request,
        validate=validate_request,
        name=names.path_segment,
        subresources={
            "approval": SubRules(_approval, _approval_problems),
            "status": SubRules(_status_write, _status_problems),
        },
    ),
    ("v1", "ClusterTrustBundle"): Rules(
        BY_KIND[GROUP, "v1", "ClusterTrustBundle"],
        validate=validate_bundle,
        validate_update=_update_bundle,
        name=_bundle_name,
        unconditional_update=False,
    ),
    ("v1", "PodCertificateRequest"): Rules(
        BY_KIND[GROUP, "v1", "PodCertificateRequest"],
        default=default_pod_request,
        prepare_create=_clear,
        prepare_update=_keep,
        validate=validate_pod_request,
        validate_update=_update_pod_request,
        unconditional_update=False,
        subresources={"status": SubRules(STATUS_ONLY.prepare_update, validate_status)},
    ),
}
