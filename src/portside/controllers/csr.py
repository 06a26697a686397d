"""What the certificate controllers read of a signing request: its conditions, and what its PKCS#10 body asks."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from portside.client.protocol import Json, Resource

REQUESTS: Resource = ("certificates.k8s.io", "v1", "certificatesigningrequests")
CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY = "kubernetes.io/legacy-unknown"
NODE_USER, NODE_GROUP = "system:node:", "system:nodes"
_SERVING_USAGES = ("digital signature", "key encipherment", "server auth")
_KUBELET_USAGES = ("client auth", "digital signature", "key encipherment")


@dataclass(frozen=True, slots=True)
class Asked:
    """The subject and the names of a request."""

    name: str
    organisations: tuple[str, ...]
    dns: bool = False
    ip: bool = False
    email: bool = False
    uri: bool = False


def body(request: Json) -> bytes:
    return base64.b64decode(request["spec"].get("request") or "")


def read(request: Json) -> Asked | None:
    """None when the body can't be read."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        found = x509.load_pem_x509_csr(body(request))
        subject = found.subject
        kinds = _kinds(found)
    except ValueError:
        return None
    names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return Asked(names[-1] if names else "", groups, **kinds)


def _kinds(found: object) -> dict[str, bool]:
    from cryptography import x509

    assert isinstance(found, x509.CertificateSigningRequest)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    types = {"dns": x509.DNSName, "ip": x509.IPAddress, "email": x509.RFC822Name, "uri": x509.UniformResourceIdentifier}
    return {field: any(isinstance(n, kind) for n in names) for field, kind in types.items()}


def condition(request: Json, *types: str) -> Json | None:
    """The first condition of one of these types that is true."""
    for found in (request.get("status") or {}).get("conditions") or ():
        if found.get("type") in types and found.get("status", "True") == "True":
            return dict(found)
    return None


def certificate(request: Json) -> bytes:
    """The PEM of what was issued, empty when nothing was."""
    return base64.b64decode((request.get("status") or {}).get("certificate") or "")


def kubelet_client_problem(asked: Asked, usages: list[str]) -> str:
    """Why a request is none for a node's client certificate; empty when it is."""
    if asked.organisations != (NODE_GROUP,):
        return "subject organization is not system:nodes"
    for field, name in (("dns", "DNS"), ("email", "Email"), ("ip", "IP"), ("uri", "URI")):
        if getattr(asked, field):
            return f"{name} subjectAltNames are not allowed"
    if not asked.name.startswith(NODE_USER):
        return "subject common name does not begin with system:node:"
    return _usages(usages, _KUBELET_USAGES)


def kubelet_serving_problem(asked: Asked, usages: list[str]) -> str:
    """Why a request is none for a node's serving certificate."""
    if asked.organisations != (NODE_GROUP,):
        return "subject organization is not system:nodes"
    if not asked.dns and not asked.ip:
        return "DNS or IP subjectAltName is required"
    for field, name in (("email", "Email"), ("uri", "URI")):
        if getattr(asked, field):
            return f"{name} subjectAltNames are not allowed"
    if problem := _usages(usages, _SERVING_USAGES):
        return problem
    return "" if asked.name.startswith(NODE_USER) else "subject common name does not begin with system:node:"


def client_problem(asked: Asked, usages: list[str]) -> str:
    """Why a request is none for a client certificate."""
    for usage in usages:
        if usage not in _KUBELET_USAGES:
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def _usages(usages: list[str], wanted: tuple[str, ...]) -> str:
    """Key encipherment may be left out, by keys that can't."""
    if set(usages) in (set(wanted), set(wanted) - {"key encipherment"}):
        return ""
    return f"usages did not match [{' '.join(wanted)}]"
