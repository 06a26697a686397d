"""portside why: what keeps an object, or the whole cluster, from working, with the evidence and what to do."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portside.cli import objects
from portside.cli.api import Api, Refused
from portside.cli.steps import CliError
from portside.run.home import Home

if TYPE_CHECKING:
    from portside.why.answer import Answer, Told

Json = dict[str, Any]
EXPLAINED, UNKNOWN = 9, 10  # exit codes
WIDTH = 116
MAX_TOLD = 20  # causes shown of a whole cluster; -o json has more
MAX_SHOWN = 320  # characters of one line of evidence; -o json has all
MAX_NAMES = 6
MAX_SO = 5
TIMEOUT = 60.0  # seconds for one list


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "object", nargs="*", metavar="OBJECT", help="KIND/NAME or KIND NAME; nothing: all that is not well"
    )
    parser.add_argument(
        "-n", "--namespace", metavar="NAME", help="its namespace (default: default; without an object: all of them)"
    )
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="another cluster's, or another user's (default: of --home)"
    )
    parser.add_argument("-o", "--output", choices=["json"], help="machine-readable output")


def ask(api: Api, words: list[str], namespace: str | None, now: float) -> Answer:
    """The answer about the object that the words name, or about everything. Raises CliError, OSError."""
    from portside.why import answer, gather
    from portside.why.world import plural_of

    def read(path: str) -> Json:
        try:
            return api.send("GET", path, timeout=TIMEOUT)
        except Refused as error:
            raise gather.Unreadable(error.code, str(error)) from error

    if not words:
        where = f"namespace {namespace}" if namespace else "the cluster"
        try:
            return answer.survey(gather.everything(read, namespace, now), where, namespace)
        except gather.Unreadable as error:
            raise CliError(f"there is no {where}", why=str(error), todo="kubectl get namespaces", code=4) from error
    space = namespace or api.namespace or "default"
    try:
        place = objects.locate(api, words, space)
        start = api.send("GET", place.path)
    except Refused as error:
        raise refusal(error, words, space) from error
    plural = plural_of(start)
    if plural == "namespaces" and not start["metadata"].get("deletionTimestamp"):
        name = start["metadata"]["name"]
        return answer.survey(gather.everything(read, name, now), f"namespace {name}", name)
    world, start = gather.about(read, start, plural, now)
    return answer.explain(world, start)


def refusal(error: Refused, words: list[str], namespace: str) -> CliError:
    named = "/".join(words)
    if error.code == 404:
        return CliError(
            f"there is no {named}",
            why=str(error),
            todo=f"is it in another namespace than {namespace}? say -n NAMESPACE",
            code=4,
        )
    return CliError(f"{named} may not be read", why=str(error), todo="ask as a user who may: --kubeconfig FILE")


def run(options: argparse.Namespace) -> int:
    """0 when all is well, 9 with causes, 10 when it is not well and nothing explains it."""
    if options.kubeconfig is None and not Home(options.home).exists():
        raise CliError(f"there is no cluster in {options.home}", todo="start one with: portside up", code=4)
    api = Api(Path(options.kubeconfig) if options.kubeconfig else Home(options.home).kubeconfig)
    try:
        found = ask(api, options.object, options.namespace, time.time())
    except OSError as error:
        raise CliError(f"{api.server} does not answer", why=str(error), todo="portside status", code=5) from error
    finally:
        api.close()
    print(json.dumps(found.as_json()) if options.output == "json" else show(found))
    return {"well": 0, "explained": EXPLAINED, "unknown": UNKNOWN}[found.state]


def show(answer: Answer) -> str:
    """The answer for people."""
    lines: list[str] = []
    if answer.state == "well":
        lines.append(f"{answer.about}: all is well")
    elif answer.state == "unknown":
        lines.append(f"{answer.about}: not well, and nothing that is known here explains it")
    elif len(answer.causes) > 1:
        lines.append(f"{answer.about}: {len(answer.causes)} causes, the worst first")
    else:
        lines.append(f"{answer.about}: not well")
    for number, told in enumerate(answer.causes[:MAX_TOLD], 1):
        lines += ["", *_told(told, number if len(answer.causes) > 1 else 0)]
    more = len(answer.causes) - MAX_TOLD
    if more > 0:
        lines += ["", f"… and {more + answer.left_out} more; name a namespace or an object, or take -o json"]
    if answer.known:
        lines += ["", "without an explanation" if answer.causes else "what is known"]
        lines += [f"  {_name(k.obj)}: {k.says}" for k in answer.known[:MAX_TOLD]]
        if len(answer.known) > MAX_TOLD:
            lines.append(f"  … and {len(answer.known) - MAX_TOLD} more")
    lines += [f"  {_short(str(fact))}" for fact in answer.facts]
    if answer.unread:
        lines += ["", "not read, so causes that lie there are not told"]
        lines += [f"  {plural}: {why}" for plural, why in sorted(answer.unread.items())]
    lines += [f"only a part of all {plural} was looked at: there are too many" for plural in answer.partial]
    return "\n".join(lines)


def _told(told: Told, number: int) -> list[str]:
    mark = f"{number}. " if number else ""
    cause = f"  ({told.cause.name})"
    if told.also:
        names = [_name(o) for o in (told.obj, *told.also)]
        who = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
        lines = _wrapped(f"{mark}{told.finding.says}{cause}", "", " " * len(mark))
        lines += _wrapped(f"{told.count} × {who}", "   ", "   ")
    else:
        lines = _wrapped(f"{mark}{_name(told.obj)}: {told.finding.says}{cause}", "", " " * len(mark))
    for title, rows in (
        ("because", [_short(str(f)) for f in told.finding.facts]),
        ("so", [f"{_name(c.obj)}: {c.says}" for c in told.so[:MAX_SO]]),
        ("do", list(told.finding.todo)),
    ):
        for place, row in enumerate(rows):
            lead = f"   {title if not place else '':<9}"
            lines += [lead + row] if title == "do" else _wrapped(row, lead, " " * len(lead))  # a command stays whole
    if len(told.so) > MAX_SO:
        lines.append(f"{'':<12}… and {len(told.so) - MAX_SO} more")
    return lines


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _name(obj: Json) -> str:
    meta = obj["metadata"]
    space = f" -n {meta['namespace']}" if meta.get("namespace", "default") != "default" else ""
    return f"{obj['kind'].lower()}/{meta['name']}{space}"


def _wrapped(text: str, lead: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=lead,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [lead]
