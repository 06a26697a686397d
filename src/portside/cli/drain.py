"""Emptying a node, in kubectl's words: cordon, then evict with respect for disruption budgets, and wait until the pods are gone."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from portside.cli.api import Api, Refused
from portside.cli.steps import CliError, Steps, say
from portside.cli.token import seconds

Json = dict[str, Any]
POLL = 0.3  # seconds between looks at the pods
BLOCKED = 5.0  # seconds until a pod that a budget keeps is asked for again, as kubectl does
LOOK = 3.0  # seconds between looks at the node
SHOWN = 10  # pods named in a message
ENDED = ("Succeeded", "Failed")


class Silent(CliError):
    """The node does not answer any more, so nobody says that its pods ended."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of drain and remove: kubectl's, with its names."""
    parser.add_argument("--force", action="store_true", help="also end pods that nothing makes anew")
    parser.add_argument(
        "--delete-emptydir-data", action="store_true", help="also end pods whose emptyDir volumes go with them"
    )
    parser.add_argument(
        "--ignore-daemonsets", action="store_true", help="accepted for kubectl's sake: pods of DaemonSets always stay"
    )
    parser.add_argument(
        "--grace-period", type=int, default=-1, metavar="SECONDS", help="time to end for each pod (default: its own)"
    )
    parser.add_argument(
        "--timeout", default="300s", metavar="TIME", help="how long it may take: 90s, 10m; 0 for ever (default 300s)"
    )


@dataclass(frozen=True, slots=True)
class Sorted:
    """A node's pods: those to evict; of these, those that nothing makes anew, and those with data that would be lost; and
    those that stay, DaemonSets' and mirror pods."""

    wanted: list[Json]
    lonely: list[Json]
    holding: list[Json]
    staying: list[Json]


def _owner(pod: Json) -> str:
    refs = pod["metadata"].get("ownerReferences") or ()
    return next((str(r["kind"]) for r in refs if r.get("controller")), "")


def sort_pods(pods: list[Json]) -> Sorted:
    """Pods of DaemonSets would come back at once, mirror pods are the machine's own: they stay."""
    found = Sorted([], [], [], [])
    for pod in pods:
        owner, ended = _owner(pod), (pod.get("status") or {}).get("phase") in ENDED
        mirror = "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})
        if mirror or (owner == "DaemonSet" and not ended):
            found.staying.append(pod)
            continue
        found.wanted.append(pod)
        if not owner and not ended:
            found.lonely.append(pod)
        if not ended and any("emptyDir" in v for v in (pod.get("spec") or {}).get("volumes") or ()):
            found.holding.append(pod)
    return found


def named(pods: list[Json]) -> str:
    """Their names, the first of many."""
    names = [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def refuse(pods: Sorted, options: argparse.Namespace) -> None:
    """Nothing is lost unasked. Raises CliError with all that stands against the drain."""
    whys, flags = [], []
    if pods.lonely and not options.force:
        whys.append(f"nothing would make these pods anew: {named(pods.lonely)}")
        flags.append("--force")
    if pods.holding and not options.delete_emptydir_data:
        whys.append(f"these pods have emptyDir volumes, whose data would be lost: {named(pods.holding)}")
        flags.append("--delete-emptydir-data")
    if whys:
        raise CliError("; ".join(whys), todo="delete them yourself, or end them too with " + " ".join(flags), code=7)


def is_ready(node: Json) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def cordon(api: Api, name: str, off: bool) -> None:
    """Let no new pods in, or let them in again."""
    body = json.dumps({"spec": {"unschedulable": off or None}}).encode()
    api.send("PATCH", f"/api/v1/nodes/{name}", body, "application/merge-patch+json")


@dataclass(slots=True)
class Drain:
    """One drain: the pods that were asked to go, and when those that a budget keeps are asked again."""

    api: Api
    name: str
    grace: int = -1
    asked: set[str] = field(default_factory=set)
    again: dict[str, float] = field(default_factory=dict)
    why: str = ""

    def pods(self) -> Sorted:
        return sort_pods(self.api.send("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.name}")["items"])

    def evict(self, pods: list[Json], now: float) -> None:
        """Ask for all that are due. Raises CliError for what no waiting mends."""
        self.why = ""
        for pod in pods:
            meta = pod["metadata"]
            if meta["uid"] in self.asked or self.again.get(meta["uid"], 0.0) > now:
                continue
            try:
                self._ask(meta)
                self.asked.add(meta["uid"])
            except Refused as error:
                if error.code == 429:
                    self.again[meta["uid"]] = now + BLOCKED
                    self.why = f"{meta['namespace']}/{meta['name']}: {error}"
                elif error.code != 404:
                    what = f"{meta['namespace']}/{meta['name']} could not be evicted"
                    raise CliError(what, why=str(error), code=7) from error

    def _ask(self, meta: Json) -> None:
        body: Json = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "deleteOptions": {"gracePeriodSeconds": self.grace} if self.grace >= 0 else {},
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
        self.api.send("POST", path, json.dumps(body).encode())

    def run(self, note: Callable[[str], None], timeout: float) -> None:
        """Until no pod is left that should go. Raises CliError, and Silent for a node that went away meanwhile."""
        begun = looked = time.monotonic()
        total, blocked = 0, ""
        while left := (found := self.pods()).wanted:
            now = time.monotonic()
            total = max(total, len(left))
            self.evict(left, now)
            blocked = self.why or (blocked if any(a > now for a in self.again.values()) else "")
            note(f"{total - len(left)} of {total} pods have gone" + (f"; {blocked}" if blocked else ""))
            if now - looked > LOOK:
                looked = now
                self._look(left)
            if timeout and now - begun > timeout:
                raise CliError(
                    f"pods are still on {self.name} after {timeout:.0f} s: {named(left)}",
                    why=blocked,
                    todo=f"look at them, give them more time with --timeout, or let pods in again: "
                    f"portside node uncordon {self.name}",
                    code=7,
                )
            time.sleep(POLL)
        note(f"{total} pods have gone" + (f", {len(found.staying)} of DaemonSets stay" if found.staying else ""))

    def _look(self, left: list[Json]) -> None:
        if is_ready(self.api.send("GET", f"/api/v1/nodes/{self.name}")):
            return
        raise Silent(
            f"{self.name} does not answer, so nobody says that its pods ended: {named(left)}",
            todo=f"bring it back and drain it again, or take it off the cluster: portside node remove {self.name}",
            code=7,
        )


def drain(api: Api, steps: Steps, options: argparse.Namespace) -> None:
    """Cordon, then evict. Raises CliError when pods stay, Silent when the node went away."""
    name, timeout = options.name, seconds(options.timeout, "s")
    work = Drain(api, name, options.grace_period)
    refuse(work.pods(), options)
    try:
        with steps.step(f"drain {name}") as note:
            cordon(api, name, True)
            work.run(note, timeout)
    except KeyboardInterrupt:
        say(f"  {name} lets no new pods in; to change that: portside node uncordon {name}")
        raise
