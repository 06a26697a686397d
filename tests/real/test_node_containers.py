"""Conformance "Node": environment, commands, hooks, init containers, termination messages, identity, expansion.

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
    "stdout and stderr reach the logs": Case("echo out; sleep 0.3; echo err >&2", "out\nerr\n"),
}


FAILS_FIRST = (
    "n=$(cat /v/n 2>/dev/null || echo 0); echo $((n+1)) > /v/n; "
    "if [ $n = 0 ]; then exit 1; fi; if [ $n = 1 ]; then exit 0; fi; exec sleep 1000"
)


def pod_name(case: str) -> str:
    return f"case-{list(CASES).index(case)}"


@pytest.fixture(scope="module")
def started(lab: Lab) -> Lab:
    lab.create("configmaps", {"metadata": {"name": "env"}, "data": {"a": "one", "b.c": "x"}})
    lab.secret("env", b="two")
    lab.config_map("hosts", hosts="mine")
    lab.create("services", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"no": "pod"}}})
    for policy in ("Always", "OnFailure", "Never"):
        mount = [{"name": "v", "mountPath": "/v"}]
        lab.pod(f"restart-{policy.lower()}", FAILS_FIRST, volumeMounts=mount, spec=VOLUME | {"restartPolicy": policy})
    init = [{"name": "i", "image": IMAGE, "command": ["false"]}, {"name": "j", "image": IMAGE, "command": ["true"]}]
    for policy in ("Always", "Never"):
        lab.pod(f"init-{policy.lower()}", "true", spec={"initContainers": init, "restartPolicy": policy})
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


# -- hooks ------------------------------------------------------------------------------------------------------------


@conformance(
    "containers, hooks, init containers",
    "postStart exec",
    "postStart http",
    "preStop exec",
    "preStop http",
    "preStop called before a pod is killed",
)
def test_post_start_and_pre_stop_by_exec_and_http(lab: Lab) -> None:
    """postStart exec, preStop exec, postStart http, preStop http: each reaches its server or file."""
    lab.pod(
        "server",
        'mkdir -p /www/cgi-bin; printf \'#!/bin/sh\\necho "$QUERY_STRING $HTTP_X_HOOK" >> /hits\\n'
        "echo; echo ok' > /www/cgi-bin/hit; chmod +x /www/cgi-bin/hit; touch /hits; httpd -p 8080 -h /www; tail -f /hits",
    )
    host = lab.running("server")["podIP"]

    def get(query: str) -> Json:
        return {
            "httpGet": {
                "host": host,
                "port": 8080,
                "path": f"/cgi-bin/hit?{query}",
                "httpHeaders": [{"name": "X-Hook", "value": "yes"}],
            }
        }

    def run(name: str) -> Json:
        return {"exec": {"command": ["sh", "-c", f"wget -qO- http://{host}:8080/cgi-bin/hit?{name}"]}}

    hooks = {
        "exec": {"postStart": run("exec-start"), "preStop": run("exec-stop")},
        "http": {"postStart": get("http-start"), "preStop": get("http-stop")},
        "sleep": {"postStart": {"sleep": {"seconds": 1}}, "preStop": {"sleep": {"seconds": 1}}},
    }
    for name, hook in hooks.items():
        lab.pod(f"hook-{name}", "exec sleep 1000", lifecycle=hook, spec={"terminationGracePeriodSeconds": 15})
    for name in hooks:
        lab.ready(f"hook-{name}")
    for name in hooks:
        lab.delete("pods", f"hook-{name}")
    wanted = {"exec-start", "exec-stop", "http-start yes", "http-stop yes"}
    lab.until(lambda: wanted <= {line.strip() for line in lab.log("server").splitlines()}, "hooks")
    lab.delete("pods", "server")


def test_a_failed_post_start_hook_kills_the_container(lab: Lab) -> None:
    """The event says what failed and the container is started again."""
    lab.pod(
        "bad-hook",
        "exec sleep 1000",
        lifecycle={"postStart": {"exec": {"command": ["false"]}}},
        spec={"restartPolicy": "Always"},
    )
    lab.event("bad-hook", "FailedPostStartHook: PostStartHook failed")
    lab.event("bad-hook", "Killing: Container main failed postStart hook, will be restarted")
    lab.delete("pods", "bad-hook")


# -- termination messages ---------------------------------------------------------------------------------------------

MESSAGES: dict[str, tuple[Json, str, str]] = {
    "termination message from file on success": (
        {"terminationMessagePolicy": "FallbackToLogsOnError"},
        "echo -n OK > /dev/termination-log; echo log",
        "OK",
    ),
    "termination message empty on success with FallbackToLogsOnError": (
        {"terminationMessagePolicy": "FallbackToLogsOnError"},
        "echo log",
        "",
    ),
    "termination message from log on failure": (
        {"terminationMessagePolicy": "FallbackToLogsOnError"},
        "echo -n DONE; exit 1",
        "DONE",
    ),
    "termination message at a custom path as non-root": (
        {"terminationMessagePath": "/dev/custom", "securityContext": {"runAsUser": 1000}},
        "echo -n DONE > /dev/custom",
        "DONE",
    ),
}


@conformance(
    "containers, hooks, init containers",
    "termination message empty on success with FallbackToLogsOnError",
    "termination message from file on success",
    "termination message from log on failure",
    "termination message at a custom path as non-root",
)
@pytest.mark.parametrize("name", MESSAGES)
def test_termination_messages(lab: Lab, name: str) -> None:
    container, script, expected = MESSAGES[name]
    own = f"message-{list(MESSAGES).index(name)}"
    lab.pod(own, script, **container)
    status = lab.phase(own, "Succeeded", "Failed")
    assert status["containerStatuses"][0]["state"]["terminated"].get("message", "") == expected


# -- ends and restarts ------------------------------------------------------------------------------------------------


@conformance("containers, hooks, init containers", "phases and restart counts for Always, OnFailure, Never")
@pytest.mark.parametrize(
    ("policy", "phase", "restarts", "ready"),
    [("Always", "Running", 2, True), ("OnFailure", "Succeeded", 1, False), ("Never", "Failed", 0, False)],
)
def test_phases_and_restart_counts(started: Lab, policy: str, phase: str, restarts: int, ready: bool) -> None:
    """ "phases and restart counts for Always, OnFailure, Never": fail first, then succeed, then stay."""
    lab, own = started, f"restart-{policy.lower()}"
    lab.until(lambda: lab.container(own)["restartCount"] == restarts and lab.status(own)["phase"] == phase, own)
    lab.until(lambda: lab.container(own)["ready"] is ready, f"{own} ready {ready}")
    lab.delete("pods", own)


@conformance("containers, hooks, init containers", "init containers run, RestartAlways")
def test_init_containers_run_before_a_container_that_stays(lab: Lab) -> None:
    """Each once, one after the other; the pod is initialized and runs."""
    mount = [{"name": "v", "mountPath": "/v"}]
    init = [
        {"name": f"i{n}", "image": IMAGE, "command": ["sh", "-c", f"echo {n} >> /v/log"], "volumeMounts": mount}
        for n in (1, 2)
    ]
    spec = VOLUME | {"initContainers": init, "restartPolicy": "Always"}
    lab.pod("init-stays", "cat /v/log; exec sleep 1000", volumeMounts=mount, spec=spec)
    status = lab.running("init-stays")
    assert {c["type"]: c["status"] for c in status["conditions"]}["Initialized"] == "True"
    assert [s["state"]["terminated"]["exitCode"] for s in status["initContainerStatuses"]] == [0, 0]
    assert [s["restartCount"] for s in status["initContainerStatuses"]] == [0, 0]
    lab.until(lambda: lab.log("init-stays") == "1\n2\n", "both have run")
    assert lab.call("GET", lab.path("pods", "init-stays/log")) == b"1\n2\n", "the one main container needs no name"
    lab.delete("pods", "init-stays")


@conformance(
    "containers, hooks, init containers",
    "init failure fails the pod, RestartNever",
    "init failure retried and app never starts, RestartAlways",
)
def test_a_failed_init_container_ends_or_repeats(started: Lab) -> None:
    """ "init failure fails the pod, RestartNever" and "init failure retried and app never starts, RestartAlways"."""
    lab = started
    never = lab.phase("init-never", "Failed")
    conditions = {c["type"]: c for c in never["conditions"]}
    assert conditions["Initialized"]["message"] == "containers with incomplete status: [i j]"
    for waiting in (never["containerStatuses"][0], never["initContainerStatuses"][1]):
        assert waiting["state"]["waiting"]["reason"] == "PodInitializing"
    lab.until(lambda: lab.container("init-always", "initContainerStatuses")["restartCount"] >= 2, "restarts", 45)
    always = lab.status("init-always")
    assert always["phase"] == "Pending" and always["containerStatuses"][0]["restartCount"] == 0
    lab.delete("pods", "init-always")


def test_restart_rules_of_one_container(lab: Lab) -> None:
    """A container's own rule starts it again for its exit code, whatever the pod's policy; another code ends it."""
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    script = "n=$(cat /v/n 2>/dev/null || echo 0); echo $((n+1)) > /v/n; [ $n = 0 ] && exit 42; exit 7"
    lab.pod(
        "rules",
        script,
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        restartPolicy="Never",
        restartPolicyRules=rules,
        spec=VOLUME,
    )
    status = lab.phase("rules", "Failed")
    only = status["containerStatuses"][0]
    assert (only["restartCount"], only["state"]["terminated"]["exitCode"]) == (1, 7)


def test_sidecars_start_first_and_end_last(lab: Lab) -> None:
    """Probed sidecars hold back what follows, and are ended in reverse order after the main containers."""

    def sidecar(name: str) -> Json:
        script = f"trap 'date +%s%N > /v/{name}; exit 0' TERM; touch /v/{name}-up; while true; do sleep 0.05; done"
        return {
            "name": name,
            "image": IMAGE,
            "restartPolicy": "Always",
            "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "startupProbe": {"exec": {"command": ["test", "-e", f"/v/{name}-up"]}, "periodSeconds": 1},
        }

    folder = {"hostPath": {"path": f"/tmp/{lab.namespace}", "type": "DirectoryOrCreate"}}
    lab.pod(
        "sidecars",
        "ls /v",
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        spec={
            "initContainers": [sidecar("first"), sidecar("second")],
            "volumes": [{"name": "v"} | folder],
            "terminationGracePeriodSeconds": 10,
        },
    )
    assert lab.output("sidecars") == "first-up\nsecond-up\n"
    states = [s["state"]["terminated"]["exitCode"] for s in lab.status("sidecars")["initContainerStatuses"]]
    assert states == [0, 0]
    assert (
        lab.run(
            "order",
            "cat /v/second /v/first | sort -c && rm -r /v/*",
            volumeMounts=[{"name": "v", "mountPath": "/v"}],
            spec={"volumes": [{"name": "v"} | folder]},
        )
        == ""
    )


@conformance(
    "containers, hooks, init containers", "ephemeral containers: add a second", "ephemeral containers: start one"
)
def test_ephemeral_containers_start_one_by_one(lab: Lab) -> None:
    """ "start one" and "add a second"; a target's processes are seen."""
    lab.pod("base", "exec sleep 1000")
    lab.running("base")
    for name in ("one", "two"):
        body = {"name": name, "image": IMAGE, "command": ["sh", "-c", "ps; sleep 1000"], "targetContainerName": "main"}
        lab.patch("pods", "base", {"spec": {"ephemeralContainers": [body]}}, "ephemeralcontainers")
    lab.until(
        lambda: (
            len([s for s in lab.status("base").get("ephemeralContainerStatuses", ()) if "running" in s["state"]]) == 2
        )
    )
    assert "sleep 1000" in lab.until(lambda: lab.log("base", container="one"))
    lab.delete("pods", "base")


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
    lab.pod("no-map", "true", envFrom=[{"configMapRef": {"name": "none"}}])
    lab.pod("no-key", "true", env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x"}}}])
    lab.pod("no-image", "true", image="docker.io/portside/absent:1", imagePullPolicy="Never")
    lab.pod("bad-image", "true", image="Not//An image")
    lab.pod("root", "true", securityContext={"runAsNonRoot": True})
    lab.secret("keys", a="1")
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

        def waiting(name: str = name) -> Json:
            return dict(lab.container(name)["state"].get("waiting") or {})

        lab.until(lambda r=reason, w=waiting: w().get("reason") == r, f"{name}: {reason}")
        assert message in waiting()["message"], json.dumps(waiting())
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
