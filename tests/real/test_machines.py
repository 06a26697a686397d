"""A cluster of three machines: joining, pods and Services across them, a cut cable, leaving."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portside.run.membership import certified
from tests.conformance.names import conformance
from tests.real.machines import Machine, Town, control_groups, machines
from tests.real.neighbourhood import PATIENCE, SLEEP, pod, service, until, web

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(480),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
GONE = 150.0  # seconds: a silent node is noticed after some 50


@pytest.fixture(scope="module")
def three(tools: Path) -> Iterator[list[Machine]]:
    """One control plane and two machines that joined; the second on another network, so its pods need the tunnel."""
    with machines(tools) as made:
        made[0].portside("up")
        for number, machine in enumerate(made[1:], 1):
            words = made[0].portside("token", "create").stdout.split()
            assert words[:2] == ["./portside", "join"]
            machine.portside(*words[1:], "--name", f"worker-{number}")
        yield made


def workers(three: list[Machine]) -> list[str]:
    names = three[0].portside("node", "list", "-o", "name").stdout.split()
    return [next(name for name in names if not name.startswith("worker-")), "worker-1", "worker-2"]


def node(three: list[Machine], name: str) -> dict[str, object]:
    return dict(json.loads(three[0].kubectl("get", "node", name, "-o", "json")))


@pytest.fixture(scope="module")
def town(three: list[Machine]) -> Town:
    """Six pods that answer, spread over the machines, and one that asks on each."""
    first = three[0]
    first.kubectl("create", "namespace", "town")
    first.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "town", "--timeout=60s")
    found = Town(first, "town")
    taints = ("get", "nodes", "-o", "jsonpath={.items[*].spec.taints}")
    until(lambda: first.kubectl(*taints), lambda told: not told)  # a node that has just joined takes no pods
    spec = web("x")["spec"]
    soon = {"effect": "NoExecute", "operator": "Exists", "tolerationSeconds": 1}
    keys = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
    spec["tolerations"] = [soon | {"key": key} for key in keys]
    labels = {"app": "web"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 6,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    boxes = [pod(f"box-{number}", SLEEP, nodeName=name) for number, name in enumerate(workers(three))]
    found.apply(*boxes)
    found.ready("box-0", "box-1", "box-2")
    found.apply(deployment, service("web", labels, type="NodePort"))
    rolled_out(found, "deployment/web")
    found.served("web", 6)
    return found


def rolled_out(town: Town, what: str) -> None:
    town.kubectl("rollout", "status", what, f"--timeout={PATIENCE:.0f}s")


def placed(town: Town) -> dict[str, list[str]]:
    """Running pods of the Deployment by node."""
    found: dict[str, list[str]] = {}
    for item in json.loads(town.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]:
        if "deletionTimestamp" not in item["metadata"] and item["status"]["phase"] == "Running":
            found.setdefault(item["spec"]["nodeName"], []).append(item["metadata"]["name"])
    return found


def test_each_node_has_its_own_part_of_the_addresses_and_certificates(three: list[Machine], town: Town) -> None:
    parts = [node(three, name)["spec"]["podCIDR"] for name in workers(three)]  # type: ignore[index]
    assert len(set(parts)) == 3
    requests = json.loads(three[0].kubectl("get", "csr", "-o", "json"))["items"]
    signers = sorted(r["spec"]["signerName"].rpartition("/")[2] for r in requests)
    assert signers == ["kube-apiserver-client-kubelet"] * 2 + ["kubelet-serving"] * 2
    assert all((r["status"].get("certificate")) for r in requests)
    # Routes on one network, the tunnel to the other.
    wanted = (f"{parts[1]} via {three[1].address} dev eth0", f"{parts[2]} via ", "dev v-portside0")
    until(lambda: three[0].run("ip", "route").stdout, lambda routes: all(w in routes for w in wanted))


@conformance("Network", "pod to pod http", "node to pod http")
def test_a_deployment_spreads_and_pods_reach_each_other_everywhere(three: list[Machine], town: Town) -> None:
    assert {name: len(pods) for name, pods in placed(town).items()} == dict.fromkeys(workers(three), 2)
    every = {p for pods in placed(town).values() for p in pods}
    addresses = town.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}").split()
    for number in range(3):
        direct = "; ".join(f"timeout 5 wget -qO- http://{a}:8080/" for a in addresses)
        town.hears(f"box-{number}", direct, every)
    for machine in three:
        machine.hears(addresses, 8080, every)


def test_services_names_and_node_ports_answer_on_every_machine(three: list[Machine], town: Town) -> None:
    spec = town.get("service", "web")["spec"]
    every = {p for pods in placed(town).values() for p in pods}
    for number in range(3):
        box = f"box-{number}"
        # Of 60 tries one in 10,000 would miss one of the six; of 30 one in forty.
        asked = "for i in $(seq 60); do timeout 5 wget -qO- http://web.town.svc.cluster.local/; done"
        town.hears(box, asked, every)
        town.prints(box, "nslookup -type=a web.town.svc.cluster.local 2>&1", spec["clusterIP"])
        town.prints(box, "timeout 10 nc kubernetes.default 443 </dev/null && echo open", "open")
    # Datagrams between nodes: each box asks every node's own name server.
    for node_name in workers(three):
        server = str(node(three, node_name)["spec"]["podCIDR"]).replace(".0/24", ".1")  # type: ignore[index]
        for number in range(3):
            asked = f"nslookup -type=a web.town.svc.cluster.local {server} 2>&1"
            town.prints(f"box-{number}", asked, spec["clusterIP"])
    for machine in three:
        machine.gets(spec["clusterIP"], 80, "GET /")
        for other in three:
            machine.gets(other.address, spec["ports"][0]["nodePort"], "GET /")


ECHO = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5353))\n"
    "while True: data, peer = s.recvfrom(99); s.sendto(data + peer[0].encode(), peer)"
)
ASK = (
    "import socket, sys, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n"
    "for _ in range(60):\n"
    "    try:\n"
    "        s.sendto(b'from ', (sys.argv[1], 5353))\n"
    "        print(s.recvfrom(99)[0].decode(), end=''); break\n"
    "    except TimeoutError: pass\n"
    "    except OSError: time.sleep(1)  # nobody listens yet"
)


def network_of(machine: Machine, town: Town, name: str) -> str:
    """The network namespace of a pod, as nsenter wants it on its machine."""
    own = str(town.get("pod", name)["status"]["containerStatuses"][0]["containerID"]).partition("://")[2]
    socket = str(machine.home / "run" / "containerd.sock")
    tasks = machine.run("ctr", "--address", socket, "-n", "k8s.io", "tasks", "list").stdout
    process = next(line.split()[1] for line in tasks.splitlines() if line.startswith(own))
    return f"--net=/proc/{process}/ns/net"


@conformance("Network", "pod to pod udp", "node to pod udp")
def test_datagrams_go_between_pods_and_from_nodes_to_pods(three: list[Machine], town: Town) -> None:
    """Each box answers with the address it was asked from: between pods that is the pod's own."""
    within = [network_of(machine, town, f"box-{n}") for n, machine in enumerate(three)]
    servers = [subprocess.Popen(["nsenter", network, sys.executable, "-c", ECHO]) for network in within]
    try:
        addresses = [town.address_of(f"box-{n}") for n in range(3)]
        for number, machine in enumerate(three):
            for target in addresses:
                asked = machine.run("nsenter", within[number], sys.executable, "-c", ASK, target).stdout
                assert asked == f"from {addresses[number]}"
                assert machine.run(sys.executable, "-c", ASK, target).stdout.startswith("from ")
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_large_packets_pass_the_tunnel(town: Town) -> None:
    target = town.address_of("box-2")
    town.kubectl(
        "exec",
        "box-2",
        "--",
        "sh",
        "-c",
        "(sleep 60 | nc -l -p 9000 | wc -c > /got) </dev/null >/dev/null 2>&1 & "
        "until grep -q :2328 /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done",  # 9000: somebody listens
    )
    town.sh("box-0", f"head -c 300000 /dev/zero | nc -w 30 {target} 9000")
    until(lambda: town.sh("box-2", "cat /got").strip(), lambda a: a == "300000")


def test_logs_exec_and_proxy_reach_every_node(three: list[Machine], town: Town) -> None:
    for name, pods in placed(town).items():
        assert town.sh(pods[0], "hostname").strip() == pods[0]
        town.kubectl("logs", pods[0])
        path = f"/api/v1/namespaces/town/pods/{pods[0]}:8080/proxy/"
        assert three[0].kubectl("get", "--raw", path).startswith(f"{pods[0]} GET")
        assert three[0].kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/healthz") == "ok"


def test_local_traffic_policy_is_true_per_node(three: list[Machine], town: Town) -> None:
    only = placed(town)["worker-1"][0]
    town.kubectl("label", "pod", only, "edge=yes")
    town.apply(service("edge", {"edge": "yes"}, type="NodePort", externalTrafficPolicy="Local"))
    port = town.get("service", "edge")["spec"]["ports"][0]["nodePort"]
    until(lambda: three[2].fetch(three[1].address, port), lambda a: a.startswith(only))
    until(lambda: three[2].fetch(three[0].address, port), lambda a: a == "no answer")
    town.remove("service", "edge")


def test_tokens_are_listed_deleted_and_refused_after(three: list[Machine], tools: Path) -> None:
    first = three[0]
    words = first.portside("token", "create", "--ttl", "30m").stdout.split()
    ident = words[4].partition(".")[0]
    assert ident in first.portside("token", "list").stdout
    wrong = three[1].portside("join", words[2], "--token", words[4], "--home", "/tmp/ps-nowhere", check=False)
    assert wrong.returncode != 0  # a home that is a node already
    stranger = Machine(three[1].space, three[1].address, "", tools)
    bad_hash = "sha256:" + "0" * 64
    refused = stranger.portside("join", words[2], "--token", words[4], "--ca-hash", bad_hash, check=False)
    assert refused.returncode == 1
    assert "is not the one the join command names" in refused.stderr
    taken = stranger.portside("join", *words[2:], "--name", "worker-2", check=False)
    assert "the cluster has a node worker-2 already" in taken.stderr
    again = three[1].portside("join", *words[2:])  # the same machine, with its own home
    assert "join again" in again.stderr
    assert "this machine is node worker-1" in again.stderr
    renamed = three[1].portside("join", *words[2:], "--name", "worker-9", check=False)
    assert "a node keeps its name" in renamed.stderr
    first.portside("token", "delete", ident)
    until(
        lambda: stranger.portside("join", *words[2:], check=False).stderr,
        lambda text: "is not signed with this token" in text or "Unauthorized" in text,
    )
    assert not stranger.home.exists()


def test_a_cut_off_node_is_emptied_and_comes_back_clean(three: list[Machine], town: Town) -> None:
    lost = set(placed(town)["worker-1"])
    three[1].cut(True)
    until(lambda: placed(town), lambda found: sum(map(len, found.values())) == 6 and "worker-1" not in found, GONE)
    rolled_out(town, "deployment/web")
    # Nobody is sent to the pods that can't be reached.
    asked = "for i in $(seq 20); do timeout 2 wget -qO- http://web/; done"
    until(lambda: town.sh("box-0", asked).splitlines(), lambda seen: len(seen) == 20)
    assert three[1].containers()  # they run on over there
    three[1].cut(False)
    conditions = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    until(lambda: three[0].kubectl("get", "node", "worker-1", "-o", conditions), lambda a: a == "True")
    until(lambda: "taints" in dict(node(three, "worker-1")["spec"]), lambda a: not a)  # type: ignore[call-overload]
    # Only the box is left of what ran there: two tasks, its sandbox and its container.
    until(lambda: len(three[1].containers()), lambda count: count == 2)
    until(
        lambda: lost & set(town.kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.name}").split()),
        lambda a: not a,
    )
    town.gets("box-1", "http://web/", "GET /")


def test_a_machine_restarts_its_node_with_up(three: list[Machine], town: Town) -> None:
    three[2].portside("down", "--keep-pods")
    three[2].portside("up")
    town.prints("box-2", "echo alive", "alive")


def test_certificates_are_renewed_by_the_node_itself(three: list[Machine], town: Town) -> None:
    """As near their end: the same requests, approved for the node's own identity."""
    home = three[2].home
    files = [home / "pki" / name for name in ("node-worker-2.crt", "node-worker-2-server.crt")]
    before = [file.read_bytes() for file in files]
    code = (
        "import asyncio, time; from pathlib import Path; from portside.run.home import Home;"
        "from portside.run.membership import renew; from portside.client.http import kubeconfig_client;"
        f"home = Home(Path({str(home)!r}));"
        "client = lambda: kubeconfig_client(str(home.root / 'node-worker-2.kubeconfig'));"
        "renewed = lambda later: asyncio.run(renew(home, client(), time.time() + later * 86400));"
        "print(renewed(1), renewed(300))"
    )
    done = three[2].run(sys.executable, "-c", code)
    assert done.stdout == "False True\n", done.stderr
    assert all(file.read_bytes() != was for file, was in zip(files, before, strict=True))
    three[2].portside("down", "--keep-pods")
    three[2].portside("up")
    town.prints("box-2", "echo alive", "alive")


def test_a_machine_that_gets_another_address_stays_the_node_it_was(three: list[Machine], town: Town) -> None:
    """Its Node, its certificate, and the others' way to its pods follow; the pods run on."""
    started = town.get("pod", "box-2")["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    three[2].move("172.31.205.22")
    told = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'
    until(lambda: three[0].kubectl("get", "node", "worker-2", "-o", told), lambda a: a == "172.31.205.22", GONE)
    certificate = three[2].home / "pki" / "node-worker-2-server.crt"
    until(lambda: certified(certificate), lambda names: names == {"worker-2", "172.31.205.22"}, GONE)
    until(lambda: "dst 172.31.205.22" in three[0].run("bridge", "fdb", "show", "dev", "v-portside0").stdout, bool)
    until(
        lambda: town.kubectl("exec", "box-2", "--", "echo", "alive", check=False), lambda text: text == "alive\n", GONE
    )
    town.gets("box-2", "http://web/", "GET /")
    assert town.get("pod", "box-2")["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] == started


def test_drain_empties_a_node_and_remove_leaves_nothing_on_either_side(three: list[Machine], town: Town) -> None:
    first = three[0]
    refused = first.portside("node", "drain", "worker-1", check=False)
    assert "nothing would make these pods anew: town/box-1" in refused.stderr
    town.remove("pod", "box-1")
    first.portside("node", "drain", "worker-1")
    assert "worker-1" not in placed(town)
    assert "SchedulingDisabled" in first.portside("node", "list").stdout
    first.kubectl("uncordon", "worker-1")
    cidr = str(node(three, "worker-1")["spec"]["podCIDR"])  # type: ignore[index]
    labels = {"app": "stays"}
    template = {"metadata": {"labels": labels}, "spec": pod("x", SLEEP)["spec"]}
    stays = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "stays"}}
    town.apply(stays | {"spec": {"selector": {"matchLabels": labels}, "template": template}})
    rolled_out(town, "daemonset/stays")
    there = json.loads(town.kubectl("get", "pods", "-o", "json", "--field-selector", "spec.nodeName=worker-1"))["items"]
    uids = [p["metadata"]["uid"] for p in there]
    assert control_groups(uids)
    first.portside("node", "remove", "worker-1")
    assert sorted(first.portside("node", "list", "-o", "name").stdout.split()) == sorted(
        [workers(three)[0], "worker-2"]
    )
    assert "NotFound" in first.kubectl("get", "lease", "-n", "kube-node-lease", "worker-1", check=False)
    until(lambda: three[1].leftovers(), lambda found: not found)
    until(lambda: control_groups(uids), lambda found: not found)
    until(lambda: town.kubectl("get", "pods", "-o", "wide"), lambda shown: "worker-1" not in shown)
    until(lambda: cidr in first.run("ip", "route").stdout, lambda there: not there)
    own = first.portside("node", "remove", workers(three)[0], check=False)
    assert "is the machine that runs the control plane" in own.stderr
    # The machine may come again, under its old name.
    words = first.portside("token", "create").stdout.split()
    three[1].portside(*words[1:], "--name", "worker-1")
    assert "worker-1" in first.portside("node", "list", "-o", "name").stdout
    assert "portside node remove worker-1" in three[1].portside("reset", "--yes").stderr
    assert not three[1].leftovers()


def test_two_clusters_share_a_machine_and_one_ends_without_the_other(three: list[Machine], tools: Path) -> None:
    """Each has ranges, a bridge and rules of its own; a range that was taken meanwhile is said."""
    first, second = three[2], Machine(three[2].space, three[2].address, "", tools)
    third = Machine(three[2].space, three[2].address, "", tools)
    try:
        second.portside("up", "--listen", second.address)
        assert f"https://{second.address}:" in second.kubeconfig.read_text()
        ours = Town(second, "default")
        second.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "default", "--timeout=60s")
        ours.apply(web("here"), service("here", {"app": "here"}))
        ours.ready("here")
        address = ours.get("service", "here")["spec"]["clusterIP"]
        until(lambda: second.fetch(address, 80), lambda a: a.startswith("here GET"))
        first.gets(three_web(three), 80, "GET /")
        until(lambda: ours.look_up("here", "here.default.svc.cluster.local"), lambda told: told.count(address) == 1)
        second.portside("down")
        third.portside("up")
        refused = second.portside("up", check=False)
        assert refused.returncode == 3
        assert "in use on this machine" in refused.stderr
        first.gets(three_web(three), 80, "GET /")
    finally:
        for machine in (second, third):
            machine.portside("reset", "--yes", check=False)


def three_web(three: list[Machine]) -> str:
    """The address of the first cluster's Service."""
    where = ("-n", "town", "-o", "jsonpath={.spec.clusterIP}")
    return three[0].kubectl("get", "service", "web", *where)
