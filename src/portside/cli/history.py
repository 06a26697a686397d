"""portside history, diff, undo: the versions of an object that the store still has, and the way back to one."""

from __future__ import annotations

import argparse
import json
import re
import time
from datetime import datetime
from typing import Any

from portside.cli import objects
from portside.cli.api import Api, Refused
from portside.cli.changes import cleaned, lines, same, summary
from portside.cli.objects import Place
from portside.cli.steps import CliError, say
from portside.run.home import Home

Json = dict[str, Any]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
COLUMNS = ("REVISION", "AGE", "USER", "CLIENT", "CHANGE")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``history``."""
    objects.arguments(parser)
    parser.add_argument("--all", action="store_true", help="also versions that changed nothing but the status")
    parser.add_argument("-o", "--output", choices=["json"], help="every version whole")


def seconds(text: str) -> float:
    """``90s``, ``30m``, ``24h``, ``2d`` as seconds. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90s, 30m, 24h or 2d")
    return float(found[1]) * UNITS[found[2]]


def versions(home: Home, options: argparse.Namespace) -> tuple[Api, Place, list[Json]]:
    """The object's versions, newest first. Raises CliError."""
    if not home.exists():
        raise CliError(f"there is no cluster in {home.root}", todo="start one with: portside up", code=4)
    api = Api(home.kubeconfig)
    try:
        place = objects.locate(api, options.object, options.namespace)
        return api, place, list(api.send("GET", f"/portside/history{place.path}")["items"])
    except Refused as error:
        if error.code == 404:
            raise CliError(
                f"nothing is known of {' '.join(options.object)}",
                why="it never was, or its last change is older than the window the store keeps (up --history)",
                todo=f"is it in another namespace than {options.namespace}? say -n NAMESPACE",
                code=6,
            ) from error
        raise CliError("the history was refused", why=str(error)) from error
    except OSError as error:
        raise CliError("the API does not answer", why=str(error), todo="start it with: portside up", code=5) from error


def age(told: str) -> float:
    return time.time() - datetime.fromisoformat(told).timestamp()


def ago(told: str) -> str:
    """``5m``: how long ago, in the largest unit that says something; ``-`` for a version without a time."""
    if not told:
        return "-"
    passed = age(told)
    unit = "d" if passed >= 172800 else "h" if passed >= 7200 else "m" if passed >= 120 else "s"
    return f"{max(0, passed) / UNITS[unit]:.0f}{unit}"


def row(version: Json, before: Json | None) -> tuple[str, ...]:
    """The cells of a version; ``before`` is the one it replaced, None when that is not known."""
    client = str(version.get("client", "")).split(" ")[0]
    if before is None and version.get("verb") != "create":
        change = "as it was when the window begins"
    else:
        change = summary(before.get("object") if before else None, version.get("object"))
    return version["revision"], ago(version.get("time", "")), version.get("user", "-"), client or "-", change


def run(options: argparse.Namespace) -> int:
    """history: a line a version, newest first."""
    _, _, found = versions(Home(options.home), options)
    if options.output == "json":
        print(json.dumps({"items": found}))
        return 0
    rows: list[tuple[str, ...]] = [COLUMNS]
    left_out = 0
    for number, version in enumerate(found):
        before = found[number + 1] if number + 1 < len(found) else None
        if before is not None and not options.all and same(before.get("object"), version.get("object")):
            left_out += 1
        else:
            rows.append(row(version, before))
    widths = [max(len(r[i]) for r in rows) for i in range(4)]
    for told in rows:
        print("   ".join([*(told[i].ljust(widths[i]) for i in range(4)), told[4]]))
    if left_out:
        say(f"{left_out} versions that changed the status only are left out; --all shows them")
    return 0


def changed(found: list[Json], since: int) -> int:
    """Index of the newest version before ``since`` that an author would tell from it; behind the end when there is none."""
    here = found[since].get("object")
    return next((i for i in range(since + 1, len(found)) if not same(found[i].get("object"), here)), len(found))


def diff_arguments(parser: argparse.ArgumentParser) -> None:
    objects.arguments(parser)
    parser.add_argument("--since", type=seconds, metavar="TIME", help="compare with what it was that long ago (1h, 2d)")
    parser.add_argument(
        "--from", dest="start", metavar="REV", help="compare from this revision (default: the one before)"
    )
    parser.add_argument("--to", dest="end", metavar="REV", help="up to this revision (default: the newest)")


def at(found: list[Json], revision: str) -> int:
    """Index of the version that stood at a revision. Raises CliError."""
    if not revision.isdigit():
        raise CliError(f"{revision!r} is no revision", todo="take one from: portside history", code=2)
    for number, version in enumerate(found):
        if int(version["revision"]) <= int(revision):
            return number
    raise CliError(
        f"revision {revision} is older than all that is kept; the oldest is {found[-1]['revision']}",
        todo="take one from: portside history",
        code=6,
    )


def diff(options: argparse.Namespace) -> int:
    """diff: what its authors changed between two versions, as a unified diff."""
    _, place, found = versions(Home(options.home), options)
    end = at(found, options.end) if options.end else 0
    if options.start:
        start = at(found, options.start)
    elif options.since is not None:
        start = next((i for i, v in enumerate(found) if v.get("time") and age(v["time"]) >= options.since), len(found))
    else:
        start = changed(found, end)
    old = found[start] if start < len(found) else None
    titles = [f"{place.title} at {v['revision']}" if v else f"{place.title} before" for v in (old, found[end])]
    for line in lines(old.get("object") if old else None, found[end].get("object"), *titles):
        print(line)
    return 0


def undo_arguments(parser: argparse.ArgumentParser) -> None:
    objects.arguments(parser)
    parser.add_argument(
        "--to", dest="end", metavar="REV", help="the revision to go back to (default: before the newest change)"
    )


def undo(options: argparse.Namespace) -> int:
    """undo: the object as it was, written as a new version; one that was deleted is made again."""
    api, place, found = versions(Home(options.home), options)
    number = at(found, options.end) if options.end else changed(found, 0)
    if number >= len(found) or "object" not in found[number]:
        raise CliError(
            f"there is no version of {place.title} to go back to",
            why="it was deleted then" if number < len(found) else "only the newest one is kept",
            todo="choose one from: portside history",
            code=6,
        )
    wanted = cleaned(found[number]["object"])
    wanted["metadata"].pop("deletionTimestamp", None)
    wanted["metadata"].pop("deletionGracePeriodSeconds", None)
    standing = found[0].get("object")
    try:
        if standing is None:
            made = api.send("POST", f"{place.collection}?fieldManager=portside-undo", json.dumps(wanted).encode())
        else:
            wanted["metadata"]["resourceVersion"] = standing["metadata"]["resourceVersion"]
            made = api.send("PUT", f"{place.path}?fieldManager=portside-undo", json.dumps(wanted).encode())
    except Refused as error:
        raise CliError(
            f"{place.title} could not be put back to revision {found[number]['revision']}",
            why=str(error),
            todo="somebody changed it meanwhile, or a field can't go back; look at: portside diff",
            code=6,
        ) from error
    print(
        f"{place.title} is as it was at revision {found[number]['revision']}, now {made['metadata']['resourceVersion']}"
    )
    return 0
