"""Soft spread that is followed row by row is the same as computed anew."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from portside.scheduler.cycle import Cycle
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.snapshot import Snapshot
from portside.scheduler.spreading import Spreading
from portside.scheduler.terms import Spread

Json = dict[str, Any]
HOST, ZONE = "kubernetes.io/hostname", "zone"


def node(name: str, zone: str, pods: int) -> Json:
    labels = {HOST: name} | ({ZONE: zone} if zone else {})
    amounts = {"cpu": "8", "memory": "8Gi", "pods": str(pods)}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"allocatable": amounts}}


def pod(number: int, app: str) -> PodInfo:
    meta = {"name": f"p{number}", "uid": f"u{number}", "namespace": "d", "labels": {"app": app}}
    return read_pod({"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}]}})


def constraints(keys: list[str], skew: int) -> tuple[Spread, ...]:
    selector = {"matchLabels": {"app": "a"}}
    said = [{"topologyKey": k, "maxSkew": skew, "whenUnsatisfiable": "ScheduleAnyway"} for k in keys]
    return Spread.all_of([c | {"labelSelector": selector} for c in said])


def same(kept: Spreading, fresh: Spreading, asked: PodInfo) -> None:
    fits = kept.fit.fits
    found, wanted = kept.score(asked, fits), fresh.score(asked, fits)
    assert (found is None) == (wanted is None)
    if found is not None and wanted is not None:
        assert np.array_equal(found[fits], wanted[fits])


@pytest.mark.parametrize("keys", [[HOST], [HOST, ZONE]])
@pytest.mark.parametrize("zones", [("",), ("", "1", "2")])
@pytest.mark.parametrize("all_keys", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_scores_that_were_followed_equal_scores_computed_anew(
    keys: list[str], zones: tuple[str, ...], all_keys: bool, seed: int
) -> None:
    rng, snapshot = Random(seed), Snapshot()
    for i in range(12):
        snapshot.set_node(node(f"n{i}", zones[i % len(zones)], rng.choice((2, 5, 9))))
    cycle, soft = Cycle(snapshot, rng), constraints(keys, rng.choice((1, 3)))
    asked = pod(0, "a")
    kept = Spreading(cycle.fit_of(asked), soft, 2, all_keys=all_keys)
    placed: list[PodInfo] = []
    for number in range(1, 200):
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            if placed and rng.random() < 0.4:
                snapshot.remove_pod(placed.pop(rng.randrange(len(placed))).uid)
            else:
                made = pod(number * 10 + len(placed), rng.choice("ab"))
                made.node_name = f"n{rng.randrange(12)}"
                placed.append(made)
                snapshot.set_pod(made)
        if rng.random() < 0.03:
            snapshot.set_node(node(f"n{rng.randrange(14)}", rng.choice(zones), 4))
        cycle.fit_of(asked)
        same(kept, Spreading(kept.fit, soft, 2, all_keys=all_keys), asked)


def test_a_score_among_fewer_nodes_leaves_what_is_followed_right() -> None:
    snapshot = Snapshot()
    for i in range(6):
        snapshot.set_node(node(f"n{i}", "", 9))
    cycle, soft, asked = Cycle(snapshot, Random(1)), constraints([HOST], 3), pod(0, "a")
    fit = cycle.fit_of(asked)
    kept = Spreading(fit, soft, 2, all_keys=False)
    for number in range(1, 20):
        made = pod(number, "a")
        made.node_name = f"n{number % 4}"
        snapshot.set_pod(made)
        cycle.fit_of(asked)
        if number % 3 == 0:
            some = fit.fits & ~snapshot.rows_named(["n1"])
            kept.score(asked, some)
        same(kept, Spreading(fit, soft, 2, all_keys=False), asked)
