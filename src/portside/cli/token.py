"""portside token: what a machine needs to join; made, listed and deleted."""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import string
import sys
import time
from pathlib import Path
from typing import Any

from portside.cli.api import Api, Refused
from portside.cli.steps import CliError, say
from portside.run.home import Home

GROUP = "system:bootstrappers:portside:default-node-token"
TYPE = "bootstrap.kubernetes.io/token"
SECRETS = "/api/v1/namespaces/kube-system/secrets"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ALPHABET = string.ascii_lowercase + string.digits


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = verbs.add_parser("create", help="make a token and print the join command")
    create.add_argument(
        "--ttl", default="24h", metavar="TIME", help="how long it holds: 30m, 24h, 7d; 0 for ever (default 24h)"
    )
    create.add_argument("-o", "--output", choices=["json", "name"], help="json: all parts; name: the token alone")
    listing = verbs.add_parser("list", help="the tokens, without their secrets")
    listing.add_argument("-o", "--output", choices=["json", "name"])
    delete = verbs.add_parser("delete", help="delete tokens by their ids")
    delete.add_argument("ids", nargs="+", metavar="ID")
    for sub in (create, listing, delete):
        sub.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def api_of(options: argparse.Namespace) -> tuple[Home, Api]:
    """The cluster's API, as its administrator. Raises CliError without one, and on a machine that joined."""
    home = Home(Path(options.home))
    if home.cluster().get("joined"):
        raise CliError(
            "this machine joined a cluster and has no administrator's rights",
            todo="use the machine that runs the control plane",
            code=4,
        )
    return home, Api(home.kubeconfig)


def run(options: argparse.Namespace) -> int:
    home, api = api_of(options)
    try:
        if options.action == "create":
            return _create(home, api, options)
        return _list(api, options) if options.action == "list" else _delete(api, options.ids)
    except OSError as error:
        raise CliError("the API does not answer", why=str(error), todo="start it with: portside up", code=5) from error


def seconds(text: str, unit: str = "h") -> float:
    """A time like 30m or 7d; a bare number is of ``unit``. Raises CliError."""
    number, unit = (text[:-1], text[-1]) if text and text[-1] in UNITS else (text, unit)
    try:
        found = float(number) * UNITS[unit]
    except ValueError:
        found = -1.0
    if found < 0:
        raise CliError(f"{text} is not a time", todo="say it like 30m, 24h or 7d", code=2)
    return found


def secret(token: str, expiration: str) -> dict[str, Any]:
    """The Secret a token lies in."""
    ident, _, key = token.partition(".")
    data = {
        "token-id": ident,
        "token-secret": key,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": GROUP,
        "description": "made by portside token create",
    } | ({"expiration": expiration} if expiration else {})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{ident}", "namespace": "kube-system"},
        "type": TYPE,
        "stringData": data,
    }


def _create(home: Home, api: Api, options: argparse.Namespace) -> int:
    from portside.run.membership import key_hash

    lasts = seconds(options.ttl)
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + lasts)) if lasts else ""
    ident, key = ("".join(secrets.choice(ALPHABET) for _ in range(n)) for n in (6, 16))
    token = f"{ident}.{key}"
    api.send("POST", SECRETS, json.dumps(secret(token, expiration)).encode())
    server = reachable(api)
    ca_hash = key_hash((home.root / "pki" / "ca.crt").read_bytes())
    if options.output == "name":
        print(token)
    elif options.output == "json":
        print(json.dumps({"token": token, "server": server, "caHash": ca_hash, "expiration": expiration}))
    else:
        print(f"{command()} join {server} --token {token} --ca-hash {ca_hash}")
        if server.startswith("https://127."):
            say(
                "the API listens for this machine alone; let others in with: portside down; portside up --listen 0.0.0.0"
            )
    return 0


def command() -> str:
    """How Portside is called: as an installed command, or as the script of a clone, which the other machine has too."""
    return "portside" if Path(sys.argv[0]).name == "portside" else "./portside"


def reachable(api: Api) -> str:
    """Where other machines reach the API: what the cluster-info says."""
    info = api.send("GET", "/api/v1/namespaces/kube-public/configmaps/cluster-info")
    for line in info["data"]["kubeconfig"].splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "server":
            return str(value)
    return api.server


def _text(found: dict[str, Any], name: str) -> str:
    return base64.b64decode((found.get("data") or {}).get(name) or "").decode("utf-8", "replace")


def _list(api: Api, options: argparse.Namespace) -> int:
    found = api.send("GET", f"{SECRETS}?fieldSelector=type%3D{TYPE.replace('/', '%2F')}")["items"]
    rows = [(_text(s, "token-id"), _text(s, "expiration") or "never", _text(s, "description")) for s in found]
    if options.output == "json":
        print(json.dumps([{"id": i, "expiration": e, "description": d} for i, e, d in rows]))
    elif options.output == "name":
        print("\n".join(i for i, _, _ in rows))
    else:
        print(f"{'ID':<8} {'EXPIRES':<22} DESCRIPTION")
        for ident, end, text in rows:
            print(f"{ident:<8} {end:<22} {text}")
    return 0


def _delete(api: Api, ids: list[str]) -> int:
    for given in ids:
        ident = given.partition(".")[0]
        try:
            api.send("DELETE", f"{SECRETS}/bootstrap-token-{ident}")
        except Refused as error:
            if error.code != 404:
                raise CliError(f"the token {ident} could not be deleted", why=str(error)) from error
            raise CliError(f"there is no token {ident}", todo="look at: portside token list", code=4) from error
        print(ident)
    return 0
