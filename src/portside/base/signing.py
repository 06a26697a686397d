"""Certificates for signing requests: the request's subject, names and key, the usages and the lifetime that were asked.

A request of more than eight hours starts and ends five minutes earlier, so that clocks that lag accept it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from portside.base.clock import SYSTEM, Clock
from portside.base.pki import Pki, load_certificate, load_key

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LONGEST = 365 * 86400  # seconds
SHORTEST = 600
SHORT = 8 * 3600
BACKDATE = 300
# The API's word for a usage -> the field of the key usage extension.
KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
# The API's word for a usage -> the extended key usage.
EXTENDED = {
    "any": "2.5.29.37.0",
    "server auth": "1.3.6.1.5.5.7.3.1",
    "client auth": "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}
# (request in PEM, usages, seconds or None for the longest) -> certificate in PEM
Sign = Callable[[bytes, Sequence[str], int | None], bytes]


def lifetime(seconds: int | None) -> int:
    """What is asked, within what is given."""
    return LONGEST if seconds is None else min(max(seconds, SHORTEST), LONGEST)


@dataclass(slots=True)
class Authority:
    """The cluster's authority as a signer; its key is read at the first signature."""

    pki: Pki
    clock: Clock = SYSTEM
    _held: tuple[x509.Certificate, EllipticCurvePrivateKey] | None = field(default=None, repr=False)

    def sign(self, request: bytes, usages: Sequence[str], seconds: int | None) -> bytes:
        """A certificate. Raises ValueError when the request can't be read."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.serialization import Encoding

        asked = x509.load_pem_x509_csr(request)
        if self._held is None:
            self._held = load_certificate(self.pki.ca), load_key(self.pki.key("ca"))
        authority, key = self._held
        now, lasts = int(self.clock.now()), lifetime(seconds)
        start = now - BACKDATE
        end = now + lasts if lasts <= SHORT else start + lasts
        builder = (
            x509.CertificateBuilder()
            .subject_name(asked.subject)
            .issuer_name(authority.subject)
            .public_key(asked.public_key())  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(datetime.fromtimestamp(start, UTC), authority.not_valid_before_utc))
            .not_valid_after(min(datetime.fromtimestamp(end, UTC), authority.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        if any(u in KEY_USAGES for u in usages):  # an extension that allows nothing would make the certificate useless
            builder = builder.add_extension(_key_usage(usages), critical=True)
        extended = list(dict.fromkeys(EXTENDED[u] for u in usages if u in EXTENDED))
        if extended:
            purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier(u) for u in extended])
            builder = builder.add_extension(purposes, critical=False)
        if (names := _names(asked)) is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def not_after(certificate: bytes) -> float:
    """When a PEM certificate ends, in seconds since 1970. Raises ValueError for what is none."""
    from cryptography import x509

    ends: datetime = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    return (ends - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    from cryptography import x509

    wanted = {KEY_USAGES[u] for u in usages if u in KEY_USAGES}
    if wanted & {"encipher_only", "decipher_only"}:
        wanted.add("key_agreement")  # the two mean nothing without it
    return x509.KeyUsage(**{name: name in wanted for name in dict.fromkeys(KEY_USAGES.values())})


def _names(asked: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    from cryptography import x509

    try:
        return asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
