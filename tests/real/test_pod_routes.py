"""The way to other nodes' pods, as a kernel has it: in a network namespace without any node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.real.machines import ip

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]
CODE = """
import json, sys
from portside.net.network import NodePlace, PodRoutes
from portside.net.routes import Range
ranges = Range("10.244.0.0/16", "10.96.0.0/16", "10.244.0.0/24")
routes = PodRoutes(NodePlace("me", "192.0.2.1", "10.244.0.1"), "portside0", ranges)
raise SystemExit(not routes.set(json.loads(sys.argv[1])))
"""
TUNNEL = "v-portside0"


class Place:
    """A namespace with one interface."""

    def __init__(self, space: str) -> None:
        self.space = space

    def set(self, **nodes: tuple[str, str]) -> None:
        said = [
            {
                "metadata": {"name": name},
                "spec": {"podCIDR": cidr},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]},
            }
            for name, (cidr, address) in nodes.items()
        ]
        command = ["nsenter", f"--net=/run/netns/{self.space}", sys.executable, "-c", CODE, json.dumps(said)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def ip(self, *words: str) -> str:
        return ip("-n", self.space, *words, check=False)

    def tunnel(self) -> dict[str, object]:
        return dict(json.loads(self.ip("-j", "link", "show", "dev", TUNNEL) or "[{}]")[0])


@pytest.fixture
def place() -> Iterator[Place]:
    space = f"pr{os.getpid()}"
    ip("netns", "add", space)
    try:
        ip("-n", space, "link", "add", "eth0", "mtu", "1400", "type", "veth", "peer", "name", "far0")
        ip("-n", space, "link", "set", "far0", "up")
        ip("-n", space, "address", "add", "192.0.2.1/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", space, "route", "add", "default", "dev", "eth0")
        yield Place(space)
    finally:
        ip("netns", "delete", space)


NEAR, FAR, OTHER = ("10.244.1.0/24", "192.0.2.2"), ("10.244.2.0/24", "198.51.100.3"), ("10.244.3.0/24", "198.51.100.4")


def test_the_tunnel_leaves_room_for_its_headers_and_stays_when_others_come_and_go(place: Place) -> None:
    place.set(near=NEAR, far=FAR)
    made = place.tunnel()
    assert made["mtu"] == 1350
    assert "10.244.1.0/24 via 192.0.2.2 dev eth0" in place.ip("route")
    place.set(near=NEAR, far=FAR, other=OTHER)
    place.set(far=FAR)
    assert place.tunnel()["ifindex"] == made["ifindex"]  # it was never torn down: no packet was lost
    routes = place.ip("route", "show", "protocol", "197").split("\n")
    assert [r.split()[0] for r in routes if r] == ["10.244.2.0/24"]
    assert place.ip("neigh", "show", "dev", TUNNEL, "nud", "permanent").count("\n") == 1


def test_what_another_process_left_or_took_is_put_right(place: Place) -> None:
    """A node that was killed and started again knows nothing of what it had set."""
    place.set(near=NEAR, far=FAR)
    place.ip("route", "add", "10.244.9.0/24", "via", "192.0.2.9", "protocol", "197")
    place.ip("route", "add", "10.245.9.0/24", "via", "192.0.2.9", "protocol", "197")  # another cluster's
    place.ip("neigh", "flush", "dev", TUNNEL, "nud", "permanent")
    place.ip("link", "set", "eth0", "mtu", "1500")
    place.set(near=NEAR, far=FAR)
    routes = place.ip("route", "show", "protocol", "197")
    assert "10.244.9.0/24" not in routes
    assert "10.245.9.0/24" in routes
    assert "10.244.2.1" in place.ip("neigh", "show", "dev", TUNNEL, "nud", "permanent")
    assert place.tunnel()["mtu"] == 1450
    place.set()
    assert not place.tunnel()
    assert "10.244." not in place.ip("route")
