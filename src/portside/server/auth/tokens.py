"""Service-account tokens: JWTs signed ES256 with the cluster's key, bound to a pod, secret or node, and expiring.

Those in Secrets are older in form: they never expire and hold as long as the Secret that contains them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

Json = dict[str, Any]

ISSUER = "https://kubernetes.default.svc"
SECRET_ISSUER = "kubernetes/serviceaccount"
SECRET_CLAIM = "kubernetes.io/serviceaccount/"
MAX_TOKEN = 16 * 1024
# A kubelet-style request of 3607 s for the API's audience lives a year, with a warning time, for clients that never
# read their token again (upstream's --service-account-extend-token-expiration).
EXTENDABLE_SECONDS, EXTENDED_SECONDS = 3607, 365 * 24 * 3600


class TokenError(Exception):
    """The token is not acceptable; the text is for logs."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token dies with: kind Pod, Secret or Node, its name and uid."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Claims:
    """The parts of a verified token."""

    namespace: str
    account: str
    account_uid: str
    audiences: tuple[str, ...]
    expires: float
    jti: str
    binding: Binding | None
    node: Binding | None
    in_secret: bool = False  # the binding's uid is not known: the Secret must hold the very token


class TokenSigner:
    """Signs and verifies with one key; further public keys may be accepted after a rotation."""

    def __init__(self, key: EllipticCurvePrivateKey, issuer: str = ISSUER) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self.issuer = issuer
        self._key = key
        self._public = key.public_key()
        spki = self._public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.key_id = _encode(hashlib.sha256(spki).digest())
        self._header = _encode(orjson.dumps({"alg": "ES256", "kid": self.key_id}))

    def sign(
        self,
        *,
        namespace: str,
        account: str,
        account_uid: str,
        audiences: list[str],
        now: float,
        seconds: int,
        binding: Binding | None = None,
        node: Binding | None = None,
        warn_after: int = 0,
    ) -> str:
        """A token valid from ``now`` for ``seconds``."""
        issued = int(now)
        kubernetes: Json = {"namespace": namespace}
        for fact in (binding, node):
            if fact is not None:
                kubernetes[fact.kind.lower()] = {"name": fact.name, "uid": fact.uid}
        kubernetes["serviceaccount"] = {"name": account, "uid": account_uid}
        if warn_after:
            kubernetes["warnafter"] = issued + warn_after
        claims = {
            "aud": audiences,
            "exp": issued + seconds,
            "iat": issued,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": kubernetes,
            "nbf": issued,
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }
        return self._signed(claims)

    def sign_for_secret(self, namespace: str, account: str, account_uid: str, secret: str) -> str:
        """The token that is put into a Secret."""
        facts = {
            "namespace": namespace,
            "secret.name": secret,
            "service-account.name": account,
            "service-account.uid": account_uid,
        }
        claims = {
            "iss": SECRET_ISSUER,
            **{SECRET_CLAIM + name: value for name, value in facts.items()},
            "sub": f"system:serviceaccount:{namespace}:{account}",
        }
        return self._signed(claims)

    def _signed(self, claims: Json) -> str:
        signed = f"{self._header}.{_encode(orjson.dumps(claims))}"
        return f"{signed}.{_encode(self._signature(signed.encode()))}"

    def verify(self, token: str, now: float) -> Claims:
        """Check form, signature, issuer and times. Raises TokenError. Bindings are for the caller to look up."""
        if len(token) > MAX_TOKEN or token.count(".") != 2:
            raise TokenError("not a JWT")
        head, body, signature = token.split(".")
        try:
            header, claims = orjson.loads(_decode(head)), orjson.loads(_decode(body))
        except ValueError as problem:
            raise TokenError("not a JWT") from problem
        if not isinstance(header, dict) or header.get("alg") != "ES256" or not isinstance(claims, dict):
            raise TokenError("unsupported algorithm")
        self._check_signature(f"{head}.{body}".encode(), signature)
        if claims.get("iss") == SECRET_ISSUER:
            return _secret_claims(claims, self.issuer)
        if claims.get("iss") != self.issuer:
            raise TokenError("foreign issuer")
        return _claims(claims, now)

    def jwks(self) -> Json:
        """The public key as a JSON Web Key Set (``/openid/v1/jwks``)."""
        numbers = self._public.public_numbers()
        x, y = (_encode(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
        key = {"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}
        return {"keys": [key]}

    def discovery(self, api: str) -> Json:
        """The OpenID configuration (``/.well-known/openid-configuration``); ``api`` is the server's external URL."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{api}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def _signature(self, message: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def _check_signature(self, message: bytes, text: str) -> None:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        try:
            raw = _decode(text)
            # Only the canonical spelling counts, so that one token has one text.
            if len(raw) != 64 or _encode(raw) != text:
                raise TokenError("bad signature")
            pair = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._public.verify(pair, message, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError) as problem:
            raise TokenError("bad signature") from problem


def _secret_claims(claims: Json, audience: str) -> Claims:
    names = ("namespace", "service-account.name", "service-account.uid", "secret.name")
    namespace, account, uid, secret = (str(claims.get(SECRET_CLAIM + name) or "") for name in names)
    if not (namespace and account and uid and secret):
        raise TokenError("claims are incomplete")
    if claims.get("sub") != f"system:serviceaccount:{namespace}:{account}":
        raise TokenError("subject and claims differ")
    binding = Binding("Secret", secret, "")
    return Claims(namespace, account, uid, (audience,), float("inf"), "", binding, None, in_secret=True)


def _claims(claims: Json, now: float) -> Claims:
    try:
        own = claims["kubernetes.io"]
        account = own["serviceaccount"]
        binding = next((_binding(own, kind) for kind in ("Pod", "Secret", "Node") if kind.lower() in own), None)
        node = _binding(own, "Node") if "node" in own and binding is not None and binding.kind == "Pod" else None
        found = Claims(
            namespace=str(own["namespace"]),
            account=str(account["name"]),
            account_uid=str(account["uid"]),
            audiences=tuple(str(a) for a in claims["aud"]),
            expires=float(claims["exp"]),
            jti=str(claims["jti"]),
            binding=binding,
            node=node,
        )
        starts = float(claims.get("nbf", 0))
    except (KeyError, TypeError, ValueError) as problem:
        raise TokenError("claims are incomplete") from problem
    if claims.get("sub") != f"system:serviceaccount:{found.namespace}:{found.account}":
        raise TokenError("subject and claims differ")
    if now >= found.expires:
        raise TokenError("expired")
    # A clock set back by less than a minute must not lock everybody out.
    if starts > now + 60:
        raise TokenError("not valid yet")
    return found


def _binding(own: Json, kind: str) -> Binding:
    fact = own[kind.lower()]
    return Binding(kind, str(fact["name"]), str(fact["uid"]))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ValueError("not base64url") from problem
