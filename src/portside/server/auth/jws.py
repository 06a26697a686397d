"""Signed tokens of other issuers: their form, their algorithms, and JSON Web Keys that verify them.

A key verifies an algorithm of its own kind alone, so that no token can choose how it is looked at: ``none`` and secrets
(HS256) are never among them, and keys named by the token itself (``jku``, ``jwk``, ``x5u``) are not looked at.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

Json = dict[str, Any]
MOST_TOKEN = 64 * 1024
RSA_BITS = range(1024, 16_384 + 1)
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, tuple[type[ec.EllipticCurve], str]] = {
    "P-256": (ec.SECP256R1, "ES256"),
    "P-384": (ec.SECP384R1, "ES384"),
    "P-521": (ec.SECP521R1, "ES512"),
}
ALGORITHMS = tuple(f"{kind}{size}" for kind in ("RS", "ES", "PS") for size in _HASHES)


class BadToken(Exception):
    """The token is not acceptable; the text is for logs."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart, not yet verified."""

    algorithm: str
    key_id: str
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def decode(text: str) -> bytes:
    """Base64 as tokens have it. Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as problem:
        raise ValueError(str(problem)) from None


def untrusted_issuer(token: str) -> str:
    """Who a token says it is from, "" when it says nothing: to find who has to verify it, and for nothing else."""
    if len(token) > MOST_TOKEN or token.count(".") != 2:
        return ""
    try:
        claims = orjson.loads(decode(token.split(".")[1]))
    except ValueError:
        return ""
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else ""


def parse(token: str) -> Token:
    """Raises BadToken."""
    if len(token) > MOST_TOKEN or token.count(".") != 2:
        raise BadToken("oidc: malformed jwt: compact JWS format must have three parts")
    head, body, signature = token.split(".")
    try:
        header, claims, raw = orjson.loads(decode(head)), orjson.loads(decode(body)), decode(signature)
    except ValueError as problem:
        raise BadToken(f"oidc: malformed jwt: {problem}") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise BadToken("oidc: malformed jwt: header or payload is no object")
    algorithm, key_id = header.get("alg"), header.get("kid", "")
    if algorithm not in ALGORITHMS:
        wanted = " ".join(ALGORITHMS)
        raise BadToken(f'oidc: malformed jwt: unexpected signature algorithm "{algorithm}"; expected [{wanted}]')
    if "crit" in header:
        raise BadToken("oidc: malformed jwt: unsupported crit header")
    if not isinstance(key_id, str):
        raise BadToken("oidc: malformed jwt: kid is no text")
    return Token(algorithm, key_id, claims, f"{head}.{body}".encode(), raw)


class Key:
    """One public key of a set. ``key_id`` is "" when it has none."""

    def __init__(self, described: Json) -> None:
        """Raises ValueError for a key that can't be used."""
        self.key_id = str(described.get("kid") or "")
        self._alg = str(described.get("alg") or "")
        kind = described.get("kty")
        if kind == "RSA":
            modulus, exponent = (int.from_bytes(decode(str(described.get(k) or "")), "big") for k in ("n", "e"))
            if modulus.bit_length() not in RSA_BITS:
                raise ValueError("the modulus is too small or too large")
            self._rsa: rsa.RSAPublicKey | None = rsa.RSAPublicNumbers(exponent, modulus).public_key()
            self._ec: ec.EllipticCurvePublicKey | None = None
        elif kind == "EC" and described.get("crv") in _CURVES:
            curve, self._ec_algorithm = _CURVES[str(described["crv"])]
            x, y = (int.from_bytes(decode(str(described.get(k) or "")), "big") for k in ("x", "y"))
            self._rsa, self._ec = None, ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
        else:
            raise ValueError(f"a key of type {kind} is not supported")

    def verifies(self, token: Token) -> bool:
        algorithm = token.algorithm
        if self._alg and self._alg != algorithm:
            return False
        digest = _HASHES[algorithm[2:]]
        try:
            if algorithm.startswith("ES"):
                return self._verifies_ec(token, digest)
            if self._rsa is None:
                return False
            scheme: padding.AsymmetricPadding = padding.PKCS1v15()
            if algorithm.startswith("PS"):
                scheme = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
            self._rsa.verify(token.signature, token.signed, scheme, digest)
        except InvalidSignature:
            return False
        return True

    def _verifies_ec(self, token: Token, digest: hashes.HashAlgorithm) -> bool:
        """Raises InvalidSignature."""
        if self._ec is None or token.algorithm != self._ec_algorithm:
            return False
        half = (self._ec.curve.key_size + 7) // 8
        if len(token.signature) != 2 * half:
            return False
        r, s = (int.from_bytes(part, "big") for part in (token.signature[:half], token.signature[half:]))
        self._ec.verify(encode_dss_signature(r, s), token.signed, ec.ECDSA(digest))
        return True


def key_set(document: Any) -> list[Key]:
    """The keys of a JSON Web Key Set that can verify signatures; others are left out. Raises ValueError when it is none."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list of keys")
    found: list[Key] = []
    for described in listed:
        if not isinstance(described, dict) or described.get("use", "sig") != "sig":
            continue
        try:
            found.append(Key(described))
        except ValueError:  # of a kind that came later, or for encryption: those for our tokens may be beside it
            continue
    return found
