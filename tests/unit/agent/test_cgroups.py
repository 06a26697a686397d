"""Figures of control groups and their files on every version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.unit.agent.cluster import pod

from portside.agent.cgroups import Cgroups, Figures, class_figures, hierarchies, pod_figures, version2


def sized(cpu: str, memory: str, *, limits: bool = True) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu, "memory": memory}} | ({"limits": {"cpu": cpu}} if limits else {})}


def test_a_pods_group_is_the_sum_of_its_containers() -> None:
    """A limit is set only when every container has one; overhead counts; BestEffort gets the least."""
    both = pod("p", sized("500m", "1Gi"), sized("250m", "1Gi"), overhead={"cpu": "250m"})
    assert pod_figures(both) == Figures(1024, 100_000, -1)
    assert pod_figures(pod("p", sized("500m", "1Gi"), sized("1", "1Gi", limits=False))) == Figures(1536, -1, -1)
    assert pod_figures(pod("p", {})) == Figures(2, -1, -1)
    stated = pod("p", sized("1", "1Gi"), resources={"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2"}})
    assert pod_figures(stated) == Figures(2048, 200_000, 1 << 30)


def test_a_step_before_the_start_may_need_more_than_the_rest() -> None:
    """The largest init container decides when it asks for more than all the others together."""
    init = [{"name": "i", "image": "x", **sized("4", "1Gi", limits=False)}]
    assert pod_figures(pod("p", sized("1", "1Gi", limits=False), initContainers=init)).shares == 4096


def test_classes_hold_their_pods() -> None:
    """Burstable is the sum of its pods, BestEffort the least there is."""
    found = class_figures([pod("a", sized("1", "1Gi", limits=False)), pod("b", sized("500m", "1Gi")), pod("c", {})])
    assert found["/kubepods/burstable"].shares == 1536 and found["/kubepods/besteffort"].shares == 2


def test_files_of_both_versions(tmp_path: Path) -> None:
    """Version 2 has weights and max; version 1 a folder per controller. A second call writes nothing."""
    assert version2(Figures(1024, 50_000, -1)) == {"cpu.weight": "39", "cpu.max": "50000 100000", "memory.max": "max"}
    for controller in ("cpu", "memory"):
        (tmp_path / controller).mkdir()
    groups = Cgroups(tmp_path)
    groups.apply("/kubepods/pod1", Figures(1024, 50_000, 1 << 20))
    quota = tmp_path / "cpu" / "kubepods" / "pod1" / "cpu.cfs_quota_us"
    assert quota.read_text() == "50000"
    quota.write_text("7")
    groups.apply("/kubepods/pod1", Figures(1024, 50_000, 1 << 20))
    assert quota.read_text() == "7"


def test_hierarchies_are_read_from_the_process() -> None:
    """Version 2 alone is the root; beside version 1 it is called unified."""
    assert hierarchies("0::/x\n") == [("", "cgroup2", "")]
    assert hierarchies("2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n") == [
        ("unified", "cgroup2", ""),
        ("systemd", "cgroup", "name=systemd"),
        ("cpu,cpuacct", "cgroup", "cpu,cpuacct"),
    ]
