"""portside secrets: how what is stored is encrypted, and a new key for it.

A rotation writes HOME/encryption.yaml twice: with the new key before the old ones, then, when everything stored has its
form, with the new one alone. Whatever ends in between, the file has every key that is needed, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import yaml

from portside.base.errors import PortsideError
from portside.cli.steps import CliError, Steps, say
from portside.run.encryption import FILE, fingerprint, read_state
from portside.run.encryption_config import CIPHERS, new_key, read_file, written
from portside.run.home import Home, locked, write_private

Json = dict[str, Any]
POLL = 0.1
ENDED = "the control plane ended; what was done so far stays"


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = verbs.add_parser("status", help="what is encrypted, with which keys, and whether all of it is")
    status.add_argument("-o", "--output", choices=["json"], help="machine-readable output")
    rotate = verbs.add_parser("rotate", help="a new key: everything stored is encrypted with it, the old ones go")
    for sub in (status, rotate):
        sub.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    home = Home(Path(options.home))
    if not home.exists():
        raise CliError(f"there is no cluster in {home.root}", todo="start one with: portside up", code=4)
    if home.cluster().get("joined"):
        raise CliError("this machine joined a cluster and keeps no state", todo="ask its first machine", code=4)
    if options.action == "status":
        return _status(home, options.output == "json")
    home.make()
    try:
        with locked(home):
            return _rotate(home, Steps())
    except BlockingIOError:
        raise CliError("another portside command works on this cluster", todo="wait for it to end", code=8) from None


def _load(home: Home) -> tuple[bytes, list[Json]]:
    """The file's bytes and its list of resources. Raises CliError."""
    try:
        raw, _ = read_file(home.root / FILE)
    except FileNotFoundError:
        raise CliError(f"{home.root / FILE} does not exist", todo="portside up makes it for a new cluster") from None
    except PortsideError as problem:
        raise CliError(problem.what, why=problem.why, todo=problem.todo) from problem
    return raw, yaml.safe_load(raw)["resources"]


def _writers(entries: list[Json]) -> list[tuple[str, Json]]:
    """The first provider of each list of resources, where it has keys of its own: its name and its settings."""
    firsts = [next(iter(entry["providers"][0].items())) for entry in entries]
    return [(kind, settings) for kind, settings in firsts if kind in CIPHERS]


def _several(entries: list[Json]) -> bool:
    """Whether any list has more keys than the one that writes."""
    return any(
        sum(len(s["keys"]) for p in entry["providers"] for k, s in p.items() if k in CIPHERS) > 1
        for entry in entries
        if next(iter(entry["providers"][0])) in CIPHERS
    )


def _status(home: Home, as_json: bool) -> int:
    raw, entries = _load(home)
    state = read_state(home.root)
    current = state.get("file") == fingerprint(raw)
    shown: Json = {
        "resources": [],
        "done": current and bool(state.get("done")),
        "unreadable": state.get("unreadable", 0),
    }
    for entry in entries:
        keys = [
            f"{k}:{key['name']}" for p in entry["providers"] for k, s in p.items() for key in (s or {}).get("keys", [])
        ]
        kind = next(iter(entry["providers"][0]))
        shown["resources"].append({"resources": entry["resources"], "writes": kind, "keys": keys})
    if state.get("error"):
        shown["error"] = state["error"]
    if as_json:
        print(json.dumps(shown))
        return 0
    for row in shown["resources"]:
        print(
            f"{', '.join(row['resources']):<24} written with {row['writes']:<10} keys {', '.join(row['keys']) or 'none'}"
        )
    what = "what can be decrypted" if shown["unreadable"] else "everything stored"
    print(f"{what} has this form" if shown["done"] else "not everything stored has this form yet")
    if shown["unreadable"]:
        print(f"{shown['unreadable']} stored versions can't be decrypted with these keys")
    if state.get("error"):
        print(f"the control plane says: {state['error']}")
    return 0


def _rotate(home: Home, steps: Steps) -> int:
    raw, entries = _load(home)
    writers = _writers(entries)
    if not writers:
        raise CliError(
            "there is no key to rotate", why=f"{home.root / FILE} encrypts nothing with a key of its own", code=6
        )
    _alive(home, "the control plane does not run")
    if _several(entries):
        say("  - a rotation was begun before, or the file has spare keys: everything goes to the first ones")
    else:
        number = max(
            (int(m[1]) for m in map(re.compile(r"key(\d+)$").search, _names(entries)) if m), default=len(writers)
        )
        for _, settings in writers:
            number += 1
            settings["keys"].insert(0, new_key(f"key{number}"))
        raw = _write(home, entries)
    first = ", ".join(f"{kind}:{settings['keys'][0]['name']}" for kind, settings in writers)
    with steps.step(f"encrypt with {first}") as note:
        state = _wait(home, raw, note)
    if state.get("unreadable"):
        raise CliError(
            f"{state['unreadable']} stored versions can't be decrypted with any key of {home.root / FILE}",
            why="no key was removed",
            todo="put the key that is missing into the file, or delete those objects (docs/how-to/encrypt-secrets.md)",
        )
    with steps.step("remove the old keys") as note:
        for entry in entries:
            _keep_first(entry)
        _wait(home, _write(home, entries), note)
    say(
        f"\n  {home.root / FILE} has changed: keep a copy of it. Backups of the store made before need the one of before."
    )
    return 0


def _names(entries: list[Json]) -> list[str]:
    return [
        key["name"] for e in entries for p in e["providers"] for s in p.values() for key in (s or {}).get("keys", [])
    ]


def _keep_first(entry: Json) -> None:
    """Leave the key that writes, and what is no key."""
    (kind, settings), *_ = entry["providers"][0].items()
    if kind in CIPHERS:
        del settings["keys"][1:]
        entry["providers"][1:] = [p for p in entry["providers"][1:] if next(iter(p)) not in CIPHERS]


def _write(home: Home, entries: list[Json]) -> bytes:
    text = written(entries)
    write_private(home.root / FILE, text)
    return text.encode()


def _alive(home: Home, what: str) -> None:
    record = home.record("control-plane")
    if record is None or not record.alive:
        raise CliError(what, todo="portside up, then portside secrets rotate again", code=5)


def _wait(home: Home, raw: bytes, note: Any) -> Json:
    """Until the control plane has brought everything into the form of the file. Raises CliError when it ends."""
    wanted = fingerprint(raw)
    while True:
        state = read_state(home.root)
        if state.get("file") == wanted and state.get("done"):
            return state
        note(state.get("error") or "the control plane works on it")
        _alive(home, ENDED)
        time.sleep(POLL)
