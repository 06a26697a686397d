"""Programs of the tests' own with Rust's and Java's client libraries, built and run against a cluster.

    scripts/client_programs.py                       all, against a cluster with simulated nodes, started and stopped
    scripts/client_programs.py rust                  kube-rs alone
    scripts/client_programs.py --kubeconfig HOME/kubeconfig --exec
                                                     a running cluster with real containers: exec, logs, forwarded ports too

They need cargo, and Java with Maven. The first build takes some minutes, which is why ``./test`` leaves them out; what is built
stays in ``.cache/clients/``. The results of the last run stand in ``docs/reference/clients.md``.

Exit codes: 0 every step passed · 1 a step failed · 2 a program could not be built or run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "tests" / "clients"
BUILT = ROOT / ".cache" / "clients"
JAVA_PATH = f"{BUILT}/java/classes:{BUILT}/java/jars/*"
PROGRAMS = {
    "rust": ([str(BUILT / "rust" / "debug" / "rustclient")],),
    "java": (["java", "-cp", JAVA_PATH, "Fabric8"], ["java", "-cp", JAVA_PATH, "Official"]),
}
BUILDS = {
    "rust": ["cargo", "build", "--target-dir", str(BUILT / "rust")],
    "java": [
        "mvn", "-q", "-B", f"-DoutputDirectory={BUILT}/java/jars", "dependency:copy-dependencies",
    ],
}  # fmt: skip
RUN_SECONDS = 900


def build(language: str) -> None:
    """Raises CalledProcessError, or FileNotFoundError when a tool is missing."""
    source = SOURCES / language
    (BUILT / language).mkdir(parents=True, exist_ok=True)
    subprocess.run(BUILDS[language], cwd=source, check=True)
    if language == "java":
        files = [str(f) for f in sorted((source / "src" / "main" / "java").iterdir())]
        jars, classes = f"{BUILT}/java/jars/*", str(BUILT / "java" / "classes")
        subprocess.run(["javac", "-proc:none", "-cp", jars, "-d", classes, *files], check=True)


@contextlib.contextmanager
def simulated() -> Iterator[Path]:
    """The kubeconfig of a fresh cluster with simulated nodes."""
    home = Path(tempfile.mkdtemp(prefix="ps-"))
    portside = [sys.executable, "-m", "portside.cli.main"]
    try:
        subprocess.run([*portside, "up", "--simulate", "3", "--home", str(home)], check=True, stdout=sys.stderr)
        yield home / "kubeconfig"
    finally:
        subprocess.run([*portside, "down", "--home", str(home)], check=False, stdout=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)


def run(command: list[str], kubeconfig: Path, streams: bool) -> int:
    """Print each step; how many failed. Raises CalledProcessError and TimeoutExpired."""
    from portside.cli.api import Api

    space, api = f"client-{uuid.uuid4().hex[:6]}", Api(kubeconfig)
    api.send("POST", "/api/v1/namespaces", json.dumps({"metadata": {"name": space}}).encode())
    words = [*command, space, *(["exec"] if streams else [])]
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=RUN_SECONDS, env=environment)
    finally:
        api.send("DELETE", f"/api/v1/namespaces/{space}")
    failed = 0
    for step in map(json.loads, done.stdout.splitlines()):
        failed += bool(step["error"])
        print(
            f"{Path(command[0]).name} {command[-1] if command[1:] else ''}  {step['step']:12} {step['error'] or 'passed'}"
        )
    if done.returncode or not done.stdout:
        raise subprocess.CalledProcessError(done.returncode or 1, words, stderr=done.stderr)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("language", nargs="*", choices=[*PROGRAMS, []], help="rust, java (default: both)")
    parser.add_argument("--kubeconfig", type=Path, help="of a running cluster (default: one is started)")
    parser.add_argument("--exec", action="store_true", dest="streams", help="also what needs real containers")
    given = parser.parse_args()
    languages = given.language or list(PROGRAMS)
    try:
        for language in languages:
            build(language)
        with contextlib.nullcontext(given.kubeconfig) if given.kubeconfig else simulated() as kubeconfig:
            failed = sum(run(c, kubeconfig, given.streams) for name in languages for c in PROGRAMS[name])
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, FileNotFoundError) as problem:
        print(problem, getattr(problem, "stderr", None) or "", file=sys.stderr)
        return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
