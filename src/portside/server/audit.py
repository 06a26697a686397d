"""The audit log: who asked for what and how it was answered, as a policy file says, one audit.k8s.io/v1 Event per line.

The policy is read once, at start. The first rule that fits a request decides; without one nothing is written. A request has an
event when it comes, one when its answer is complete, and a stream one between them when it begins.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from portside.api.status import ApiError
from portside.base.clock import Clock
from portside.base.errors import PortsideError
from portside.server.attributes import Attributes, User
from portside.server.auth.rbac import Decision
from portside.server.request import Request, Response
from portside.server.routes import attributes_of

Json = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
LEVELS = ("None", "Metadata", "Request", "RequestResponse")
MOST_BYTES = 100 << 20  # of the log; then it is set aside, one old file is kept
MOST_BODY = 256 << 10  # a larger body is left out of the event
LONGEST_ID = 64  # characters of an Audit-ID that a client chose
DECIDED = "authorization.k8s.io"
PATCH = "patch.webhook.admission.k8s.io/"  # has parts of objects in it: not for level Metadata


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy. Empty lists fit everything; ``resources`` and ``paths`` exclude each other."""

    level: str
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    resources: tuple[Json, ...] = ()
    paths: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()

    def fits(self, attributes: Attributes) -> bool:
        user = attributes.user
        if self.users and user.name not in self.users:
            return False
        if self.groups and not any(g in self.groups for g in user.groups):
            return False
        if self.verbs and attributes.verb not in self.verbs:
            return False
        if attributes.is_resource:
            if self.namespaces and attributes.namespace not in self.namespaces:
                return False
            return any(_resource_fits(r, attributes) for r in self.resources) if self.resources else not self.paths
        if self.resources or self.namespaces:
            return False
        return not self.paths or any(_path_fits(p, attributes.path) for p in self.paths)


def _resource_fits(wanted: Json, attributes: Attributes) -> bool:
    if (wanted.get("group") or "") != attributes.group:
        return False
    if (names := wanted.get("resourceNames")) and attributes.name not in names:
        return False
    listed = wanted.get("resources")
    if not listed:
        return True
    whole = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    for pattern in listed:
        kind, slash, sub = pattern.partition("/")
        if pattern in ("*", whole):
            return True
        if slash and sub == "*" and kind == attributes.resource:
            return True
        if slash and kind == "*" and sub == attributes.subresource:
            return True
    return False


def _path_fits(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


@dataclass(frozen=True, slots=True)
class Policy:
    rules: tuple[Rule, ...] = ()
    omit: tuple[str, ...] = ()

    def of(self, attributes: Attributes) -> Rule | None:
        """The rule that decides; None when nothing is to be written."""
        rule = next((r for r in self.rules if r.fits(attributes)), None)
        return None if rule is None or rule.level == "None" else rule


def read_policy(text: str, where: str) -> Policy:
    """The policy of a file. Raises PortsideError naming the rule that can't be used."""
    import yaml

    todo = "write a policy of audit.k8s.io/v1, kind Policy, with a list of rules"
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise PortsideError(f"the audit policy {where} can't be read", why=str(problem), todo=todo) from problem
    if not isinstance(found, dict) or found.get("kind") != "Policy" or not found.get("rules"):
        raise PortsideError(f"the audit policy {where} is none", why="it has no kind Policy or no rules", todo=todo)
    rules = [_rule(rule, f"{where}: rules[{i}]") for i, rule in enumerate(found["rules"])]
    omitted = tuple(found.get("omitStages") or ())
    for stage in (*omitted, *(stage for rule in rules for stage in rule.omit)):
        if stage not in STAGES:
            raise PortsideError(f"{where}: omitStages has {stage!r}", todo=f"use {', '.join(STAGES)}")
    return Policy(tuple(rules), omitted)


def _rule(rule: Json, where: str) -> Rule:
    level = rule.get("level")
    if level not in LEVELS:
        raise PortsideError(f"{where}.level is {level!r}", todo=f"use one of {', '.join(LEVELS)}")
    if rule.get("resources") and rule.get("nonResourceURLs"):
        raise PortsideError(f"{where} has resources and nonResourceURLs", todo="make two rules of it")
    lists = {
        "users": "users",
        "groups": "userGroups",
        "verbs": "verbs",
        "namespaces": "namespaces",
        "resources": "resources",
        "paths": "nonResourceURLs",
        "omit": "omitStages",
    }
    return Rule(level, **{ours: tuple(rule.get(theirs) or ()) for ours, theirs in lists.items()})


def _user(user: User) -> Json:
    shown: Json = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        shown["uid"] = user.uid
    if user.extra:
        shown["extra"] = {k: list(v) for k, v in user.extra.items()}
    return shown


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _document(raw: bytes) -> Any:
    if not raw or len(raw) > MOST_BODY:
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Subject:
    """One request on its way. ``attributes`` and ``user`` are the ones it came with, before any impersonation: the policy's rules
    speak of them."""

    rule: Rule
    request: Request
    attributes: Attributes
    user: User
    ident: str
    began: float

    def event(self, stage: str, at: float) -> Json:
        """What every stage says."""
        request, attributes = self.request, self.attributes
        made: Json = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self.rule.level,
            "auditID": self.ident,
            "stage": stage,
            "requestURI": request.path + (f"?{request.query}" if request.query else ""),
            "verb": attributes.verb,
            "user": _user(self.user),
        }
        if request.impersonator is not None:
            made["impersonatedUser"] = _user(request.user)
        elif stage != STAGES[0] and (name := request.header("impersonate-user")):  # refused before it became the user
            made["impersonatedUser"] = {"username": name, "groups": request.header("impersonate-group").split()}
        if request.remote:
            made["sourceIPs"] = [request.remote]
        if agent := request.header("user-agent"):
            made["userAgent"] = agent
        if attributes.is_resource:
            facts = {
                "resource": attributes.resource,
                "namespace": attributes.namespace,
                "name": attributes.name,
                "apiGroup": attributes.group,
                "apiVersion": attributes.version,
                "subresource": attributes.subresource,
            }
            made["objectRef"] = {k: v for k, v in facts.items() if v}
        return made | {"requestReceivedTimestamp": _time(self.began), "stageTimestamp": _time(at)}


@dataclass(slots=True)
class AuditLog:
    """Writes events of what ``policy`` asks for to ``path``, appended line by line. ``decide`` says what authorization says."""

    policy: Policy
    path: Path
    decide: Callable[[Attributes], Decision] = field(default=lambda attributes: Decision(True))
    _descriptor: int = -1
    _size: int = 0

    def begin(self, request: Request, began: float) -> Subject | None:
        """A request of a known user has come; None when the policy wants nothing of it."""
        attributes = attributes_of(request)
        rule = self.policy.of(attributes)
        if rule is None:
            return None
        ident = request.header("audit-id")[:LONGEST_ID] or str(uuid.uuid4())
        subject = Subject(rule, request, attributes, request.user, ident, began)
        self._tell(subject, "RequestReceived", began, {})
        return subject

    def answered(self, subject: Subject, response: Response, at: float) -> None:
        """The answer is there: complete, or of a stream its beginning."""
        streamed = response.lasts
        answer = None if streamed or response.stream is not None else _document(response.body)
        status: Json = {"metadata": {}, "code": response.code}
        if response.code >= 400 and isinstance(answer, dict) and answer.get("kind") == "Status":
            status |= {k: answer[k] for k in ("status", "message", "reason") if k in answer}
        more: Json = {"responseStatus": status}
        if subject.rule.level in ("Request", "RequestResponse"):
            if (asked := _document(subject.request.body)) is not None:
                more["requestObject"] = asked
            if subject.rule.level == "RequestResponse" and answer is not None:
                more["responseObject"] = answer
        if notes := self._notes(subject, response):
            more["annotations"] = notes
        self._tell(subject, "ResponseStarted" if streamed else "ResponseComplete", at, more)

    def ended(self, subject: Subject, code: int, at: float) -> None:
        """A stream has come to its end."""
        self._tell(subject, "ResponseComplete", at, {"responseStatus": {"metadata": {}, "code": code}})

    def _notes(self, subject: Subject, response: Response) -> dict[str, str]:
        """What authorization decided, and what admission noted."""
        bodies = subject.rule.level in ("Request", "RequestResponse")
        notes = {k: v for k, v in sorted(subject.request.notes.items()) if bodies or not k.startswith(PATCH)}
        if subject.request.attributes is not None:
            decision = self.decide(subject.request.attributes)
            return {f"{DECIDED}/decision": "allow", f"{DECIDED}/reason": decision.reason} | notes
        if response.code == 403:
            decision = self.decide(attributes_of(subject.request))
            return {f"{DECIDED}/decision": "forbid", f"{DECIDED}/reason": decision.reason} | notes
        return notes

    def _tell(self, subject: Subject, stage: str, at: float, more: Json) -> None:
        if stage not in subject.rule.omit and stage not in self.policy.omit:
            self._write(subject.event(stage, at) | more)

    def _write(self, event: Json) -> None:
        line = orjson.dumps(event) + b"\n"
        if self._descriptor < 0 or self._size + len(line) > MOST_BYTES:
            self._open(len(line))
        self._size += os.write(self._descriptor, line)

    def _open(self, room: int) -> None:
        """Open the log, or a new one when what is there has no room for so many bytes."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size + room > MOST_BYTES:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._descriptor = os.open(self.path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def audited(handler: Handler, log: AuditLog, clock: Clock, known: Callable[[Request], Awaitable[None]]) -> Handler:
    """The handler with its answers written down. ``known`` finds out whose request it is, and raises ApiError when it can't:
    that request's event has no user, and no beginning."""

    async def answer(request: Request) -> Response:
        began = clock.now()
        with contextlib.suppress(ApiError):  # the handler answers it
            await known(request)
        subject = log.begin(request, began)
        response = await handler(request)
        if subject is None:
            return response
        log.answered(subject, response, clock.now())
        response.headers.append(("Audit-Id", subject.ident))
        if response.lasts:
            response.ended = lambda: log.ended(subject, response.code, clock.now())
        return response

    return answer
