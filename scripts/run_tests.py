"""The test command: style, types, layers, fast tests, golden conversations, real components. Prints pytest's own lines last.

``./test`` runs everything; ``./test fast`` what needs neither root nor containers; ``./test real`` the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def step(title: str, *command: str) -> bool:
    """Run one check; its output is shown only when it fails."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'}  {title:<24} {time.monotonic() - started:6.1f} s", flush=True)
    if done.returncode:
        print((done.stdout + done.stderr)[-6000:], flush=True)
    return done.returncode == 0


def main() -> int:
    words = sys.argv[1:]
    part = words.pop(0) if words and words[0] in ("fast", "real") else "all"
    good = True
    if part != "real":
        good &= step("style", str(BIN / "ruff"), "check", ".")
        good &= step("format", str(BIN / "ruff"), "format", "--check", ".")
        good &= step("types", str(BIN / "mypy"))
        good &= step("layers", str(BIN / "lint-imports"))
    if part != "fast" and os.geteuid() == 0:
        good &= step(
            "system packages",
            sys.executable,
            "-c",
            "from portside.cli import packages, steps; packages.ensure(steps.Steps())",
        )
    selection = {"fast": ["-m", "not real"], "real": ["-m", "real"], "all": []}[part]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-ra", *selection, *words], cwd=ROOT)
    if not good:
        print("the checks before the tests failed: see FAIL above")
    return done.returncode or int(not good)


if __name__ == "__main__":
    sys.exit(main())
