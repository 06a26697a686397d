"""Tokens of other issuers: which hold, whom they name, and every known way to forge one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.openid_issuer import DISCOVERY, KEYS, OpenIdIssuer, b64, document, public, sign

from portside.base.clock import SYSTEM
from portside.server.attributes import User
from portside.server.auth import issuer_keys
from portside.server.auth.authentication_config import read
from portside.server.auth.issuer_keys import KeysWanted
from portside.server.auth.jws import BadToken, Key, key_set
from portside.server.auth.oidc import OpenIdAuthenticator

Json = dict[str, Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[OpenIdIssuer]:
    with OpenIdIssuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(shared: OpenIdIssuer) -> Iterator[OpenIdIssuer]:
    """The module's issuer; what a test changes of it is undone."""
    keys, answers = dict(shared.keys), dict(shared.answers)
    yield shared
    shared.keys, shared.answers = keys, answers


class Checked:
    """An authenticator that has reached its issuers."""

    def __init__(self, *entries: Json) -> None:
        self.openid = OpenIdAuthenticator(read(document(*entries), ("https://kubernetes.default.svc",)), SYSTEM)

    async def reach(self) -> Checked:
        self.openid.start()
        async with asyncio.timeout(60):
            await asyncio.gather(*self.openid._tasks)
        return self

    async def user(self, token: str) -> User:
        try:
            return self.openid.verify(token, time.time())[0]
        except KeysWanted as wanted:
            await wanted.keys.fetch()
            return self.openid.verify(token, time.time())[0]

    async def refusal(self, token: str) -> str:
        with pytest.raises(BadToken) as refused:
            await self.user(token)
        return str(refused.value)


@pytest.fixture
async def checked(issuer: OpenIdIssuer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Checked]:
    monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS", 0.0)
    made = await Checked(issuer.entry()).reach()
    monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS", 3600.0)
    yield made
    made.openid.stop()


async def test_a_token_names_its_user_and_groups_with_their_prefixes(issuer: OpenIdIssuer, checked: Checked) -> None:
    user = await checked.user(issuer.token(groups=["a", "b"]))
    assert user == User("oidc:jane", "", ("oidc:a", "oidc:b", "system:authenticated"), {})
    assert (await checked.user(issuer.token(groups="one"))).groups == ("oidc:one", "system:authenticated")
    assert (await checked.user(issuer.token(aud=["other", "portside"]))).name == "oidc:jane"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"])
async def test_every_asymmetric_algorithm_holds(issuer: OpenIdIssuer, algorithm: str) -> None:
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    if algorithm in curves:
        issuer.keys["curve"] = ec.generate_private_key(curves[algorithm])
    made = await Checked(issuer.entry()).reach()
    name = "curve" if algorithm in curves else "first"
    assert (await made.user(issuer.token(name, algorithm))).name == "oidc:jane"


FORGED = {
    "expired": {"exp": time.time() - 5},
    "without an end": {"exp": None},
    "an end that is no number": {"exp": "soon"},
    "true is no number": {"exp": True},
    "before its time": {"nbf": time.time() + 86400},
    "for another audience": {"aud": "other"},
    "for no audience": {"aud": None},
    "for a part of the audience": {"aud": "port"},
    "the audience within an object": {"aud": {"portside": "portside"}},
    "without a name": {"sub": None},
    "an empty name is the prefix alone": {"sub": 7},
    "groups that are an object": {"groups": {"a": "b"}},
    "groups that are numbers": {"groups": [1]},
}


@pytest.mark.parametrize("claims", FORGED.values(), ids=list(FORGED))
async def test_wrong_claims_are_refused(issuer: OpenIdIssuer, checked: Checked, claims: Json) -> None:
    assert (await checked.refusal(issuer.token(**claims))).startswith("oidc: ")


async def test_an_issuer_clock_some_minutes_ahead_is_no_reason_to_refuse(
    issuer: OpenIdIssuer, checked: Checked
) -> None:
    assert (await checked.user(issuer.token(nbf=time.time() + 120))).name == "oidc:jane"


async def test_a_token_says_itself_who_must_verify_it_but_never_how(issuer: OpenIdIssuer, checked: Checked) -> None:
    stranger = rsa.generate_private_key(65537, 2048)
    claims = issuer.claims()
    pem = (
        issuer.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )

    def with_secret(secret: bytes) -> str:
        signed = sign(None, claims, {"alg": "HS256", "kid": "first"})[:-1]
        return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    own = public(stranger, "first")
    head, _, signature = issuer.token().split(".")
    forged = {
        "no algorithm": sign(None, claims, {"alg": "none", "kid": "first"}),
        "no algorithm, shouted": sign(None, claims, {"alg": "NONE"}),
        "no algorithm at all": sign(None, claims, {"kid": "first"}),
        "algorithm as a list": sign(None, claims, {"alg": ["RS256"]}),
        "the public key as a secret": with_secret(pem),
        "another key under a known name": sign(stranger, claims, {"alg": "RS256", "kid": "first"}),
        "another key without a name": sign(stranger, claims, {"alg": "RS256"}),
        "its own key in the header": sign(stranger, claims, {"alg": "RS256", "kid": "first", "jwk": own}),
        "where to fetch its key": sign(
            stranger, claims, {"alg": "RS256", "kid": "new", "jku": issuer.url + "/evil", "x5u": issuer.url + "/evil"}
        ),
        "a path as a name": sign(stranger, claims, {"alg": "RS256", "kid": "../../dev/null"}),
        "a name that is no text": issuer.token(header={"kid": 1}),
        "a critical extension": issuer.token(header={"crit": ["exp"]}),
        "an algorithm of another kind of key": sign(issuer.keys["first"], claims, {"alg": "ES256", "kid": "first"}),
        "no signature": issuer.token().rsplit(".", 1)[0] + ".",
        "four parts": issuer.token() + ".x",
        "another body": f"{head}.{b64(json.dumps(claims | {'sub': 'root'}).encode())}.{signature}",
    }
    for how, token in forged.items():
        assert await checked.refusal(token), how
    assert "/evil" not in issuer.fetched, "nothing is fetched because a token says so"
    assert not checked.openid.concerns(issuer.token(iss=issuer.url + "/")), "an issuer is compared as it is written"
    assert not checked.openid.concerns(issuer.token(iss=[issuer.url]))


async def test_a_token_of_one_issuer_is_never_verified_with_the_keys_of_another(issuer: OpenIdIssuer) -> None:
    with OpenIdIssuer() as other:
        made = await Checked(issuer.entry(), other.entry()).reach()
        assert (await made.user(other.token())).name == "oidc:jane"
        assert "failed to verify" in await made.refusal(
            sign(other.keys["first"], issuer.claims(), {"alg": "RS256", "kid": "first"})
        )
        made.openid.stop()


async def test_a_new_key_is_fetched_when_a_token_names_it_and_not_more_often_than_allowed(
    issuer: OpenIdIssuer, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.keys = {"second": ec.generate_private_key(ec.SECP256R1())}
    issuer.fetched.clear()
    for _ in range(20):
        assert "failed to verify" in await checked.refusal(issuer.token("second"))
    assert issuer.fetched == [], "the keys were fetched a moment ago"
    monkeypatch.setattr(issuer_keys, "REFETCH_SECONDS", 0.0)
    assert (await checked.user(issuer.token("second"))).name == "oidc:jane"
    assert issuer.fetched == [KEYS]
    issuer.fetched.clear()
    wanted = []
    for _ in range(5):
        with pytest.raises(KeysWanted) as caught:
            checked.openid.verify(
                sign(rsa.generate_private_key(65537, 2048), issuer.claims(), {"alg": "RS256"}), time.time()
            )
        wanted.append(caught.value.keys.fetch())
    await asyncio.gather(*wanted)
    assert issuer.fetched == [KEYS], "many who want them share one fetch"


async def test_an_issuer_that_is_down_refuses_its_tokens_and_is_asked_again(
    issuer: OpenIdIssuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(issuer_keys, "RETRY_SECONDS", 0.05)
    good = issuer.answers[DISCOVERY]
    issuer.answers[DISCOVERY] = lambda: web.Response(status=503)
    made = Checked(issuer.entry())
    made.openid.start()
    async with asyncio.timeout(60):
        while "initializing plugin" not in caplog.text:
            await asyncio.sleep(0.02)
    assert await made.refusal(issuer.token()) == "oidc: authenticator not initialized"
    issuer.answers[DISCOVERY] = good
    async with asyncio.timeout(60):
        await asyncio.gather(*made.openid._tasks)
    assert (await made.user(issuer.token())).name == "oidc:jane"


WRONG_ANSWERS = {
    "a redirect": lambda i: web.Response(status=302, headers={"Location": i.url + "/elsewhere"}),
    "another issuer": lambda i: web.json_response({"issuer": "https://other.example", "jwks_uri": i.url + KEYS}),
    "keys without TLS": lambda i: web.json_response({"issuer": i.url, "jwks_uri": "http://127.0.0.1/keys"}),
    "keys in a file": lambda i: web.json_response({"issuer": i.url, "jwks_uri": "file:///etc/passwd"}),
    "no JSON": lambda i: web.Response(text="<html>"),
    "a list": lambda i: web.json_response([]),
    "a flood": lambda i: web.Response(body=b" " * (issuer_keys.MOST_BYTES + 1)),
}


@pytest.mark.parametrize("answer", WRONG_ANSWERS.values(), ids=list(WRONG_ANSWERS))
async def test_a_discovery_that_is_wrong_initializes_nothing(issuer: OpenIdIssuer, answer: Any) -> None:
    made = Checked(issuer.entry())
    (_, keys), *_ = made.openid._issuers.values()
    issuer.answers[DISCOVERY] = lambda: answer(issuer)
    issuer.answers["/elsewhere"] = lambda: web.json_response({"issuer": issuer.url, "jwks_uri": issuer.url + KEYS})
    issuer.fetched.clear()
    with pytest.raises((OSError, ValueError)):
        await keys._discover()
    assert not keys.ready and issuer.fetched == [DISCOVERY]


async def test_an_authority_that_did_not_sign_the_issuer_is_not_enough(issuer: OpenIdIssuer) -> None:
    with OpenIdIssuer() as other:
        made = Checked(issuer.entry(issuer={"certificateAuthority": other.authority}))
        (_, keys), *_ = made.openid._issuers.values()
        with pytest.raises(OSError, match="certificate verify failed"):
            await keys._discover()
    assert ssl.HAS_SNI


async def test_expressions_map_claims_and_rules_refuse_with_their_messages(issuer: OpenIdIssuer) -> None:
    entry = issuer.entry(
        mappings={
            "username": {"expression": "claims.email_verified ? 'mail:' + claims.email : ''"},
            "groups": {"expression": "claims.roles.split(',').map(r, 'role:' + r)"},
            "uid": {"claim": "sub"},
            "extra": [
                {"key": "example.com/team", "valueExpression": "claims.team"},
                {"key": "example.com/none", "valueExpression": "''"},
            ],
        },
        claimValidationRules=[
            {"claim": "hd", "requiredValue": "example.com"},
            {"expression": "claims.exp - claims.iat <= 3600", "message": "too long"},
        ],
        userValidationRules=[
            {"expression": "!user.username.startsWith('system:')", "message": "reserved"},
            {"expression": "user.groups.all(g, !g.startsWith('system:'))", "message": "reserved group"},
        ],
    )
    made = await Checked(entry).reach()
    good = {
        "email": "j@example.com",
        "email_verified": True,
        "roles": "dev,ops",
        "team": ["x", ""],
        "hd": "example.com",
    }
    user = await made.user(issuer.token(**good))
    assert user == User(
        "mail:j@example.com", "jane", ("role:dev", "role:ops", "system:authenticated"), {"example.com/team": ("x",)}
    )
    refused = {
        "email not true": (good | {"email_verified": False}, "the username is empty"),
        "hd": (
            good | {"hd": "evil.example"},
            "required claim hd value does not match. Got = evil.example, want = example.com",
        ),
        "no hd": (good | {"hd": None}, "required claim hd not present in ID token"),
        "long": (good | {"exp": int(time.time()) + 9999}, "failed: too long"),
        "no roles": (good | {"roles": None}, "error evaluating group claim expression: no such key: roles"),
        "team": (good | {"team": 3}, "expression must return a string or a list of strings"),
    }
    for claims, told in refused.values():
        assert told in await made.refusal(issuer.token(**claims))


async def test_names_and_groups_of_the_system_are_refused_by_the_rules_for_it(issuer: OpenIdIssuer) -> None:
    rules = [
        {"expression": "!user.username.startsWith('system:')", "message": "may not use the reserved system: prefix"},
        {
            "expression": "user.groups.all(g, !g.startsWith('system:'))",
            "message": "may not use the reserved system: prefix",
        },
    ]
    bare = {"username": {"claim": "sub", "prefix": ""}, "groups": {"claim": "groups", "prefix": ""}}
    made = await Checked(issuer.entry(mappings=bare, userValidationRules=rules)).reach()
    assert (await made.user(issuer.token(sub="jane"))).name == "jane"
    for claims in ({"sub": "system:admin"}, {"groups": ["system:masters"]}):
        assert "may not use the reserved system: prefix" in await made.refusal(issuer.token(**claims))


async def test_an_unverified_mail_address_names_nobody(issuer: OpenIdIssuer) -> None:
    made = await Checked(issuer.entry(mappings={"username": {"claim": "email", "prefix": ""}})).reach()
    assert (await made.user(issuer.token(email="j@example.com"))).name == "j@example.com"
    assert (await made.user(issuer.token(email="j@example.com", email_verified=True))).name == "j@example.com"
    for said in (False, "true", None):
        token = issuer.token(email="j@example.com") if said is None else issuer.token(email="j@x", email_verified=said)
        if said is not None:
            assert await made.refusal(token) == "oidc: email not verified"


def test_keys_that_can_not_be_used_are_left_out_of_a_set() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    good = public(key, "good")
    bad = [
        public(key, "enc", use="enc"),
        {"kty": "oct", "k": b64(b"secret")},
        {"kty": "OKP", "crv": "Ed25519", "x": b64(bytes(32))},
        good | {"x": b64(bytes(32))},
        {"kty": "RSA", "n": b64(b"\x01" * 32), "e": "AQAB"},
        {"kty": "RSA", "n": b64(b"\xff" * 4096), "e": "AQAB"},
        "text",
        good | {"crv": "P-999"},
    ]
    assert [k.key_id for k in key_set({"keys": [*bad, good]})] == ["good"]
    for wrong in ([], {}, {"keys": {}}):
        with pytest.raises(ValueError, match="no list of keys"):
            key_set(wrong)
    assert Key(good).key_id == "good"
    assert base64.urlsafe_b64decode(good["x"] + "==")
