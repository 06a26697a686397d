"""portside up: start the cluster, apply manifests, block until they are ready, say where to look."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portside.base import gates
from portside.cli import ingress, login, ranges, storage
from portside.cli.api import Api, Refused
from portside.cli.history import seconds
from portside.cli.manifests import Applier, Manifest, load, unready
from portside.cli.readiness import node_unready, nodes_unready
from portside.cli.steps import CliError, Steps, say
from portside.run import networks
from portside.run.home import Home, ProcessRecord, locked, stop
from portside.run.launch import last_lines, start

API_PATIENCE, NODE_PATIENCE = 60.0, 90.0  # seconds
POLL = 0.03
LEAST_FREE = 200 * 1024 * 1024  # bytes; below this a store can't be trusted to go on


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="manifests to apply: files, folders, or - for standard input"
    )
    parser.add_argument(
        "--simulate", type=int, metavar="N", help="simulated nodes instead of this machine's own (no root needed)"
    )
    parser.add_argument(
        "--listen", metavar="ADDRESS", help="address the API listens on (default: all with real nodes, else 127.0.0.1)"
    )
    parser.add_argument(
        "--advertise", metavar="ADDRESS", help="address that pods and other machines are told (default: this machine's)"
    )
    parser.add_argument("--port", type=int, metavar="N", help="port of the API (chosen once and kept)")
    ranges.arguments(parser)
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for the manifests to be ready (default 300)",
    )
    parser.add_argument(
        "--history",
        type=seconds,
        metavar="TIME",
        help="how long every version of every object is kept, such as 24h (chosen once and kept; default 1h)",
    )
    parser.add_argument(
        "--feature-gates",
        metavar="NAME=true",
        help="parts of the API that are off by default, such as GenericWorkload=true (chosen once and kept)",
    )
    parser.add_argument(
        "--no-storage", action="store_true", help="a new cluster gets no storage class of its own (folders on the node)"
    )
    parser.add_argument(
        "--ingress",
        action="store_true",
        help="serve Ingresses on ports 80 and 443 (a manifest with one asks for it too)",
    )
    login.arguments(parser)
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the manifests to be ready")


def run(options: argparse.Namespace) -> int:
    home, steps = Home(options.home), Steps()
    manifests = load(options.files)
    try:
        home.make()
    except OSError as error:
        raise CliError(
            f"the folder {home.root} can't be used",
            why=error.strerror or str(error),
            todo="choose another with --home DIR",
            code=3,
        ) from error
    if (free := shutil.disk_usage(home.root).free) < LEAST_FREE:
        raise CliError(
            f"the disk of {home.root} is nearly full",
            why=f"{free // 2**20} MiB free, {LEAST_FREE // 2**20} are needed",
            todo="make room, or choose another place with --home DIR",
            code=3,
        )
    try:
        with locked(home):
            if home.cluster().get("joined"):
                return _joined(home, steps, options)
            login.ensure_file(home, options)
            facts = _decide(home, options)
            if not facts["simulate"]:
                from portside.cli import packages

                serving = ingress.wanted(facts, manifests, asked=options.ingress)
                packages.ensure(steps, packages.INGRESS if serving else ())
                if serving:
                    ingress.turn_on(home, facts)
            api = _control_plane(home, steps, facts)
            _node(home, steps, facts, api)
            storage.ensure_class(home, facts, api, wanted=not options.no_storage)
            ingress.ensure_class(home, facts, api)
    except BlockingIOError:
        raise CliError("another portside command works on this cluster", todo="wait for it to end", code=8) from None
    if manifests:
        _apply(home, steps, api, manifests, options)
    _where_to_look(home, api, manifests)
    return 0


def _joined(home: Home, steps: Steps, options: argparse.Namespace) -> int:
    """A machine that joined runs its node alone; manifests go to the first machine."""
    from portside.cli.join import finish_leaving, start_node

    if finish_leaving(home, steps):
        raise CliError(
            "this machine was removed from its cluster, and what was left of it here is taken away",
            todo="join again, or start a cluster of its own with the same command",
            code=4,
        )
    if options.files or options.simulate:
        raise CliError(
            f"this machine is a node of {home.cluster()['joined']}",
            todo="apply manifests there, or start another cluster with --home DIR",
            code=2,
        )
    start_node(home, steps)
    return 0


def _decide(home: Home, options: argparse.Namespace) -> dict[str, Any]:
    """What is chosen once and kept: kind of nodes, port."""
    facts = home.cluster()
    if not facts:
        facts = {"simulate": options.simulate or 0}
        if not facts["simulate"]:
            facts |= ranges.chosen(options)
    ranges.check_kept(options, facts)
    if options.simulate is not None and bool(options.simulate) != bool(facts["simulate"]):
        raise CliError(
            "this cluster was made with " + ("simulated nodes" if facts["simulate"] else "this machine as its node"),
            todo="use another --home, or reset this one",
            code=2,
        )
    if options.simulate:
        facts["simulate"] = options.simulate
    elif not facts["simulate"] and os.geteuid() != 0:
        raise CliError(
            "running containers needs root",
            todo="run as root, or run the same cluster with simulated nodes: portside up --simulate 3",
            code=3,
        )
    if options.feature_gates is not None:
        try:
            gates.parse(options.feature_gates)
        except gates.GateError as error:
            raise CliError("--feature-gates can't be understood", why=str(error), code=2) from error
    for choice in ("port", "listen", "advertise", "history", "feature_gates"):
        if (given := getattr(options, choice, None)) and facts.get(choice) != given:
            _not_while_running(home, choice)
            facts[choice] = given
    home.save_cluster(facts)
    return facts


def _not_while_running(home: Home, choice: str) -> None:
    record = home.record("control-plane")
    if record is not None and record.alive:
        raise CliError(
            f"--{choice.replace('_', '-')} can't change while the control plane runs",
            todo="stop it first: portside down",
            code=2,
        )


def _check_ranges(home: Home, facts: dict[str, Any]) -> None:
    """Another cluster may have taken the ranges while this one was down."""
    if "service_cidr" not in facts:
        return
    try:
        bridge = json.loads((home.root / "network.json").read_text())["bridge"]
    except (OSError, ValueError, KeyError):
        return
    if found := networks.clash(facts["service_cidr"], bridge, networks.present()):
        raise CliError(
            f"this cluster's service addresses {facts['service_cidr']} are in use on this machine",
            why=f"{found.network} is routed to {found.device}; another cluster was started meanwhile",
            todo="stop the other one first (portside down --home DIR), or use another machine",
            code=3,
        )


def _advertised(facts: dict[str, Any]) -> str:
    """The address pods and other machines are told: as it was chosen, or this machine's."""
    from portside.run.membership import present_address

    listen = facts.get("listen") or "0.0.0.0"
    return str(facts.get("advertise") or (present_address(facts) if listen == "0.0.0.0" else listen))


def _words(home: Home, facts: dict[str, Any]) -> list[str]:
    """What the control plane's process is told."""
    words = ["--home", str(home.root)]
    if facts["simulate"]:
        words += ["--simulate", str(facts["simulate"])]
        words += ["--address", facts["listen"]] if facts.get("listen") else []
        words += ["--advertise", facts["advertise"]] if facts.get("advertise") else []
    else:
        words += ["--address", facts.get("listen") or "0.0.0.0", "--advertise", facts["advertised"]]
        words += ["--cluster-cidr", facts.get("cluster_cidr", "10.244.0.0/16")]
        words += ["--node-cidr-mask-size", str(facts.get("node_cidr_mask_size", 24))]
        words += ["--service-cidr", facts.get("service_cidr", "10.96.0.0/16")]
    if facts.get("history"):
        words += ["--history", str(facts["history"])]
    if facts.get("port"):
        words += ["--port", str(facts["port"])]
    return words


def _control_plane(home: Home, steps: Steps, facts: dict[str, Any]) -> Api:
    record = home.record("control-plane")
    with steps.step("control plane") as note:
        if not facts["simulate"]:
            advertised, before = _advertised(facts), facts.get("advertised")
            if record is not None and record.alive and before and before != advertised:
                say(f"  this machine's address was {before} and is {advertised} now; on the others, join again")
                stop(record)
            facts["advertised"] = advertised
        api = None
        if record is not None and record.alive:
            note("runs already")
            api = _wait_api(home, record, note)  # it may have been killed a moment ago, and be on its way out
        if api is None:
            if not facts["simulate"]:
                _check_ranges(home, facts)
            switched = {gates.VARIABLE: facts["feature_gates"]} if facts.get("feature_gates") else {}
            record = start(home, "control-plane", "portside.run.control_plane", _words(home, facts), **switched)
            api = _wait_api(home, record, note)
        if api is None:
            raise CliError(
                "the control plane ended",
                why=last_lines(home.log("control-plane")),
                todo="portside logs control-plane shows more",
                code=5,
            )
        facts["api"] = api.server
        home.save_cluster(facts)
    return api


def _wait_api(home: Home, record: ProcessRecord, note: Callable[[str], None]) -> Api | None:
    """The API once it is ready, None when its process ends. Raises CliError when it takes too long."""
    end = time.monotonic() + API_PATIENCE
    why = "the API does not answer yet"
    while time.monotonic() < end:
        if not record.alive:
            return None
        try:
            if home.kubeconfig.exists():
                api = Api(home.kubeconfig)
                status, text = api.raw("GET", "/readyz?verbose", timeout=3.0)
                if status == 200:
                    return api
                why = next(
                    (line for line in text.decode("utf-8", "replace").splitlines() if line.startswith("[-]")),
                    f"the API answers {status}",
                )
        except ssl.SSLError as error:
            why = f"its certificate is not this cluster's ({error.reason}); another server may use the port"
        except (OSError, ValueError, KeyError) as error:
            why = f"the API does not answer yet ({error})"
        note(why)
        time.sleep(POLL)
    raise CliError(
        f"the API did not become ready in {API_PATIENCE:.0f} s",
        why=why,
        todo="portside logs control-plane shows more",
        code=5,
    )


def _node(home: Home, steps: Steps, facts: dict[str, Any], api: Api) -> None:
    since = time.time() - 60
    if not facts["simulate"]:
        record = home.record("agent")
        if record is None or not record.alive:
            since = time.time()  # the old heartbeat of a node that has just been stopped says nothing
            start(home, "agent", "portside.run.node", ["--home", str(home.root)])
    with steps.step("node" if not facts["simulate"] else f"{facts['simulate']} simulated nodes") as note:
        end = time.monotonic() + NODE_PATIENCE
        while True:
            why = _unready(home, api, facts["simulate"], since)
            if not why:
                return
            note(why)
            record = home.record("agent")
            if not facts["simulate"] and (record is None or not record.alive):
                raise CliError(
                    "the node agent ended",
                    why=last_lines(home.log("agent")),
                    todo="portside logs agent shows more",
                    code=5,
                )
            if time.monotonic() > end:
                raise CliError(
                    f"the node did not become ready in {NODE_PATIENCE:.0f} s",
                    why=why,
                    todo="portside logs agent shows more",
                    code=5,
                )
            time.sleep(POLL * 2)


def _unready(home: Home, api: Api, simulated: int, since: float) -> str:
    """Why this cluster's nodes aren't ready; other machines' nodes are not waited for."""
    try:
        if simulated:
            return nodes_unready(api, simulated, since)
        name = home.cluster().get("node")
        return node_unready(api, str(name), since) if name else "no status yet"
    except (Refused, OSError) as error:
        return str(error)


def _apply(home: Home, steps: Steps, api: Api, manifests: list[Manifest], options: argparse.Namespace) -> None:
    if not home.cluster().get("simulate"):
        _build_images(home, steps, manifests, options.files)
    applier = Applier(api)
    with steps.step(f"apply {len(manifests)} objects"):
        applier.check(manifests)
        for manifest in manifests:
            applier.apply(manifest)
    if options.no_wait:
        return
    end = time.monotonic() + options.timeout
    with steps.step("wait until ready") as note:
        for manifest in manifests:
            while why := unready(applier.current(manifest)):
                note(f"{manifest.title}: {why}")
                if time.monotonic() > end:
                    raise CliError(
                        f"{manifest.title} is not ready after {options.timeout:.0f} s",
                        why=why,
                        todo=f"ask: {manifest.question}",
                        code=7,
                    )
                time.sleep(0.1)
        note("")


def images_of(value: Any) -> set[str]:
    """Every container image named in a manifest."""
    if isinstance(value, dict):
        found = {value["image"]} if isinstance(value.get("image"), str) and "name" in value else set()
        return found.union(*(images_of(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(images_of(v) for v in value))
    return set()


def _build_images(home: Home, steps: Steps, manifests: list[Manifest], files: list[str]) -> None:
    """Images whose folder lies beside a manifest (images/NAME for docker.io/portside/NAME:TAG) are built when the node
    does not have them with just this content."""
    from portside.cli.image import built, images
    from portside.cli.image import load as load_image

    wanted = set().union(*(images_of(m.body) for m in manifests))
    folders = {p if p.is_dir() else p.parent for p in map(Path, files) if str(p) != "-"}
    present: dict[str, str] | None = None
    for name in sorted(wanted):
        short = name.rsplit("/", 1)[-1].split(":")[0]
        folder = next((f / "images" / short for f in folders if (f / "images" / short / "image.yaml").is_file()), None)
        if folder is None:
            continue
        built_name, digest, archive = built(folder)
        if present is None:
            present = {i["name"]: i["digest"] for i in images(home)}
        if built_name != name or present.get(name) == digest:
            continue
        with steps.step(f"build {short}"):
            load_image(home, archive)


def _where_to_look(home: Home, api: Api, manifests: list[Manifest]) -> None:
    say("")
    say(f"  API          {api.server}")
    say(f"  kubectl      export KUBECONFIG={home.kubeconfig}")
    addresses = [
        a["address"]
        for n in api.send("GET", "/api/v1/nodes")["items"][:1]
        for a in n["status"].get("addresses", [])
        if a["type"] == "InternalIP"
    ]
    applier = Applier(api)
    for manifest in manifests:
        if manifest.body["kind"] == "Service" and manifest.body.get("spec", {}).get("type") in (
            "NodePort",
            "LoadBalancer",
        ):
            live = applier.current(manifest)
            for port in live["spec"]["ports"]:
                if port.get("nodePort") and addresses:
                    print(f"http://{addresses[0]}:{port['nodePort']}/  {live['metadata']['name']}", flush=True)
