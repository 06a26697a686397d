"""Upstream's AuthenticationConfiguration: who else may vouch for users, and who may ask without a name. Read and checked, pure.

Rules and texts are those of upstream's validation; its defaults too. Expressions are compiled here, once.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from portside.api.cel import CompileFailure, InstantiationFailure, Program, compile_expression
from portside.api.cel import types as t
from portside.api.cel.syntax import Call, Ident, Literal, Node, Select
from portside.api.cel.types import Field, Type, declared_name, list_of, map_of, struct
from portside.api.field import FieldError, duplicate, invalid_value, required
from portside.api.names import is_subdomain

Json = dict[str, Any]
GROUP, KIND = "apiserver.config.k8s.io", "AuthenticationConfiguration"
VERSIONS = tuple(f"{GROUP}/{v}" for v in ("v1", "v1beta1", "v1alpha1"))
MOST_ISSUERS = 64
NO_BOTH = "claim and expression can't both be set"
UNVERIFIED = (
    "claims.email_verified must be used in claimMappings.username.expression or "
    "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in "
    "claimMappings.username.expression"
)
VALUE = (t.ANY, t.STRING, list_of(t.STRING))


class ConfigError(Exception):
    """What is wrong with the file, every field of it."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(", ".join(map(str, errors)))


@dataclass(frozen=True)
class ClaimMapping:
    """How one attribute is found: a claim with a prefix, or an expression; neither: it is left out."""

    claim: str = ""
    prefix: str = ""
    program: Program | None = None


@dataclass(frozen=True)
class Check:
    """A validation rule: ``program`` must be true, or (without one) ``claim`` must equal ``value``."""

    program: Program | None
    message: str = ""
    claim: str = ""
    value: str = ""


@dataclass(frozen=True)
class Issuer:
    """One entry of ``jwt``."""

    url: str
    discovery: str
    authority: str
    audiences: frozenset[str]
    username: ClaimMapping
    groups: ClaimMapping
    uid: ClaimMapping
    extra: tuple[tuple[str, Program], ...]
    claim_checks: tuple[Check, ...]
    user_checks: tuple[Check, ...]


@dataclass(frozen=True)
class Authentication:
    """``anonymous_paths`` None: any path may be asked without credentials; else those alone."""

    issuers: tuple[Issuer, ...] = ()
    anonymous_paths: frozenset[str] | None = None


NOBODY_ELSE = Authentication()


def read(document: Any, disallowed: tuple[str, ...]) -> Authentication:
    """What a file asks for. ``disallowed`` are issuers of the cluster's own. Raises ConfigError."""
    if not isinstance(document, dict) or document.get("kind") != KIND or document.get("apiVersion") not in VERSIONS:
        raise ConfigError([FieldError("", "", f"it is no {KIND} of {VERSIONS[0]}")])
    errors: list[FieldError] = []
    listed = _list(document.get("jwt"), "jwt", errors)
    if len(listed) > MOST_ISSUERS:
        raise ConfigError([FieldError("jwt", "", f"Too many: {len(listed)}: must have at most {MOST_ISSUERS} items")])
    issuers = [_Reader(entry, f"jwt[{i}]", errors).issuer(disallowed) for i, entry in enumerate(listed)]
    _once([i.url for i in issuers], "jwt[{}].issuer.url", errors)
    _once([i.discovery for i in issuers], "jwt[{}].issuer.discoveryURL", errors)
    paths = _anonymous(document.get("anonymous"), errors)
    if errors:
        raise ConfigError(errors)
    return Authentication(tuple(issuers), paths)


def _anonymous(section: Any, errors: list[FieldError]) -> frozenset[str] | None:
    if section is None:
        return None
    if not isinstance(section, dict) or not isinstance(section.get("enabled"), bool):
        errors.append(required("anonymous.enabled"))
        return None
    conditions = _list(section.get("conditions"), "anonymous.conditions", errors)
    if not section["enabled"]:
        if conditions:
            text = "enabled should be set to true when conditions are defined"
            errors.append(invalid_value("anonymous.conditions", conditions, text))
        return frozenset()
    return frozenset(str(_dict(c).get("path") or "") for c in conditions) if conditions else None


def _list(value: Any, path: str, errors: list[FieldError]) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        errors.append(invalid_value(path, value, "must be a list"))
        return []
    return value


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _once(values: list[str], path: str, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, value in enumerate(values):
        if value and value in seen:
            errors.append(duplicate(path.format(i), value))
        seen.add(value)


@lru_cache(maxsize=1)
def claims_type() -> Mapping[str, Type]:
    return {"claims": map_of(t.STRING, t.ANY)}


@lru_cache(maxsize=1)
def user_type() -> Mapping[str, Type]:
    words = list_of(t.STRING)
    parts = {"username": t.STRING, "uid": t.STRING, "groups": words, "extra": map_of(t.STRING, words)}
    return {"user": struct("kubernetes.UserInfo", {name: Field(kind, name) for name, kind in parts.items()})}


class _Reader:
    """One entry of ``jwt``; what is wrong with it goes to ``errors``."""

    def __init__(self, entry: Any, path: str, errors: list[FieldError]) -> None:
        self._entry = _dict(entry)
        self._path = path
        self._errors = errors
        self._programs: dict[str, list[Program]] = {"username": [], "others": []}

    def issuer(self, disallowed: tuple[str, ...]) -> Issuer:
        issuer, mappings = _dict(self._entry.get("issuer")), _dict(self._entry.get("claimMappings"))
        url, discovery = _text(issuer.get("url")), _text(issuer.get("discoveryURL"))
        self._urls(url, discovery, disallowed)
        audiences = self._audiences(issuer)
        authority = self._authority(_text(issuer.get("certificateAuthority")))
        claim_checks = tuple(self._claim_checks())
        path = f"{self._path}.claimMappings"
        username = self._mapping(mappings.get("username"), f"{path}.username", needed=True, into="username")
        groups = self._mapping(mappings.get("groups"), f"{path}.groups")
        uid = self._mapping(mappings.get("uid"), f"{path}.uid", prefixed=False)
        extra = tuple(self._extra(mappings.get("extra"), f"{path}.extra"))
        if _any_selects(self._programs["username"], "email") and not _any_selects(
            self._programs["username"] + self._programs["others"], "email_verified"
        ):
            said = _dict(mappings.get("username")).get("expression")
            self._errors.append(invalid_value(f"{path}.username.expression", said, UNVERIFIED))
        checks = tuple(self._user_checks())
        return Issuer(url, discovery, authority, audiences, username, groups, uid, extra, claim_checks, checks)

    def _urls(self, url: str, discovery: str, disallowed: tuple[str, ...]) -> None:
        path = f"{self._path}.issuer"
        if not url:
            self._errors.append(required(f"{path}.url"))
        else:
            if url in disallowed:
                text = f"URL must not overlap with disallowed issuers: [{' '.join(sorted(disallowed))}]"
                self._errors.append(invalid_value(f"{path}.url", url, text))
            self._url(url, f"{path}.url")
        if discovery:
            if url and url.rstrip("/") == discovery.rstrip("/"):
                text = "discoveryURL must be different from URL"
                self._errors.append(invalid_value(f"{path}.discoveryURL", discovery, text))
            self._url(discovery, f"{path}.discoveryURL")

    def _url(self, url: str, path: str) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as problem:
            self._errors.append(invalid_value(path, url, str(problem)))
            return
        wrong = (
            (parts.scheme != "https", "URL scheme must be https"),
            (parts.username is not None, "URL must not contain a username or password"),
            (bool(parts.query), "URL must not contain a query"),
            (bool(parts.fragment), "URL must not contain a fragment"),
        )
        self._errors.extend(invalid_value(path, url, text) for holds, text in wrong if holds)

    def _audiences(self, issuer: Json) -> frozenset[str]:
        path = f"{self._path}.issuer.audiences"
        listed = _list(issuer.get("audiences"), path, self._errors)
        policy, where = issuer.get("audienceMatchPolicy") or "", f"{self._path}.issuer.audienceMatchPolicy"
        if not listed:
            self._errors.append(required(path, f"at least one {path} is required"))
        for i, audience in enumerate(listed):
            if not isinstance(audience, str) or not audience:
                self._errors.append(required(f"{path}[{i}]"))
        _once([_text(a) for a in listed], path + "[{}]", self._errors)
        if len(listed) > 1 and policy != "MatchAny":
            text = "audienceMatchPolicy must be MatchAny for multiple audiences"
            self._errors.append(invalid_value(where, policy, text))
        if len(listed) == 1 and policy not in ("", "MatchAny"):
            text = "audienceMatchPolicy must be empty or MatchAny for single audience"
            self._errors.append(invalid_value(where, policy, text))
        return frozenset(a for a in listed if isinstance(a, str))

    def _authority(self, pem: str) -> str:
        if pem:
            try:
                ssl.create_default_context(cadata=pem)
            except (ssl.SSLError, ValueError):
                text = "data does not contain any valid RSA or ECDSA certificates"
                self._errors.append(invalid_value(f"{self._path}.issuer.certificateAuthority", "<omitted>", text))
        return pem

    def _mapping(
        self, said: Any, path: str, *, needed: bool = False, prefixed: bool = True, into: str = ""
    ) -> ClaimMapping:
        given = _dict(said)
        claim, expression = _text(given.get("claim")), _text(given.get("expression"))
        prefix = given.get("prefix")
        if claim and expression:
            self._errors.append(invalid_value(path, "", NO_BOTH))
        elif expression:
            if prefix is not None:
                text = "may not be specified when expression is set"
                self._errors.append(invalid_value(f"{path}.prefix", prefix, text))
            return ClaimMapping(program=self._compiled(expression, f"{path}.expression", claims_type(), VALUE, into))
        elif claim:
            if prefixed and prefix is None:
                text = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
                self._errors.append(required(f"{path}.prefix", text))
            return ClaimMapping(claim, _text(prefix))
        elif needed:
            self._errors.append(required(path, "claim or expression is required"))
        return ClaimMapping()

    def _extra(self, said: Any, path: str) -> Iterator[tuple[str, Program]]:
        seen: set[str] = set()
        for i, mapping in enumerate(_list(said, path, self._errors)):
            key, expression = _text(_dict(mapping).get("key")), _text(_dict(mapping).get("valueExpression"))
            where = f"{path}[{i}].key"
            self._errors.extend(_key_errors(key, where))
            if key in seen:
                self._errors.append(duplicate(where, key))
                continue
            seen.add(key)
            if not expression:
                self._errors.append(required(f"{path}[{i}].valueExpression"))
                continue
            made = self._compiled(expression, f"{path}[{i}].valueExpression", claims_type(), VALUE, "others")
            if made is not None:
                yield key, made

    def _claim_checks(self) -> Iterator[Check]:
        path = f"{self._path}.claimValidationRules"
        claims: set[str] = set()
        expressions: set[str] = set()
        for i, rule in enumerate(_list(self._entry.get("claimValidationRules"), path, self._errors)):
            given = _dict(rule)
            claim, expression, at = _text(given.get("claim")), _text(given.get("expression")), f"{path}[{i}]"
            message, value = _text(given.get("message")), _text(given.get("requiredValue"))
            if claim and expression:
                self._errors.append(invalid_value(at, claim, NO_BOTH))
            elif claim:
                if message:
                    text = "may not be specified when claim is set"
                    self._errors.append(invalid_value(f"{at}.message", message, text))
                if claim in claims:
                    self._errors.append(duplicate(f"{at}.claim", claim))
                claims.add(claim)
                yield Check(None, claim=claim, value=value)
            elif expression:
                if value:
                    text = "may not be specified when expression is set"
                    self._errors.append(invalid_value(f"{at}.requiredValue", value, text))
                yield from self._expression_check(given, at, expressions, claims_type(), "others")
            else:
                self._errors.append(required(at, "claim or expression is required"))

    def _user_checks(self) -> Iterator[Check]:
        path = f"{self._path}.userValidationRules"
        seen: set[str] = set()
        for i, rule in enumerate(_list(self._entry.get("userValidationRules"), path, self._errors)):
            if not _text(_dict(rule).get("expression")):
                self._errors.append(required(f"{path}[{i}].expression"))
                continue
            yield from self._expression_check(_dict(rule), f"{path}[{i}]", seen, user_type(), "")

    def _expression_check(
        self, given: Json, at: str, seen: set[str], variables: Mapping[str, Type], into: str
    ) -> Iterator[Check]:
        expression = str(given["expression"])
        if expression in seen:
            self._errors.append(duplicate(f"{at}.expression", expression))
            return
        seen.add(expression)
        program = self._compiled(expression, f"{at}.expression", variables, (t.BOOL,), into)
        if program is not None:
            yield Check(program, _text(given.get("message")))

    def _compiled(
        self, text: str, path: str, variables: Mapping[str, Type], results: tuple[Type, ...], into: str
    ) -> Program | None:
        try:
            program = compile_expression(text, variables=variables)
        except InstantiationFailure as problem:
            self._errors.append(invalid_value(path, text, f"program instantiation failed: {problem}"))
            return None
        except CompileFailure as problem:
            self._errors.append(invalid_value(path, text, f"compilation failed: {problem}"))
            return None
        if not any(r.same(program.type) for r in results) and not (program.type.is_dyn and len(results) > 1):
            names = " ".join(map(declared_name, results))
            wanted = names if len(results) == 1 else f"one of [{names}]"
            self._errors.append(invalid_value(path, text, f"must evaluate to {wanted}"))
            return None
        self._programs.setdefault(into, []).append(program)
        return program


def _key_errors(key: str, path: str) -> Iterator[FieldError]:
    """A key of ``extra``: a path below a domain, in lower case, and not below Kubernetes' own domains."""
    if not key:
        yield required(path)
        return
    domain, slash, rest = key.partition("/")
    if not slash or not domain or not rest or is_subdomain(domain):
        yield invalid_value(path, key, 'must be a domain-prefixed path (such as "acme.io/foo")')
    if key != key.lower():
        yield invalid_value(path, key, "must be lowercase")
    if any(domain == own or domain.endswith(f".{own}") for own in ("kubernetes.io", "k8s.io")):
        yield invalid_value(path, key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use")


def _any_selects(programs: list[Program], field: str) -> bool:
    return any(_selects(program.node, field) for program in programs)


def _selects(node: Node, field: str) -> bool:
    """Whether an expression reads ``claims.FIELD``."""
    if isinstance(node, Select) and isinstance(node.operand, Ident) and node.operand.name == "claims":
        return node.field == field
    if isinstance(node, Call) and len(node.args) == 2 and isinstance(node.args[0], Ident):
        name = node.args[1]
        if node.args[0].name == "claims" and isinstance(name, Literal) and name.value == field:
            return True
    return any(_selects(child, field) for child in _children(node))


def _children(node: Node) -> Iterator[Node]:
    for kind in type(node).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if name not in ("type", "overloads"):
                yield from _nodes(getattr(node, name, None))


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)
