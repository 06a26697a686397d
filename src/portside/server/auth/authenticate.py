"""Who asks: client certificates, the front proxy's headers, service-account tokens, tokens of other issuers. Synchronous
and cached.

Order as upstream's union: request headers (only behind the front proxy's own certificate), client certificate, bearer
token. Credentials that are there but do not hold are refused with 401; none at all is None (anonymous).
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

from portside.api.status import ApiError
from portside.base.clock import Clock
from portside.base.pki import Pki, load_certificate, load_key
from portside.server.attributes import ANONYMOUS, User
from portside.server.auth import bootstrap_token
from portside.server.auth.authentication_config import NOBODY_ELSE, Authentication
from portside.server.auth.jws import BadToken
from portside.server.auth.oidc import OpenIdAuthenticator
from portside.server.auth.tokens import Binding, Claims, TokenError, TokenSigner
from portside.server.live import Live

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

log = logging.getLogger(__name__)
AUTHENTICATED = "system:authenticated"
SERVICE_ACCOUNTS = "system:serviceaccounts"
EXTRA = "authentication.kubernetes.io/"
FRONT_PROXY_NAMES = ("front-proxy-client",)
# Bounded: a client that sends ever new tokens must not fill memory (docs/limits.md).
CACHED_CREDENTIALS = 4096
# A token of a pod or account that is being deleted still works this long (seconds), as upstream allows.
DELETION_GRACE = 60.0
# Another issuer's token is looked at again after so long (seconds), as upstream's cache has it.
FOREIGN_SECONDS = 10.0
# Refusals of such tokens in the log: one line in so many seconds, whoever sends how many.
TELL_SECONDS = 1.0
# kind of a binding -> plural; nodes are cluster-scoped.
BOUND = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


@dataclass(frozen=True, slots=True)
class _CertEntry:
    user: User
    starts: float
    ends: float
    proxy: bool


@dataclass(frozen=True, slots=True)
class _TokenEntry:
    user: User
    audiences: tuple[str, ...]
    ends: float


class Authenticator:
    """``signer`` and the certificate authorities come from ``pki``; bindings are looked up in ``live``."""

    def __init__(self, pki: Pki, live: Live, clock: Clock) -> None:
        self.signer = TokenSigner(load_key(pki.service_account_key))
        self.audiences: tuple[str, ...] = (self.signer.issuer,)
        self._authorities = (load_certificate(pki.ca), load_certificate(pki.certificate("front-proxy-ca")))
        self._live = live
        self._clock = clock
        self._certs: dict[bytes, _CertEntry | None] = {}
        self._tokens: dict[str, _TokenEntry] = {}
        self._bound: dict[str, set[str]] = {}
        self._others = OpenIdAuthenticator(NOBODY_ELSE, clock)
        self._anonymous_paths = NOBODY_ELSE.anonymous_paths
        self._told = float("-inf")
        for plural in ("serviceaccounts", *BOUND.values()):
            live.of(plural).on_change(self._changed)

    def use(self, config: Authentication) -> None:
        """Who else vouches for users, and who may ask without credentials, from now on."""
        former, self._others = self._others, OpenIdAuthenticator(config, self._clock, self._others)
        former.stop()
        self._others.start()
        self._anonymous_paths = config.anonymous_paths
        self._tokens.clear()
        self._bound.clear()

    def close(self) -> None:
        self._others.stop()

    def anonymous(self, path: str) -> User:
        """Who asks for ``path`` without credentials. Raises ApiError 401 where nobody may."""
        if self._anonymous_paths is None or path in self._anonymous_paths:
            return ANONYMOUS
        raise unauthorized()

    def authenticate(self, peer_cert_der: bytes | None, headers: Mapping[str, str]) -> User | None:
        """The identity behind a request; None without credentials. Raises ApiError 401 when credentials don't hold,
        KeysWanted when another issuer is to be asked for its keys first."""
        if peer_cert_der is not None:
            entry = self._certificate(peer_cert_der)
            if entry is not None and entry.starts <= self._clock.now() < entry.ends:
                if not entry.proxy:
                    return entry.user
                if "x-remote-user" in headers:
                    return _proxied(headers)
        value = headers.get("authorization")
        if value is not None:
            scheme, _, token = value.strip().partition(" ")
            if scheme.lower() == "bearer" and (token := token.strip()):
                return self._bearer(token)
        # A certificate that is expired, or not ours, counts as a credential that does not hold.
        if peer_cert_der is not None:
            raise unauthorized()
        return None

    def review(self, token: str, audiences: tuple[str, ...]) -> tuple[User, tuple[str, ...]]:
        """The token's identity and those of ``audiences`` (the API's own when empty) it is meant for. Raises TokenError,
        KeysWanted."""
        if bootstrap_token.secret_name(token):
            user, meant = self._bootstrap(token), self.audiences
            if user is None:
                raise TokenError("the bootstrap token does not hold")
        else:
            entry = self._token(token)
            user, meant = entry.user, entry.audiences
        common = tuple(a for a in audiences or self.audiences if a in meant)
        if not common:
            raise TokenError("token audiences do not match")
        return user, common

    def _bootstrap(self, token: str) -> User | None:
        held = self._live.of("secrets").get(bootstrap_token.secret_name(token), bootstrap_token.SPACE)
        return bootstrap_token.identity(token, held, self._clock.now())

    def _bearer(self, token: str) -> User:
        if bootstrap_token.secret_name(token):
            if (user := self._bootstrap(token)) is None:
                raise unauthorized()
            return user
        entry = self._tokens.get(token)
        if entry is None or entry.ends <= self._clock.now():
            try:
                entry = self._token(token)
            except TokenError as problem:
                raise unauthorized() from problem
        if self.audiences[0] not in entry.audiences:
            raise unauthorized()
        return entry.user

    def _token(self, token: str) -> _TokenEntry:
        now = self._clock.now()
        entry = self._tokens.get(token)
        if entry is not None and entry.ends > now:
            return entry
        if self._others.concerns(token):
            return self._foreign(token, now)
        claims = self.signer.verify(token, now)
        keys, ends = self._alive(claims, now)
        if claims.in_secret and claims.binding is not None:
            self._in_secret(claims.namespace, claims.binding.name, token)
        entry = _TokenEntry(_account_user(claims), claims.audiences, min(claims.expires, ends))
        self._keep(token, entry)
        for key in keys:
            self._bound.setdefault(key, set()).add(token)
        return entry

    def _keep(self, token: str, entry: _TokenEntry) -> None:
        if len(self._tokens) >= CACHED_CREDENTIALS:
            self._tokens.clear()
            self._bound.clear()
        self._tokens[token] = entry

    def _foreign(self, token: str, now: float) -> _TokenEntry:
        """A token of another issuer: it is meant for the API, whatever its audience is called there."""
        try:
            user, ends = self._others.verify(token, now)
        except BadToken as problem:
            if self._clock.monotonic() - self._told >= TELL_SECONDS:
                self._told = self._clock.monotonic()
                log.warning("Unable to authenticate the request: [invalid bearer token, %s]", problem)
            raise TokenError(str(problem)) from problem
        entry = _TokenEntry(user, self.audiences, min(ends, now + FOREIGN_SECONDS))
        self._keep(token, entry)
        return entry

    def _alive(self, claims: Claims, now: float) -> tuple[list[str], float]:
        """The store keys the token hangs on, and until when they allow it. Raises TokenError when one is gone."""
        wanted = [("serviceaccounts", claims.namespace, claims.account, claims.account_uid)]
        if (bound := claims.binding) is not None:
            space = "" if bound.kind == "Node" else claims.namespace
            wanted.append((BOUND[bound.kind], space, bound.name, bound.uid))
        keys, ends = [], float("inf")
        for plural, space, name, uid in wanted:
            mirror = self._live.of(plural)
            found = mirror.get(name, space)
            if found is None or (uid and found["metadata"].get("uid") != uid):
                raise TokenError(f"{plural} {space}/{name} is gone")
            if stamp := found["metadata"].get("deletionTimestamp"):
                ends = min(ends, datetime.fromisoformat(stamp).timestamp() + DELETION_GRACE)
            keys.append(f"{mirror.prefix}{space}/{name}" if space else mirror.prefix + name)
        if ends <= now:
            raise TokenError("bound object is being deleted")
        return keys, ends

    def _in_secret(self, namespace: str, name: str, token: str) -> None:
        """A token without an end is good while its Secret holds it. Raises TokenError."""
        data = (self._live.of("secrets").get(name, namespace) or {}).get("data") or {}
        if data.get("token") != base64.b64encode(token.encode()).decode():
            raise TokenError(f"secret {namespace}/{name} does not hold the token")

    def _changed(self, key: str) -> None:
        for token in self._bound.pop(key, ()):
            self._tokens.pop(token, None)

    def _certificate(self, der: bytes) -> _CertEntry | None:
        try:
            return self._certs[der]
        except KeyError:
            pass
        entry = self._read_certificate(der)
        if len(self._certs) >= CACHED_CREDENTIALS:
            self._certs.clear()
        self._certs[der] = entry
        return entry

    def _read_certificate(self, der: bytes) -> _CertEntry | None:
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        try:
            cert = x509.load_der_x509_certificate(der)
            usages = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except (ValueError, x509.ExtensionNotFound):
            return None
        by_ca, by_proxy_ca = (_issued(cert, authority) for authority in self._authorities)
        names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not (by_ca or by_proxy_ca) or not names or ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
            return None
        name = str(names[0].value)
        if by_proxy_ca and name not in FRONT_PROXY_NAMES:
            return None
        groups = tuple(str(a.value) for a in cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
        extra: dict[str, tuple[str, ...]] = {
            EXTRA + "credential-id": (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)
        }
        return _CertEntry(
            User(name, groups=(*groups, AUTHENTICATED), extra=extra),
            cert.not_valid_before_utc.timestamp(),
            cert.not_valid_after_utc.timestamp(),
            by_proxy_ca,
        )


def _issued(cert: Certificate, authority: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        cert.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def account_groups(namespace: str) -> tuple[str, ...]:
    """The groups every service account of a namespace is in."""
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)


def _account_user(claims: Claims) -> User:
    extra: dict[str, tuple[str, ...]] = {EXTRA + "credential-id": (f"JTI={claims.jti}",)} if claims.jti else {}
    for fact in (claims.binding, claims.node):
        if isinstance(fact, Binding) and fact.kind != "Secret":
            extra[f"{EXTRA}{fact.kind.lower()}-name"] = (fact.name,)
            extra[f"{EXTRA}{fact.kind.lower()}-uid"] = (fact.uid,)
    name = f"system:serviceaccount:{claims.namespace}:{claims.account}"
    return User(name, claims.account_uid, account_groups(claims.namespace), extra)


def _proxied(headers: Mapping[str, str]) -> User:
    """The identity an authenticating front proxy passes on (X-Remote-User, -Group, -Extra-*, -Uid)."""
    name = headers["x-remote-user"]
    if not name:
        raise unauthorized()
    groups = header_list(headers.get("x-remote-group", ""))
    extra = {
        unquote(key[len("x-remote-extra-") :]): header_list(value)
        for key, value in headers.items()
        if key.startswith("x-remote-extra-")
    }
    if AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(name, headers.get("x-remote-uid", ""), groups, extra)


def header_list(value: str) -> tuple[str, ...]:
    """The values of a repeated header; the connection joins them with line feeds, which no header can hold."""
    return tuple(value.split("\n")) if value else ()
