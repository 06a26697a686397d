"""helm 4 in a namespace of a test's own, with the charts of ``tests/charts``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.ground import Ground
from tests.conformance.ground import ground as ground
from tests.conftest import ROOT

Json = dict[str, Any]
CHARTS = ROOT / "tests" / "charts"
TIMEOUT = "--timeout=120s"


class Helm:
    """helm's verbs, as a person types them; ``release`` is the name of the one release of a test."""

    release = "r"

    def __init__(self, ground: Ground, home: Path) -> None:
        self.ground = ground
        self.home = home

    def __call__(self, *words: str, fails: bool = False) -> str:
        """What helm printed; when it ``fails``, as it must then, what it said of that."""
        command = [str(self.ground.cluster.tools / "helm"), *words]
        folders = {f"HELM_{k}_HOME": str(self.home / k.lower()) for k in ("CACHE", "CONFIG", "DATA")}
        place = {"KUBECONFIG": str(self.ground.cluster.kubeconfig), "HELM_NAMESPACE": self.ground.name}
        environment = os.environ | folders | place | {"HELM_PLUGINS": str(self.home / "plugins")}
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def install(self, chart: str, *words: str, fails: bool = False) -> str:
        return self("install", self.release, str(CHARTS / chart), "--wait", TIMEOUT, *words, fails=fails)

    def upgrade(self, chart: str, *words: str, fails: bool = False) -> str:
        return self("upgrade", self.release, str(CHARTS / chart), "--wait", TIMEOUT, *words, fails=fails)

    def uninstall(self, *words: str) -> str:
        """Helm waits for hooks alone unless told otherwise: what is still ending is the test's to wait for."""
        return self("uninstall", self.release, TIMEOUT, *words)

    def history(self) -> list[tuple[int, str]]:
        """Revisions with their states, oldest first."""
        return [(h["revision"], h["status"]) for h in json.loads(self("history", self.release, "-o", "json"))]

    def manifests(self) -> list[Json]:
        return [m for m in yaml.safe_load_all(self("get", "manifest", self.release)) if m]

    def releases(self, *words: str) -> list[Json]:
        return list(json.loads(self("list", "-o", "json", *words)))


@pytest.fixture
def helm(ground: Ground, tmp_path: Path) -> Helm:
    return Helm(ground, tmp_path)


@pytest.fixture
def definitions(ground: Ground) -> Iterator[str]:
    """The name of the definition that the chart ``custom`` brings; helm never deletes one, so the test does."""
    name = "backups.charts.example.com"
    yield name
    ground.cluster.kubectl("delete", "crd", name, "--ignore-not-found")
