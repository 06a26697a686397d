"""portside kubeconfig: print the cluster's kubeconfig, or merge it into the user's own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from portside.cli.api import read_kubeconfig
from portside.cli.steps import CliError, say
from portside.run.home import Home, write_private


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--merge", action="store_true", help="add it to ~/.kube/config (or KUBECONFIG) and make it current"
    )
    parser.add_argument(
        "--name", default="portside", help="name of cluster, user and context when merging (default portside)"
    )


def run(options: argparse.Namespace) -> int:
    own = read_kubeconfig(Home(options.home).kubeconfig)
    if not options.merge:
        sys.stdout.write(Home(options.home).kubeconfig.read_text())
        return 0
    target = Path(os.environ.get("KUBECONFIG", "").split(":")[0] or Path.home() / ".kube/config")
    try:
        theirs = read_kubeconfig(target) if target.exists() else {}
        merged = merge(theirs, own, options.name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(target, json.dumps(merged, indent=2) + "\n")
    except OSError as error:
        raise CliError(
            f"{target} can't be written", why=error.strerror or str(error), todo="check its owner and permissions"
        ) from error
    say(f"context {options.name} is now current in {target}")
    return 0


def merge(theirs: dict[str, object], own: dict[str, object], name: str) -> dict[str, object]:
    """``theirs`` with our cluster, user and context under ``name``; entries of other names stay as they are."""
    merged = {"apiVersion": "v1", "kind": "Config", "preferences": {}} | theirs
    for section, part in (("clusters", "cluster"), ("users", "user")):
        mine = own[section][0][part]  # type: ignore[index]
        kept = [e for e in merged.get(section) or [] if e.get("name") != name]  # type: ignore[attr-defined]
        merged[section] = [*kept, {"name": name, part: mine}]
    contexts = [e for e in merged.get("contexts") or [] if e.get("name") != name]  # type: ignore[attr-defined]
    merged["contexts"] = [*contexts, {"name": name, "context": {"cluster": name, "user": name}}]
    merged["current-context"] = name
    return merged
