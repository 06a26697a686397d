"""What users rely on about pods: defaults, refusals in order, what an update may change, warnings, QoS."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from portside.api.rules.pod_resources import qos_class
from portside.api.rules.pod_security_standards import check
from portside.api.rules.registry import Context, rules_for
from portside.api.status import invalid

Json = dict[str, Any]
POD = rules_for("", "v1", "Pod")
CTX = Context(now="2026-01-01T00:00:00Z", namespace="default")


def pod(spec: Json | None = None, **meta: Any) -> Json:
    base: Json = {"containers": [{"name": "c", "image": "nginx:1.27"}]}
    obj = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", **meta},
        "spec": copy.deepcopy(base | (spec or {})),
    }
    POD.default(obj)
    return obj


def refusals(obj: Json) -> list[str]:
    return [str(e) for e in POD.before_create(obj, CTX)]


def stored(spec: Json | None = None, **meta: Any) -> Json:
    obj = pod(spec, **meta)
    assert refusals(obj) == []
    return obj


def test_a_good_pod_does_not_speak_for_another() -> None:
    bad = {"containers": [{"name": "c", "image": "nginx:1.27", "ports": [{"containerPort": 0}]}]}
    claim = {
        "name": "v",
        "ephemeral": {
            "volumeClaimTemplate": {
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}
            }
        },
    }
    for _ in range(3):
        assert refusals(pod()) == []
        assert refusals(pod(bad)) == ["spec.containers[0].ports[0].containerPort: Required value"]
        annotated = pod(annotations={"container.apparmor.security.beta.kubernetes.io/other": "runtime/default"})
        assert len(refusals(annotated)) == 1, "annotations count too"
        assert refusals(pod({"volumes": [claim]})) == []
        assert len(refusals(pod({"volumes": [claim]}, name="x" * 253))) == 1, (
            "and the name, where a claim is called by it"
        )
        assert len(refusals(pod(name="X"))) == 1


def test_a_small_pod_gets_upstreams_defaults_and_defaulting_twice_changes_nothing() -> None:
    obj = stored()
    assert obj["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "nginx:1.27",
                "imagePullPolicy": "IfNotPresent",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }
    assert obj["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert obj["metadata"]["generation"] == 1
    again = copy.deepcopy(obj)
    POD.default(again)
    assert again == obj


def test_probes_ports_volumes_and_requests_are_filled() -> None:
    obj = stored(
        {
            "hostNetwork": True,
            "containers": [
                {
                    "name": "c",
                    "image": "reg.example:5000/app",
                    "ports": [{"containerPort": 80}],
                    "readinessProbe": {"httpGet": {"port": 80}},
                    "resources": {"limits": {"cpu": "0.5", "memory": "1024Ki"}},
                }
            ],
            "volumes": [
                {"name": "a"},
                {"name": "b", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
        }
    )
    container = obj["spec"]["containers"][0]
    assert container["imagePullPolicy"] == "Always"
    assert container["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert container["readinessProbe"]["httpGet"] == {"port": 80, "path": "/", "scheme": "HTTP"}
    assert container["readinessProbe"]["periodSeconds"] == 10
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "1Mi"} == container["resources"]["limits"]
    assert obj["spec"]["volumes"][0] == {"name": "a", "emptyDir": {}}
    token = obj["spec"]["volumes"][1]["projected"]
    assert token == {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}


def test_all_mistakes_are_told_at_once_in_upstreams_order() -> None:
    obj = pod(
        {
            "containers": [
                {
                    "name": "C",
                    "image": "",
                    "env": [{"value": "x"}],
                    "volumeMounts": [{"name": "nope", "mountPath": "/a"}],
                    "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}},
                }
            ],
            "restartPolicy": "Perhaps",
            "nodeSelector": {"a": "b c"},
        },
        labels={"a b": "c"},
    )
    fields = [e.field for e in POD.before_create(obj, CTX)]
    assert fields == [
        "metadata.labels",
        "spec.containers[0].name",
        "spec.containers[0].image",
        "spec.containers[0].env[0].name",
        "spec.containers[0].volumeMounts[0].name",
        "spec.containers[0].resources.requests",
        "spec.restartPolicy",
        "spec.nodeSelector",
    ]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        (
            {"containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "a"}]}}]},
            'spec.containers[0].resources.claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims '
            "which is empty",
        ),
        (
            {
                "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "x"}]}}],
                "resourceClaims": [{"name": n, "resourceClaimName": n} for n in ("b", "a")],
            },
            'spec.containers[0].resources.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims: a, b',
        ),
        (
            {"tolerations": [{"key": "a", "operator": "Gt", "value": "1"}]},
            'spec.tolerations[0].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt"',
        ),
        (
            {"schedulingGates": [{"name": "a"}], "nodeName": "n"},
            "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]},
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            {"ephemeralContainers": [{"name": "d", "image": "x"}]},
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
    ],
)
def test_refusals_have_upstreams_words(spec: Json, text: str) -> None:
    assert refusals(pod(spec)) == [text]


def update(old: Json, change: Json) -> tuple[Json, list[str]]:
    new = copy.deepcopy(old)
    new["spec"] |= copy.deepcopy(change)
    POD.default(new)
    return new, [str(e) for e in POD.before_update(new, old, CTX)]


def test_an_update_may_change_the_image_and_counts_the_generation() -> None:
    old = stored()
    container = old["spec"]["containers"][0] | {"image": "nginx:1.28"}
    new, errors = update(old, {"containers": [container]})
    assert errors == []
    assert new["metadata"]["generation"] == 2
    assert new["status"] == old["status"]


def test_another_change_is_refused_with_a_diff_of_the_internal_spec() -> None:
    old = stored()
    _, errors = update(old, {"restartPolicy": "Never"})
    assert len(errors) == 1
    assert errors[0].startswith(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    )
    assert '- "RestartPolicy": "Always",\n+ "RestartPolicy": "Never",' in errors[0]
    _, errors = update(old, {"containers": [*old["spec"]["containers"], {"name": "d", "image": "x"}]})
    assert errors == ["spec.containers: Forbidden: pod updates may not add or remove containers"]


def test_a_gated_pod_may_be_narrowed_but_not_moved() -> None:
    old = stored({"schedulingGates": [{"name": "a.b/c"}], "nodeSelector": {"k": "v"}})
    assert old["status"]["conditions"][0]["reason"] == "SchedulingGated"
    assert update(old, {"nodeSelector": {"k": "v", "more": "1"}})[1] == []
    assert update(old, {"nodeSelector": {"k": "w"}})[1] == [
        'spec.nodeSelector: Invalid value: {"k":"w"}: '
        "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    ]


def test_resize_changes_resources_alone_and_keeps_the_qos_class() -> None:
    old = stored({"containers": [{"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "1"}}}]})
    new = copy.deepcopy(old)
    new["spec"]["containers"][0] |= {"image": "other:1", "resources": {"requests": {"cpu": "2"}}}
    assert POD.before_sub_update("resize", new, old, CTX) == []
    assert new["spec"]["containers"][0]["image"] == "x:1"
    assert new["metadata"]["generation"] == 2
    bad = copy.deepcopy(old)
    bad["spec"]["containers"][0]["resources"] = {}
    texts = [str(e) for e in POD.before_sub_update("resize", bad, old, CTX)]
    assert texts == [
        'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing',
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
    ]


def test_a_status_write_keeps_the_spec_and_an_ended_container_stays_ended() -> None:
    old = stored({"restartPolicy": "Never"})
    ended = {"terminated": {"exitCode": 1}}
    new = copy.deepcopy(old)
    new["spec"]["hostname"] = "x"
    new["status"] = {"containerStatuses": [{"name": "c", "state": copy.deepcopy(ended)}]}
    assert POD.before_sub_update("status", new, old, CTX) == []
    assert "hostname" not in new["spec"]
    assert new["status"]["qosClass"] == "BestEffort"
    again = copy.deepcopy(new)
    again["status"]["containerStatuses"][0]["state"] = {"running": {}}
    texts = [str(e) for e in POD.before_sub_update("status", again, new, CTX)]
    assert texts == ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]


def test_warnings_name_what_is_deprecated_or_twice() -> None:
    obj = pod(
        {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{"name": "c", "image": "x", "env": [{"name": "A"}, {"name": "A"}]}],
        },
        name="web.0",
    )
    found = POD.warnings(obj, None, CTX)
    assert [w.partition(":")[0] for w in found] == [
        "metadata.name",
        "spec.nodeSelector[beta.kubernetes.io/os]",
        "spec.containers[0].env[1]",
    ]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"example.com/gpu": "1"}}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}, "Guaranteed"),
    ],
)
def test_qos_class(resources: Json, expected: str) -> None:
    assert qos_class({"containers": [{"resources": resources}]}) == expected


def test_pod_security_levels_word_their_findings() -> None:
    obj = pod({"hostNetwork": True})
    assert check("privileged", "latest", obj) == ""
    assert check("baseline", "latest", obj) == "host namespaces (hostNetwork=true)"
    assert check("restricted", "v1.21", pod()).startswith(
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)'
    )
    safe = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert (
        check("restricted", "latest", pod({"containers": [{"name": "c", "image": "x", "securityContext": safe}]})) == ""
    )


def test_the_refusal_as_a_status_is_json() -> None:
    errors = POD.before_create(
        pod(
            {
                "containers": [
                    {
                        "name": "c",
                        "image": "x",
                        "securityContext": {"privileged": True, "allowPrivilegeEscalation": False},
                    }
                ]
            }
        ),
        CTX,
    )
    body = invalid("Pod", "web", errors).status
    assert json.loads(json.dumps(body))["details"]["causes"][0]["message"].startswith(
        'Invalid value: {"Capabilities":null'
    )
