"""portside why: what containers suffer from, brought about with real containers. All pods start at once; tests ask."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.asking import IMAGE, Asker, Json, workload
from tests.conftest import Cluster

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SLEEP = ["sh", "-c", "exec sleep 3600"]


def sh(script: str) -> Json:
    return {"command": ["sh", "-c", script]}


def probe(kind: str, **more: Any) -> Json:
    return {kind: {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1, **more}, "command": SLEEP}


def key(source: str, name: str, entry: str) -> Json:
    return {"env": [{"name": "A", "valueFrom": {source: {"name": name, "key": entry}}}], "command": SLEEP}


# name of the pod: (container, spec)
PODS: dict[str, tuple[Json, Json]] = {
    "no-name": ({"image": "Not//An:Image:Name"}, {}),
    "never": ({"image": "example.com/none:1", "imagePullPolicy": "Never"}, {}),
    "unreachable": ({"image": "127.0.0.1:1/none:1"}, {}),
    "no-program": ({"command": ["/no/such/program"]}, {}),
    "greedy": (
        sh("x=a; while :; do x=$x$x; done") | {"resources": {"limits": {"memory": "16Mi"}}},
        {},
    ),
    "starting": (probe("startupProbe", failureThreshold=1000), {}),
    "restarting": (probe("livenessProbe"), {"terminationGracePeriodSeconds": 1}),
    "unready": (probe("readinessProbe"), {}),
    "crashing": (sh("exit 3"), {}),
    "again": (
        sh("[ -e /v/f ] && exec sleep 3600; touch /v/f; exit 6") | {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        {"volumes": [{"name": "v", "emptyDir": {}}]},
    ),
    "failed": (sh("exit 4"), {"restartPolicy": "Never"}),
    "as-root": ({"command": SLEEP}, {"securityContext": {"runAsNonRoot": True}}),
    "waiting": ({"command": SLEEP}, {"initContainers": [{"name": "first", "image": IMAGE, "command": SLEEP}]}),
    "no-map": ({"envFrom": [{"configMapRef": {"name": "nowhere"}}], "command": SLEEP}, {}),
    "no-secret": ({"command": SLEEP}, {"volumes": [{"name": "v", "secret": {"secretName": "nowhere"}}]}),
    "no-key": (key("configMapKeyRef", "settings", "colour"), {}),
    "no-folder": (
        {"command": SLEEP},
        {"volumes": [{"name": "v", "hostPath": {"path": "/no/such", "type": "Directory"}}]},
    ),
    "no-handler": ({"command": SLEEP}, {}),
    "late": ({"command": SLEEP}, {"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 1}),
    "unsafe": (
        {"command": SLEEP},
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}},
    ),
}


@pytest.fixture(scope="module")
def k(real: Cluster) -> Iterator[Asker]:
    namespace = f"why-{uuid.uuid4().hex[:6]}"
    real.kubectl("create", "namespace", namespace)
    real.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=60s")
    asker = Asker(real.kubeconfig, namespace)
    asker.make("ConfigMap", "settings", data={"color": "red"})
    asker.make("RuntimeClass", namespace, handler="nobody")
    for name, (container, spec) in PODS.items():
        more = {"runtimeClassName": namespace} if name == "no-handler" else {}
        asker.pod(name, None, container, **spec, **more)
    yield asker
    asker.delete("runtimeclasses", namespace)
    asker.api.close()
    real.kubectl("delete", "namespace", namespace, "--wait=false", check=False)


@pytest.mark.parametrize(
    ("cause", "name", "words"),
    [
        ("image-name-invalid", "no-name", ["is no name of an image", "spec.containers[main].image"]),
        ("image-not-present", "never", ["may not be pulled", "imagePullPolicy = Never"]),
        ("image-pull", "unreachable", ["can't be pulled", "its registry can't be reached", "127.0.0.1:1/none:1"]),
        ("command-missing", "no-program", ["the program that container main is to start", "/no/such/program"]),
        ("out-of-memory", "greedy", ["its limit of 16Mi", "reason = OOMKilled", "limits.memory"]),
        ("startup-probe", "starting", ["the startup probe of container main fails", "Startup probe failed"]),
        ("liveness-probe", "restarting", ["and it is restarted", "Liveness probe failed"]),
        ("restarted-lately", "again", ["runs, but was restarted", "exit code 6", "lastState.terminated.exitCode = 6"]),
        ("readiness-probe", "unready", ["so no Service sends anything", "Readiness probe failed"]),
        ("crash-loop", "crashing", ["ends with exit code 3 each time", "restartCount", "kubectl logs crashing"]),
        ("container-failed", "failed", ["ended with exit code 4", "spec.restartPolicy = Never"]),
        ("container-refused", "as-root", ["runAsNonRoot", "CreateContainerConfigError"]),
        ("init-container-waits", "waiting", ["init container first has not ended yet", "kubectl logs waiting"]),
        ("configmap-missing", "no-map", ["the ConfigMap nowhere does not exist", "envFrom[0].configMapRef.name"]),
        ("secret-missing", "no-secret", ["the Secret nowhere does not exist", "spec.volumes[v].secret.secretName"]),
        ("key-missing", "no-key", ["the ConfigMap settings has no key colour", "data has the keys = color"]),
        ("volume-not-mounted", "no-folder", ["can't be mounted", "/no/such"]),
        ("sandbox-refused", "no-handler", ["can't make the pod's sandbox", "nobody"]),
        ("pod-deadline", "late", ["longer than its 1 s", "spec.activeDeadlineSeconds = 1"]),
        ("node-refused", "unsafe", ["SysctlForbidden", "kernel.msgmax"]),
    ],
)
def test_the_cause_is_told(k: Asker, cause: str, name: str, words: list[str]) -> None:
    found = k.says(cause, f"pod/{name}", *words)
    assert found["object"]["name"] == name


def test_pods_of_a_deployment_with_one_trouble_are_told_once(k: Asker, real: Cluster) -> None:
    k.make("Deployment", "broken", workload("broken", sh("exit 5"), replicas=3))
    k.make("Service", "broken", {"selector": {"app": "broken"}, "ports": [{"port": 80}]})
    k.tells("svc/broken", ("crash-loop", 3))
    k.says("service-none-ready", "svc/broken", "none of its 3 pods is ready", consequence=True)
    # Each pod runs for a moment now and then, and is no trouble meanwhile.
    words = "container main ends with exit code 5 each time it is started"

    def told() -> subprocess.CompletedProcess[str] | None:
        done = real.portside("why", "deploy", "broken", "-n", k.namespace, check=False)
        return done if words in done.stdout else None

    done = k.until(told)
    assert done.returncode == 9, done.stderr
    k.delete("deployments", "broken")
