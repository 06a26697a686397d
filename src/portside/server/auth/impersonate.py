"""Impersonation: acting as somebody else by header, where RBAC allows it.

Two forms, as upstream since 1.35: constrained (``impersonate-on:MODE:VERB`` on the request plus ``impersonate:MODE`` on
the identity) is tried first, then the old ``impersonate`` verb. The mode that worked for a user is tried first the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote

from portside.api.status import ApiError, bad_request
from portside.server.attributes import Attributes, User
from portside.server.auth.authenticate import AUTHENTICATED, EXTRA, account_groups, header_list
from portside.server.auth.forbidden import refuse

UNAUTHENTICATED, ANONYMOUS = "system:unauthenticated", "system:anonymous"
AUTHN_GROUP = "authentication.k8s.io"
Allowed = Callable[[Attributes], bool]
_EXTRA_HEADER = "impersonate-extra-"


class Impersonation:
    """Remembers which mode each requestor last succeeded with; bounded."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._last: dict[str, str] = {}

    def apply(self, attributes: Attributes, headers: Mapping[str, str]) -> Attributes:
        """The request with the identity to act as; itself without impersonation headers. Raises ApiError 400, 403."""
        wanted = _wanted(headers)
        if wanted is None:
            return attributes
        if "system:masters" not in attributes.user.groups:
            self._check(attributes, wanted)
        return attributes._replace(user=_effective(wanted))

    def _check(self, attributes: Attributes, wanted: User) -> None:
        modes = _modes(attributes.user, wanted)
        last = self._last.get(attributes.user.name)
        if last in modes:
            modes = [last, *(mode for mode in modes if mode != last)]
        first: ApiError | None = None
        for mode in modes:
            refusal = self._refusal(mode, attributes, wanted)
            if refusal is None:
                if len(self._last) > 4096:
                    self._last.clear()
                self._last[attributes.user.name] = mode
                return
            first = first or refusal
        assert first is not None
        raise first

    def _refusal(self, mode: str, attributes: Attributes, wanted: User) -> ApiError | None:
        if mode:
            asked = attributes._replace(verb=f"impersonate-on:{mode}:{attributes.verb}")
            if not self._allowed(asked):
                return refuse(asked)
        for asked in _identity_checks(mode, attributes.user, wanted):
            if not self._allowed(asked):
                return refuse(asked)
        return None


def _wanted(headers: Mapping[str, str]) -> User | None:
    """The identity the headers ask for, as given."""
    name = headers.get("impersonate-user", "")
    groups = header_list(headers.get("impersonate-group", ""))
    uid = headers.get("impersonate-uid", "")
    extra = {
        unquote(key[len(_EXTRA_HEADER) :]).lower(): header_list(value)
        for key, value in headers.items()
        if key.startswith(_EXTRA_HEADER)
    }
    if name:
        return User(name, uid, groups, extra)
    if not (groups or uid or extra):
        return None
    texts = [_go_strings(groups)] if groups else ["[]string(nil)"]
    inner = ", ".join(f'"{key}":{_go_strings(values)}' for key, values in sorted(extra.items()))
    texts.append(f"map[string][]string{{{inner}}}" if extra else "map[string][]string(nil)")
    raise bad_request(
        f'requested &user.DefaultInfo{{Name:"", UID:"{uid}", Groups:{texts[0]}, Extra:{texts[1]}}}'
        " without impersonating a user name"
    )


def _go_strings(values: tuple[str, ...]) -> str:
    return "[]string{" + ", ".join(f'"{value}"' for value in values) + "}"


def _account(name: str) -> tuple[str, str] | None:
    parts = name.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] and parts[2] and parts[3]:
        return parts[2], parts[3]
    return None


def _node(name: str) -> str:
    return name.removeprefix("system:node:") if name.startswith("system:node:") else ""


def _modes(requestor: User, wanted: User) -> list[str]:
    """The constrained modes that fit the wanted identity, then "" for the old verb."""
    if node := _node(wanted.name):
        own = requestor.extra.get(EXTRA + "node-name", ()) == (node,) and _account(requestor.name) is not None
        return ["associated-node", "arbitrary-node", ""] if own else ["arbitrary-node", ""]
    return ["serviceaccount" if _account(wanted.name) else "user-info", ""]


def _identity_checks(mode: str, requestor: User, wanted: User) -> Iterator[Attributes]:
    verb = f"impersonate:{mode}" if mode else "impersonate"
    group = AUTHN_GROUP if mode else ""

    def ask(resource: str, name: str, *, api: str = group, namespace: str = "", sub: str = "") -> Attributes:
        return Attributes(
            requestor, verb, group=api, version="v1", resource=resource, name=name, namespace=namespace, subresource=sub
        )

    if mode.endswith("-node"):
        yield ask("nodes", "*" if mode == "associated-node" else _node(wanted.name))
    elif (account := _account(wanted.name)) is not None:
        yield ask("serviceaccounts", account[1], namespace=account[0])
    else:
        yield ask("users", wanted.name)
    for name in wanted.groups:
        yield ask("groups", name)
    if wanted.uid:
        yield ask("uids", wanted.uid, api=AUTHN_GROUP)
    for key, values in wanted.extra.items():
        for value in values:
            yield ask("userextras", value, api=AUTHN_GROUP, sub=key)


def _effective(wanted: User) -> User:
    """The identity as it acts: accounts get their groups, others ``system:authenticated`` unless they ask otherwise."""
    groups = wanted.groups
    if not groups and (account := _account(wanted.name)) is not None:
        groups = account_groups(account[0])
    if wanted.name == ANONYMOUS:
        if UNAUTHENTICATED not in groups:
            groups = (*groups, UNAUTHENTICATED)
    elif AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(wanted.name, wanted.uid, groups, wanted.extra)
