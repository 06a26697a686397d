"""The options of a request, read from its query (and, for deletions, its body), with upstream's refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, too_long
from portside.api.status import ApiError, bad_request, invalid
from portside.server.request import Request
from portside.server.routes import truth

Json = dict[str, Any]
META_GROUP = "meta.k8s.io"
VALIDATIONS = ("", "Ignore", "Strict", "Warn")
INT64 = 2**63


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """``manager`` is the field manager in force, ``said_manager`` the one the query names."""

    dry_run: bool = False
    said_manager: str = ""
    manager: str = "unknown"
    validation: str = "Warn"
    force: bool | None = None


def _manager(request: Request, said: str) -> str:
    if said:
        return said
    agent = request.header("user-agent").partition("/")[0]
    while len(agent.encode()) > 128:
        agent = agent[:-1]
    return agent or "unknown"


def _dry_run_errors(values: list[str]) -> list[FieldError]:
    if all(v == "All" for v in values):
        return []
    return [not_supported("dryRun", values, ("All",))]


def _manager_errors(said: str) -> list[FieldError]:
    if len(said.encode()) > 128:
        return [too_long("fieldManager", 128)]
    for at, char in enumerate(said):
        if not char.isprintable():
            return [invalid_value("fieldManager", said, f"invalid character U+{ord(char):04X} (at position {at})")]
    return []


def write_options(request: Request, kind: str, *, apply: bool = False) -> WriteOptions:
    """CreateOptions, UpdateOptions or PatchOptions (``kind``). Raises 422; ``apply`` demands a manager and allows force."""
    if not request.query:
        if apply:
            raise invalid(kind, "", [_required_manager()], META_GROUP)
        return WriteOptions(manager=_manager(request, ""))
    params = request.params
    said = request.param("fieldManager")
    validation = request.param("fieldValidation")
    dry = params.get("dryRun", [])
    force = truth(params["force"][0]) if "force" in params else None
    errors: list[FieldError] = []
    if kind == "PatchOptions":
        if apply:
            if not said:
                errors.append(_required_manager())
        elif force is not None:
            errors.append(forbidden_field("force", "may not be specified for non-apply patch"))
    errors += _manager_errors(said)
    errors += _dry_run_errors(dry)
    if validation not in VALIDATIONS:
        errors.append(not_supported("fieldValidation", validation, VALIDATIONS))
    if errors:
        raise invalid(kind, "", errors, META_GROUP)
    return WriteOptions(bool(dry), said, _manager(request, said), validation or "Warn", force)


def _required_manager() -> FieldError:
    from portside.api.field import required

    return required("fieldManager", "is required for apply patch")


def integer(text: str) -> int:
    """A whole number of a query, with Go's words for what is none."""
    plain = text[1:] if text[:1] in ("+", "-") else text
    if not plain.isascii() or not plain.isdigit():
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text)
    if not -INT64 <= value < INT64:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of lists and watches; absent texts are ""."""

    labels: str = ""
    fields: str = ""
    watch: bool = False
    bookmarks: bool = False
    revision: str = ""
    match: str = ""
    timeout: int | None = None
    limit: int = 0
    token: str = ""
    initial: bool | None = None


NO_LIST_OPTIONS = ListOptions()


def list_options(request: Request, *, watch: bool) -> ListOptions:
    """ListOptions of the query. Raises 400 for what can't be read and 422 for what does not go together."""
    if not request.query:
        return ListOptions(watch=True) if watch else NO_LIST_OPTIONS
    params = request.params

    def first(name: str) -> str:
        return params[name][0] if name in params else ""

    options = ListOptions(
        first("labelSelector"),
        first("fieldSelector"),
        watch,
        truth(params["allowWatchBookmarks"][0]) if "allowWatchBookmarks" in params else False,
        first("resourceVersion"),
        first("resourceVersionMatch"),
        integer(first("timeoutSeconds")) if "timeoutSeconds" in params else None,
        integer(first("limit")) if "limit" in params else 0,
        first("continue"),
        truth(params["sendInitialEvents"][0]) if "sendInitialEvents" in params else None,
    )
    if (options.match or options.initial is not None) and (errors := _match_errors(options)):
        raise invalid("ListOptions", "", errors, META_GROUP)
    return options


def _match_errors(options: ListOptions) -> list[FieldError]:
    path, match = "resourceVersionMatch", options.match
    errors: list[FieldError] = []
    if options.watch:
        if options.initial is None:
            if match:
                errors.append(
                    forbidden_field(
                        path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
                    )
                )
        elif match != "NotOlderThan":
            errors.append(
                forbidden_field(path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
            )
        if match and match != "NotOlderThan":
            errors.append(not_supported(path, match, ("NotOlderThan",)))
        if match and options.token:
            errors.append(forbidden_field(path, "resourceVersionMatch is forbidden when continue is provided"))
        return errors
    if match:
        if not options.revision:
            errors.append(forbidden_field(path, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.token:
            errors.append(forbidden_field(path, "resourceVersionMatch is forbidden when continue is provided"))
        if match not in ("Exact", "NotOlderThan"):
            errors.append(not_supported(path, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and options.revision == "0":
            errors.append(forbidden_field(path, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.initial is not None:
        errors.append(forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return errors


POLICIES = ("Foreground", "Background", "Orphan")


@dataclass(slots=True)
class DeleteOptions:
    """``grace`` in seconds, None when nothing was said. ``policy`` is a propagation policy or ""."""

    grace: int | None = None
    uid: str | None = None
    revision: str | None = None
    policy: str = ""
    orphan: bool | None = None
    dry_run: bool = False
    ignore_errors: bool = False


def delete_options(request: Request, body: Json | None) -> DeleteOptions:
    """Options of the body or, only without one, of the query. Raises 422."""
    if body is not None:
        return _checked_delete(body)
    if not request.query:
        return DeleteOptions()
    params = request.params
    said: Json = {}
    if "gracePeriodSeconds" in params:
        said["gracePeriodSeconds"] = integer(params["gracePeriodSeconds"][0])
    if "orphanDependents" in params:
        said["orphanDependents"] = truth(params["orphanDependents"][0])
    if "propagationPolicy" in params:
        said["propagationPolicy"] = params["propagationPolicy"][0]
    if "dryRun" in params:
        said["dryRun"] = params["dryRun"]
    conditions: Json = {}
    if "uid" in params:
        conditions["uid"] = params["uid"][0]
    if "resourceVersion" in params and not _is_collection(request):
        conditions["resourceVersion"] = params["resourceVersion"][0]
    if conditions:
        said["preconditions"] = conditions
    if "ignoreStoreReadErrorWithClusterBreakingPotential" in params:
        said["ignoreStoreReadErrorWithClusterBreakingPotential"] = truth(
            params["ignoreStoreReadErrorWithClusterBreakingPotential"][0]
        )
    return _checked_delete(said)


def _is_collection(request: Request) -> bool:
    return "labelSelector" in request.params or "fieldSelector" in request.params


def _checked_delete(said: Json) -> DeleteOptions:
    policy, orphan = said.get("propagationPolicy"), said.get("orphanDependents")
    dry = said.get("dryRun") or []
    errors: list[FieldError] = []
    if orphan is not None and policy is not None:
        errors.append(
            invalid_value("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set")
        )
    if policy is not None and policy not in POLICIES:
        errors.append(not_supported("propagationPolicy", policy, (*POLICIES, "nil")))
    errors += _dry_run_errors(dry)
    if errors:
        raise invalid("DeleteOptions", "", errors, META_GROUP)
    conditions = said.get("preconditions") or {}
    return DeleteOptions(
        said.get("gracePeriodSeconds"),
        conditions.get("uid"),
        conditions.get("resourceVersion"),
        policy or "",
        orphan,
        bool(dry),
        bool(said.get("ignoreStoreReadErrorWithClusterBreakingPotential")),
    )


def check_request_timeout(request: Request) -> None:
    """``timeout=`` must be a duration. Raises 400."""
    if not request.query or "timeout" not in request.params:
        return
    text = request.params["timeout"][0]
    if text and (wrong := _duration_problem(text)):
        raise bad_request(f"invalid timeout specified in the request URL - {wrong}")


_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^.\d]*)")
_UNITS = frozenset({"ns", "us", "µs", "μs", "ms", "s", "m", "h"})


def _duration_problem(text: str) -> str:
    """What Go says of a text that is no duration; "" for one."""
    rest = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if rest == "0":
        return ""
    if not rest:
        return f'time: invalid duration "{text}"'
    while rest:
        part = _PART.match(rest)
        if part is None:
            return f'time: invalid duration "{text}"'
        if not part[2]:
            return f'time: missing unit in duration "{text}"'
        if part[2] not in _UNITS:
            return f'time: unknown unit "{part[2]}" in duration "{text}"'
        rest = rest[part.end() :]
    return ""


def check_export(request: Request) -> None:
    """The export parameter of old. Raises 400."""
    if request.query and truth(request.params.get("export", [None])[0]):  # type: ignore[list-item]
        raise bad_request("the export parameter, deprecated since v1.14, is no longer supported")


def parse_revision(text: str, code: int) -> int:
    """A resourceVersion as a number; ``code`` (400 on lists, 500 elsewhere) is how upstream refuses what is none."""
    if text == "":
        return 0
    if not text.isascii() or not text.isdigit():
        message = f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise ApiError(code, "BadRequest" if code == 400 else "", message)
    return int(text)
