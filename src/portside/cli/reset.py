"""portside reset: delete the cluster with all it stores."""

from __future__ import annotations

import argparse
import shutil
import sys

from portside.cli.down import stop_all
from portside.cli.steps import CliError, Steps, say
from portside.run.home import Home, locked


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    home = Home(options.home)
    if not home.exists():
        raise CliError(f"there is no cluster in {home.root}", code=4)
    if not options.yes:
        if not sys.stdin.isatty():
            raise CliError(
                "reset deletes everything the cluster stores and asks first",
                todo="say it with: portside reset --yes",
                code=2,
            )
        sys.stderr.write(f"Delete the cluster in {home.root} with everything it stores? Type 'yes': ")
        sys.stderr.flush()
        if sys.stdin.readline().strip() != "yes":
            say("nothing was deleted")
            return 1
    steps, kept = Steps(), home.cluster()
    home.make()
    try:
        with locked(home):
            stop_all(home, steps, keep_pods=False)
            with steps.step("delete state"):
                shutil.rmtree(home.root)
        if kept.get("joined"):
            say(f"  the cluster forgets the node with, on the first machine: portside node remove {kept.get('node')}")
    except BlockingIOError:
        raise CliError("another portside command works on this cluster", todo="wait for it to end", code=8) from None
    return 0
