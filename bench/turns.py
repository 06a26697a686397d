"""How long the event loop is held in situations that touch very many objects: its longest turn in each, in processor time.

    python bench/turns.py [--only used,forms,deployment,namespace,failure,endpoints] [--nodes N] [--pods N] [--rounds N]
                          [--folder DIR]

used        start of a control plane whose home has ``--nodes`` (5,000) nodes and ``--stored`` (50,000) pods of 50 Deployments
forms       that home's pods asked for: as JSON, packed JSON, Tables, protobuf, metadata, YAML, by fields, by labels, in pages;
            lists and watches
deployment  a Deployment of ``--pods`` (20,000) comes, is rolled over to another image, goes
namespace   a namespace with as many pods and as many ConfigMaps is deleted
failure     a node with half of ``--pods``/2 pods falls silent: they are evicted and come up on another one
endpoints   a Service with ``--pods``/2 endpoints comes, loses its pods' labels, goes

The targets are 50 ms. What the too long turns did is in the log, which is copied to ``--folder`` as bench-turns.log.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from figures import Results
from loop import NODES, PATIENCE, WatchedPlane
from plane import seed
from simulation import DEPLOYMENTS, Watched, deployment, nodes_ready, ready, running
from steady import CONFIGS, PODS, each

from portside.client.protocol import Client
from portside.sim.lifecycle import SILENT

Json = dict[str, Any]
REPLICASETS, LEASES = ("apps", "v1", "replicasets"), ("coordination.k8s.io", "v1", "leases")
NAMESPACES, SERVICES = ("", "v1", "namespaces"), ("", "v1", "services")
SLICES = ("discovery.k8s.io", "v1", "endpointslices")
APPS = 50
BIG = "big"
PROTOBUF = "application/vnd.kubernetes.protobuf"
AS = "application/json;as={};v=v1;g=meta.k8s.io,application/json"
# What is asked, its path's query, the headers.
FORMS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("JSON", "", {}),
    ("packed JSON", "", {"accept-encoding": "gzip"}),
    ("Table", "", {"accept": AS.format("Table")}),
    ("Table with whole objects", "?includeObject=Object", {"accept": AS.format("Table")}),
    ("protobuf", "", {"accept": PROTOBUF}),
    ("metadata alone", "", {"accept": AS.format("PartialObjectMetadataList")}),
    ("metadata alone in protobuf", "", {"accept": f"{PROTOBUF};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}),
    ("YAML, 2,000 of them", "?limit=2000", {"accept": "application/yaml"}),
    ("JSON, by a field", "?fieldSelector=status.phase%3DRunning", {}),
    ("JSON, by labels", "?labelSelector=app+in+(app-1,app-2),pod-template-hash", {}),
    ("JSON, the second page", "?limit=500", {}),
    ("Table, the second page", "?limit=500", {"accept": AS.format("Table")}),
)
WATCHES = tuple(
    (what, accept) for what, query, headers in FORMS if not query for accept in (headers.get("accept", ""),)
)


async def settle(plane: WatchedPlane, seconds: float = 3.0) -> None:
    """Until it does next to nothing for so long."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        before = plane.cpu()
        await asyncio.sleep(seconds)
        if plane.cpu() - before < 0.15 * seconds:
            return


async def templates(home: Path) -> dict[str, Json]:
    """A node, its lease, and a Deployment of one with its ReplicaSet and pod, as the API stores them."""
    plane = WatchedPlane(home, 1)
    client = await plane.client()
    try:
        nodes, pods = Watched(client, NODES, ready), Watched(client, PODS, running)
        await nodes.until(lambda: nodes.good > 0, "a node")
        await client.create(DEPLOYMENTS, deployment("app", 1), namespace="default")
        await pods.until(lambda: pods.good > 0, "a pod")
        await settle(plane)
        found = {}
        for what, resource in (("node", NODES), ("pod", PODS), ("set", REPLICASETS), ("deployment", DEPLOYMENTS)):
            found[what] = (await client.list(resource)).items[0]
        found["lease"] = (await client.list(LEASES, namespace="kube-node-lease")).items[0]
        nodes.task.cancel()
        pods.task.cancel()
        return found
    finally:
        await client.close()
        plane.stop()


def crowd(found: dict[str, Json], nodes: int, pods: int) -> Callable[[int], tuple[str, Json]]:
    """For ``seed``: that many nodes with their leases, and pods of ``APPS`` Deployments, evenly over the nodes."""
    each_app = pods // APPS
    sets = [str(uuid.uuid4()) for _ in range(APPS)]
    owners = [str(uuid.uuid4()) for _ in range(APPS)]
    old, digest = found["set"]["metadata"]["name"], found["set"]["metadata"]["labels"]["pod-template-hash"]

    def named(obj: Json, name: str, **more: Any) -> Json:
        return obj | {"metadata": obj["metadata"] | {"name": name, "uid": str(uuid.uuid4())} | more}

    def make(i: int) -> tuple[str, Json]:
        kind, i = divmod(i, 2 * nodes) if i < 2 * nodes else (1, i - 2 * nodes)
        if kind == 0 and i < nodes:
            labels = found["node"]["metadata"]["labels"] | {"kubernetes.io/hostname": f"node-{i}"}
            return f"/core/nodes/node-{i}", named(found["node"], f"node-{i}", labels=labels)
        if kind == 0:
            name = f"node-{i - nodes}"
            return f"/coordination.k8s.io/leases/kube-node-lease/{name}", named(found["lease"], name)
        app, which = divmod(i, each_app + 2)
        name, labels = f"app-{app}", {"app": f"app-{app}", "pod-template-hash": digest}
        if which == 0:
            made = named(found["deployment"], name, uid=owners[app])
            return f"/apps/deployments/default/{name}", sized(made, {"app": name}, each_app)
        owner = [found["set"]["metadata"]["ownerReferences"][0] | {"name": name, "uid": owners[app]}]
        if which == 1:
            made = named(found["set"], f"{name}-{digest}", uid=sets[app], labels=labels, ownerReferences=owner)
            return f"/apps/replicasets/default/{name}-{digest}", sized(made, labels, each_app)
        owner = [found["pod"]["metadata"]["ownerReferences"][0] | {"name": f"{name}-{digest}", "uid": sets[app]}]
        pod = named(found["pod"], f"{name}-{digest}-{which:05}", labels=labels, ownerReferences=owner)
        pod["spec"] = pod["spec"] | {"nodeName": f"node-{(app * each_app + which) % nodes}"}
        return f"/core/pods/default/{pod['metadata']['name']}", pod

    assert old
    return make


def sized(obj: Json, labels: Json, count: int) -> Json:
    """A Deployment or ReplicaSet of ``count`` that is done."""
    template = obj["spec"]["template"] | {"metadata": {"labels": labels}}
    spec = obj["spec"] | {"replicas": count, "selector": {"matchLabels": labels}, "template": template}
    status = {k: count if k.endswith("eplicas") and v else v for k, v in obj["status"].items()}
    return obj | {"spec": spec, "status": status}


async def used(home: Path, options: argparse.Namespace, results: Results) -> None:
    """The start of a home that has much, and the forms of what it has."""
    found = await templates(home)
    total = 2 * options.nodes + APPS * (options.stored // APPS + 2)
    await asyncio.to_thread(seed, home, total, crowd(found, options.nodes, options.stored))
    plane = WatchedPlane(home, options.nodes)
    client = await plane.client()
    try:
        what = f"start with {options.nodes:,} nodes and {options.stored:,} pods"
        results.add(f"{what}: first answer, s", time.monotonic() - plane.began)
        results.add(f"{what}: first answer, CPU s", plane.cpu())
        pods = Watched(client, PODS, running)
        await pods.until(lambda: pods.good >= options.stored, "pods there")
        await settle(plane)
        results.add(f"{what}: at rest, CPU s", plane.cpu())
        results.add(f"{what}: memory at rest, MB", plane.memory("VmRSS"))
        results.target(f"{what}: pods lost", "<=", 0)
        results.add(f"{what}: pods lost", options.stored + 1 - pods.good)
        plane.note(results, what)
        pods.task.cancel()
        if "forms" in options.only.split(","):
            await forms(plane, client, results)
    finally:
        await client.close()
        plane.stop()


async def forms(plane: WatchedPlane, client: Client, results: Results) -> None:
    path = "/api/v1/pods"
    for what, query, headers in FORMS:
        plane.forget()
        began, cpu = time.monotonic(), plane.cpu()
        code, _, body = await client.request("GET", path + query, headers=headers)
        assert code == 200, body[:300]
        if "page" in what:
            text = body[:600].decode()
            token = text[text.index('"continue":"') + 12 :].partition('"')[0]
            code, _, body = await client.request("GET", f"{path}{query}&continue={token}", headers=headers)
            assert code == 200, body[:300]
        results.add(f"list as {what}: s", time.monotonic() - began)
        results.add(f"list as {what}: CPU s", plane.cpu() - cpu)
        results.add(f"list as {what}: MB", len(body) / 1e6)
        plane.note(results, f"list as {what}")
    for what, accept in WATCHES:
        plane.forget()
        began = time.monotonic()
        query = (
            "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1&timeoutSeconds=8"
        )
        code, _, body = await client.request("GET", path + query, headers={"accept": accept} if accept else {})
        results.add(f"watch as {what}: MB", len(body) / 1e6)
        plane.note(results, f"watch as {what}")


async def deployments(plane: WatchedPlane, client: Client, options: argparse.Namespace, results: Results) -> None:
    count = options.pods
    what = f"a Deployment of {count:,}"
    pods = Watched(client, PODS, running)
    plane.forget()
    body = deployment("large", count)
    await client.create(DEPLOYMENTS, body, namespace="default")
    await pods.until(lambda: pods.good >= count, "pods Running")
    await settle(plane)
    plane.note(results, f"{what} comes")
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "app:2"}]}}}}
    await client.patch(DEPLOYMENTS, "large", image, namespace="default", patch_type="strategic")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        held = await client.get(DEPLOYMENTS, "large", namespace="default")
        status, heard = held["status"], held["status"].get("observedGeneration") == held["metadata"]["generation"]
        counts = (status.get("updatedReplicas"), status.get("availableReplicas"), status.get("replicas"))
        if heard and counts == (count, count, count):
            break
        await asyncio.sleep(1)
    plane.note(results, f"{what} is rolled over")
    await client.delete(DEPLOYMENTS, "large", namespace="default")
    await pods.until(lambda: not pods.there, "pods gone")
    await settle(plane)
    plane.note(results, f"{what} goes")
    pods.task.cancel()


async def namespace(plane: WatchedPlane, client: Client, options: argparse.Namespace, results: Results) -> None:
    count = options.pods
    await client.create(NAMESPACES, {"metadata": {"name": "full"}})
    pods, configs = (
        Watched(client, PODS, running),
        Watched(client, CONFIGS, lambda o: o["metadata"]["namespace"] == "full"),
    )
    await client.create(DEPLOYMENTS, deployment("large", count), namespace="full")
    names = [f"c{i}" for i in range(count)]
    await each(names, lambda n: client.create(CONFIGS, {"metadata": {"name": n}, "data": {"k": "v"}}, namespace="full"))
    await pods.until(lambda: pods.good >= count, "pods Running")
    await settle(plane)
    plane.forget()
    began, cpu = time.monotonic(), plane.cpu()
    await client.delete(NAMESPACES, "full")
    spaces = Watched(client, NAMESPACES, lambda o: o["metadata"]["name"] == "full")
    await spaces.until(lambda: bool(spaces.there) and not spaces.good, "namespace gone")
    what = f"a namespace with {count:,} pods and {count:,} ConfigMaps goes"
    results.add(f"{what}, s", time.monotonic() - began)
    results.add(f"{what}, CPU s", plane.cpu() - cpu)
    plane.note(results, what)
    for watched in (pods, configs, spaces):
        watched.task.cancel()


async def failure(plane: WatchedPlane, client: Client, options: argparse.Namespace, results: Results) -> None:
    count = options.pods // 2
    for name in ("big-a", "big-b"):
        amounts = {"cpu": "100000", "memory": "100000Gi", "pods": str(2 * count)}
        meta = {"name": name, "labels": {BIG: "1"}, "annotations": {"kwok.x-k8s.io/node": "fake"}}
        await client.create(NODES, {"metadata": meta, "status": {"capacity": amounts, "allocatable": amounts}})
    body = deployment("large", count)
    spec = body["spec"]["template"]["spec"]
    spec["nodeSelector"] = {BIG: "1"}
    keys = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
    spec["tolerations"] = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1} for key in keys
    ]
    on = Watched(client, PODS, lambda p: running(p) and p["spec"].get("nodeName") == "big-b")
    pods = Watched(client, PODS, running)
    await client.create(DEPLOYMENTS, body, namespace="default")
    await pods.until(lambda: pods.good >= count, "pods Running")
    await settle(plane)
    plane.forget()
    silent = {"metadata": {"annotations": {SILENT: "true"}}}
    moved = count - on.good
    await client.patch(NODES, "big-a", silent)
    await on.until(lambda: on.good >= count, "pods moved")
    await settle(plane)
    plane.note(results, f"one of two nodes with {count:,} pods falls silent")
    results.add(f"one of two nodes with {count:,} pods falls silent: pods evicted", moved)
    await client.delete(DEPLOYMENTS, "large", namespace="default")
    await client.delete(NODES, "big-a")
    await on.until(lambda: not on.there, "pods gone")
    await settle(plane)
    await client.delete(NODES, "big-b")
    on.task.cancel()
    pods.task.cancel()


async def endpoints(plane: WatchedPlane, client: Client, options: argparse.Namespace, results: Results) -> None:
    count = options.pods // 2
    what = f"a Service with {count:,} endpoints"
    pods = Watched(client, PODS, running)
    await client.create(DEPLOYMENTS, deployment("behind", count), namespace="default")
    await pods.until(lambda: pods.good >= count, "pods Running")
    await settle(plane)
    plane.forget()
    held: dict[str, int] = {}

    def full(piece: Json) -> bool:
        held[piece["metadata"]["name"]] = len(piece.get("endpoints") or ())
        return True

    slices = Watched(client, SLICES, full)
    port = [{"port": 80}]
    service = {"metadata": {"name": "behind"}, "spec": {"selector": {"app": "behind"}, "ports": port}}
    await client.create(SERVICES, service, namespace="default")
    await slices.until(lambda: sum(held.values()) >= count, "endpoints")
    await settle(plane)
    plane.note(results, f"{what} comes")
    await client.delete(DEPLOYMENTS, "behind", namespace="default")
    await pods.until(lambda: not pods.there, "pods gone")
    await settle(plane)
    plane.note(results, f"{what} loses its pods")
    await client.delete(SERVICES, "behind", namespace="default")
    await settle(plane)
    slices.task.cancel()
    pods.task.cancel()


SITUATIONS: dict[str, Callable[[WatchedPlane, Client, argparse.Namespace, Results], Awaitable[None]]] = {
    "deployment": deployments,
    "namespace": namespace,
    "failure": failure,
    "endpoints": endpoints,
}


async def measure(options: argparse.Namespace, results: Results, folder: Path) -> None:
    parts = options.only.split(",")
    if "used" in parts or "forms" in parts:
        await used(folder / "used", options, results)
    chosen = [situation for name, situation in SITUATIONS.items() if name in parts]
    if not chosen:
        return
    plane = WatchedPlane(folder / "live", options.nodes)
    try:
        client = await nodes_ready(plane, results)
        for situation in chosen:
            await settle(plane)
            await situation(plane, client, options, results)
        await client.close()
    finally:
        plane.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="used,forms," + ",".join(SITUATIONS))
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=20_000)
    parser.add_argument("--stored", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", default="/tmp")
    options = parser.parse_args()
    results = Results(loud=True)
    for _ in range(options.rounds):
        folder = Path(tempfile.mkdtemp(prefix="bench-turns-", dir=options.folder))
        try:
            results.disk(folder)
            asyncio.run(measure(options, results, folder))
        finally:
            with (folder.parent / "bench-turns.log").open("w") as log:
                for path in sorted(folder.glob("*/log")):
                    log.write(path.read_text())
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{os.cpu_count()} cores, {options.rounds} rounds, Python {sys.version.split()[0]}")
    results.show()


if __name__ == "__main__":
    main()
