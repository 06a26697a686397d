"""The status of a PodCertificateRequest: issued, denied or failed once, and never changed after that."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from portside.api.field import FieldError, invalid_value, not_supported, required, too_long
from portside.api.rules.conditions import validate_conditions
from portside.api.rules.registry import Context

if TYPE_CHECKING:
    from cryptography import x509

Json = dict[str, Any]
Errors = list[FieldError]
ENDS = ("Issued", "Denied", "Failed")
LONGEST_CHAIN = 16 * 1024
NEAR = timedelta(minutes=5)
MARGIN = timedelta(minutes=10)
_CHAIN = "status.certificateChain"
_BLOCKS = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks"


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    status, before = obj.get("status") or {}, old.get("status") or {}
    conditions = status.get("conditions") or []
    if errors := _conditions(conditions):
        return errors
    if _ended(before):
        return _same(status, before, "immutable after PodCertificateRequest is issued, denied, or failed")
    how = _ended(status)
    if how in ("Denied", "Failed"):
        text = "non-condition status fields must be empty when denying or failing the PodCertificateRequest"
        return _same(status, {"conditions": conditions}, text)
    if how == "Issued":
        return _issued(status, old.get("spec") or {}, datetime.fromisoformat(ctx.now))
    return _same(status, before, 'status is immutable unless transitioning to "Issued", "Denied", or "Failed"')


def _ended(status: Json) -> str:
    found = (c["type"] for c in status.get("conditions") or () if c.get("status") == "True" and c.get("type") in ENDS)
    return next(found, "")


def _same(status: Json, wanted: Json, text: str) -> Errors:
    shown = FieldError("status", "FieldValueInvalid", f"Invalid value: {text}")
    return [] if status == wanted else [shown]


def _conditions(conditions: list[Json]) -> Errors:
    errors: Errors = []
    known = 0
    for i, condition in enumerate(conditions):
        type_, state, at = condition.get("type") or "", condition.get("status") or "", f"status.conditions.[{i}]"
        if type_ not in ENDS:
            errors.append(not_supported(f"{at}.type", type_, ENDS))
            continue
        known += 1
        if known > 1:
            text = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
            errors.append(invalid_value(f"{at}.type", type_, text))
        if state != "True":
            errors.append(not_supported(f"{at}.status", state, ("True",)))
    return errors + validate_conditions(conditions, "status.conditions")


def _issued(status: Json, spec: Json, now: datetime) -> Errors:
    chain = status.get("certificateChain") or ""
    if len(chain.encode()) > LONGEST_CHAIN:
        return [too_long(_CHAIN, LONGEST_CHAIN)]
    leaf, problem = _leaf(chain)
    if leaf is None:
        return [invalid_value(_CHAIN, chain, problem)]
    if problem := _names(leaf):
        return [invalid_value(_CHAIN, chain, problem)]
    if (wanted := _public_key(spec)) and wanted != _encoded(leaf):
        return [invalid_value(_CHAIN, chain, "leaf certificate was not issued to the requested public key")]
    times = "must be present and consistent with the issued certificate"
    errors = [required(f"status.{f}", times) for f in ("notBefore", "notAfter") if not status.get(f)]
    if not status.get("beginRefreshAt"):
        text = "must be present and in the range [notbefore+10min, notafter-10min]"
        errors.append(required("status.beginRefreshAt", text))
    return errors or _times(status, leaf, spec, now) or _rest(chain)


def _leaf(chain: str) -> tuple[x509.Certificate | None, str]:
    from portside.api.rules.certificates import pem_blocks

    blocks = pem_blocks(chain)
    if not blocks:
        return None, "issued certificate chain must contain at least one certificate"
    if blocks[0][0] != "CERTIFICATE":
        return None, _BLOCKS
    found = _parsed(blocks[0][1])
    return found, "" if found else "leaf certificate does not parse as valid X.509"


def _parsed(der: bytes) -> x509.Certificate | None:
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def _names(leaf: x509.Certificate) -> str:
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    for name in found.get_values_for_type(x509.DNSName):
        if not name:
            return "leaf certificate should not contain empty DNSName"
        if ".." in name:
            return "leaf certificate's DNSName should not contain '..'"
        if name.startswith(".") or name.endswith("."):
            return "leaf certificate's DNSName should not start or end with '.'"
    return ""


def _encoded(holder: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    made: bytes = holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return made


def _public_key(spec: Json) -> bytes:
    """The key that was asked for: given alone, or inside the stub request."""
    from cryptography import x509

    try:
        if stub := spec.get("stubPKCS10Request"):
            return _encoded(x509.load_der_x509_csr(base64.b64decode(stub)))
        return base64.b64decode(spec.get("pkixPublicKey") or "")
    except ValueError:
        return b""


def _times(status: Json, leaf: x509.Certificate, spec: Json, now: datetime) -> Errors:
    start, end, refresh = (datetime.fromisoformat(status[f]) for f in ("notBefore", "notAfter", "beginRefreshAt"))
    if start != leaf.not_valid_before_utc:
        text = "must be set to the NotBefore time encoded in the leaf certificate"
        return [invalid_value("status.notBefore", _shown(start), text)]
    if not now - NEAR < start < now + NEAR:
        text = "must be set to within 5 minutes of kube-apiserver's current time"
        return [invalid_value("status.notBefore", _shown(start), text)]
    if end != leaf.not_valid_after_utc:
        text = "must be set to the NotAfter time encoded in the leaf certificate"
        return [invalid_value("status.notAfter", _shown(end), text)]
    lasts, most = end - start, spec.get("maxExpirationSeconds") or 0
    nanoseconds = int(lasts.total_seconds()) * 10**9
    if lasts < timedelta(hours=1):
        return [invalid_value(_CHAIN, nanoseconds, "leaf certificate lifetime must be >= 1 hour")]
    if lasts > timedelta(seconds=most):
        text = f"leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})"
        return [invalid_value(_CHAIN, nanoseconds, text)]
    if refresh < start + MARGIN:
        text = "must be at least 10 minutes after status.notBefore"
        return [invalid_value("status.beginRefreshAt", _shown(refresh), text)]
    if refresh > end - MARGIN:
        text = "must be at least 10 minutes before status.notAfter"
        return [invalid_value("status.beginRefreshAt", _shown(refresh), text)]
    return []


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rest(chain: str) -> Errors:
    from portside.api.rules.certificates import pem_blocks

    for kind, der in pem_blocks(chain)[1:]:
        if kind != "CERTIFICATE":
            return [invalid_value(_CHAIN, chain, _BLOCKS)]
        if _parsed(der) is None:
            return [invalid_value(_CHAIN, chain, "intermediate certificate does not parse as valid X.509")]
    return []
