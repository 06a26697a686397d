"""Controllers: each a pure planner in a file of its own, run by one harness over one set of informers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portside.base.clock import Clock
    from portside.base.signing import Sign
    from portside.client.protocol import Client
    from portside.controllers.serviceaccounttoken import Mint


async def run(
    client: Client,
    clock: Clock,
    *,
    root_ca: str = "",
    sign: Sign | None = None,
    mint: Mint | None = None,
    cluster_cidr: str = "",
    node_mask: int = 24,
    service_cidr: str = "",
    host: str = "",
) -> None:
    """Runs every controller until cancelled. ``root_ca``: the cluster's CA certificate (PEM), published to namespaces;
    ``sign``: its authority, for certificates; ``mint``: tokens for Secrets of service accounts; ``cluster_cidr``: the
    range of all pods, ``node_mask`` the prefix length of one node's part, ``service_cidr`` what is never part of one;
    ``host``: where the API server runs."""
    from portside.controllers.assembly import controllers
    from portside.controllers.harness import Harness

    made = controllers(
        root_ca=root_ca,
        sign=sign,
        mint=mint,
        cluster_cidr=cluster_cidr,
        node_mask=node_mask,
        service_cidr=service_cidr,
        host=host,
        clock=clock,
    )
    await Harness(client, clock, made).run()
