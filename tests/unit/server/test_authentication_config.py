"""AuthenticationConfiguration: what may stand in it, told by field and in upstream's words."""

from __future__ import annotations

from typing import Any

import pytest
from tests.openid_issuer import document

from portside.server.auth.authentication_config import ConfigError, read

Json = dict[str, Any]
OWN = "https://kubernetes.default.svc"


def entry(**more: Any) -> Json:
    issuer = {"url": "https://issuer.example", "audiences": ["a"]} | more.pop("issuer", {})
    return {
        "issuer": issuer,
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}} | more.pop("mappings", {}),
    } | more


def rules(*given: Json) -> Json:
    return entry(claimValidationRules=list(given))


def extra(key: str, expression: str = "'x'") -> Json:
    return entry(mappings={"extra": [{"key": key, "valueExpression": expression}]})


WRONG: list[tuple[Json, str]] = [
    ({"kind": "Other"}, "it is no AuthenticationConfiguration of apiserver.config.k8s.io/v1"),
    (document(*[entry()] * 65), "jwt: Too many: 65: must have at most 64 items"),
    (document({}), "jwt[0].issuer.url: Required value"),
    (document({}), "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required"),
    (document({}), "jwt[0].claimMappings.username: Required value: claim or expression is required"),
    (document(entry(issuer={"url": "http://i"})), 'issuer.url: Invalid value: "http://i": URL scheme must be https'),
    (document(entry(issuer={"url": "https://a:b@i"})), "URL must not contain a username or password"),
    (document(entry(issuer={"url": "https://i?x=1"})), "URL must not contain a query"),
    (document(entry(issuer={"url": "https://i#x"})), "URL must not contain a fragment"),
    (document(entry(issuer={"url": OWN})), f"URL must not overlap with disallowed issuers: [{OWN}]"),
    (document(entry(), entry()), 'jwt[1].issuer.url: Duplicate value: "https://issuer.example"'),
    (document(entry(issuer={"discoveryURL": "https://issuer.example/"})), "discoveryURL must be different from URL"),
    (document(entry(issuer={"audiences": ["a", "b"]})), "audienceMatchPolicy must be MatchAny for multiple audiences"),
    (document(entry(issuer={"audienceMatchPolicy": "All"})), "must be empty or MatchAny for single audience"),
    (document(entry(issuer={"audiences": ["a", "a"], "audienceMatchPolicy": "MatchAny"})), 'audiences[1]: Duplicate value: "a"'),
    (document(entry(issuer={"audiences": [""]})), "audiences[0]: Required value"),
    (document(entry(issuer={"certificateAuthority": "x"})), 'certificateAuthority: Invalid value: "<omitted>"'),
    (
        document(entry(mappings={"username": {"claim": "sub"}})),
        "username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
    ),
    (document(entry(mappings={"groups": {"claim": "g", "expression": "'x'"}})), "groups: Invalid value: \"\": claim and expression can't both be set"),
    (document(entry(mappings={"groups": {"prefix": "p", "expression": "'x'"}})), "may not be specified when expression is set"),
    (document(entry(mappings={"username": {"expression": "claims."}})), "username.expression: Invalid value: \"claims.\": compilation failed"),
    (document(entry(mappings={"username": {"expression": "user.name"}})), "undeclared reference to 'user'"),
    (document(entry(mappings={"username": {"expression": "1"}})), "must evaluate to one of [google.protobuf.Any string list(string)]"),
    (document(entry(mappings={"username": {"expression": "claims.email"}})), "claims.email_verified must be used"),
    (document(entry(mappings={"uid": {"claim": "a", "expression": "'x'"}})), "uid: Invalid value"),
    (document(rules({})), "claimValidationRules[0]: Required value: claim or expression is required"),
    (document(rules({"claim": "a", "expression": "true"})), "claim and expression can't both be set"),
    (document(rules({"claim": "a", "message": "m"})), "message: Invalid value: \"m\": may not be specified when claim is set"),
    (document(rules({"claim": "a"}, {"claim": "a"})), 'claimValidationRules[1].claim: Duplicate value: "a"'),
    (document(rules({"expression": "true", "requiredValue": "v"})), "may not be specified when expression is set"),
    (document(rules({"expression": "true"}, {"expression": "true"})), 'claimValidationRules[1].expression: Duplicate value: "true"'),
    (document(rules({"expression": "'a'"})), "must evaluate to bool"),
    (document(entry(userValidationRules=[{}])), "userValidationRules[0].expression: Required value"),
    (document(entry(userValidationRules=[{"expression": "user.nose == ''"}])), "undefined field 'nose'"),
    (document(extra("foo")), "must be a domain-prefixed path"),
    (document(extra("Example.com/a")), "must be lowercase"),
    (document(extra("a.kubernetes.io/b")), "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"),
    (document(extra("example.com/a", "")), "extra[0].valueExpression: Required value"),
    (document(anonymous={"enabled": False, "conditions": [{"path": "/livez"}]}), "enabled should be set to true"),
    (document(anonymous={}), "anonymous.enabled: Required value"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "told"), WRONG, ids=[text for _, text in WRONG])
def test_a_file_that_is_wrong_is_refused_by_field(given: Json, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(given, (OWN,))
    assert told in str(refused.value)


def test_a_file_without_issuers_or_with_an_earlier_version_is_one() -> None:
    assert read(document(), ()).issuers == ()
    for version in ("v1beta1", "v1alpha1"):
        assert read(document(entry()) | {"apiVersion": f"apiserver.config.k8s.io/{version}"}, ()).issuers


def test_mail_may_name_users_when_its_verification_is_looked_at_anywhere() -> None:
    username = {"expression": "claims.email"}
    for more in (
        {"claimValidationRules": [{"expression": "claims.?email_verified.orValue(true) == true"}]},
        {"mappings": {"extra": [{"key": "a.example/b", "valueExpression": "string(claims.email_verified)"}]}},
    ):
        mappings = more.get("mappings", {}) | {"username": username}
        assert read(document(entry(**(more | {"mappings": mappings}))), ()).issuers


def test_anonymous_requests_may_be_limited_to_paths_or_forbidden() -> None:
    assert read(document(), ()).anonymous_paths is None
    assert read(document(anonymous={"enabled": True}), ()).anonymous_paths is None
    assert read(document(anonymous={"enabled": False}), ()).anonymous_paths == frozenset()
    allowed = {"enabled": True, "conditions": [{"path": "/livez"}, {"path": "/readyz"}]}
    assert read(document(anonymous=allowed), ()).anonymous_paths == {"/livez", "/readyz"}
