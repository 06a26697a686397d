"""The portside command: a table of verbs, each imported only when it is called."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its name, a line of help, examples for --help, and the module in portside.cli that does it.

    The module offers ``arguments(parser)`` and ``run(options) -> int``.
    """

    name: str
    help: str
    examples: str
    module: str


VERBS: tuple[Verb, ...] = (
    Verb(
        "up",
        "start the cluster, apply manifests, wait until they are ready",
        "portside up\n  portside up examples/guestbook.yaml\n  portside up --simulate 3 --home /tmp/try",
        "up",
    ),
    Verb(
        "down",
        "stop the cluster and its pods; everything stored stays",
        "portside down\n  portside down --home /tmp/try",
        "down",
    ),
    Verb(
        "status",
        "what runs, where the API and the kubeconfig are",
        "portside status\n  portside status -o json",
        "status",
    ),
    Verb(
        "reset", "delete the cluster with all it stores (asks first)", "portside reset\n  portside reset --yes", "reset"
    ),
    Verb("logs", "what the components wrote", "portside logs\n  portside logs agent --follow --tail 50", "logs"),
    Verb(
        "kubeconfig",
        "print the kubeconfig, or merge it into yours",
        "portside kubeconfig > config\n  portside kubeconfig --merge",
        "kubeconfig",
    ),
    Verb(
        "image",
        "build, import, list and remove images without a registry",
        "portside image build examples/guestbook/web\n  portside image list",
        "image",
    ),
    Verb(
        "token",
        "make, list and delete what a machine needs to join",
        "portside token create\n  portside token create --ttl 30m\n  portside token list\n  portside token delete abc123",
        "token",
    ),
    Verb(
        "join",
        "make this machine a node of a cluster on another machine",
        "portside join https://192.0.2.1:6443 --token abc123.0123456789abcdef --ca-hash sha256:…",
        "join",
    ),
    Verb(
        "node",
        "list nodes, drain one and let pods in again, remove one",
        "portside node list\n  portside node drain worker-1\n  portside node remove worker-1",
        "node",
    ),
    Verb(
        "sim",
        "play a disturbance on a simulated cluster in virtual time: failing nodes, reboots, churn",
        "portside sim\n  portside sim node-failure\n  portside sim zone-failure --nodes 30 --pods 300 -o json",
        "sim",
    ),
    Verb(
        "what-if",
        "what a change would do to the pods: the real scheduler on a copy of the cluster",
        "portside what-if drain node-1\n  portside what-if fail zone=a\n  portside what-if add 3 like node-1\n"
        "  portside what-if apply app.yaml -o json",
        "whatif",
    ),
    Verb(
        "why",
        "why an object, or anything in the cluster, does not work: the cause, the evidence, what to do",
        "portside why\n  portside why deployment/web\n  portside why pod web-0 -n shop -o json",
        "why",
    ),
    Verb(
        "history",
        "who changed an object, when, with what, and which fields",
        "portside history deployment/web\n  portside history cm settings -n shop -o json",
        "history",
    ),
    Verb(
        "diff",
        "what changed in an object between two of its versions",
        "portside diff deployment/web\n  portside diff deployment/web --since 1h\n  portside diff cm/settings --from 812 --to 840",
        "diff",
    ),
    Verb(
        "undo",
        "put an object back to an earlier version, or make a deleted one again",
        "portside undo deployment/web\n  portside undo cm/settings --to 812",
        "undo",
    ),
    Verb(
        "secrets",
        "how stored Secrets are encrypted; give them a new key",
        "portside secrets status\n  portside secrets rotate",
        "secrets",
    ),
    Verb("version", "the versions of Portside and of the API it serves", "portside version -o json", "version"),
)


def parser_for(verbs: tuple[Verb, ...], chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="portside",
        description="Containers and virtual machines from standard manifests on your own machines.",
        epilog="Every verb takes --home DIR: the folder of one cluster. 'portside VERB --help' shows examples.",
    )
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb in verbs:
        sub = subparsers.add_parser(
            verb.name,
            help=verb.help,
            description=verb.help,
            epilog=f"examples:\n  {verb.examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.add_argument(
            "--home",
            type=Path,
            default=None,
            metavar="DIR",
            help="the cluster's folder (default: PORTSIDE_HOME, /var/lib/portside for root)",
        )
        if verb.name == chosen:
            importlib.import_module(f"portside.cli.{verb.module}").arguments(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Exit codes: docs/reference/exit-codes.md."""
    words = sys.argv[1:] if argv is None else argv
    names = {v.name: v for v in VERBS}
    chosen = next((w for w in words if w in names), None)
    parser = parser_for(VERBS, chosen)
    options = parser.parse_args(words)
    if options.verb is None:
        parser.print_help()
        return 2
    from portside.cli.steps import CliError, Plain, say
    from portside.run.home import default_home

    options.home = options.home or default_home()
    try:
        with contextlib.redirect_stdout(Plain(sys.stdout)):  # type: ignore[type-var]
            return int(importlib.import_module(f"portside.cli.{names[options.verb].module}").run(options))
    except CliError as error:
        say(str(error))
        return error.code
    except KeyboardInterrupt:
        say("portside: interrupted; run the same command again to go on")
        return 130
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    sys.exit(main())
