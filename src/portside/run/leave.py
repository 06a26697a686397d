"""The end of a membership: a Node marked to leave is taken off this machine, whole, and the cluster is told.

`portside node remove` sets the mark after the drain; the answer is set when this machine has begun, as it can't speak after.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from typing import Any

from portside.api.status import ApiError
from portside.client.protocol import Client, Resource
from portside.run.home import Home, write_private

Json = dict[str, Any]
NODES: Resource = ("", "v1", "nodes")
LEAVE, LEFT = "portside.io/leave", "portside.io/left"
log = logging.getLogger("portside.node")


def marked(node: Json) -> bool:
    """Whether the Node is to leave."""
    return bool((node["metadata"].get("annotations") or {}).get(LEAVE))


async def watch(home: Home, client: Client, name: str) -> None:
    """Until cancelled, or until the Node is marked: then the answer is said and the process ends itself."""
    while True:
        try:
            async for event in client.watch(NODES, field_selector=f"metadata.name={name}", send_initial_events=True):
                if event.type in ("ADDED", "MODIFIED") and marked(event.object):
                    log.info("this node was removed from the cluster; leaving")
                    write_private(home.root / "leaving", "removed from the cluster\n")
                    answer = {"metadata": {"annotations": {LEFT: "true"}}}
                    await client.patch(NODES, name, answer, patch_type="merge")
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
        except (ApiError, OSError, TimeoutError) as error:
            log.debug("watch of this node broke off: %s", error)
        await asyncio.sleep(1.0)


def told(home: Home) -> bool:
    """Whether this home was told to leave."""
    return (home.root / "leaving").exists()


def clean(home: Home) -> None:
    """Pods, runtime, rules, routes and the home itself; the log's last lines go with it."""
    from portside.run.node import stop_runtime

    stop_runtime(home)
    shutil.rmtree(home.root, ignore_errors=True)
