"""The address ranges of a new cluster, as they are asked for or as the machine has room for them."""

from __future__ import annotations

import argparse
from typing import Any

from portside.cli.steps import CliError
from portside.run import networks

PART = 24  # prefix length of one node's part, when nothing else is asked for


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``up``."""
    parser.add_argument(
        "--cluster-cidr",
        metavar="RANGE",
        help="addresses of all pods (chosen once and kept; default: 10.244.0.0/16, or the next that nothing here uses)",
    )
    parser.add_argument(
        "--node-cidr-mask-size",
        type=int,
        metavar="N",
        help="prefix length of one node's part of them (chosen once and kept; default 24: 256 nodes of 253 pods)",
    )


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """The ranges of a new cluster; nothing on this machine, another cluster included, uses them. Raises CliError."""
    taken = networks.present()
    mask = PART if options.node_cidr_mask_size is None else options.node_cidr_mask_size
    pods = options.cluster_cidr or networks.choose(networks.POD_RANGES, taken)
    if pods is not None and (why := networks.trouble(pods, mask)):
        raise CliError("the range of the pods can't be used", why=why, todo=_TODO, code=2)
    if options.cluster_cidr and (found := networks.clash(options.cluster_cidr, "", taken)):
        why = f"{found.network} is routed to {found.device}"
        raise CliError(f"the addresses {pods} are in use on this machine", why=why, todo=_TODO, code=3)
    busy = [*taken, *networks.as_routed(pods or "")]
    services = networks.choose(networks.SERVICE_RANGES, busy)
    if pods is None or services is None:
        raise CliError(
            "no address range is free for the cluster",
            why="this machine has routes to all of " + ", ".join((*networks.POD_RANGES, *networks.SERVICE_RANGES)),
            todo="stop a cluster that is not needed, or take a route away: ip route",
            code=3,
        )
    facts: dict[str, Any] = {"cluster_cidr": pods, "service_cidr": services}
    return facts if mask == PART else facts | {"node_cidr_mask_size": mask}


def check_kept(options: argparse.Namespace, facts: dict[str, Any]) -> None:
    """What was chosen stays: nodes have parts of it. Raises CliError."""
    for name in ("cluster_cidr", "node_cidr_mask_size"):
        given = getattr(options, name)
        if given is None:
            continue
        flag = f"--{name.replace('_', '-')}"
        if facts["simulate"]:
            raise CliError(f"{flag} is for real nodes", why="simulated ones take no addresses", code=2)
        kept = facts.get(name, PART if name == "node_cidr_mask_size" else "10.244.0.0/16")
        if given != kept:
            raise CliError(
                f"{flag} can't change: it is {kept}",
                why="the cluster's nodes have their parts of it",
                todo="use another --home, or reset this one",
                code=2,
            )


_TODO = "choose another: portside up --cluster-cidr 10.128.0.0/14 --node-cidr-mask-size 24"
