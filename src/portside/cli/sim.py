"""portside sim: a named disturbance of a simulated cluster in virtual time, and what it cost the workload."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from portside.base import gates
from portside.cli.steps import CliError

if TYPE_CHECKING:
    from portside.run.simulation import Report

LARGEST = 500  # nodes; beyond it a scenario takes minutes


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", metavar="SCENARIO", help="without one: list them")
    parser.add_argument("--nodes", type=int, default=12, metavar="N", help="simulated nodes (default 12)")
    parser.add_argument("--zones", type=int, metavar="N", help="zones they are in (default 3, or as many as nodes)")
    parser.add_argument("--pods", type=int, default=60, metavar="N", help="pods of the workload (default 60)")
    parser.add_argument("--apps", type=int, default=6, metavar="N", help="Deployments they belong to (default 6)")
    parser.add_argument(
        "--gangs",
        type=int,
        default=0,
        metavar="N",
        help="of them, with pods that are placed together or not at all (default 0)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything random (default 1)")
    parser.add_argument("-o", "--output", choices=["json"], help="machine-readable output")


def show(report: Report) -> str:
    """The report for people."""
    plan = report.plan
    lines = [
        f"{report.scenario}: {plan.nodes} nodes in {plan.zones} zones, {plan.pods} pods of {plan.apps} Deployments, "
        f"{f'{plan.gangs} of them gangs, ' if plan.gangs else ''}seed {plan.seed}",
        "",
    ]
    lines += [f"  {at:>7.1f} s  {what}" for at, what in report.timeline]
    whole = "never" if report.recovered is None else f"after {report.recovered:.0f} s"
    lines += [
        "",
        f"ready at least      {report.lowest} of {plan.pods}",
        f"missing at most     {report.missing} of those asked for at that moment",
        f"below full          {report.below:.0f} s",
        f"whole again         {whole}",
        f"pods replaced       {report.replaced}",
        f"evictions refused   {report.refused_evictions}",
        f"time                {report.virtual:.0f} virtual seconds in {report.took:.1f} s",
    ]
    if report.moved:
        lost = [f"{node} {n}" for node, (n, _) in report.moved.items() if n]
        got = [f"{node} {n}" for node, (_, n) in report.moved.items() if n]
        lines += [
            "",
            f"pods lost           {', '.join(lost) or 'none'}",
            f"pods got            {', '.join(got) or 'none'}",
        ]
    if report.waited:
        lines += ["", "waited for a node, most at a time"]
        lines += [f"  {count:>5}  {reason}" for reason, count in report.waited.items()]
    if report.pending:
        lines += ["", "still without a node"]
        lines += [f"  {pod}  {reason}" for pod, reason in report.pending.items()]
    lines += [f"✗ {problem}" for problem in report.problems]
    return "\n".join(lines)


def with_gangs() -> None:
    """The tables of kinds are made with the gates a process starts with: without the one for gangs it starts anew."""
    if not gates.enabled(gates.WORKLOADS):
        os.environ[gates.VARIABLE] = f"{gates.WORKLOADS}=true"
        os.execv(sys.executable, [sys.executable, "-m", "portside.cli.main", *sys.argv[1:]])


def run(options: argparse.Namespace) -> int:
    """0 when the workload recovered and nothing wrong was seen, 1 otherwise."""
    if options.gangs:
        with_gangs()
    from portside.run.simulation import SCENARIOS, Plan, play

    if options.scenario is None:
        for name, scenario in SCENARIOS.items():
            print(f"{name:<16} {(scenario.__doc__ or '').strip()}")
        return 0
    if options.scenario not in SCENARIOS:
        raise CliError(
            f'there is no scenario "{options.scenario}"', todo=f"choose one of: {', '.join(SCENARIOS)}", code=2
        )
    if options.zones is None:
        options.zones = min(3, max(options.nodes, 1))
    if not 1 <= options.zones <= min(options.nodes, 26) or options.nodes > LARGEST:
        raise CliError(
            f"{options.nodes} nodes in {options.zones} zones can't be simulated",
            why=f"at most {LARGEST} nodes, in 1 to 26 zones, each with a node",
            todo="choose other numbers",
            code=2,
        )
    if options.pods < options.apps or options.apps < 1:
        raise CliError("every Deployment needs a pod", todo="raise --pods or lower --apps", code=2)
    if not 0 <= options.gangs <= options.apps:
        raise CliError(f"{options.gangs} gangs are not among {options.apps} Deployments", todo="lower --gangs", code=2)
    plan = Plan(options.nodes, options.zones, options.pods, options.apps, options.seed, options.gangs)
    report = play(options.scenario, plan)
    print(json.dumps(report.as_json()) if options.output == "json" else show(report))
    return 1 if report.problems else 0
