"""portside node: list the machines of a cluster, empty one, remove one without leaving anything behind."""

from __future__ import annotations

import argparse
import calendar
import json
import time
from typing import Any

from portside.cli.api import Api, Refused
from portside.cli.drain import Silent, cordon, drain, is_ready
from portside.cli.drain import arguments as drain_arguments
from portside.cli.steps import CliError, Steps
from portside.cli.token import api_of

Json = dict[str, Any]
PATIENCE = 60.0  # seconds a machine has to take its side away
POLL = 0.3
LEAVE, LEFT = "portside.io/leave", "portside.io/left"
UNITS = ((86400, "d"), (3600, "h"), (60, "m"))
COLUMNS = ("NAME", "STATUS", "AGE", "ADDRESS", "POD ADDRESSES", "VERSION")
WIDE = ("OS", "KERNEL", "RUNTIME")


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = verbs.add_parser("list", help="the nodes, their addresses and whether they are ready")
    listing.add_argument("-o", "--output", choices=["json", "yaml", "wide", "name"])
    emptying = verbs.add_parser("drain", help="let no new pods in and move the present ones away")
    letting = verbs.add_parser("uncordon", help="let new pods in again")
    remove = verbs.add_parser("remove", help="drain a node and take it off the cluster and its machine")
    for sub in (emptying, letting, remove):
        sub.add_argument("name", metavar="NODE")
    for sub in (emptying, remove):
        drain_arguments(sub)
    for sub in (listing, emptying, letting, remove):
        sub.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    home, api = api_of(options)
    try:
        if options.action == "list":
            return _list(api, options.output)
        node = _get(api, options.name)
        if options.action == "uncordon":
            cordon(api, options.name, False)
            print(options.name)
        elif options.action == "drain":
            drain(api, Steps(), options)
        elif home.cluster().get("node") == options.name:
            raise CliError(
                f"{options.name} is the machine that runs the control plane",
                todo="give up the whole cluster with: portside reset",
                code=2,
            )
        else:
            _remove(api, node, options)
        return 0
    except Refused as error:
        raise CliError("the API refused", why=str(error)) from error
    except OSError as error:
        raise CliError("the API does not answer", why=str(error), todo="start it with: portside up", code=5) from error


def _get(api: Api, name: str) -> Json:
    try:
        return api.send("GET", f"/api/v1/nodes/{name}")
    except Refused as error:
        if error.code == 404:
            raise CliError(f"there is no node {name}", todo="look at: portside node list", code=4) from error
        raise


def ago(stamp: str, now: float) -> str:
    """How long since a time of the API, in its largest unit; "" for none."""
    try:
        passed = max(0, int(now - calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))))
    except ValueError:
        return ""
    return next((f"{passed // size}{unit}" for size, unit in UNITS if passed >= size), f"{passed}s")


def state(node: Json, now: float) -> str:
    """Ready or for how long not, and what else keeps pods away."""
    conditions = {c["type"]: c for c in (node.get("status") or {}).get("conditions") or ()}
    ready = conditions.get("Ready") or {}
    words = ["Ready" if is_ready(node) else "NotReady"]
    if not is_ready(node) and (since := ago(ready.get("lastTransitionTime") or "", now)):
        words[0] += f" for {since}"
    words += [name for name, c in sorted(conditions.items()) if name.endswith("Pressure") and c["status"] == "True"]
    words += ["SchedulingDisabled"] if node["spec"].get("unschedulable") else []
    words += ["leaving"] if (node["metadata"].get("annotations") or {}).get(LEAVE) else []
    return ",".join(words)


def row(node: Json, now: float) -> tuple[str, ...]:
    """A node's line, the wide columns too."""
    meta, status = node["metadata"], node.get("status") or {}
    info = status.get("nodeInfo") or {}
    address = next((a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"), "")
    return (
        meta["name"],
        state(node, now),
        ago(meta.get("creationTimestamp") or "", now),
        address,
        node["spec"].get("podCIDR") or "",
        info.get("kubeletVersion") or "",
        info.get("osImage") or "",
        info.get("kernelVersion") or "",
        info.get("containerRuntimeVersion") or "",
    )


def _list(api: Api, output: str | None) -> int:
    nodes = api.send("GET", "/api/v1/nodes")["items"]
    if output == "json":
        print(json.dumps(nodes))
    elif output == "yaml":
        import yaml

        print(yaml.safe_dump(nodes, sort_keys=False), end="")
    elif output == "name":
        print("\n".join(n["metadata"]["name"] for n in nodes))
    else:
        now, columns = time.time(), COLUMNS + WIDE if output == "wide" else COLUMNS
        lines = [columns, *(row(node, now)[: len(columns)] for node in nodes)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            print("   ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _remove(api: Api, node: Json, options: argparse.Namespace) -> None:
    """Drain, have the machine take its side away, forget the node. One that does not answer is only forgotten."""
    steps, name, alive = Steps(), options.name, is_ready(node)
    if alive:
        try:
            drain(api, steps, options)
        except Silent:
            alive = False  # the machine was lost meanwhile
    path = f"/api/v1/nodes/{name}"
    if alive:
        with steps.step(f"machine of {name}") as note:
            body = json.dumps({"metadata": {"annotations": {LEAVE: "true"}}}).encode()
            api.send("PATCH", path, body, "application/merge-patch+json")
            note("ends pods and runtime, removes rules and files")
            if not (alive := _has_left(api, path)):
                note(f"did not answer in {PATIENCE:.0f} s; run there: portside reset")
    else:
        steps.skipped(f"machine of {name}", "it does not answer; run there: portside reset")
    with steps.step(f"node {name}"):
        for what in (path, f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"):
            try:
                api.send("DELETE", what)
            except Refused as error:
                if error.code != 404:
                    raise CliError(f"{name} could not be deleted", why=str(error)) from error
        _end_pods(api, name)  # after the node, on which DaemonSets would make theirs anew


def _has_left(api: Api, path: str) -> bool:
    """Whether the machine says so, before its time is over or it falls silent."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        node = api.send("GET", path)
        if (node["metadata"].get("annotations") or {}).get(LEFT):
            return True
        if not is_ready(node):
            return False
        time.sleep(POLL)
    return False


def _end_pods(api: Api, name: str) -> None:
    """Pods of a machine that is gone, DaemonSets' too, can't say that they ended."""
    for pod in api.send("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}")["items"]:
        meta = pod["metadata"]
        try:
            api.send("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0")
        except Refused as error:
            if error.code != 404:
                raise CliError(f"{meta['namespace']}/{meta['name']} could not be deleted", why=str(error)) from error
