"""portside node: list the machines of a cluster, empty one, remove one without leaving anything behind."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from portside.cli.api import Api, Refused
from portside.cli.steps import CliError, Steps
from portside.cli.token import api_of

Json = dict[str, Any]
PATIENCE = 60.0  # seconds a machine has to take its side away
POLL = 0.3
LEAVE, LEFT = "portside.io/leave", "portside.io/left"


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = verbs.add_parser("list", help="the nodes, their addresses and whether they are ready")
    listing.add_argument("-o", "--output", choices=["json", "name"])
    drain = verbs.add_parser("drain", help="let no new pods in and move the present ones away")
    remove = verbs.add_parser("remove", help="drain a node and take it off the cluster and its machine")
    for sub in (drain, remove):
        sub.add_argument("name", metavar="NODE")
        sub.add_argument("--force", action="store_true", help="also end pods that nothing makes anew")
        sub.add_argument(
            "--timeout", type=float, default=300.0, metavar="SECONDS", help="how long pods may take (default 300)"
        )
    for sub in (listing, drain, remove):
        sub.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    home, api = api_of(options)
    try:
        if options.action == "list":
            return _list(api, options)
        node = _get(api, options.name)
        if options.action == "remove" and home.cluster().get("node") == options.name:
            raise CliError(
                f"{options.name} is the machine that runs the control plane",
                todo="give up the whole cluster with: portside reset",
                code=2,
            )
        steps = Steps()
        alive = is_ready(node)
        if alive or options.action == "drain":
            drain(api, steps, options)
        if options.action == "remove":
            _remove(api, steps, options.name, alive)
        return 0
    except OSError as error:
        raise CliError("the API does not answer", why=str(error), todo="start it with: portside up", code=5) from error


def is_ready(node: Json) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _get(api: Api, name: str) -> Json:
    try:
        return api.send("GET", f"/api/v1/nodes/{name}")
    except Refused as error:
        if error.code == 404:
            raise CliError(f"there is no node {name}", todo="look at: portside node list", code=4) from error
        raise


def _list(api: Api, options: argparse.Namespace) -> int:
    nodes = api.send("GET", "/api/v1/nodes")["items"]
    if options.output == "json":
        print(json.dumps(nodes))
        return 0
    if options.output == "name":
        print("\n".join(n["metadata"]["name"] for n in nodes))
        return 0
    print(f"{'NAME':<20} {'STATUS':<28} {'ADDRESS':<16} {'PODS':<18} SINCE")
    for node in nodes:
        state = "Ready" if is_ready(node) else "NotReady"
        if node["spec"].get("unschedulable"):
            state += ",SchedulingDisabled"
        addresses = (node.get("status") or {}).get("addresses") or ()
        address = next((a["address"] for a in addresses if a["type"] == "InternalIP"), "")
        meta = node["metadata"]
        cidr = node["spec"].get("podCIDR", "")
        print(f"{meta['name']:<20} {state:<28} {address:<16} {cidr:<18} {meta.get('creationTimestamp', '')}")
    return 0


def _patch(api: Api, path: str, body: Json) -> Json:
    return api.send("PATCH", path, json.dumps(body).encode(), "application/merge-patch+json")


def _owner(pod: Json) -> str:
    refs = pod["metadata"].get("ownerReferences") or ()
    return next((str(r["kind"]) for r in refs if r.get("controller")), "")


def sort_pods(pods: list[Json]) -> tuple[list[Json], list[Json]]:
    """Pods to evict, and those among them that nothing makes anew. Pods of DaemonSets and ended ones stay."""
    wanted, lonely = [], []
    for pod in pods:
        owner, phase = _owner(pod), (pod.get("status") or {}).get("phase")
        if owner == "DaemonSet" or "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {}):
            continue
        wanted.append(pod)
        if not owner and phase not in ("Succeeded", "Failed"):
            lonely.append(pod)
    return wanted, lonely


def drain(api: Api, steps: Steps, options: argparse.Namespace) -> None:
    """Cordon, then evict with respect for disruption budgets. Raises CliError when pods stay."""
    name = options.name
    listing = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}"
    _, lonely = sort_pods(api.send("GET", listing)["items"])
    if lonely and not options.force:
        names = ", ".join(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in lonely)
        raise CliError(
            f"nothing would make these pods anew: {names}", todo="delete them, or end them too with --force", code=7
        )
    with steps.step(f"drain {name}") as note:
        _patch(api, f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
        end = time.monotonic() + options.timeout
        asked: set[str] = set()
        while left := sort_pods(api.send("GET", listing)["items"])[0]:
            _evict(api, [p for p in left if p["metadata"]["uid"] not in asked], asked, note)
            if time.monotonic() > end:
                names = ", ".join(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in left)
                raise CliError(
                    f"pods are still on {name} after {options.timeout:.0f} s: {names}",
                    todo="look at them, or give them more time with --timeout",
                    code=7,
                )
            time.sleep(POLL)


def _evict(api: Api, pods: list[Json], asked: set[str], note: Callable[[str], None]) -> None:
    for pod in pods:
        meta = pod["metadata"]
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        }
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
        try:
            api.send("POST", path, json.dumps(body).encode())
            asked.add(meta["uid"])
        except Refused as error:
            if error.code == 429:
                note(f"{meta['namespace']}/{meta['name']}: {error}")
            elif error.code != 404:
                raise CliError(f"{meta['namespace']}/{meta['name']} could not be evicted", why=str(error)) from error


def _remove(api: Api, steps: Steps, name: str, alive: bool) -> None:
    path = f"/api/v1/nodes/{name}"
    if alive:
        with steps.step(f"machine of {name}") as note:
            _patch(api, path, {"metadata": {"annotations": {LEAVE: "true"}}})
            note("ends pods and runtime, removes rules and files")
            if not _has_left(api, path):
                note(f"did not answer in {PATIENCE:.0f} s; run there: portside reset")
                alive = False
    else:
        steps.skipped(f"machine of {name}", "it does not answer; run there: portside reset")
    with steps.step(f"node {name}"):
        if not alive:
            _end_pods(api, name)
        for what in (path, f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"):
            try:
                api.send("DELETE", what)
            except Refused as error:
                if error.code != 404:
                    raise CliError(f"{name} could not be deleted", why=str(error)) from error


def _has_left(api: Api, path: str) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        annotations = api.send("GET", path)["metadata"].get("annotations") or {}
        if annotations.get(LEFT):
            return True
        time.sleep(POLL)
    return False


def _end_pods(api: Api, name: str) -> None:
    """Pods of a machine that is gone can't say that they ended."""
    for pod in api.send("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}")["items"]:
        meta = pod["metadata"]
        try:
            api.send("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}?gracePeriodSeconds=0")
        except Refused as error:
            if error.code != 404:
                raise CliError(f"{meta['namespace']}/{meta['name']} could not be deleted", why=str(error)) from error
