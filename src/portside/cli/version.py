"""portside version."""

from __future__ import annotations

import argparse
import json
import platform

from portside import __version__

KUBERNETES = "1.37"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=["json"], help="machine-readable output")


def run(options: argparse.Namespace) -> int:
    facts = {"portside": __version__, "kubernetes": KUBERNETES, "python": platform.python_version()}
    if options.output == "json":
        print(json.dumps(facts))
    else:
        print(f"portside {__version__}, Kubernetes API {KUBERNETES}, Python {platform.python_version()}")
    return 0
