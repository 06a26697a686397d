"""Users that other issuers vouch for: from a verified token to a user, as AuthenticationConfiguration says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from portside.api.cel.values import CelRuntimeError
from portside.base.clock import Clock, rfc3339
from portside.server.attributes import User
from portside.server.auth.authentication_config import Authentication, Check, ClaimMapping, Issuer
from portside.server.auth.issuer_keys import IssuerKeys
from portside.server.auth.jws import BadToken, parse, untrusted_issuer

if TYPE_CHECKING:
    from portside.api.cel import Program

Json = dict[str, Any]
NOT_BEFORE_LEEWAY = 300.0
"""Seconds by which an issuer's clock may be ahead, for ``nbf``; an end is an end."""
GROUP = "system:authenticated"


class OpenIdAuthenticator:
    """The issuers of one configuration. ``start`` begins to reach them; ``stop`` ends that."""

    def __init__(self, config: Authentication, clock: Clock, former: OpenIdAuthenticator | None = None) -> None:
        """Keys of issuers that ``former`` reached at the same place are kept."""
        held = {keys.place: keys for _, keys in former._issuers.values()} if former is not None else {}
        self._issuers: dict[str, tuple[Issuer, IssuerKeys]] = {}
        for issuer in config.issuers:
            fresh = IssuerKeys(issuer.url, issuer.discovery, issuer.authority, clock)
            self._issuers[issuer.url] = issuer, held.get(fresh.place, fresh)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(keys.keep()) for _, keys in self._issuers.values()]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def concerns(self, token: str) -> bool:
        """Whether the token says it is from one of the issuers."""
        return bool(self._issuers) and _issuer(token) in self._issuers

    def verify(self, token: str, now: float) -> tuple[User, float]:
        """The user and until when the token holds. Raises BadToken, KeysWanted."""
        found = self._issuers.get(_issuer(token))
        if found is None:
            raise BadToken("oidc: the issuer is not known")
        issuer, keys = found
        parsed = parse(token)
        claims = parsed.claims
        _check_audience(issuer, claims)
        ends = _check_times(claims, now)
        keys.check(parsed)
        user = _user(issuer, claims)
        _check_claims(issuer, claims)
        _check_user(issuer, user)
        groups = user.groups if GROUP in user.groups else (*user.groups, GROUP)
        return User(user.name, user.uid, groups, user.extra), ends


def _issuer(token: str) -> str:
    """One issuer signs without the scheme of its address, as upstream knows."""
    said = untrusted_issuer(token)
    return "https://accounts.google.com" if said == "accounts.google.com" else said


def _check_audience(issuer: Issuer, claims: Mapping[str, Any]) -> None:
    said = claims.get("aud")
    audiences = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    if not any(isinstance(a, str) and a in issuer.audiences for a in audiences):
        wanted = " ".join(f'"{a}"' for a in sorted(issuer.audiences))
        raise BadToken(f"oidc: verify token: oidc: expected audience in [{wanted}] got {audiences}")


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    ends, begins = _seconds(claims.get("exp")), _seconds(claims.get("nbf", 0))
    if ends is None:
        raise BadToken("oidc: verify token: oidc: token is expired (it has no expiry)")
    if ends <= now:
        raise BadToken(f"oidc: verify token: oidc: token is expired (Token Expiry: {rfc3339(ends)})")
    if begins is None or begins > now + NOT_BEFORE_LEEWAY:
        raise BadToken(f"oidc: verify token: oidc: current time {rfc3339(now)} before the nbf (not before) time")
    return ends


def _seconds(value: Any) -> float | None:
    """A time of a token; None when it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
    return float(value) if is_number else None


def _claim(claims: Mapping[str, Any], name: str, what: str) -> str:
    if name not in claims:
        raise BadToken(f'oidc: parse {what} "{name}": claim not present')
    value = claims[name]
    if not isinstance(value, str):
        raise BadToken(f'oidc: parse {what} "{name}": it is no string')
    return value


def _run(program: Program, bindings: Json, what: str) -> Any:
    try:
        return program.evaluate(bindings)
    except CelRuntimeError as problem:
        raise BadToken(f"oidc: error evaluating {what}: {problem}") from None


def _user(issuer: Issuer, claims: Mapping[str, Any]) -> User:
    values = {"claims": dict(claims)}
    name = _name(issuer.username, claims, values)
    groups = _groups(issuer.groups, claims, values)
    uid = ""
    if issuer.uid.claim:
        uid = _claim(claims, issuer.uid.claim, "uid claim")
    elif issuer.uid.program is not None:
        uid = _run(issuer.uid.program, values, "uid claim expression")
        if not isinstance(uid, str):
            raise BadToken("oidc: error evaluating uid claim expression: uid claim expression must return a string")
    extra: dict[str, tuple[str, ...]] = {}
    for key, program in issuer.extra:
        what = f"extra claim expression: {program.text}"
        if found := _words(_run(program, values, what), what):
            extra[key] = found
    return User(name, uid, groups, extra)


def _name(mapping: ClaimMapping, claims: Mapping[str, Any], values: Json) -> str:
    if mapping.program is not None:
        name = _run(mapping.program, values, "username claim expression")
        if not isinstance(name, str):
            what = "username claim expression"
            raise BadToken(f"oidc: error evaluating {what}: {what} must return a string")
    else:
        name = mapping.prefix + _claim(claims, mapping.claim, "username claims")
        if mapping.claim == "email" and "email_verified" in claims and claims["email_verified"] is not True:
            raise BadToken("oidc: email not verified")
    if not name:
        raise BadToken("oidc: the username is empty")
    return name


def _groups(mapping: ClaimMapping, claims: Mapping[str, Any], values: Json) -> tuple[str, ...]:
    if mapping.program is not None:
        return _words(_run(mapping.program, values, "group claim expression"), "group claim expression")
    if not mapping.claim or (said := claims.get(mapping.claim)) is None:
        return ()
    listed = [said] if isinstance(said, str) else said
    if not isinstance(listed, list) or not all(isinstance(g, str) for g in listed):
        raise BadToken(f'oidc: parse groups claim "{mapping.claim}": it is neither a string nor a list of strings')
    return tuple(mapping.prefix + group for group in listed)


def _words(value: Any, what: str) -> tuple[str, ...]:
    """A text or list of texts; empty ones count as absent."""
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(v, str) for v in listed):
        raise BadToken(f"oidc: error evaluating {what}: expression must return a string or a list of strings")
    return tuple(v for v in listed if v)


def _check_claims(issuer: Issuer, claims: Mapping[str, Any]) -> None:
    for check in issuer.claim_checks:
        if check.program is not None:
            _hold(check, {"claims": dict(claims)}, "claim validation expression")
            continue
        if check.claim not in claims:
            raise BadToken(f"oidc: required claim {check.claim} not present in ID token")
        value = claims[check.claim]
        if value != check.value or not isinstance(value, str):
            raise BadToken(
                f"oidc: required claim {check.claim} value does not match. Got = {value}, want = {check.value}"
            )


def _check_user(issuer: Issuer, user: User) -> None:
    extra = {key: list(values) for key, values in user.extra.items()}
    shown = {"username": user.name, "uid": user.uid, "groups": list(user.groups), "extra": extra}
    for check in issuer.user_checks:
        _hold(check, {"user": shown}, "user info validation rule")


def _hold(check: Check, values: Json, what: str) -> None:
    assert check.program is not None
    if _run(check.program, values, what) is not True:
        text = f"validation expression '{check.program.text}' failed: {check.message}"
        raise BadToken(f"oidc: error evaluating {what}: {text}")
