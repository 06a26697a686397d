"""portside logs: what the components wrote."""

from __future__ import annotations

import argparse
import time
from collections import deque
from pathlib import Path

from portside.cli.steps import CliError
from portside.run.home import COMPONENTS, Home


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("component", nargs="?", choices=COMPONENTS, help="only this component's log")
    parser.add_argument("--tail", type=int, default=100, metavar="N", help="start N lines before the end (default 100)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on printing what is added")


def run(options: argparse.Namespace) -> int:
    home = Home(options.home)
    names = [options.component] if options.component else [c for c in COMPONENTS if home.log(c).exists()]
    paths = {name: home.log(name) for name in names}
    if not paths or not any(p.exists() for p in paths.values()):
        raise CliError(f"no logs in {home.logs}", todo="start the cluster with: portside up", code=4)
    ends: dict[str, int] = {}
    for name, path in paths.items():
        ends[name] = _print_tail(name, path, options.tail, many=len(paths) > 1)
    while options.follow:
        time.sleep(0.2)
        for name, path in paths.items():
            ends[name] = _print_added(name, path, ends[name], many=len(paths) > 1)
    return 0


def _print_tail(name: str, path: Path, count: int, *, many: bool) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as file:
        for line in deque(file, maxlen=max(count, 0)):
            _print(name, line, many)
        return file.tell()


def _print_added(name: str, path: Path, start: int, *, many: bool) -> int:
    if not path.exists():
        return 0
    if path.stat().st_size < start:  # rotated
        start = 0
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            _print(name, line, many)
        return file.tell()


def _print(name: str, line: bytes, many: bool) -> None:
    text = line.decode("utf-8", "replace").rstrip("\n")
    print(f"{name}: {text}" if many else text, flush=True)
