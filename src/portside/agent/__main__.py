"""``python -m portside.agent``: run a node on this machine."""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from pathlib import Path

from portside.agent.containerd import ContainerdError
from portside.agent.process import NodeOptions, run_node
from portside.base.errors import PortsideError


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m portside.agent", description="Run a node of a Portside cluster.")
    parser.add_argument("--home", type=Path, required=True, help="folder for everything the node writes")
    parser.add_argument("--kubeconfig", required=True, help="how the node reaches the API")
    parser.add_argument("--node-name", default=socket.gethostname().lower())
    parser.add_argument("--node-ip", action="append", default=[], help="the node's address (repeatable)")
    parser.add_argument(
        "--pod-cidr", default="", help="addresses of this node's pods (default: the first free 10.244.N.0/24)"
    )
    parser.add_argument("--cluster-dns", action="append", default=[], help="DNS server of pods (repeatable)")
    parser.add_argument("--cluster-domain", default="cluster.local")
    parser.add_argument(
        "--port", type=int, default=0, help="port the API server reaches the node on (0: one that is free)"
    )
    parser.add_argument(
        "--runtime", default="", help="socket of a running CRI runtime (default: start our own containerd)"
    )
    parser.add_argument("--max-pods", type=int, default=110)
    parser.add_argument("-v", "--verbose", action="store_true")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    import uvloop

    told = NodeOptions(
        options.home,
        options.kubeconfig,
        options.node_name,
        tuple(options.node_ip),
        options.pod_cidr,
        tuple(options.cluster_dns),
        options.cluster_domain,
        options.port,
        options.runtime,
        options.max_pods,
    )

    try:
        uvloop.run(run_node(told))
    except (ContainerdError, PortsideError, OSError) as problem:
        print(f"portside agent: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
