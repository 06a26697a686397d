"""Rules of the kinds without pod templates: what is filled in, what is refused and in which words, what may not change."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from portside.api import conversion
from portside.api.kinds import KINDS
from portside.api.rules import service_allocation
from portside.api.rules.registry import Context, rules_for

Json = dict[str, Any]
CTX = Context(now="2026-01-01T00:00:00Z", user="admin")


def _write(
    group: str, kind: str, body: Json, old: Json | None = None, *, version: str = "v1"
) -> tuple[Json, list[str]]:
    rules = rules_for(group, version, kind)
    obj = copy.deepcopy(body)
    meta = {"name": "x", "namespace": "n"} if rules.kind.namespaced else {"name": "x"}
    obj["metadata"] = meta | obj.get("metadata", {})
    obj = {"apiVersion": rules.kind.api_version, "kind": kind} | obj
    rules.default(obj)
    found = rules.before_create(obj, CTX) if old is None else rules.before_update(obj, copy.deepcopy(old), CTX)
    return obj, [str(e) for e in found]


@pytest.mark.parametrize(("group", "kind", "body", "refusals"), [
    ("", "ConfigMap", {"data": {"k": "v"}, "binaryData": {"k": "AA=="}}, ['data[k]: Invalid value: "k": duplicate of key present in binaryData']),
    ("", "Secret", {"type": "kubernetes.io/tls"}, ["data[tls.crt]: Required value", "data[tls.key]: Required value"]),
    ("", "ResourceQuota", {"spec": {"hard": {"pods": "1.5"}}}, ['spec.hard[pods]: Invalid value: "1500m": must be an integer']),
    ("", "Service", {"spec": {"clusterIP": "x", "ports": []}}, ['spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
    ("", "Service", {"spec": {"type": "ExternalName"}}, ["spec.externalName: Required value"]),
    ("", "PersistentVolumeClaim", {}, ["spec.accessModes: Required value: at least 1 access mode is required", "spec.resources[storage]: Required value"]),
    ("coordination.k8s.io", "Lease", {"spec": {"leaseDurationSeconds": 0}}, ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
    ("networking.k8s.io", "Ingress", {"spec": {}}, ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]),
    ("storage.k8s.io", "StorageClass", {}, ["provisioner: Required value"]),
    ("certificates.k8s.io", "CertificateSigningRequest", {"spec": {"signerName": "a.io/b", "usages": ["any"]}}, ["spec.request: Invalid value: null: PEM block type must be CERTIFICATE REQUEST"]),
    ("apiregistration.k8s.io", "APIService", {"metadata": {"name": "v1.a.io"}, "spec": {"group": "a.io", "version": "v1", "service": {"namespace": "n", "name": "s", "port": 0}, "groupPriorityMinimum": 1, "versionPriority": 1}}, [
        "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
    ]),
    ("apps", "Deployment", {"spec": {"selector": {"matchLabels": {"a": "b"}}, "strategy": {"type": "Odd", "rollingUpdate": {"maxSurge": 1}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}, [
        'spec.strategy: Unsupported value: {"Type":"Odd","RollingUpdate":{"MaxUnavailable":null,"MaxSurge":1}}: supported values: "Recreate", "RollingUpdate"',
    ]),
    ("", "PersistentVolume", {"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}, "cephfs": {"monitors": ["m"]}}}, [
        "spec.cephFS: Forbidden: may not specify more than 1 volume type",
    ]),
    ("rbac.authorization.k8s.io", "Role", {"rules": [{"resources": ["pods"], "apiGroups": [""]}]}, ["rules[0].verbs: Required value"]),
    ("autoscaling", "HorizontalPodAutoscaler", {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}, [
        "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        'spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group',
        "spec.maxReplicas: Required value",
    ]),
    ("autoscaling", "HorizontalPodAutoscaler", {"spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "ReplicationController", "name": "web"}}}, []),
    ("networking.k8s.io", "IngressClass", {"spec": {"controller": "example.com/c", "parameters": {"kind": "Thing", "name": "t", "scope": None}}}, []),
    ("networking.k8s.io", "IngressClass", {"spec": {"controller": "example.com/c", "parameters": {"scope": "Here"}}}, [
        'spec.parameters.scope: Unsupported value: "Here": supported values: "Cluster", "Namespace"',
        "spec.parameters.kind: Required value",
        "spec.parameters.name: Required value",
    ]),
    ("networking.k8s.io", "Ingress", {"spec": {"defaultBackend": {}}}, ['spec.defaultBackend: Invalid value: "": resource or service backend is required']),
    ("policy", "PodDisruptionBudget", {"metadata": {"name": "MAX", "finalizers": ["mine"]}, "spec": {"maxUnavailable": 1}}, []),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", {"spec": {"type": "Some", "limited": {}, "exempt": {}}}, [
        'spec.type: Unsupported value: "Some": supported values: "Exempt", "Limited"',
        "spec.exempt: Forbidden",
        "spec.limited: Forbidden",
    ]),
])  # fmt: skip
def test_refusals(group: str, kind: str, body: Json, refusals: list[str]) -> None:
    assert _write(group, kind, body)[1] == refusals


def test_an_autoscalers_target_is_checked_when_it_changes() -> None:
    spec = {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}
    old, _ = _write("autoscaling", "HorizontalPodAutoscaler", {"spec": spec}, version="v2")
    assert _write("autoscaling", "HorizontalPodAutoscaler", {"spec": spec}, old, version="v2")[1] == []
    other = {**spec, "scaleTargetRef": {"kind": "StatefulSet", "name": "web"}}
    assert _write("autoscaling", "HorizontalPodAutoscaler", {"spec": other}, old, version="v2")[1] == [
        'spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group'
    ]


def test_fields_of_the_future_and_of_the_past_are_not_stored() -> None:
    node, _ = _write("", "Node", {"spec": {"podPreemptionPolicy": {}}, "status": {"config": {}}})
    assert node["spec"] == {} and "config" not in node["status"]
    endpoint = {"addresses": ["203.0.113.1"], "deprecatedTopology": {"a": "b"}}
    sliced, _ = _write("discovery.k8s.io", "EndpointSlice", {"addressType": "IPv4", "endpoints": [endpoint]})
    assert "deprecatedTopology" not in sliced["endpoints"][0]


def test_defaults() -> None:
    service, _ = _write("", "Service", {"spec": {"ports": [{"port": 80}], "sessionAffinity": "ClientIP"}})
    assert service["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert service["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    secret, _ = _write("", "Secret", {"stringData": {"k": "v"}})
    assert secret["type"] == "Opaque" and secret["data"] == {"k": "dg=="} and "stringData" not in secret
    space, _ = _write("", "Namespace", {})
    assert space["spec"]["finalizers"] == ["kubernetes"] and space["status"] == {"phase": "Active"}
    limits = {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}}]}
    limit = _write("", "LimitRange", {"spec": limits})[0]["spec"]["limits"][0]
    assert limit["default"] == {"cpu": "1"} and limit["defaultRequest"] == {"cpu": "1", "memory": "1Mi"}
    scaler, _ = _write("autoscaling", "HorizontalPodAutoscaler", {"spec": {"maxReplicas": 3}}, version="v2")
    assert scaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80


def test_what_may_not_change() -> None:
    old, _ = _write("", "ConfigMap", {"data": {"k": "v"}, "immutable": True})
    assert _write("", "ConfigMap", {"data": {"k": "w"}, "immutable": True}, old)[1] == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a"}
    old, _ = _write("rbac.authorization.k8s.io", "RoleBinding", {"roleRef": ref})
    assert (
        "field is immutable"
        in _write("rbac.authorization.k8s.io", "RoleBinding", {"roleRef": ref | {"name": "b"}}, old)[1][0]
    )


def test_a_service_keeps_what_it_was_given() -> None:
    service, errors = _write("", "Service", {"spec": {"type": "NodePort", "ports": [{"port": 80}]}})
    assert not errors and not service_allocation.init_families(service, None)
    plan = service_allocation.plan(service, None)
    service_allocation.fill(service, plan, ["10.0.0.7"], [30007])
    assert service["spec"]["clusterIPs"] == ["10.0.0.7"] and service["spec"]["ports"][0]["nodePort"] == 30007
    again, errors = _write("", "Service", {"spec": {"type": "NodePort", "ports": [{"port": 81}]}}, service)
    assert not errors and again["spec"]["clusterIP"] == "10.0.0.7" and again["spec"]["ports"][0]["nodePort"] == 30007
    assert service_allocation.plan(again, service).empty
    gone, _ = _write("", "Service", {"spec": {"type": "ExternalName", "externalName": "x.example"}}, service)
    plan = service_allocation.plan(gone, service)
    assert plan.release_ips == ["10.0.0.7"] and plan.release_ports == [30007]


def test_one_event_two_views() -> None:
    core = {"apiVersion": "v1", "kind": "Event", "metadata": {}, "message": "m", "involvedObject": {"name": "p"}}
    new = conversion.convert(core, "events.k8s.io/v1")
    assert new["note"] == "m" and new["regarding"] == {"name": "p"} and new["deprecatedFirstTimestamp"] is None
    assert conversion.convert(new, "v1")["message"] == "m"


def test_an_autoscaler_survives_the_old_version() -> None:
    metric = {
        "type": "External",
        "external": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": "7"}},
    }
    spec = {"maxReplicas": 4, "metrics": [metric]}
    new = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}, "spec": spec}
    assert conversion.convert(conversion.convert(new, "autoscaling/v1"), "autoscaling/v2")["spec"] == spec


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k.group}/{k.version}/{k.kind}")
def test_every_kind_takes_an_empty_object_without_falling_over(kind: Any) -> None:
    obj: Json = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x", "namespace": "n"}}
    rules = rules_for(kind.group, kind.version, kind.kind)
    rules.default(obj)
    rules.before_create(obj, CTX)
    rules.warnings(obj, None, CTX)
    rules.before_update(copy.deepcopy(obj), copy.deepcopy(obj), CTX)


def test_a_pods_certificate_request_has_annotations_with_domains_and_short_uids() -> None:
    who = {"podName": "p", "serviceAccountName": "s", "nodeName": "n", "serviceAccountUID": "u", "nodeUID": "u"}
    spec = {
        "signerName": "a.io/b",
        "podUID": "u" * 129,
        "unverifiedUserAnnotations": {"Plain": "x", "acme.io/Foo": "y"},
    } | who
    _, refusals = _write("certificates.k8s.io", "PodCertificateRequest", {"spec": spec})
    assert refusals[:2] == [
        'spec.unverifiedUserAnnotations: Invalid value: "plain": must be a domain-prefixed key (such as "acme.io/foo")',
        "spec.podUID: Too long: may not be more than 128 bytes",
    ]


def test_a_taints_time_is_a_default_of_whoever_writes_it() -> None:
    rules = rules_for("resource.k8s.io", "v1", "DeviceTaintRule")
    rule: Json = {"spec": {"taint": {"key": "a"}}}
    rules.stamp(rule, CTX.now)
    assert rule["spec"]["taint"]["timeAdded"] == CTX.now
    rules.stamp(rule, "2030-01-01T00:00:00Z")
    assert rule["spec"]["taint"]["timeAdded"] == CTX.now
