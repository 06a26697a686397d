"""portside down: stop the cluster's processes and pods; everything stored stays."""

from __future__ import annotations

import argparse

from portside.cli.steps import CliError, Steps
from portside.run.home import Home, locked, stop


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep-pods", action="store_true", help="leave the containers running; 'up' adopts them")


def run(options: argparse.Namespace) -> int:
    home = Home(options.home)
    if not home.exists():
        raise CliError(f"there is no cluster in {home.root}", code=4)
    home.make()
    steps = Steps()
    try:
        with locked(home):
            stop_all(home, steps, keep_pods=options.keep_pods)
    except BlockingIOError:
        raise CliError("another portside command works on this cluster", todo="wait for it to end", code=8) from None
    return 0


def stop_all(home: Home, steps: Steps, *, keep_pods: bool) -> None:
    """The node first, so that it can still say goodbye to the API."""
    for name in ("agent", "control-plane"):
        record = home.record(name)
        if record is None or not record.alive:
            steps.skipped(f"stop {name}", "not running")
            home.forget_record(name)
            continue
        with steps.step(f"stop {name}") as note:
            if not stop(record):
                note("it had to be killed")
        home.forget_record(name)
    if not keep_pods and not home.cluster().get("simulate"):
        from portside.agent.containerd import ContainerdError
        from portside.run.node import stop_runtime

        with steps.step("stop pods and runtime"):
            try:
                stop_runtime(home)
            except ContainerdError as error:
                todo = "say it again; if it stays, the node's log and containerd.log tell more"
                raise CliError(str(error), todo=todo) from None
