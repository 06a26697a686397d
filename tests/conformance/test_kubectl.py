"""What people do with kubectl, done with the real kubectl 1.37 against simulated nodes."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Cluster

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "docker.io/portside/busybox:1", ports: [{containerPort: 8080}]}]}
"""


class Namespace:
    """kubectl within a namespace of the test's own."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.name, *words, stdin=stdin, check=check)

    def json(self, *words: str) -> dict[str, object]:
        return dict(json.loads(self("get", *words, "-o", "json")))

    def until(self, what: Callable[[], object], seconds: float = 60.0) -> None:
        """Waits for what a controller is to do."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, f"not within {seconds} s"
            time.sleep(0.1)


@pytest.fixture
def k(simulated: Cluster) -> Iterator[Namespace]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    simulated.kubectl("create", "namespace", name)
    simulated.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    yield Namespace(simulated, name)
    simulated.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def web(k: Namespace) -> Namespace:
    assert k("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web created\n"
    k("rollout", "status", "deployment/web", "--timeout=60s")
    return k


def test_apply_again_changes_nothing_and_a_change_is_seen_by_diff(web: Namespace) -> None:
    assert web("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web unchanged\n"
    changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    assert "+  replicas: 3" in web("diff", "-f", "-", stdin=changed, check=False)
    assert web("apply", "-f", "-", stdin=changed) == "deployment.apps/web configured\n"


def test_server_side_apply_and_its_conflict(k: Namespace) -> None:
    assert k("apply", "--server-side", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web serverside-applied\n"
    other = DEPLOYMENT.replace("replicas: 2", "replicas: 5")
    refused = k("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=other, check=False)
    assert 'conflict with "kubectl": .spec.replicas' in refused
    assert "serverside-applied" in k(
        "apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=other
    )


def test_get_in_its_forms(web: Namespace) -> None:
    table = web("get", "deployments")
    assert re.match(r"NAME\s+READY\s+UP-TO-DATE\s+AVAILABLE\s+AGE\nweb\s+2/2\s+2\s+2\s", table)
    wide = web("get", "pods", "-o", "wide")
    assert re.match(r"NAME\s+READY\s+STATUS\s+RESTARTS\s+AGE\s+IP\s+NODE\s+NOMINATED NODE\s+READINESS GATES\n", wide)
    assert web("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "2"
    assert "kind: Deployment" in web("get", "deployment", "web", "-o", "yaml")
    assert web("get", "deployment", "-o", "name") == "deployment.apps/web\n"
    assert "No resources found in" in web("get", "secrets", check=False)


def test_scale_image_rollout_and_undo(web: Namespace) -> None:
    assert web("scale", "deployment/web", "--replicas=3") == "deployment.apps/web scaled\n"
    web("rollout", "status", "deployment/web", "--timeout=60s")
    assert (
        web("set", "image", "deployment/web", "web=docker.io/portside/busybox:2")
        == "deployment.apps/web image updated\n"
    )
    assert 'deployment "web" successfully rolled out' in web("rollout", "status", "deployment/web", "--timeout=60s")
    history = web("rollout", "history", "deployment/web")
    assert re.search(r"^1 .*\n^2 ", history, re.M)
    assert web("rollout", "undo", "deployment/web") == "deployment.apps/web rolled back\n"
    web("rollout", "status", "deployment/web", "--timeout=60s")
    assert web("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}").endswith(":1")


def test_labels_annotations_and_edits(web: Namespace) -> None:
    assert web("label", "deployment/web", "tier=front") == "deployment.apps/web labeled\n"
    assert web("get", "deployment", "-l", "tier=front", "-o", "name") == "deployment.apps/web\n"
    assert web("label", "deployment/web", "tier-") == "deployment.apps/web unlabeled\n"
    assert web("annotate", "deployment/web", "note=x") == "deployment.apps/web annotated\n"
    assert web("patch", "deployment/web", "-p", '{"spec":{"minReadySeconds":1}}') == "deployment.apps/web patched\n"
    assert "(no change)" in web("patch", "deployment/web", "--type=merge", "-p", '{"spec":{"minReadySeconds":1}}')


def test_describe_explain_and_discovery(web: Namespace) -> None:
    assert "StrategyType:           RollingUpdate" in web("describe", "deployment", "web")
    web.until(lambda: "ScalingReplicaSet" in web("describe", "deployment", "web"))  # events come after what they tell
    web.until(lambda: re.search(r"Normal +Scheduled ", web("describe", "pods", "--show-events")))
    assert "FIELD: replicas <integer>" in web("explain", "deployment.spec.replicas")
    assert "containers" in web("explain", "pod", "--recursive")
    listed = web("api-resources")
    assert re.search(r"^deployments\s+deploy\s+apps/v1\s+true\s+Deployment$", listed, re.M)
    assert "v1\n" in web("api-versions")
    assert "is running at" in web("cluster-info")
    assert "Server Version: v1.37" in web("version")


def test_run_expose_and_wait(k: Namespace) -> None:
    assert k("run", "one", "--image=docker.io/portside/busybox:1", "--port=80") == "pod/one created\n"
    assert k("wait", "pod/one", "--for=condition=Ready", "--timeout=60s") == "pod/one condition met\n"
    assert k("expose", "pod", "one", "--port=80") == "service/one exposed\n"
    address = k("get", "pod", "one", "-o", "jsonpath={.status.podIP}")
    where = "jsonpath={.items[*].endpoints[*].addresses[0]}"
    k.until(lambda: k("get", "endpointslices", "-l", "kubernetes.io/service-name=one", "-o", where) == address)
    assert k("delete", "pod", "one") == f'pod "one" deleted from {k.name} namespace\n'
    assert "NotFound" in k("get", "pod", "one", check=False)


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_deleting_an_owner_deletes_what_it_owns(web: Namespace, cascade: str) -> None:
    web("delete", "deployment", "web", f"--cascade={cascade}")
    web("wait", "--for=delete", "replicaset,pod", "-l", "app=web", "--timeout=60s")


def test_orphans_stay(web: Namespace) -> None:
    web("delete", "deployment", "web", "--cascade=orphan")
    assert web("get", "replicasets", "-o", "name").startswith("replicaset.apps/web-")
    assert web("get", "replicasets", "-o", "jsonpath={.items[*].metadata.ownerReferences}") == ""


def test_who_am_i_and_may_i(k: Namespace) -> None:
    assert "system:masters" in k("auth", "whoami")
    assert k("auth", "can-i", "create", "pods").strip() == "yes"
    assert (
        k("auth", "can-i", "list", "secrets", f"--as=system:serviceaccount:{k.name}:default", check=False).strip()
        == "no"
    )


def test_cordon_drain_and_return(web: Namespace) -> None:
    node = web("get", "pods", "-o", "jsonpath={.items[0].spec.nodeName}")
    try:
        assert web("cordon", node) == f"node/{node} cordoned\n"
        assert f"node/{node} drained" in web(
            "drain", node, "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=60s"
        )
        assert node not in web("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}").split()
    finally:
        assert web("uncordon", node) == f"node/{node} uncordoned\n"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (
            '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":{"containers":[{"name":"c","image":"i","imagee":"x"}]}}',
            r'unknown field "spec.containers\[0\].imagee"',
        ),
        ('{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":{}}', r"spec.containers: Required value"),
        (
            '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"B_"},"spec":{"containers":[{"name":"c","image":"i"}]}}',
            r"RFC 1123",
        ),
        (
            '{"apiVersion":"nope/v1","kind":"Nope","metadata":{"name":"x"}}',
            r'no matches for kind "Nope" in version "nope/v1"',
        ),
        (
            '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"b"},"spec":{"containers":"nope"}}',
            r"cannot unmarshal|cannot|invalid",
        ),
    ],
)
def test_bad_manifests_are_refused_in_upstreams_words(k: Namespace, manifest: str, words: str) -> None:
    assert re.search(words, k("apply", "-f", "-", stdin=manifest, check=False))
    assert "NotFound" in k("get", "pod", "b", check=False)


def test_a_watch_shows_what_happens(k: Namespace) -> None:
    command = [
        str(k.cluster.tools / "kubectl"),
        "--kubeconfig",
        str(k.cluster.kubeconfig),
        "-n",
        k.name,
        "get",
        "configmaps",
        "-w",
        "-o",
        "name",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "configmap/kube-root-ca.crt\n"
        k("create", "configmap", "seen")
        assert process.stdout.readline() == "configmap/seen\n"
    finally:
        process.kill()
        process.wait()


def test_tokens_for_service_accounts(k: Namespace) -> None:
    k("create", "serviceaccount", "robot")
    token = k("create", "token", "robot", "--duration=1h").strip()
    assert token.count(".") == 2
    k("create", "rolebinding", "robot", "--clusterrole=view", f"--serviceaccount={k.name}:robot")
    assert "yes" in k("auth", "can-i", "get", "pods", f"--as=system:serviceaccount:{k.name}:robot")
    assert "no" in k("auth", "can-i", "delete", "pods", f"--as=system:serviceaccount:{k.name}:robot", check=False)


def test_duplicate_keys_are_seen_while_parsing(k: Namespace) -> None:
    body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"},"data":{"a":"1","a":"2"}}'
    path = f"/api/v1/namespaces/{k.name}/configmaps?fieldValidation=Strict"
    assert 'duplicate field "data.a"' in k("create", "--raw", path, "-f", "-", stdin=body, check=False)
