"""CertificateApproval, CertificateSigning, CertificateSubjectRestriction and ClusterTrustBundleAttest."""

from __future__ import annotations

import base64
from typing import Any

from portside.server.admission.review import Review
from portside.server.attributes import Attributes

Json = dict[str, Any]
GROUP = "certificates.k8s.io"
API_CLIENT = "kubernetes.io/kube-apiserver-client"


def requestor(review: Review) -> None:
    """A request carries who made it; what the client said there is gone since its preparation. Upstream does this in
    the kind's strategy, which knows the whole user; ours knows the name alone."""
    user, spec = review.user, review.obj["spec"]
    said = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
    }
    spec.update({field: value for field, value in said.items() if value})


def approval(review: Review) -> None:
    """Who changes a request's approval must hold ``approve`` on its signer."""
    signer = _signer(review)
    if not _allowed(review, "approve", signer):
        raise review.refuse(f'user not permitted to approve requests with signerName "{signer}"')


def signing(review: Review) -> None:
    """Who writes the certificate or the Failed condition must hold ``sign`` on its signer."""
    old, new = (review.old or {}).get("status") or {}, review.obj.get("status") or {}
    if old.get("certificate") == new.get("certificate") and _failed(old) == _failed(new):
        return
    signer = _signer(review)
    if not _allowed(review, "sign", signer):
        raise review.refuse(f'user not permitted to sign requests with signerName "{signer}"')


def subject(review: Review) -> None:
    """No request for system:masters through the API client signer."""
    spec = review.obj.get("spec") or {}
    if spec.get("signerName") == API_CLIENT and "system:masters" in _organisations(spec.get("request", "")):
        raise review.refuse(f"use of {API_CLIENT} signer with system:masters group is not allowed")


def attest(review: Review) -> None:
    """Trust bundles of a signer are written by those who may ``attest`` for it."""
    signer = (review.obj.get("spec") or {}).get("signerName", "")
    old = ((review.old or {}).get("spec") or {}) if review.old else None
    if not signer or (old is not None and old == review.obj.get("spec")):
        return
    if not _allowed(review, "attest", signer):
        raise review.refuse(f'user not permitted to attest for signerName "{signer}"')


def _signer(review: Review) -> str:
    return str(((review.old or review.obj).get("spec") or {}).get("signerName", ""))


def _allowed(review: Review, verb: str, signer: str) -> bool:
    names = [signer]
    if "/" in signer:
        names.append(signer.split("/", 1)[0] + "/*")
    return any(
        review.server.authorizer.allowed(
            Attributes(review.user, verb, group=GROUP, version="*", resource="signers", name=name)
        )
        for name in names
    )


def _failed(status: Json) -> list[Json]:
    return [c for c in status.get("conditions") or () if c.get("type") == "Failed"]


def _organisations(request: str) -> list[str]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        csr = x509.load_pem_x509_csr(base64.b64decode(request))
    except ValueError:
        return []  # validation has already refused it
    return [str(a.value) for a in csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
