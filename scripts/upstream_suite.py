"""Kubernetes' own end-to-end suite against a running cluster: fetched as a Go module, built once, run with a focus, summed up.

    scripts/upstream_suite.py --kubeconfig HOME/kubeconfig --focus 'sig-auth.*\\[Conformance\\]'
    scripts/upstream_suite.py --list                             the names, without a cluster
    scripts/upstream_suite.py --images                           the images its pods use

It needs Go, and a quarter of an hour for the first build; the binary stays in ``.cache/upstream-VERSION/``. A report per run is
kept there too (``report.json``, ``run.log``). Pods need the suite's images on the nodes (``portside image import``), or a registry
named in the file of the variable KUBE_TEST_REPO_LIST. On simulated nodes, only what looks into no container passes.

Exit codes: 0 all passed · 1 some failed · 2 it could not be built or run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a file, the tests' tool() is not importable otherwise
VERSION = "1.37.2"
MODULE = "k8s.io/kubernetes"
STAGED = re.compile(r"^(\s*\S+) => \./staging/src/(\S+)$", re.M)
"""The suite's module is replaced by folders for its libraries that the published module does not have."""
CONFORMANCE = r"\[Conformance\]"


class Trouble(Exception):
    """The suite can't be built or run; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Result:
    """One test that ran."""

    name: str
    state: str
    seconds: float
    cause: str

    @property
    def area(self) -> str:
        found = re.search(r"\[(sig-[a-z-]+)\]", self.name)
        return found[1] if found else "other"


class Suite:
    """The sources and the binary of one version, in a folder of their own."""

    def __init__(self, version: str, cache: Path) -> None:
        self.version = version
        self.home = cache / f"upstream-{version}"
        self.source, self.binary = self.home / "kubernetes", self.home / "e2e.test"

    def build(self) -> None:
        """Fetches and builds what is not there yet. Raises Trouble."""
        if self.binary.exists():
            return
        if not self.source.exists():
            fetched = json.loads(self._go("mod", "download", "-json", f"{MODULE}@v{self.version}"))
            fresh = self.source.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(fetched["Dir"], fresh, copy_function=shutil.copyfile)  # the cache's files are read-only
            for folder in [fresh, *(p for p in fresh.rglob("*") if p.is_dir())]:
                folder.chmod(0o755)
            published(fresh / "go.mod", self.version)
            fresh.rename(self.source)
        print(f"building the suite {self.version} (some 15 minutes on two cores) ...", flush=True)
        setting = "k8s.io/component-base/version"
        major, minor, _ = self.version.split(".")
        stamp = {"gitVersion": f"v{self.version}", "gitMajor": major, "gitMinor": minor}
        flags = " ".join(["-s -w", *(f"-X {setting}.{key}={value}" for key, value in stamp.items())])
        self._go("test", "-c", "-vet=off", "-ldflags", flags, "-o", str(self.binary), "./test/e2e", where=self.source)

    def _go(self, *words: str, where: Path | None = None) -> str:
        go = shutil.which("go") or "/usr/local/go/bin/go"
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                [go, *words], cwd=where or self.home, capture_output=True, text=True,
                env=os.environ | {"GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"},
            )  # fmt: skip
        except FileNotFoundError:
            raise Trouble("Go is not installed: the suite can't be built here; install Go and run this again") from None
        if done.returncode:
            raise Trouble(f"go {' '.join(words[:2])} failed:\n{(done.stderr or done.stdout)[-3000:]}")
        return done.stdout

    def run(self, *words: str, tools: Path | None = None, log: Path | None = None) -> str:
        """The binary's output; its exit code is that of the tests, so the report counts. Raises Trouble."""
        path = f"{tools}{os.pathsep}{os.environ['PATH']}" if tools else os.environ["PATH"]
        command = [str(self.binary), "--repo-root", str(self.source), "--provider", "skeleton", *words]
        if log is None:
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise Trouble(f"the suite ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
            return done.stdout
        with log.open("w") as file:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PATH": path}
            )
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                if line.startswith("• "):
                    print(line[0], end="" if "FAILED" not in line else " failed\n", flush=True)
            process.wait()
        print()
        return ""


def published(module: Path, version: str) -> None:
    """Points a go.mod at the libraries' published modules: 1.37.2 of the suite goes with v0.37.2 of theirs."""
    text = module.read_text()
    libraries = f"v0.{version.split('.', 1)[1]}"
    found, count = STAGED.subn(rf"\1 => \2 {libraries}", text)
    if not count:
        raise Trouble(f"{module} replaces no library by a folder below ./staging: is {version} built in another way?")
    module.write_text(found)


def results(report: Path) -> Iterator[Result]:
    """The tests that ran, from Ginkgo's report. Raises Trouble when there is none."""
    if not report.exists():
        raise Trouble(f"the suite left no report; the end of {report.with_name('run.log')} says why")
    for suite in json.loads(report.read_text()):
        for spec in suite.get("SpecReports") or ():
            if spec["LeafNodeType"] != "It" or spec["State"] in ("skipped", "pending"):
                continue
            name = " ".join([*(spec.get("ContainerHierarchyTexts") or ()), spec["LeafNodeText"]])
            cause = (spec.get("Failure") or {}).get("Message", "")
            yield Result(name, spec["State"], spec["RunTime"] / 1e9, " ".join(cause.split()))


def summary(found: list[Result]) -> str:
    """A line per area, then the failures with their causes."""
    total, good = Counter(r.area for r in found), Counter(r.area for r in found if r.state == "passed")
    seconds: Counter[str] = Counter()
    for result in found:
        seconds[result.area] += round(result.seconds)
    lines = [f"{area:<22} {good[area]:>4} of {total[area]:>4} passed  {seconds[area]:>6} s" for area in sorted(total)]
    lines += [
        f"\n{r.name}\n    {r.state} after {r.seconds:.0f} s: {r.cause[:600]}" for r in found if r.state != "passed"
    ]
    return "\n".join(lines)


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, help="the cluster's administrator")
    parser.add_argument("--focus", default=CONFORMANCE, help="a pattern of names (default: %(default)s)")
    parser.add_argument("--skip", default="", help="a pattern of names to leave out")
    parser.add_argument("--version", default=VERSION, help="of Kubernetes (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="where sources and binary are kept")
    parser.add_argument("--list", action="store_true", help="print the names that the focus selects")
    parser.add_argument("--images", action="store_true", help="print the images that the suite uses")
    parser.add_argument("more", nargs="*", help="words for the suite itself, behind --")
    return parser.parse_args(words)


def listed(suite: Suite, chosen: list[str]) -> list[str]:
    out = suite.run("--ginkgo.dry-run", "--ginkgo.v", "--ginkgo.no-color", "--kubeconfig", os.devnull, *chosen)
    return sorted(line for line in out.splitlines() if line.startswith("[sig-"))


def against(suite: Suite, kubeconfig: Path, chosen: list[str], more: list[str]) -> list[Result]:
    """Runs the chosen tests one after the other. Raises Trouble."""
    from tests.conftest import tool

    tools = tool("kubectl").parent
    asked: dict[str, Any] = json.loads(
        subprocess.run(
            [str(tools / "kubectl"), "--kubeconfig", str(kubeconfig), "get", "nodes", "-o", "json"],
            capture_output=True, text=True,
        ).stdout or "{}"
    )  # fmt: skip
    if not asked.get("items"):
        raise Trouble(f"the cluster of {kubeconfig} shows no nodes: is it up?")
    report = suite.home / "report.json"
    report.unlink(missing_ok=True)
    words = [
        "--kubeconfig",
        str(kubeconfig),
        "--num-nodes",
        str(len(asked["items"])),
        "--ginkgo.json-report",
        str(report),
    ]
    words += ["--ginkgo.v", "--ginkgo.no-color", "--ginkgo.timeout", "24h", "--dump-logs-on-failure=false"]
    suite.run(*words, *chosen, *more, tools=tools, log=suite.home / "run.log")
    return list(results(report))


def main(words: list[str]) -> int:
    asked = arguments(words)
    suite = Suite(asked.version, asked.cache.resolve())
    chosen = ["--ginkgo.focus", asked.focus] + (["--ginkgo.skip", asked.skip] if asked.skip else [])
    try:
        suite.build()
        if asked.list:
            print("\n".join(listed(suite, chosen)))
            return 0
        if asked.images:
            print(suite.run("--list-images"), end="")
            return 0
        if asked.kubeconfig is None:
            raise Trouble("which cluster? say --kubeconfig FILE (or --list, --images)")
        found = against(suite, asked.kubeconfig.resolve(), chosen, asked.more)
    except Trouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        return 2
    print(summary(found))
    return int(not found or any(r.state != "passed" for r in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
