"""Conformance "Node": environment, commands, identity, expansion, and what keeps a container from starting.

Pods of the table run a script to its end; each test reads what its own one printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from portside.api.quantity import parse
from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.real.lab import IMAGE, Json, Lab, pod

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Case:
    """A container's script and what it prints; NAME, NS, NODE_IP, UID stand for the pod's own."""

    script: str
    expected: str
    container: Json = field(default_factory=dict)
    spec: Json = field(default_factory=dict)

    def body(self, name: str) -> Json:
        return pod(name, self.script, spec=self.spec, **self.container)


def fields(**paths: str) -> Json:
    return {"env": [{"name": n, "valueFrom": {"fieldRef": {"fieldPath": p}}} for n, p in paths.items()]}


def figures(**resources: str) -> Json:
    divisors = {"cpu": "1m", "memory": "1"}
    return {
        "env": [
            {"name": n, "valueFrom": {"resourceFieldRef": {"resource": r, "divisor": divisors[r.split(".")[1]]}}}
            for n, r in resources.items()
        ]
    }


SIZES = {"resources": {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}


def key(kind: str, name: str, entry: str) -> Json:
    return {"env": [{"name": "A", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": entry}}}]}


def sub_path(expression: str, **more: str) -> Json:
    return {
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [
            {"name": "v", "mountPath": "/v"},
            {"name": "v", "mountPath": "/sub", "subPathExpr": expression},
        ],
    } | more


def user(**context: object) -> Json:
    return {"securityContext": context}


VOLUME = {"volumes": [{"name": "v", "emptyDir": {}}]}


def printed(name: str) -> list[str]:
    """A command that prints one variable; a shell would drop names that are none of its own."""
    return ["awk", f'BEGIN {{ print "{name}=" ENVIRON["{name}"] }}']


CASES: dict[str, Case] = {
    "configmap key as env variable": Case("echo $A", "one\n", key("configMap", "env", "a")),
    "secret key as env variable": Case("echo $A", "two\n", key("secret", "env", "b")),
    "configmap envFrom": Case(
        "", "p_b.c=x\n", {"envFrom": [{"configMapRef": {"name": "env"}, "prefix": "p_"}], "command": printed("p_b.c")}
    ),
    "configmap envFrom with odd prefixes": Case(
        "", "1-a=one\n", {"envFrom": [{"configMapRef": {"name": "env"}, "prefix": "1-"}], "command": printed("1-a")}
    ),
    "secret envFrom": Case("echo $b", "two\n", {"envFrom": [{"secretRef": {"name": "env"}}]}),
    "secret envFrom with odd prefixes": Case(
        "", "1-b=two\n", {"envFrom": [{"secretRef": {"name": "env"}, "prefix": "1-"}], "command": printed("1-b")}
    ),
    "downward: name, namespace, IP": Case(
        'echo $N $S; ip -4 addr show eth0 | grep -c "inet $I/"',
        "NAME NS\n1\n",
        fields(N="metadata.name", S="metadata.namespace", I="status.podIP"),
    ),
    "downward: host IP and host IPs": Case(
        "echo $A $B", "NODE_IP NODE_IP\n", fields(A="status.hostIP", B="status.hostIPs")
    ),
    "downward: pod UID": Case("echo $A", "UID\n", fields(A="metadata.uid")),
    "downward: requests and limits": Case(
        "echo $A $B $C $D",
        "250 33554432 500 67108864\n",
        SIZES | figures(A="requests.cpu", B="requests.memory", C="limits.cpu", D="limits.memory"),
    ),
    "downward: default limits from node allocatable": Case(
        "echo $A $B", "NODE_CPU NODE_MEMORY\n", figures(A="limits.cpu", B="limits.memory")
    ),
    "env from a file": Case(
        "echo $A $B",
        "one\n",
        {
            "env": [
                {"name": n, "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": k, "optional": True}}}
                for n, k in (("A", "FIRST"), ("B", "NONE"))
            ]
        },
        VOLUME
        | {
            "initContainers": [
                {
                    "name": "i",
                    "image": IMAGE,
                    "command": ["sh", "-c", "echo \"FIRST='one'\" > /v/env"],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
            ]
        },
    ),
    "expansion: env from env": Case(
        "echo $C", "one-two$(X)\n", {"env": [{"name": "A", "value": "one"}, {"name": "C", "value": "$(A)-two$(X)"}]}
    ),
    "expansion: command and args": Case(
        "",
        "one $(A) two\n",
        {"env": [{"name": "A", "value": "one"}], "command": ["echo", "$(A)", "$$(A)"], "args": ["two"]},
    ),
    "expansion: volume subPathExpr": Case("echo -n x > /sub/f; cat /v/d/NAME/f", "x", sub_path("d/$(POD)"), VOLUME),
    "runAsUser 65534": Case("id -u", "65534\n", user(runAsUser=65534)),
    "container runAsUser + runAsGroup": Case("id -u; id -g", "1001\n2002\n", user(runAsUser=1001, runAsGroup=2002)),
    "pod runAsUser + runAsGroup": Case("id -u; id -g", "1001\n2002\n", {}, user(runAsUser=1001, runAsGroup=2002)),
    "supplemental groups": Case(
        "id -G", "2002 7 8\n", {}, user(runAsUser=1001, runAsGroup=2002, supplementalGroups=[7], fsGroup=8)
    ),
    "privileged false": Case(
        "ip link add d0 type dummy 2>/dev/null && echo made || echo refused", "refused\n", user(privileged=False)
    ),
    "readOnlyRootFilesystem true": Case(
        "touch /f 2>/dev/null && echo made || echo refused", "refused\n", user(readOnlyRootFilesystem=True)
    ),
    "readOnlyRootFilesystem false": Case("echo x > /f && echo made", "made\n", user(readOnlyRootFilesystem=False)),
    "allowPrivilegeEscalation false": Case(
        "grep NoNewPrivs /proc/self/status | cut -f2", "1\n", user(allowPrivilegeEscalation=False, runAsUser=1000)
    ),
    "capabilities added and dropped": Case(
        "grep CapBnd /proc/self/status | cut -f2",
        "0000000000001000\n",
        user(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}),
    ),
    "seccomp of the runtime and none": Case(
        "grep ^Seccomp: /proc/self/status | cut -f2", "2\n", user(seccompProfile={"type": "RuntimeDefault"})
    ),
    "seccomp unconfined": Case(
        "grep ^Seccomp: /proc/self/status | cut -f2", "0\n", user(seccompProfile={"type": "Unconfined"})
    ),
    "sysctls: safe one applied": Case(
        "cat /proc/sys/kernel/shm_rmid_forced",
        "1\n",
        {},
        user(sysctls=[{"name": "kernel.shm_rmid_forced", "value": "1"}]),
    ),
    "hostAliases": Case(
        "grep foo /etc/hosts",
        "123.45.67.89\tfoo.local\tbar.local\n",
        {},
        {"hostAliases": [{"ip": "123.45.67.89", "hostnames": ["foo.local", "bar.local"]}]},
    ),
    "/etc/hosts managed": Case("head -1 /etc/hosts", "# Kubernetes-managed hosts file.\n"),
    "/etc/hosts of a host network pod": Case(
        "grep -c 'managed hosts file[.]' /etc/hosts || true", "0\n", {}, {"hostNetwork": True}
    ),
    "/etc/hosts mounted by the pod": Case(
        "cat /etc/hosts; test ! -e /proc/none",
        "mine",
        {"volumeMounts": [{"name": "h", "mountPath": "/etc/hosts", "subPath": "hosts"}]},
        {"volumes": [{"name": "h", "configMap": {"name": "hosts"}}]},
    ),
    "service environment variables": Case("echo $WEB_SERVICE_PORT $WEB_PORT_80_TCP_PROTO", "80 tcp\n"),
    "init containers run, RestartNever": Case(
        "cat /v/log",
        "1\n2\n",
        {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        VOLUME
        | {
            "initContainers": [
                {
                    "name": f"i{n}",
                    "image": IMAGE,
                    "command": ["sh", "-c", f"echo {n} >> /v/log"],
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                }
                for n in (1, 2)
            ]
        },
    ),
    "shared process namespace": Case("ps | grep -c '[p]ause'", "1\n", {}, {"shareProcessNamespace": True}),
    "host's processes": Case('test "$(cat /proc/1/comm)" != sh && echo host', "host\n", {}, {"hostPID": True}),
    "working directory": Case("pwd", "/made/here\n", {"workingDir": "/made/here"}),
    "stdout and stderr reach the logs": Case("echo out; sleep 5; echo err >&2", "out\nerr\n"),
}


def pod_name(case: str) -> str:
    return f"case-{list(CASES).index(case)}"


@pytest.fixture(scope="module")
def started(lab: Lab) -> Lab:
    lab.create("configmaps", {"metadata": {"name": "env"}, "data": {"a": "one", "b.c": "x"}})
    lab.secret("env", b="two")
    lab.config_map("hosts", hosts="mine")
    lab.create("services", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"no": "pod"}}})
    for name, case in CASES.items():
        lab.create(
            "pods",
            Case(case.script.replace("NAME", pod_name(name)), "", case.container, case.spec).body(pod_name(name)),
        )
    return lab


@conformance(
    "configmaps and secrets as environment",
    "configmap envFrom with odd prefixes",
    "configmap key as env variable",
    "configmap envFrom",
    "secret envFrom with odd prefixes",
    "secret key as env variable",
    "secret envFrom",
)
@conformance("containers, hooks, init containers", "init containers run, RestartNever")
@conformance(
    "downward API as environment",
    "requests and limits",
    "default limits from node allocatable",
    "host IP",
    "host IPs",
    "pod UID",
    "name, namespace, IP",
)
@conformance(
    "kubelet",
    "stdout and stderr reach the logs",
    "read-only root file system",
    "hostAliases",
    "managed /etc/hosts (three cases)",
    "sysctls: safe one applied",
)
@conformance("pods", "service environment variables")
@conformance(
    "security context",
    "runAsUser 65534",
    "privileged false",
    "readOnlyRootFilesystem false",
    "container runAsUser + runAsGroup",
    "pod runAsUser + runAsGroup",
    "allowPrivilegeEscalation false",
)
@conformance("variable expansion", "env from env", "args", "command", "volume subPathExpr", "subPathExpr writes")
@pytest.mark.parametrize("name", CASES)
def test_a_container_is_what_its_spec_says(started: Lab, name: str) -> None:
    """Environment, identity, files and confinement as the kubelet makes them."""
    lab, own = started, pod_name(name)
    found = lab.output(own)
    meta, status = lab.get("pods", own)["metadata"], lab.status(own)
    room = json.loads(lab.call("GET", "/api/v1/nodes"))["items"][0]["status"]["allocatable"]
    expected = CASES[name].expected.replace("NAME", own).replace("NODE_IP", status["hostIP"])
    expected = expected.replace("NODE_CPU", str(int(1000 * parse(room["cpu"]))))
    expected = expected.replace("NODE_MEMORY", str(int(parse(room["memory"]))))
    expected = expected.replace("NS", lab.namespace).replace("UID", meta["uid"])
    assert found == expected
    lab.delete("pods", own)


# -- what can't be -----------------------------------------------------------------------------------------------------


@conformance("variable expansion", "subPathExpr absolute path fails", "subPathExpr backticks fails")
@pytest.mark.parametrize(
    ("name", "expression", "words"),
    [
        ("subPathExpr absolute path fails", "/tmp", ""),
        ("subPathExpr backticks fails", "..", ""),
    ],
)
def test_sub_paths_that_lead_out_are_refused(lab: Lab, name: str, expression: str, words: str) -> None:
    """The expanded path is checked when the container is to start: it waits and says why."""
    own = name.split()[1].lower()
    container = sub_path("$(OUT)")
    container["env"] = [{"name": "OUT", "value": expression}]
    lab.pod(own, "true", spec=VOLUME, **container)
    lab.until(lambda: lab.container(own)["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError", own)
    lab.delete("pods", own)


@conformance("variable expansion", "failing subPathExpr mended while the pod waits")
def test_a_failing_sub_path_is_mended_while_the_pod_waits(lab: Lab) -> None:
    """The variable comes from an annotation; when that is set the container starts."""
    container = sub_path("$(WHERE)")
    container["env"] = [{"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['where']"}}}]
    lab.pod("mended", "exec sleep 1000", spec=VOLUME, meta={"annotations": {"else": "where"}}, **container)

    def why() -> str:
        return str(lab.container("mended")["state"].get("waiting", {}).get("message", ""))

    lab.until(lambda: why() == "missing value for WHERE", "waits")
    lab.patch("pods", "mended", {"metadata": {"annotations": {"where": "in"}}})
    lab.running("mended")
    lab.delete("pods", "mended")


def test_what_keeps_a_container_from_starting_is_told(lab: Lab) -> None:
    """Waiting reasons and messages are the kubelet's."""
    lab.secret("keys", a="1")
    lab.pod("no-map", "true", envFrom=[{"configMapRef": {"name": "none"}}])
    lab.pod("no-key", "true", env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x"}}}])
    lab.pod("no-image", "true", image="docker.io/portside/absent:1", imagePullPolicy="Never")
    lab.pod("bad-image", "true", image="Not//An image")
    lab.pod("root", "true", securityContext={"runAsNonRoot": True})
    expected = {
        "no-map": ("CreateContainerConfigError", 'configmap "none" not found'),
        "no-key": ("CreateContainerConfigError", f"couldn't find key x in Secret {lab.namespace}/keys"),
        "no-image": (
            "ErrImageNeverPull",
            'Container image "docker.io/portside/absent:1" is not present with pull policy of Never',
        ),
        "bad-image": ("InvalidImageName", "invalid reference format"),
        "root": ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
    }
    for name, (reason, message) in expected.items():

        def waiting(name: str = name, reason: str = reason) -> Json:
            found = dict(lab.container(name)["state"].get("waiting") or {})
            return found if found.get("reason") == reason else {}

        told = lab.until(waiting, f"{name}: {reason}")
        assert message in told["message"], json.dumps(told)
        lab.delete("pods", name)


# -- command and arguments ---------------------------------------------------------------------------------------------

ENTRY = "docker.io/test/entry:1"


@pytest.fixture(scope="module")
def entry(real: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with an entry point and a command of its own, made on this machine."""
    folder = tmp_path_factory.mktemp("entry")
    text = f"name: {ENTRY}\nentrypoint: [echo, entry]\ncommand: [default, words]\n"
    (folder / "image.yaml").write_text(text)
    words = ("image", "build", str(folder), "--home", str(real.home))
    done = subprocess.run([sys.executable, "-m", "portside.cli.main", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ENTRY


@conformance(
    "containers, hooks, init containers", "override args", "override command", "override both", "image defaults"
)
@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, "entry default words\n"),
        ({"args": ["other"]}, "entry other\n"),
        ({"command": ["echo", "mine"]}, "mine\n"),
        ({"command": ["echo", "mine"], "args": ["too"]}, "mine too\n"),
    ],
)
def test_command_and_arguments_override_the_images(lab: Lab, entry: str, container: Json, expected: str) -> None:
    """ "image defaults", "override args", "override command", "override both"."""
    name = f"entry-{len(container)}-{len(expected)}"
    lab.create("pods", pod(name, image=entry, **container))
    assert lab.output(name) == expected
