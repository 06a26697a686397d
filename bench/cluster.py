"""Figures of a whole running Portside as a user meets it: medians of repeated runs, with the spread.

    python bench/cluster.py [--rounds N] [--only start,api,pods,rest] [--folder DIR] [--load TOOL]

Every round has a cluster of its own under ``--folder`` (which chooses the disk). Parts:

start   a warm ``up``: from the command to the API's first answer, and to a Ready node with a fresh heartbeat
api     creates, GETs, LISTs and watches over TLS with the load tool (``../shared/load``, built when Go is there)
pods    pod created -> Running seen by a watch, one after the other, then thirty at once (root: real containers)
rest    memory and share of a core when nothing is asked

Without root, nodes are simulated; the figures of ``pods`` then say nothing about containers and are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from figures import Results, at
from plane import load_tool, milliseconds, processor, resident

from portside.base.clock import rfc3339
from portside.client.http import kubeconfig_client
from portside.client.protocol import Client

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "docker.io/portside/busybox:1"
PODS, NODES, LEASES = ("", "v1", "pods"), ("", "v1", "nodes"), ("coordination.k8s.io", "v1", "leases")
REAL = os.geteuid() == 0
SERIAL, AT_ONCE = 20, 30
# Title, the load tool's words, and the figure taken from its line.
LOADS = (
    ("ConfigMap creates/s, 32 clients", ("create", "-n", "8000", "-c", "32", "-prefix", "wide"), r"per_s=(\d+)"),
    ("ConfigMap creates/s, 1 client", ("create", "-n", "500", "-c", "1", "-prefix", "one"), r"per_s=(\d+)"),
    (
        "pod creates/s of 1 kB annotations, 32 clients",
        ("create", "-kind", "pods", "-n", "2000", "-c", "32", "-pad", "1000", "-spec", '"nodeSelector":{"no":"where"},'),
        r"per_s=(\d+)",
    ),
    ("GET/s, 64 clients", ("get", "-n", "30000", "-c", "64", "-path", "/api/v1/namespaces/default"), r"per_s=(\d+)"),
    (
        "LIST of 1,000 pods: p50, ms",
        ("list", "-n", "20", "-c", "1", "-path", "/api/v1/namespaces/default/pods?limit=1000"),
        r"p50=([\d.]+\S*)",
    ),
    ("100 watchers, 100 writes/s: last byte p99, ms", ("watch", "-w", "100", "-rate", "100", "-secs", "5"), r"p99=(\S+)"),
)  # fmt: skip


class Cluster:
    """One cluster under measurement."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, verb: str, *words: str) -> None:
        command = [sys.executable, "-m", "portside.cli.main", verb, "--home", str(self.home), *words]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"portside {verb} ended with {done.returncode}:\n{done.stderr}")

    def up(self) -> None:
        self.run("up", *(() if REAL else ("--simulate", "1")))

    def status(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "portside.cli.main", "status", "--home", str(self.home), "-o", "json"]
        return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))

    def client(self) -> Client:
        return kubeconfig_client(str(self.home / "kubeconfig"), user_agent="bench")


def start(cluster: Cluster, results: Results) -> None:
    cluster.run("down")
    url = json.loads((cluster.home / "kubeconfig").read_text())["clusters"][0]["cluster"]["server"] + "/version"
    context = ssl._create_unverified_context()
    stopped = rfc3339(time.time())
    began = time.monotonic()
    thread = threading.Thread(target=cluster.up)
    thread.start()
    while True:
        try:
            urllib.request.urlopen(url, context=context, timeout=1).read()
            break
        except (OSError, urllib.error.URLError):
            time.sleep(0.005)
    results.add("warm up: first API answer, s", time.monotonic() - began)

    async def ready() -> None:
        client = cluster.client()
        try:
            while True:
                leases = (await client.list(LEASES, namespace="kube-node-lease")).items
                nodes = (await client.list(NODES)).items
                fresh = leases and all(lease["spec"]["renewTime"] >= stopped for lease in leases)
                good = [c["status"] for n in nodes for c in n["status"].get("conditions", ()) if c["type"] == "Ready"]
                if fresh and good and set(good) == {"True"}:
                    return
                await asyncio.sleep(0.02)
        finally:
            await client.close()

    asyncio.run(ready())
    results.add("warm up: node Ready with a fresh heartbeat, s", time.monotonic() - began)
    thread.join()


def api(cluster: Cluster, results: Results, tool: Path | None) -> None:
    if tool is None:
        print("api: left out, the load tool is not there (../shared/load and Go, or --load TOOL)")
        return

    async def token() -> str:
        client = cluster.client()
        try:
            accounts, bindings = (
                ("", "v1", "serviceaccounts"),
                ("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
            )
            await client.create(accounts, {"metadata": {"name": "bench"}}, namespace="default")
            subject = {"kind": "ServiceAccount", "name": "bench", "namespace": "default"}
            role = {"apiGroup": bindings[0], "kind": "ClusterRole", "name": "cluster-admin"}
            await client.create(bindings, {"metadata": {"name": "bench"}, "roleRef": role, "subjects": [subject]})
            request = {"spec": {"expirationSeconds": 7200}}
            made = await client.create(accounts, request, namespace="default", name="bench", subresource="token")
            return str(made["status"]["token"])
        finally:
            await client.close()

    base = [str(tool), "-url", cluster.status()["api"], "-token", asyncio.run(token())]
    for title, words, figure in LOADS:
        done = subprocess.run([*base, *words], capture_output=True, text=True, timeout=300)
        found = re.findall(figure, done.stdout)
        if done.returncode or not found:
            sys.exit(f"{title}: {done.stdout}{done.stderr}")
        results.add(title, milliseconds(found[-1]))


async def pods(cluster: Cluster, results: Results) -> None:
    client = cluster.client()
    running: dict[str, asyncio.Future[float]] = {}
    loop = asyncio.get_running_loop()

    async def follow() -> None:
        async for event in client.watch(PODS, namespace="default", send_initial_events=True):
            waiting = running.get(event.object["metadata"].get("name", ""))
            if waiting and not waiting.done() and (event.object.get("status") or {}).get("phase") == "Running":
                waiting.set_result(time.monotonic())

    async def one(name: str) -> float:
        running[name] = loop.create_future()
        container = {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "1000"]}
        spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
        began = time.monotonic()
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        await client.create(PODS, body, namespace="default")
        return await asyncio.wait_for(running[name], 60) - began

    task = asyncio.create_task(follow())
    try:
        serial = []
        for number in range(SERIAL):
            serial.append(await one(f"serial-{number}"))
            await client.delete(PODS, f"serial-{number}", namespace="default", options={"gracePeriodSeconds": 0})
        serial.sort()
        results.add(f"pod created -> Running, {SERIAL} serial: p50, s", at(serial, 0.5))
        results.add(f"pod created -> Running, {SERIAL} serial: p99, s", at(serial, 0.99))
        await asyncio.sleep(3)
        began = time.monotonic()
        await asyncio.gather(*(one(f"burst-{number}") for number in range(AT_ONCE)))
        results.add(f"{AT_ONCE} pods at once: last Running, s", time.monotonic() - began)
        await client.delete_collection(PODS, namespace="default", options={"gracePeriodSeconds": 0})
        await asyncio.sleep(5)
    finally:
        task.cancel()
        await client.close()


def rest(cluster: Cluster, results: Results, after: str) -> None:
    time.sleep(20)
    pids = {c["name"]: c["pid"] for c in cluster.status()["components"] if c.get("pid")}
    before = {name: processor(pid) for name, pid in pids.items()}
    time.sleep(20)
    for name, pid in pids.items():
        results.add(f"at rest {after}: {name}, MB", resident(pid))
        results.add(f"at rest {after}: {name}, % of a core", (processor(pid) - before[name]) / 20 * 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="start,api,pods,rest")
    parser.add_argument("--folder", default="/tmp")
    parser.add_argument("--load", default="")
    options = parser.parse_args()
    chosen = options.only.split(",")
    work = Path(tempfile.mkdtemp(prefix="pb-", dir=options.folder))
    results = Results()
    try:
        tool = load_tool(options.load, work) if "api" in chosen else None
        for number in range(options.rounds):
            cluster = Cluster(work / f"h{number}")
            results.disk(work)
            cluster.up()
            try:
                if "rest" in chosen:
                    rest(cluster, results, "after start")
                if "start" in chosen:
                    start(cluster, results)
                if "pods" in chosen and REAL:
                    asyncio.run(pods(cluster, results))
                if "api" in chosen:
                    api(cluster, results, tool)
                if "rest" in chosen and tool is not None:
                    rest(cluster, results, "after the load")
            finally:
                cluster.run("down")
                shutil.rmtree(cluster.home, ignore_errors=True)
        print(f"{os.cpu_count()} cores, {options.rounds} rounds, {'real containers' if REAL else 'simulated node'}")
        results.show()
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
