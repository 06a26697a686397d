"""portside what-if: asks the real scheduler, on a copy of the cluster's state, what a change would do."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from portside.cli.api import Api, Refused
from portside.cli.steps import CliError
from portside.run.home import Home

if TYPE_CHECKING:
    from portside.scheduler.answer import Answer
    from portside.scheduler.extender_config import Extender
    from portside.scheduler.profile import Profile

Json = dict[str, Any]
PATHS = {
    "nodes": "/api/v1/nodes",
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "persistentvolumeclaims": "/api/v1/persistentvolumeclaims",
    "persistentvolumes": "/api/v1/persistentvolumes",
    "storageclasses": "/apis/storage.k8s.io/v1/storageclasses",
    "csinodes": "/apis/storage.k8s.io/v1/csinodes",
    "csidrivers": "/apis/storage.k8s.io/v1/csidrivers",
    "csistoragecapacities": "/apis/storage.k8s.io/v1/csistoragecapacities",
    "resourceclaims": "/apis/resource.k8s.io/v1/resourceclaims",
    "resourceclaimtemplates": "/apis/resource.k8s.io/v1/resourceclaimtemplates",
    "resourceslices": "/apis/resource.k8s.io/v1/resourceslices",
    "deviceclasses": "/apis/resource.k8s.io/v1/deviceclasses",
    "devicetaintrules": "/apis/resource.k8s.io/v1/devicetaintrules",
    "services": "/api/v1/services",
    "replicasets": "/apis/apps/v1/replicasets",
    "replicationcontrollers": "/api/v1/replicationcontrollers",
    "statefulsets": "/apis/apps/v1/statefulsets",
    "poddisruptionbudgets": "/apis/policy/v1/poddisruptionbudgets",
    "daemonsets": "/apis/apps/v1/daemonsets",
    "priorityclasses": "/apis/scheduling.k8s.io/v1/priorityclasses",
    "podgroups": "/apis/scheduling.k8s.io/v1beta1/podgroups",
}
UNDERSTOOD = "drain NODE… | fail NODE… | fail zone=NAME (or any label) | add COUNT like NODE | apply FILE…"
SHORT = {"zone": "topology.kubernetes.io/zone", "region": "topology.kubernetes.io/region"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "question",
        nargs="+",
        metavar="QUESTION",
        help=UNDERSTOOD,
    )
    parser.add_argument("--kubeconfig", metavar="FILE", help="another cluster's (default: that of --home)")
    parser.add_argument("-o", "--output", choices=["json"], help="machine-readable output")


def state(api: Api) -> dict[str, list[Json]]:
    """All that decisions look at. A kind that the cluster does not have counts as empty."""
    found: dict[str, list[Json]] = {}
    for plural, path in PATHS.items():
        try:
            found[plural] = api.send("GET", path, timeout=60).get("items") or []
        except Refused as error:
            if error.code != 404:
                raise CliError(f"{path} can't be read", why=str(error), code=4) from error
            found[plural] = []
    return found


def ask(
    objects: dict[str, list[Json]],
    words: list[str],
    profiles: tuple[Profile, ...] = (),
    extenders: tuple[Extender, ...] = (),
) -> Answer:
    """The answer to a question. ``profiles``: the cluster's, empty for upstream's. Raises CliError for a question that
    can't be understood."""
    from portside.scheduler.profile import DEFAULT
    from portside.scheduler.whatif import World

    verb, rest = words[0], words[1:]
    world = World(objects, profiles=profiles or (DEFAULT,), extenders=extenders)
    try:
        if verb == "drain" and rest:
            return world.drain(*dict.fromkeys(rest))
        if verb == "fail" and len(rest) == 1 and "=" in rest[0]:
            key, _, wanted = rest[0].partition("=")
            return world.fail(SHORT.get(key, key), wanted)
        if verb == "fail" and rest and not any("=" in word for word in rest):
            return world.fail_nodes(*dict.fromkeys(rest))
        if verb == "add" and len(rest) == 3 and rest[0].isdigit() and rest[1] == "like":
            return world.add(int(rest[0]), rest[2])
        if verb == "apply" and rest:
            from portside.cli.manifests import load

            return world.apply([m.body for m in load(rest)], "apply " + " ".join(rest))
    except KeyError as error:
        missing = str(error.args[0])
        why = missing if " " in missing else f'there is no node "{missing}"'
        raise CliError(
            f"{' '.join(words)}: {why}", todo="list them with: kubectl get nodes --show-labels", code=6
        ) from None
    raise CliError(
        f"the question '{' '.join(words)}' is not understood",
        todo=f"ask: {UNDERSTOOD}",
        code=2,
    )


def show(answer: Answer) -> str:
    """The answer for people."""
    lines = []
    for title, rows in (
        ("placed", [(p, f or "(new)", "→", t) for p, f, t in answer.placed]),
        ("pushed out", [(p, f, "for", w) for p, f, w in answer.evicted]),
        ("gone for a new version or a smaller number", [(p, f, "", "") for p, f in answer.removed]),
        ("without a node", [(p, f or "(new)", "✗", r) for p, f, r in answer.unplaced]),
    ):
        if rows:
            lines.append(f"{title} ({len(rows)})")
            widths = [max(len(r[i]) for r in rows) for i in range(3)]
            shown = (f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in rows)
            lines += [line.rstrip() for line in shown]
    if answer.lost:
        lines.append(f"ended for good, nobody makes them again ({len(answer.lost)})")
        lines += [f"  {p}" for p in answer.lost]
    if not lines:
        lines.append("nothing moves")
    if answer.held_up:
        lines.append(
            f"not at once, their budgets allow no more evictions until others are ready ({len(answer.held_up)})"
        )
        lines += [f"  {p}  {b}" for p, b in answer.held_up]
    if answer.ignored:
        listed = ", ".join(f"{n} {k}" for k, n in answer.ignored.items())
        lines.append(f"not looked at: {listed}. What a controller makes of them is not in this answer.")
    lines += [
        f"the extender {url} was not asked, which has a say about {count} of these pods: its answer may change this one"
        for url, count in answer.unasked.items()
    ]
    shares = ", ".join(f"{n} {b:.0%} → {a:.0%}" for n, (b, a) in answer.use.items())
    return "\n".join([*lines, f"asked of what nodes have: {shares}"])


def run(options: argparse.Namespace) -> int:
    """0 when every pod has a place, 1 when some have none."""
    from pathlib import Path

    from portside.run.scheduler_config import scheduler_profiles

    kubeconfig = Path(options.kubeconfig) if options.kubeconfig else Home(options.home).kubeconfig
    config = {} if options.kubeconfig else scheduler_profiles(Home(options.home).root)
    api = Api(kubeconfig)
    try:
        answer = ask(state(api), options.question, config.get("profiles", ()), config.get("extenders", ()))
    except OSError as error:
        raise CliError(f"{api.server} does not answer", why=str(error), todo="portside status", code=4) from error
    finally:
        api.close()
    print(json.dumps(answer.as_json()) if options.output == "json" else show(answer))
    return 1 if answer.unplaced else 0
