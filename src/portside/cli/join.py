"""portside join: make this machine a node of a cluster that runs on another one."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import socket
import time
from typing import Any
from urllib.parse import urlsplit

from portside.base.address import has_address, own_address, source_address
from portside.cli.readiness import node_unready
from portside.cli.steps import CliError, Steps, say
from portside.run.home import Home, locked, stop
from portside.run.launch import last_lines, start

PATIENCE = 90.0  # seconds until the node must be ready
TOKEN = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
HASH = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
NAME_LENGTH = 63  # a node's name is the value of a label (kubernetes.io/hostname) too


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
    _check_home(home)
    fresh = not home.root.exists()
    home.make()
    try:
        with locked(home):
            from portside.cli import packages

            _check_home(home)
            if finish_leaving(home, steps):
                home.make()
            packages.ensure(steps)
            _join(home, steps, options)
            start_node(home, steps)
    except BlockingIOError:
        raise CliError("another portside command works on this home", todo="wait for it to end", code=8) from None
    finally:
        if fresh and not home.exists():
            shutil.rmtree(home.root, ignore_errors=True)
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
    if options.name and not (NAME.fullmatch(options.name) and len(options.name) <= NAME_LENGTH):
        raise CliError(
            f"{options.name} can't be a node's name",
            why=f"it may have lower-case letters, digits, '-' and '.', {NAME_LENGTH} at most",
            code=2,
        )
    if options.node_ip and not has_address(options.node_ip):
        raise CliError(f"{options.node_ip} is no IPv4 address of this machine", todo="look at: ip -4 address", code=2)
    if os.geteuid() != 0:
        raise CliError("running containers needs root", todo="run as root", code=3)


def _check_home(home: Home) -> None:
    """Only a home of nothing yet, or of a node, can join; what a join left that was ended at its end is made anew."""
    joined = home.cluster().get("joined")
    if not joined and ((home.root / "pki" / "ca.key").exists() or home.cluster_file.exists()):
        raise CliError(
            f"{home.root} is a cluster of its own",
            todo="use another --home, or give it up first: portside reset",
            code=2,
        )


def finish_leaving(home: Home, steps: Steps) -> bool:
    """Bring a removal that broke off to its end. True when there was one."""
    from portside.run import leave

    if not leave.told(home):
        return False
    with steps.step("what an earlier removal left"):
        if (record := home.record("agent")) is not None:
            stop(record)
        leave.clean(home)
    return True


def _join(home: Home, steps: Steps, options: argparse.Namespace) -> None:
    from portside.api.status import ApiError
    from portside.base.errors import PortsideError
    from portside.run.membership import Asked, join, rejoin

    facts, server = home.cluster(), options.server.rstrip("/")
    again = bool(facts.get("joined"))
    name = options.name or ("" if again else socket.gethostname().lower().split(".")[0] or "node")
    if not again and not NAME.fullmatch(name):
        raise CliError(
            f"this machine's host name {name} can't be a node's name", todo="say another with --name", code=2
        )
    address = options.node_ip or source_address(urlsplit(server).hostname or "") or own_address()
    asked = Asked(server, options.token, options.ca_hash, name, address, options.node_ip)
    try:
        with steps.step("join again" if again else "join") as note:
            note(f"as {name or facts['node']} at {address}")
            if not again:
                asyncio.run(join(home, asked, _check_ranges))
            elif asyncio.run(rejoin(home, asked)) and (record := home.record("agent")) is not None:
                stop(record)
    except PortsideError as error:
        raise CliError(error.what, why=error.why, todo=error.todo) from error
    except ApiError as error:
        todo = "make a new token on the first machine: portside token create" if error.code == 401 else ""
        raise CliError("the cluster refused", why=str(error), todo=todo) from error


def _check_ranges(told: dict[str, Any]) -> None:
    """The cluster's addresses must mean nothing else on this machine."""
    from portside.run import networks

    for cidr in (told["podCIDR"], told["serviceCIDR"]):
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
            unheard = False
            try:
                why = node_unready(Api(home.root / f"node-{facts['node']}.kubeconfig"), str(facts["node"]), since)
            except OSError as error:
                unheard, why = True, f"the API at {facts['joined']} does not answer: {error.strerror or error}"
            except (Refused, CliError) as error:
                why = str(error)
            if not why:
                return
            note(why)
            record = home.record("agent")
            if unheard and record and record.alive and time.monotonic() > end:
                raise CliError(
                    f"the API at {facts['joined']} does not answer",
                    why="the node runs, with its pods, and goes on when it does",
                    todo="on the first machine: portside up; if it has another address, join again with the command that "
                    "portside token create prints there",
                    code=5,
                )
            if record is None or not record.alive or time.monotonic() > end:
                raise CliError(
                    "the node did not become ready" if record and record.alive else "the node's process ended",
                    why=last_lines(home.log("agent")) or why,
                    todo="portside logs agent shows more",
                    code=5,
                )
            time.sleep(0.1)
