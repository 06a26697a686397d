"""Conformance: admission webhooks, with the real kubectl and a webhook server of the tests' own."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.admission_fixture import Ground, rule
from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.webhook_server import WebhookServer, allow, deny, patching

Json = dict[str, Any]
CONFIG_MAPS = rule("configmaps", "*")
POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {schedulerName: nobody, containers: [{name: c, image: "docker.io/portside/busybox:1"}]}
"""


@pytest.fixture(scope="module")
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


@pytest.fixture
def ground(simulated: Cluster, hooks: WebhookServer) -> Iterator[Ground]:
    made = Ground(simulated, hooks)
    yield made
    made.leave()


def marks(label: str) -> Any:
    """A webhook that notes its turn in the data of a config map."""
    return patching({"op": "add", "path": f"/data/{label}", "value": "yes"})


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            "Mutating", marks=conformance("admission webhooks", "list + deletecollection of mutating configurations")
        ),
        pytest.param(
            "Validating",
            marks=conformance("admission webhooks", "list + deletecollection of validating configurations"),
        ),
    ],
)
def test_list_and_deletecollection_of_configurations(ground: Ground, kind: str) -> None:
    for n in range(3):
        ground.configure(kind, f"c{n}", ground.hook(f"c{n}", deny("no"), CONFIG_MAPS))
    plural = f"{kind.lower()}webhookconfigurations"
    assert len(ground.get(plural, "-l", f"ground={ground.name}")["items"]) == 3
    assert "denied the request: no" in ground.refused("create", "configmap", "a")
    ground("delete", plural, "-l", f"ground={ground.name}")
    assert ground.get(plural, "-l", f"ground={ground.name}")["items"] == []
    ground("create", "configmap", "a")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            "Mutating", marks=conformance("admission webhooks", "update/patch a mutating webhook's rules takes effect")
        ),
        pytest.param(
            "Validating",
            marks=conformance("admission webhooks", "update/patch a validating webhook's rules takes effect"),
        ),
    ],
)
def test_update_or_patch_of_rules_takes_effect(ground: Ground, kind: str) -> None:
    made = ground.configure(kind, "r", ground.hook("r", deny("closed"), CONFIG_MAPS))
    assert "denied the request: closed" in ground.refused("create", "configmap", "a")
    ground(
        "patch",
        made,
        "--type=json",
        "-p",
        '[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["DELETE"]}]',
    )
    ground("create", "configmap", "a")
    kind_of, _, name = made.partition("/")
    ground.replace(kind_of, name, lambda body: body["webhooks"][0]["rules"][0].update(operations=["CREATE"]))
    assert "denied the request: closed" in ground.refused("create", "configmap", "b")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            "Mutating",
            marks=conformance("admission webhooks", "mutating configuration stores and updates matchConditions"),
        ),
        pytest.param(
            "Validating",
            marks=conformance("admission webhooks", "validating configuration stores and updates matchConditions"),
        ),
    ],
)
def test_match_conditions_are_stored_and_updated(ground: Ground, kind: str) -> None:
    said = [{"name": "not-mine", "expression": "object.metadata.name != 'mine'"}]
    made = ground.configure(kind, "m", ground.hook("m", deny("no"), CONFIG_MAPS, matchConditions=said))
    assert ground.get(made)["webhooks"][0]["matchConditions"] == said
    more = [*said, {"name": "not-yours", "expression": "object.metadata.name != 'yours'"}]
    ground(
        "patch",
        made,
        "--type=json",
        "-p",
        json.dumps([{"op": "replace", "path": "/webhooks/0/matchConditions", "value": more}]),
    )
    assert ground.get(made)["webhooks"][0]["matchConditions"] == more
    ground("create", "configmap", "yours")
    assert "denied the request: no" in ground.refused("create", "configmap", "theirs")


@conformance("admission webhooks", "deny attach (CONNECT on pods/attach)")
def test_deny_attach(ground: Ground) -> None:
    ground("create", "-f", "-", stdin=POD % "shell")
    ground.configure(
        "Validating", "attach", ground.hook("attach", deny("attaching is off"), rule("pods/attach", "CONNECT"))
    )
    assert "attaching is off" in ground.refused("attach", "shell", "-i", "-c", "c")
    (asked, *_) = ground.asked("attach")
    assert (asked["name"], asked["operation"], asked["object"]["kind"]) == ("shell", "CONNECT", "PodAttachOptions")


@conformance(
    "admission webhooks", "deny pod and configmap create/update/patch; hang gives timeout; namespaceSelector bypass"
)
def test_deny_pods_and_configmaps_with_timeouts_and_a_bypass(ground: Ground, simulated: Cluster) -> None:
    def no_offence(request: Json) -> Json:
        bad = "offensive" in (request["object"].get("data") or {}).values()
        return {"allowed": not bad, "status": {"message": "the configmap contains unwanted key and value"}}

    pods, maps = rule("pods", "CREATE"), rule("configmaps")
    ground.configure(
        "Validating",
        "deny",
        ground.hook("pods", deny("the pod contains unwanted container name"), pods, objectSelector={"matchExpressions": [{"key": "hang", "operator": "DoesNotExist"}]}),
        ground.hook("maps", no_offence, maps),
        ground.hook("hang", allow, pods, delay=30, timeoutSeconds=1, objectSelector={"matchLabels": {"hang": "1"}}),
    )  # fmt: skip
    assert "the pod contains unwanted container name" in ground.refused("create", "-f", "-", stdin=POD % "p")
    hanging = POD.replace("{name: %s}", "{name: h, labels: {hang: '1'}}")
    assert "context deadline exceeded" in ground.refused("create", "-f", "-", stdin=hanging)
    unwanted = "the configmap contains unwanted key and value"
    assert unwanted in ground.refused("create", "configmap", "a", "--from-literal=mutation=offensive")
    ground("create", "configmap", "a", "--from-literal=mutation=fine")
    replaced = ground.get("configmap", "a") | {"data": {"mutation": "offensive"}}
    assert unwanted in ground.refused("replace", "-f", "-", stdin=json.dumps(replaced))
    assert unwanted in ground.refused("patch", "configmap", "a", "-p", '{"data":{"mutation":"offensive"}}')
    ground("label", "--overwrite", "namespace", ground.name, "ground=elsewhere")
    ground("create", "-f", "-", stdin=POD % "p")
    ground("patch", "configmap", "a", "-p", '{"data":{"mutation":"offensive"}}')


@conformance("admission webhooks", "deny CRD creation")
def test_deny_the_creation_of_custom_resource_definitions(ground: Ground) -> None:
    crds = rule("customresourcedefinitions", "CREATE", group="apiextensions.k8s.io")
    mine = {"matchLabels": {"ground": ground.name}}
    hook = ground.hook("crd", deny("the custom resource definition contains unwanted label"), crds)
    ground.configure("Validating", "crd", hook | {"namespaceSelector": {}, "objectSelector": mine})
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{ground.name}.example.com", "labels": mine["matchLabels"]},
        "spec": {
            "group": f"{ground.name}.example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    assert "contains unwanted label" in ground.put(definition, check=False)
    assert "not found" in ground("get", "crd", definition["metadata"]["name"], check=False)  # type: ignore[index]


@conformance("admission webhooks", "timeoutSeconds x failurePolicy matrix honoured")
@pytest.mark.parametrize(
    ("seconds", "policy", "delay", "passes"),
    [(1, "Fail", 60, False), (1, "Ignore", 60, True), (10, "Fail", 1, True), (None, "Fail", 1, True)],
)
def test_time_outs_and_failure_policies(
    ground: Ground, seconds: int | None, policy: str, delay: float, passes: bool
) -> None:
    more = {"timeoutSeconds": seconds} if seconds else {}
    made = ground.configure(
        "Validating", "slow", ground.hook("slow", allow, CONFIG_MAPS, delay=delay, failurePolicy=policy, **more)
    )
    assert ground.get(made)["webhooks"][0]["timeoutSeconds"] == (seconds or 10)
    began = time.monotonic()
    if passes:
        ground("create", "configmap", "a")
    else:
        assert f'?timeout={seconds}s": context deadline exceeded' in ground.refused("create", "configmap", "a")
    assert time.monotonic() - began < 30, "nobody waits for a webhook longer than it may take"
    if delay < 60:
        assert ground.hooks.queries[f"/{ground.name}/slow"] == [f"timeout={seconds or 10}s"]


@conformance("admission webhooks", "admissionregistration group in discovery documents")
def test_the_group_in_discovery_documents(ground: Ground) -> None:
    groups = json.loads(ground("get", "--raw", "/apis"))["groups"]
    found = next(g for g in groups if g["name"] == "admissionregistration.k8s.io")
    assert {"groupVersion": "admissionregistration.k8s.io/v1", "version": "v1"} in found["versions"]
    assert json.loads(ground("get", "--raw", "/apis/admissionregistration.k8s.io"))["name"] == found["name"]
    listed = json.loads(ground("get", "--raw", "/apis/admissionregistration.k8s.io/v1"))["resources"]
    assert {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} <= {r["name"] for r in listed}


@conformance("admission webhooks", "two mutating webhooks run in order on a configmap")
def test_two_mutating_webhooks_run_in_order_on_a_configmap(ground: Ground) -> None:
    def second(request: Json) -> Json:
        seen = "yes" if "stage-1" in request["object"]["data"] else "no"
        made: Json = patching({"op": "add", "path": "/data/stage-2", "value": seen})(request)  # type: ignore[assignment]
        return made

    ground.configure("Mutating", "m1", ground.hook("one", marks("stage-1"), CONFIG_MAPS))
    ground.configure("Mutating", "m2", ground.hook("two", second, CONFIG_MAPS))
    ground("create", "configmap", "a", "--from-literal=start=yes")
    assert ground.get("configmap", "a")["data"] == {"start": "yes", "stage-1": "yes", "stage-2": "yes"}


@conformance("admission webhooks", 'matchConditions: mutate everything but configmap "skip-me"')
def test_everything_but_skip_me_is_mutated(ground: Ground) -> None:
    said = [{"name": "skip", "expression": "object.metadata.name != 'skip-me'"}]
    ground.configure("Mutating", "skip", ground.hook("skip", marks("mutated"), CONFIG_MAPS, matchConditions=said))
    for name in ("skip-me", "other"):
        ground("create", "configmap", name, "--from-literal=a=b")
    assert ground.get("configmap", "skip-me")["data"] == {"a": "b"}
    assert ground.get("configmap", "other")["data"] == {"a": "b", "mutated": "yes"}


@conformance("admission webhooks", "pod mutated, then defaults applied to the added container")
def test_a_mutated_pod_gets_defaults(ground: Ground) -> None:
    added = {"name": "webhook-added-init-container", "image": "docker.io/portside/busybox:1"}
    patch = patching({"op": "add", "path": "/spec/initContainers", "value": [added]})
    ground.configure("Mutating", "pod", ground.hook("pod", patch, rule("pods", "CREATE")))
    ground("create", "-f", "-", stdin=POD % "p")
    (container,) = ground.get("pod", "p")["spec"]["initContainers"]
    assert container["name"] == added["name"]
    assert container["terminationMessagePolicy"] == "File" and container["imagePullPolicy"] == "IfNotPresent"


@conformance("admission webhooks", "webhook configuration objects can't be mutated or blocked")
def test_configurations_can_be_neither_mutated_nor_blocked(ground: Ground) -> None:
    own = {"matchLabels": {"ground": ground.name}}
    everything = {"namespaceSelector": {}, "objectSelector": own}
    kinds = [
        rule(f"{kind}webhookconfigurations", "*", group="admissionregistration.k8s.io")
        for kind in ("mutating", "validating")
    ]
    patch = patching({"op": "add", "path": "/metadata/labels/spoilt", "value": "yes"})
    ground.configure("Validating", "guard", ground.hook("guard", deny("never"), *kinds) | everything)
    ground.configure("Mutating", "spoil", ground.hook("spoil", patch, *kinds) | everything)
    for kind in ("Mutating", "Validating"):
        made = ground.configure(kind, "dummy", ground.hook("dummy", allow, rule("none")))
        assert ground.get(made)["metadata"]["labels"] == {"ground": ground.name}
        ground("delete", made)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            "Mutating",
            marks=conformance(
                "admission webhooks", 'invalid CEL in mutating matchConditions rejected ("compilation failed")'
            ),
        ),
        pytest.param(
            "Validating", marks=conformance("admission webhooks", "invalid CEL in validating matchConditions rejected")
        ),
    ],
)
def test_conditions_that_do_not_compile_are_refused(ground: Ground, kind: str) -> None:
    said = [{"name": "bad", "expression": "... [] bad expression"}]
    hook = ground.hook("bad", allow, CONFIG_MAPS, matchConditions=said)
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": f"bad-{ground.name}"},
    }
    assert "compilation failed" in ground.put(body | {"webhooks": [hook]}, check=False)


@conformance("admission webhooks", "unreachable webhook with fail policy rejects always")
def test_an_unreachable_webhook_that_must_not_fail_rejects_everything(ground: Ground) -> None:
    ground.configure(
        "Validating", "gone", ground.hook("gone", None, rule("configmaps", "CREATE"), failurePolicy="Fail")
    )
    said = ground.refused("create", "configmap", "a")
    assert (
        f'failed calling webhook "gone.{ground.name}.example.com": failed to call webhook: Post "https://127.0.0.1:1/none'
        in said
    )
    assert "connection refused" in said


def test_a_patch_is_base64_of_a_json_patch(ground: Ground) -> None:
    text = base64.b64encode(b"not a patch").decode()
    bad = ground.hook("odd", lambda r: {"allowed": True, "patchType": "JSONPatch", "patch": text}, CONFIG_MAPS)
    ground.configure("Mutating", "odd", bad)
    assert "received undecodable patch in webhook response" in ground.refused("create", "configmap", "a")
