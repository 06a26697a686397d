"""The short form of a login by OpenID: flags of `portside up` that write HOME/authentication.yaml."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from portside.base.errors import PortsideError
from portside.cli.steps import CliError
from portside.run.home import Home, write_private

Json = dict[str, Any]
HEADER = """\
# Made by `portside up --oidc-…`. Changed by hand it stays as it is, and those flags are refused.
# Changes take effect within seconds: https://kubernetes.io/docs/reference/access-authn-authz/authentication/
"""
FLAGS = (
    ("--oidc-issuer-url", "URL", "let users log in with tokens of this OpenID issuer (https)"),
    ("--oidc-client-id", "ID", "the audience its tokens must have"),
    ("--oidc-ca-file", "FILE", "PEM authorities of the issuer (default: the machine's)"),
    ("--oidc-username-claim", "CLAIM", "what users are called by (default sub)"),
    ("--oidc-username-prefix", "TEXT", "before every name; - for none (default: ISSUER#, none for the claim email)"),
    ("--oidc-groups-claim", "CLAIM", "what groups are taken from"),
    ("--oidc-groups-prefix", "TEXT", "before every group"),
)
# What no issuer may say of its users unless somebody writes the file by hand.
NOT_SYSTEM = (
    ("!user.username.startsWith('system:')", "username may not use the reserved system: prefix"),
    ("user.groups.all(group, !group.startsWith('system:'))", "groups may not use the reserved system: prefix"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    for flag, metavar, text in FLAGS:
        parser.add_argument(flag, metavar=metavar, help=text)
    parser.add_argument(
        "--oidc-required-claim",
        action="append",
        metavar="CLAIM=VALUE",
        help="tokens must say this too; may be repeated",
    )


def _given(options: argparse.Namespace) -> bool:
    names = [flag[2:].replace("-", "_") for flag, _, _ in FLAGS] + ["oidc_required_claim"]
    return any(getattr(options, name, None) for name in names)


def ensure_file(home: Home, options: argparse.Namespace) -> None:
    """Write the file the flags ask for. Raises CliError when they do not fit together, or somebody wrote the file."""
    if not _given(options):
        return
    if not options.oidc_issuer_url or not options.oidc_client_id:
        raise CliError(
            "a login by OpenID needs the issuer and the client",
            todo="give --oidc-issuer-url and --oidc-client-id together",
            code=2,
        )
    import yaml  # with the expressions' compiler behind it: too much for every other start

    from portside.run.authentication import FILE, read_file

    path = home.root / FILE
    if path.exists() and not path.read_text().startswith(HEADER):
        raise CliError(f"{path} was written by hand", todo="change it instead of giving --oidc flags", code=2)
    text = HEADER + yaml.safe_dump(_document(options), sort_keys=False)
    fresh = path.with_name(f".{FILE}.asked")
    write_private(fresh, text)
    try:
        read_file(fresh)
    except PortsideError as problem:
        fresh.unlink()
        raise CliError("the --oidc flags can't be used", why=problem.why, code=2) from problem
    fresh.replace(path)


def _document(options: argparse.Namespace) -> Json:
    from portside.server.auth.authentication_config import KIND, VERSIONS

    issuer: Json = {"url": options.oidc_issuer_url, "audiences": [options.oidc_client_id]}
    if options.oidc_ca_file:
        try:
            issuer["certificateAuthority"] = Path(options.oidc_ca_file).read_text()
        except (OSError, UnicodeDecodeError) as problem:
            raise CliError(f"{options.oidc_ca_file} can't be read", why=str(problem), code=2) from problem
    claim = options.oidc_username_claim or "sub"
    prefix = options.oidc_username_prefix
    if prefix is None:
        prefix = "" if claim == "email" else f"{options.oidc_issuer_url}#"
    mappings: Json = {"username": {"claim": claim, "prefix": "" if prefix == "-" else prefix}}
    if options.oidc_groups_claim:
        mappings["groups"] = {"claim": options.oidc_groups_claim, "prefix": options.oidc_groups_prefix or ""}
    entry: Json = {"issuer": issuer, "claimMappings": mappings}
    rules = [said.partition("=") for said in options.oidc_required_claim or ()]
    if rules:
        entry["claimValidationRules"] = [{"claim": name, "requiredValue": value} for name, _, value in rules]
    entry["userValidationRules"] = [{"expression": text, "message": why} for text, why in NOT_SYSTEM]
    return {"apiVersion": VERSIONS[0], "kind": KIND, "jwt": [entry]}
