"""Conformance "Node": the life of containers: hooks, termination messages, init containers, sidecars, restarts, ends."""

from __future__ import annotations

import pytest

from tests.conformance.names import conformance
from tests.real.lab import IMAGE, Json, Lab

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
VOLUME = {"volumes": [{"name": "v", "emptyDir": {}}]}
FAILS_FIRST = (
    "n=$(cat /v/n 2>/dev/null || echo 0); echo $((n+1)) > /v/n; "
    "if [ $n = 0 ]; then exit 1; fi; if [ $n = 1 ]; then exit 0; fi; exec sleep 1000"
)


@pytest.fixture(scope="module", autouse=True)
def started(lab: Lab) -> Lab:
    """Pods that need a while, begun before the first test."""
    for policy in ("Always", "OnFailure", "Never"):
        mount = [{"name": "v", "mountPath": "/v"}]
        lab.pod(f"restart-{policy.lower()}", FAILS_FIRST, volumeMounts=mount, spec=VOLUME | {"restartPolicy": policy})
    init = [{"name": "i", "image": IMAGE, "command": ["false"]}, {"name": "j", "image": IMAGE, "command": ["true"]}]
    for policy in ("Always", "Never"):
        lab.pod(f"init-{policy.lower()}", "true", spec={"initContainers": init, "restartPolicy": policy})
    return lab


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
    answers = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    lab.pod(
        "server",
        'mkdir -p /www/cgi-bin; printf \'#!/bin/sh\\necho "$QUERY_STRING $HTTP_X_HOOK" >> /hits\\n'
        "echo; echo ok' > /www/cgi-bin/hit; chmod +x /www/cgi-bin/hit; touch /hits; httpd -p 8080 -h /www; tail -f /hits",
        readinessProbe=answers,
    )
    lab.ready("server")
    host = lab.status("server")["podIP"]

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
        lab.pod(f"hook-{name}", "exec sleep 1000", lifecycle=hook, spec={"terminationGracePeriodSeconds": 60})
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
    lab.until(lambda: lab.container("init-always", "initContainerStatuses")["restartCount"] >= 2, "restarts")
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
            "startupProbe": {
                "exec": {"command": ["test", "-e", f"/v/{name}-up"]},
                "periodSeconds": 1,
                "failureThreshold": 300,
            },
        }

    folder = {"hostPath": {"path": f"/tmp/{lab.namespace}", "type": "DirectoryOrCreate"}}
    lab.pod(
        "sidecars",
        "ls /v",
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
        spec={
            "initContainers": [sidecar("first"), sidecar("second")],
            "volumes": [{"name": "v"} | folder],
            "terminationGracePeriodSeconds": 90,
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
    lab.pod("base", "exec sleep 4321")
    lab.running("base")
    for name in ("one", "two"):
        body = {"name": name, "image": IMAGE, "command": ["sh", "-c", "ps; sleep 1000"], "targetContainerName": "main"}
        lab.patch("pods", "base", {"spec": {"ephemeralContainers": [body]}}, "ephemeralcontainers")
    lab.until(
        lambda: (
            len([s for s in lab.status("base").get("ephemeralContainerStatuses", ()) if "running" in s["state"]]) == 2
        )
    )
    lab.until(lambda: "sleep 4321" in lab.log("base", container="one"), "the target's process")
    lab.delete("pods", "base")
