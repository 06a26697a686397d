"""Field selectors: the query syntax, which fields each kind offers, and matching. Facts from upstream's conversion tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from portside.api.status import bad_request

Json = Mapping[str, Any]
Getter = Callable[[Json], str]

META = ("metadata.name", "metadata.namespace")
# (group, kind) -> (fields offered, text of the refusal with {label}). Kinds not named here offer META alone.
PLAIN = "field label not supported: {label}"
_OBJECT_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
FIELDS: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("", "Pod"): (
        (
            *META,
            "spec.nodeName",
            "spec.host",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ),
        PLAIN,
    ),
    ("", "Node"): (("metadata.name", "spec.unschedulable"), PLAIN),
    ("", "ReplicationController"): ((*META, "status.replicas"), PLAIN),
    ("", "Event"): (
        (
            *META,
            *(f"involvedObject.{f}" for f in _OBJECT_REFERENCE),
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
        PLAIN,
    ),
    ("events.k8s.io", "Event"): (
        (*META, *(f"regarding.{f}" for f in _OBJECT_REFERENCE), "reason", "reportingController", "type"),
        PLAIN,
    ),
    ("", "Namespace"): (("metadata.name", "status.phase"), PLAIN),
    ("", "Secret"): ((*META, "type"), PLAIN),
    ("", "Service"): ((*META, "spec.clusterIP", "spec.type"), PLAIN),
    ("batch", "Job"): ((*META, "status.successful"), 'field label "{label}" not supported for Job'),
    ("certificates.k8s.io", "CertificateSigningRequest"): (("metadata.name", "spec.signerName"), PLAIN),
    ("certificates.k8s.io", "ClusterTrustBundle"): (("metadata.name", "spec.signerName"), PLAIN),
    ("certificates.k8s.io", "PodCertificateRequest"): (
        (*META, "spec.signerName", "spec.podName", "spec.nodeName"),
        PLAIN,
    ),
    ("resource.k8s.io", "ResourceSlice"): (
        ("metadata.name", "spec.nodeName", "spec.driver", "spec.pool.name"),
        "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {label}",
    ),
}
_UNKNOWN = '"{label}" is not a known field selector: only "metadata.name", "metadata.namespace"'
_ZERO = {"status.replicas": "0", "status.successful": "0", "spec.unschedulable": "false", "spec.hostNetwork": "false"}
_MOVED = {"status.successful": "status.succeeded", "spec.host": "spec.nodeName"}


def _text(value: Any, absent: str) -> str:
    if value is None:
        return absent
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def getter(path: str) -> Getter:
    """Reads the field at a dotted path as text; absent is the zero value."""
    parts, absent = _MOVED.get(path, path).split("."), _ZERO.get(path, "")

    def read(obj: Json) -> str:
        value: Any = obj
        for part in parts:
            value = value.get(part) if isinstance(value, Mapping) else None
        return _text(value, absent)

    return read


def _source(obj: Json) -> str:
    return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")


def _pod_ips(obj: Json) -> str:
    return ",".join(ip.get("ip", "") for ip in (obj.get("status") or {}).get("podIPs") or ())


_SPECIAL: dict[str, Getter] = {"source": _source, "status.podIPs": _pod_ips}


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """``field`` must (or, negated, must not) read ``value``."""

    field: str
    value: str
    negated: bool
    read: Getter

    def matches(self, obj: Json) -> bool:
        return (self.read(obj) == self.value) is not self.negated

    def __str__(self) -> str:
        return f"{self.field}{'!=' if self.negated else '='}{self.value}"


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """All requirements must hold; none matches everything."""

    requirements: tuple[FieldRequirement, ...] = ()

    @property
    def everything(self) -> bool:
        return not self.requirements

    def matches(self, obj: Json) -> bool:
        """Whether ``obj`` (in the served version) has the wanted fields."""
        return all(r.matches(obj) for r in self.requirements)

    def exact(self, field: str) -> str | None:
        """The one value that ``field`` must have, when the selector says so."""
        return next((r.value for r in self.requirements if r.field == field and not r.negated), None)

    def __str__(self) -> str:
        return ",".join(str(r) for r in self.requirements)


def _terms(text: str) -> list[str]:
    """Split at commas that no backslash escapes; upstream sorts the terms."""
    terms, start, escaped = [], 0, False
    for i, c in enumerate(text):
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = True
        elif c == ",":
            terms.append(text[start:i])
            start = i + 1
    return sorted([*terms, text[start:]])


def _unescape(value: str) -> str:
    out, escaped = [], False
    for c in value:
        if escaped:
            if c not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{c}")
            out.append(c)
            escaped = False
        elif c == "\\":
            escaped = True
        elif c in ",=":
            raise bad_request(f"invalid field selector: unescaped character in value: {ord(c)}")
        else:
            out.append(c)
    if escaped:
        raise bad_request("invalid field selector: invalid escape sequence: \\")
    return "".join(out)


def _split(term: str) -> tuple[str, str, str] | None:
    for i in range(len(term)):
        for op in ("!=", "==", "="):
            if term.startswith(op, i):
                return term[:i], op, term[i + len(op) :]
    return None


@lru_cache(maxsize=1024)
def _parse(text: str, fields: tuple[str, ...], refusal: str) -> FieldSelector:
    parsed = []
    for term in _terms(text):
        if not term:
            continue
        parts = _split(term)
        if parts is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        parsed.append((parts[0], parts[1], _unescape(parts[2])))
    found = []
    for label, op, value in parsed:
        if label not in fields:
            raise bad_request(refusal.format(label=label))
        name = "spec.nodeName" if label == "spec.host" else label
        found.append(FieldRequirement(name, value, op == "!=", _SPECIAL.get(label) or getter(label)))
    return FieldSelector(tuple(found))


def parse_fields(
    text: str, group: str = "", kind: str = "", *, custom: tuple[str, ...] | None = None, namespaced: bool = True
) -> FieldSelector:
    """The selector of a ``fieldSelector`` query for a kind; ``custom``: a custom resource's selectableFields without
    leading dots. Raises ApiError 400 with upstream's text."""
    if custom is not None:
        meta = META if namespaced else META[:1]
        return _parse(text, (*meta, *custom), PLAIN)
    fields, refusal = FIELDS.get((group, kind), (META, _UNKNOWN))
    return _parse(text, fields, refusal)
