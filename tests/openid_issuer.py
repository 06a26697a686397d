"""An OpenID issuer for tests: discovery and keys over TLS on loopback, tokens as wrong as a test wants them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.tls_server import TlsServer

Json = dict[str, Any]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
DISCOVERY, KEYS = "/.well-known/openid-configuration", "/keys"
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, length: int = 0) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


def public(key: PrivateKey, key_id: str, **more: str) -> Json:
    """The key's half that is published."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "kid": key_id, "use": "sig", "n": number(numbers.n), "e": number(numbers.e)} | more
    point, half = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    curve = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}[key.curve.name]
    return {"kty": "EC", "kid": key_id, "crv": curve, "x": number(point.x, half), "y": number(point.y, half)} | more


def sign(key: PrivateKey | None, claims: Json, header: Json) -> str:
    """A token with exactly this header; without a key it has no signature."""
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    if key is None:
        return signed + "."
    algorithm = str(header["alg"])
    digest = HASHES.get(algorithm[2:], hashes.SHA256())
    if isinstance(key, rsa.RSAPrivateKey):
        scheme: padding.AsymmetricPadding = padding.PKCS1v15()
        if algorithm.startswith("PS"):
            scheme = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        return f"{signed}.{b64(key.sign(signed.encode(), scheme, digest))}"
    half = (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(digest)))
    return f"{signed}.{b64(r.to_bytes(half, 'big') + s.to_bytes(half, 'big'))}"


class OpenIdIssuer(TlsServer):
    """``with OpenIdIssuer() as issuer``: ``issuer.token(sub="jane")``. ``keys`` are what it publishes, by their id."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, PrivateKey] = {"first": rsa.generate_private_key(65537, 2048)}
        self.authority = base64.b64decode(self.bundle).decode()
        self.fetched: list[str] = []
        self.answers: dict[str, Callable[[], web.Response]] = {
            DISCOVERY: lambda: web.json_response({"issuer": self.url, "jwks_uri": self.url + KEYS}),
            KEYS: lambda: web.json_response({"keys": [public(key, name) for name, key in self.keys.items()]}),
        }

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/{path:.*}", self._get)

    async def _get(self, request: web.Request) -> web.Response:
        self.fetched.append(request.path)
        answer = self.answers.get(request.path)
        return answer() if answer is not None else web.Response(status=404)

    def claims(self, **more: Any) -> Json:
        now = int(time.time())
        made = {"iss": self.url, "aud": "portside", "sub": "jane", "iat": now, "exp": now + 600} | more
        return {name: value for name, value in made.items() if value is not None}

    def token(self, key: str = "first", algorithm: str = "", header: Json | None = None, **claims: Any) -> str:
        """A token that holds, but for what is said otherwise; a claim None is left out."""
        signer = self.keys[key]
        alg = algorithm or ("RS256" if isinstance(signer, rsa.RSAPrivateKey) else "ES256")
        return sign(signer, self.claims(**claims), {"alg": alg, "kid": key} | (header or {}))

    def entry(self, **more: Any) -> Json:
        """What AuthenticationConfiguration says of it."""
        issuer = {"url": self.url, "audiences": ["portside"], "certificateAuthority": self.authority}
        mappings = {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "groups", "prefix": "oidc:"}}
        return {"issuer": issuer | more.pop("issuer", {}), "claimMappings": mappings | more.pop("mappings", {})} | more


def document(*entries: Json, **more: Any) -> Json:
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": list(entries),
    } | more
