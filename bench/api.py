"""The API server's speed and memory against their targets: each figure beside its target, median and spread.

    python bench/api.py [--rounds N] [--only start,writes,reads,lists,memory,selector,watchers,definitions]
                        [--folder DIR] [--load TOOL]

Every part has a control plane of its own, freshly started with its controllers and scheduler, in a home under
``--folder`` (which chooses the disk; its fdatasync time is shown). Clients run on the same machine. Large states are
written into the store before the start, as copies of objects that the API itself made. One round takes about ten
minutes. Beside each part stand the longest time its event loop was busy in one go (and stood still, which counts what the
machine did meanwhile), and the server's processor time per operation, which says more than wall-clock time on a machine
that does other things.

start        first answer and every health check green, in an empty home and in one used before
writes       durable creates from 64 clients: ConfigMaps, then pods that no node takes
reads        GET of one object, 64 clients
lists        LIST as JSON of 10,000 and of 150,000 pods of 3.4 kB, and what the large one adds to the server's memory
memory       resident memory per pod at 50,000 pods of 3.4 kB: the whole control plane, and the API server alone
selector     label selectors over 300,000 small objects, one request a second
watchers     1,000 watches of one object that is written 100 times a second
definitions  500 CustomResourceDefinitions: the start, and how soon OpenAPI tells of one more
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figures import Results, Targets, at
from plane import START_SECONDS, Plane, load_tool, milliseconds, seed

POD_BYTES = 3400
LISTED, MANY = 10_000, 150_000
STORED = 50_000
SMALL = 300_000
DEFINITIONS = 500
PODS = "/api/v1/namespaces/default/pods"
SELECTORS = ("app=a7", "app in (a1,a2),tier notin (t0)", "!app")
ELSEWHERE = '"nodeSelector":{"no":"where"},'

TARGETS: Targets = {
    "start, empty home: first answer, s": ("<=", 1.0),
    "start, empty home: every health check green, s": ("<=", 1.5),
    "ConfigMap creates/s, 64 clients": (">=", 4500),
    "pod creates/s, 64 clients": (">=", 2300),
    "GET/s, 64 clients": (">=", 12_000),
    "LIST of 10,000 pods, ms": ("<=", 55),
    "LIST of 150,000 pods, ms": ("<=", 1000),
    "LIST of 150,000 pods: added to the server's memory, share of the answer": ("<=", 0.2),
    "memory per pod at 50,000, whole control plane, kB": ("<=", 10),
    "memory per pod at 50,000, API server alone, kB": ("<=", 10),
    "selector over 300,000 objects: p99, ms": ("<=", 650),
    "selector over 300,000 objects: cores used": ("<=", 0.6),
    "1,000 watchers: events/s": (">=", 67_000),
    "1,000 watchers: commit to last byte p99, ms": ("<=", 100),
    "start with 500 definitions: first answer, s": ("<=", 3),
    "500 definitions: OpenAPI v2 tells of a new one after, s": ("<=", 2),
    "500 definitions: OpenAPI v3 tells of a new one after, s": ("<=", 2),
}
STILL = "event loop stood still for at most, ms: "
BUSY = "event loop busy in one go for at most, ms: "
LONGEST_BLOCK = 50.0


class Bench:
    """One round: homes below ``folder``, figures to ``results``."""

    def __init__(self, folder: Path, tool: Path, results: Results) -> None:
        self._folder = folder
        self._tool = tool
        self.results = results
        self._numbers = itertools.count()

    @contextmanager
    def plane(self) -> Iterator[Plane]:
        """A control plane that is not started yet, gone afterwards."""
        plane = Plane(self._folder / f"h{next(self._numbers)}", self._tool)
        try:
            yield plane
        finally:
            plane.stop()
            shutil.rmtree(plane.home, ignore_errors=True)

    def template(self, plane: Plane, path: str, obj: dict[str, Any]) -> dict[str, Any]:
        """The object as the API stores it."""
        plane.start()
        made = plane.json(path, obj)
        plane.settle()
        stored: dict[str, Any] = plane.json(f"{path}/{made['metadata']['name']}")
        plane.stop()
        return stored

    def blocked(self, plane: Plane, what: str) -> None:
        self.results.target(BUSY + what, "<=", LONGEST_BLOCK)
        self.results.add(BUSY + what, plane.metric("portside_event_loop_longest_busy_seconds") * 1000)
        self.results.add(STILL + what, plane.metric("portside_event_loop_longest_block_seconds") * 1000)

    def measured(self, plane: Plane, title: str, figure: str, *words: str) -> float:
        """Run the load tool; the figure by its pattern, and the server's processor time per operation."""
        before = plane.processor()
        said = plane.load(*words)
        spent = plane.processor() - before
        if found := re.search(r" n=(\d+)", said):
            self.results.add(f"{title}: server's processor time per operation, µs", spent / int(found[1]) * 1e6)
        value = milliseconds(re.findall(figure, said)[-1])
        self.results.add(title, value)
        return value


def start(bench: Bench) -> None:
    with bench.plane() as plane:
        for home in ("empty home", "used home"):
            first, green = plane.start()
            bench.results.add(f"start, {home}: first answer, s", first)
            bench.results.add(f"start, {home}: every health check green, s", green)
            plane.settle()
            bench.results.add(f"start, {home}: memory at rest, MB", plane.resident())
            plane.stop()


def writes(bench: Bench) -> None:
    with bench.plane() as plane:
        plane.start_settled()
        words = ("create", "-n", "20000", "-c", "64", "-prefix", "c")
        bench.measured(plane, "ConfigMap creates/s, 64 clients", r"per_s=(\d+)", *words)
        bench.blocked(plane, "ConfigMap creates")
    with bench.plane() as plane:
        plane.start_settled()
        words = (
            "create",
            "-kind",
            "pods",
            "-n",
            "8000",
            "-c",
            "64",
            "-pad",
            "1000",
            "-prefix",
            "p",
            "-spec",
            ELSEWHERE,
        )
        bench.measured(plane, "pod creates/s, 64 clients", r"per_s=(\d+)", *words)
        plane.settle()
        bench.blocked(plane, "pod creates")


def reads(bench: Bench) -> None:
    with bench.plane() as plane:
        plane.start_settled()
        path = "/api/v1/namespaces/default"
        bench.measured(plane, "GET/s, 64 clients", r"per_s=(\d+)", "get", "-n", "60000", "-c", "64", "-path", path)
        bench.blocked(plane, "GETs")


def pod_template(bench: Bench, plane: Plane) -> dict[str, Any]:
    """A pod of ``POD_BYTES``, left alone by the scheduler."""
    resources = {"cpu": "100m", "memory": "500Mi"}
    container = {
        "name": "pause",
        "image": "registry.k8s.io/pause:3.10",
        "ports": [{"containerPort": 80}],
        "resources": {"requests": resources, "limits": resources},
    }
    meta: dict[str, Any] = {"name": "template", "labels": {"app": "load", "tier": "t1"}, "annotations": {"pad": ""}}
    pod = {"metadata": meta, "spec": {"schedulerName": "none", "containers": [container]}}
    made = bench.template(plane, PODS, pod)
    made["metadata"]["annotations"]["pad"] = "x" * (POD_BYTES - len(json.dumps(made, separators=(",", ":"))))
    return made


def copies(prefix: str, template: dict[str, Any], named: Callable[[int], tuple[str, str]]) -> Callable[[int], Any]:
    """For ``seed``: copies of a namespaced template; ``named`` tells namespace and name."""

    def make(number: int) -> tuple[str, dict[str, Any]]:
        namespace, name = named(number)
        meta = template["metadata"] | {"name": name, "namespace": namespace, "uid": str(uuid.uuid4())}
        return f"{prefix}{namespace}/{name}", template | {"metadata": meta}

    return make


def lists(bench: Bench) -> None:
    with bench.plane() as plane:
        template = pod_template(bench, plane)
        spaces = ("default", "kube-public")
        seed(plane.home, MANY, copies("/core/pods/", template, lambda n: (spaces[n >= LISTED], f"pod-{n:06}")))
        bench.results.add("start with 150,000 pods: first answer, s", plane.start()[0])
        plane.settle()
        time.sleep(START_SECONDS)
        words = ("list", "-n", "15", "-c", "1", "-path", f"{PODS}?resourceVersion=0")
        bench.measured(plane, "LIST of 10,000 pods, ms", r"p50=(\S+)", *words)
        bench.blocked(plane, "LIST of 10,000 pods")
        plane.settle()
        plane.forget_peak()
        before = plane.resident()
        words = ("list", "-n", "5", "-c", "1", "-path", "/api/v1/pods?resourceVersion=0")
        bench.measured(plane, "LIST of 150,000 pods, ms", r"p50=(\S+)", *words)
        share = (plane.peak() - before) * 1024 * 1024 / (MANY * POD_BYTES)
        bench.results.add("LIST of 150,000 pods: added to the server's memory, share of the answer", share)
        bench.blocked(plane, "LIST of 150,000 pods")


def memory(bench: Bench) -> None:
    alone = ("--no-controllers", "--no-scheduler")
    with bench.plane() as plane:
        template = pod_template(bench, plane)
        empty = {}
        for options in ((), alone):
            plane.start(*options)
            plane.settle()
            empty[options] = plane.resident()
            plane.stop()
        seed(plane.home, STORED, copies("/core/pods/", template, lambda n: ("default", f"pod-{n:06}")))
        for options, what in (((), "whole control plane"), (alone, "API server alone")):
            plane.start(*options)
            plane.settle()
            time.sleep(12)  # freed memory goes back to the system every ten seconds
            each = (plane.resident() - empty[options]) * 1024 / STORED
            bench.results.add(f"memory per pod at 50,000, {what}, kB", each)
            plane.stop()


def selector(bench: Bench) -> None:
    with bench.plane() as plane:
        path = "/api/v1/namespaces/default/configmaps"
        template = bench.template(plane, path, {"metadata": {"name": "template"}, "data": {"k": "v"}})
        named = copies("/core/configmaps/", template, lambda n: ("default", f"small-{n:06}"))

        def make(number: int) -> tuple[str, dict[str, Any]]:
            key, obj = named(number)
            obj["metadata"]["labels"] = {"app": f"a{number % 1000}", "tier": f"t{number % 3}", "number": f"n{number}"}
            return key, obj

        seed(plane.home, SMALL, make)
        plane.start_settled()
        times: list[float] = []
        began, used = time.monotonic(), plane.processor()
        for number in range(30):
            time.sleep(max(0.0, began + number - time.monotonic()))
            asked = time.monotonic()
            text = SELECTORS[number % len(SELECTORS)].replace(" ", "%20").replace("=", "%3D").replace(",", "%2C")
            plane.json(f"/api/v1/configmaps?labelSelector={text}")
            times.append((time.monotonic() - asked) * 1000)
        cores = (plane.processor() - used) / (time.monotonic() - began)
        times.sort()
        bench.results.add("selector over 300,000 objects: p50, ms", statistics.median(times))
        bench.results.add("selector over 300,000 objects: p99, ms", at(times, 0.99))
        bench.results.add("selector over 300,000 objects: cores used", cores)
        bench.blocked(plane, "selectors over 300,000 objects")


def watchers(bench: Bench) -> None:
    with bench.plane() as plane:
        plane.start_settled()
        before = plane.processor()
        said = plane.load("watch", "-w", "1000", "-rate", "100", "-secs", "10")
        spent = plane.processor() - before
        found = re.search(r"writes=(\d+) write_rate=(\d+) .*p99=(\S+) .*missing_somewhere=(\d+)", said)
        if found is None or found[4] != "0":
            sys.exit(f"watchers: {said}")
        bench.results.add("1,000 watchers: events/s", float(found[2]) * 1000)
        bench.results.add("1,000 watchers: commit to last byte p99, ms", milliseconds(found[3]))
        bench.results.add("1,000 watchers: server's processor time per event, µs", spent / int(found[1]) / 1000 * 1e6)
        bench.blocked(plane, "1,000 watchers")


def definition(number: int) -> dict[str, Any]:
    """A CustomResourceDefinition like those of operators: some sixty fields."""
    group, plural, kind = f"g{number % 20}.bench.example.com", f"widget{number}s", f"Widget{number}"
    text: dict[str, Any] = {"type": "string", "description": "What an operator reads here."}
    block = {"type": "object", "properties": {f"field{n}": text for n in range(12)}}
    spec = {"type": "object", "properties": {f"part{n}": block for n in range(4)} | {"replicas": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": spec, "status": block}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}],
    }
    names = {"plural": plural, "singular": f"widget{number}", "kind": kind, "listKind": f"{kind}List"}
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def definitions(bench: Bench) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    with bench.plane() as plane:
        template = json.dumps(bench.template(plane, path, definition(0)))

        def make(number: int) -> tuple[str, dict[str, Any]]:
            text = template.replace("idget0", f"idget{number}").replace("g0.bench", f"g{number % 20}.bench")
            obj = json.loads(text)
            obj["metadata"]["uid"] = str(uuid.uuid4())
            return f"/apiextensions.k8s.io/customresourcedefinitions/{obj['metadata']['name']}", obj

        seed(plane.home, DEFINITIONS - 1, lambda n: make(n + 1))
        first, green = plane.start()
        began = time.monotonic()
        bench.results.add("start with 500 definitions: first answer, s", first)
        bench.results.add("start with 500 definitions: every health check green, s", green)
        for version, document in (("v2", "/openapi/v2"), ("v3", "/openapi/v3/apis/g1.bench.example.com/v1")):
            until_told(plane, document, f"Widget{DEFINITIONS - 19}")
            bench.results.add(
                f"start with 500 definitions: OpenAPI {version} is there after, s", green + time.monotonic() - began
            )
        plane.settle()
        for number, version, document in (
            (DEFINITIONS + 1, "v2", "/openapi/v2"),
            (DEFINITIONS + 21, "v3", "/openapi/v3/apis/g1.bench.example.com/v1"),
        ):
            made = definition(number)
            began = time.monotonic()
            plane.json(path, made)
            until_told(plane, document, f"Widget{number}")
            took = time.monotonic() - began
            bench.results.add(f"500 definitions: OpenAPI {version} tells of a new one after, s", took)


def until_told(plane: Plane, document: str, kind: str) -> None:
    word = f'"{kind}"'.encode()
    end = time.monotonic() + 60
    while word not in plane.get(document)[1]:
        if time.monotonic() > end:
            sys.exit(f"{document} does not tell of {kind} after a minute")
        time.sleep(0.02)


PARTS: dict[str, Callable[[Bench], None]] = {
    "start": start,
    "writes": writes,
    "reads": reads,
    "lists": lists,
    "memory": memory,
    "selector": selector,
    "watchers": watchers,
    "definitions": definitions,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--folder", default=None)
    parser.add_argument("--load", default="")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="pb-", dir=options.folder))
    results = Results(TARGETS)
    try:
        tool = load_tool(options.load, work)
        if tool is None:
            sys.exit(
                "the load tool is not there: its source is ../shared/load and needs Go, or name one with --load TOOL"
            )
        bench = Bench(work, tool, results)
        for _ in range(options.rounds):
            results.disk(work)
            for name in options.only.split(","):
                began = time.monotonic()
                PARTS[name](bench)
                print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        print(f"{os.cpu_count()} cores, {options.rounds} rounds, Python {sys.version.split()[0]}")
        results.show()
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
