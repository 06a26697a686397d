"""portside join: make this machine a node of a cluster that runs on another one."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import time
from typing import Any

from portside.cli.readiness import node_unready
from portside.cli.steps import CliError, Steps, say
from portside.run.home import Home, locked
from portside.run.launch import last_lines, start

PATIENCE = 90.0  # seconds until the node must be ready
TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
HASH = re.compile(r"sha256:[0-9a-f]{64}")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("server", metavar="https://SERVER:PORT", help="the API, as portside token create prints it")
    parser.add_argument("--token", required=True, metavar="ID.SECRET", help="from: portside token create")
    parser.add_argument(
        "--ca-hash", default="", metavar="sha256:HEX", help="hash of the authority's key, compared first"
    )
    parser.add_argument("--name", default="", help="the node's name (default: this machine's host name)")
    parser.add_argument("--node-ip", default="", metavar="ADDRESS", help="the address other nodes reach this one at")


def run(options: argparse.Namespace) -> int:
    home, steps = Home(options.home), Steps()
    _check(options, home)
    home.make()
    try:
        with locked(home):
            from portside.cli import packages

            packages.ensure(steps)
            _join(home, steps, options)
            start_node(home, steps)
    except BlockingIOError:
        raise CliError("another portside command works on this home", todo="wait for it to end", code=8) from None
    say("")
    say(f"  this machine is node {home.cluster()['node']} of {home.cluster()['joined']}")
    say("  leave again   on the first machine: portside node remove " + str(home.cluster()["node"]))
    return 0


def _check(options: argparse.Namespace, home: Home) -> None:
    """What can be told without asking anybody."""
    if not options.server.startswith("https://"):
        raise CliError(
            f"{options.server} is not an https address", todo="use what portside token create prints", code=2
        )
    if not TOKEN.fullmatch(options.token):
        raise CliError("the token is not of the form ID.SECRET", todo="make one: portside token create", code=2)
    if options.ca_hash and not HASH.fullmatch(options.ca_hash):
        raise CliError("the hash is not of the form sha256:HEX", todo="use what portside token create prints", code=2)
    if os.geteuid() != 0:
        raise CliError("running containers needs root", todo="run as root", code=3)
    if home.exists():
        where = home.cluster().get("joined")
        raise CliError(
            f"{home.root} is " + (f"a node of {where} already" if where else "a cluster of its own"),
            todo="use another --home, or give it up first: portside reset",
            code=2,
        )


def _join(home: Home, steps: Steps, options: argparse.Namespace) -> None:
    import socket

    from portside.api.status import ApiError
    from portside.base.errors import PortsideError
    from portside.run.membership import Asked, join
    from portside.run.networks import node_address

    name = options.name or socket.gethostname().lower().split(".")[0] or "node"
    address = options.node_ip or node_address()
    asked = Asked(options.server.rstrip("/"), options.token, options.ca_hash, name, address)
    try:
        with steps.step("join") as note:
            note(f"as {name} at {address}")
            facts = asyncio.run(join(home, asked))
            _check_ranges(facts)
    except PortsideError as error:
        shutil.rmtree(home.root, ignore_errors=True)
        raise CliError(error.what, why=error.why, todo=error.todo) from error
    except ApiError as error:
        shutil.rmtree(home.root, ignore_errors=True)
        todo = "make a new token on the first machine: portside token create" if error.code == 401 else ""
        raise CliError("the cluster refused", why=str(error), todo=todo) from error
    except CliError:
        shutil.rmtree(home.root, ignore_errors=True)
        raise


def _check_ranges(facts: dict[str, Any]) -> None:
    """The cluster's addresses must mean nothing else on this machine."""
    from portside.run import networks

    for cidr in (facts["cluster_cidr"], facts["service_cidr"]):
        if found := networks.clash(cidr, "", networks.present()):
            raise CliError(
                f"the cluster's addresses {cidr} are in use on this machine",
                why=f"{found.network} is routed to {found.device}",
                todo="stop what uses them, another cluster for instance: portside down --home DIR",
                code=3,
            )


def start_node(home: Home, steps: Steps) -> None:
    """Start the node's process when it does not run, and wait until the cluster calls the node ready."""
    from portside.cli.api import Api, Refused

    facts = home.cluster()
    since = time.time() - 60
    record = home.record("agent")
    if record is None or not record.alive:
        since = time.time()
        start(home, "agent", "portside.run.node", ["--home", str(home.root)])
    with steps.step("node") as note:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                why = node_unready(Api(home.root / f"node-{facts['node']}.kubeconfig"), str(facts["node"]), since)
            except (Refused, OSError, CliError) as error:
                why = str(error)
            if not why:
                return
            note(why)
            record = home.record("agent")
            if record is None or not record.alive or time.monotonic() > end:
                raise CliError(
                    "the node did not become ready" if record and record.alive else "the node's process ended",
                    why=last_lines(home.log("agent")) or why,
                    todo="portside logs agent shows more",
                    code=5,
                )
            time.sleep(0.1)
