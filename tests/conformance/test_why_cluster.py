"""portside why: Services, Ingresses, claims, nodes, definitions, certificates, custom resources. Brought about for real."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from portside.cli.api import Api as Client
from portside.testing.cluster import Api, cluster
from tests.asking import Asker, Json, workload
from tests.conformance.why_site import k, own_node, plane

__all__ = ["k", "own_node", "plane"]
NEVER_READY = {"annotations": {"sim.portside.io/ready-after": "600s"}}


# -- Services and Ingresses -------------------------------------------------------------------------------------------


def service(k: Asker, name: str, selector: Json | None, target: Any = 80, **more: Any) -> None:
    k.make("Service", name, {"selector": selector, "ports": [{"port": 80, "targetPort": target}], **more})


def test_a_selector_that_matches_nothing_is_told_with_the_labels_there_are(k: Asker) -> None:
    k.pod("web")
    service(k, "web", {"app": "wep"})
    k.says("service-selects-nothing", "svc/web", "app=wep", "pod/web metadata.labels = app=web")


def test_a_service_without_selector_and_endpoints_is_told(k: Asker) -> None:
    service(k, "outer", None)
    k.says("service-without-selector", "svc/outer", "has no selector")
    ports = [{"port": 80}]
    labels = {"kubernetes.io/service-name": "outer"}
    endpoints = [{"addresses": ["192.0.2.1"]}]
    k.make("EndpointSlice", "outer-1", addressType="IPv4", ports=ports, endpoints=endpoints, meta={"labels": labels})
    k.well("svc/outer")


def test_a_port_name_that_no_pod_has_is_told(k: Asker) -> None:
    k.pod("web", None, {"ports": [{"name": "http", "containerPort": 8080}]})
    service(k, "web", {"app": "web"}, "htpp")
    k.says("service-port-name", "svc/web", "port named htpp", "spec.ports[0].targetPort", "http=8080")
    service(k, "right", {"app": "web"}, "http")
    k.well("svc/right")


def test_a_service_whose_pods_are_not_ready_leads_to_them(k: Asker) -> None:
    k.make("Deployment", "web", workload("web", meta=NEVER_READY, replicas=2))
    service(k, "web", {"app": "web"})
    k.says("service-none-ready", "svc/web", "none of its 2 pods is ready", consequence=True)
    k.make("Deployment", "db", workload("db", replicas=2, pod={"nodeSelector": {"disk": "ssd"}}))
    service(k, "db", {"app": "db"})
    k.says("service-none-ready", "svc/db", "none of its 2 pods is ready", consequence=True)
    k.tells("svc/db", ("unschedulable", 2))


def test_a_service_without_an_address_is_told(k: Asker) -> None:
    service(k, "outside", {"app": "web"}, type="LoadBalancer", loadBalancerClass="example.com/none")
    k.says("service-without-address", "svc/outside", "no address from outside")


def ingress(k: Asker, name: str, backend: str, port: Json, **more: Any) -> None:
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": backend, "port": port}}}
    k.make("Ingress", name, {"rules": [{"host": "a.example.com", "http": {"paths": [path]}}], **more})


def test_an_ingress_names_all_that_it_lacks(k: Asker) -> None:
    name = f"proxy-{k.namespace}"
    ingress(k, "shop", "shop", {"number": 80})
    k.says("ingress-class-missing", "ingress/shop", "names no IngressClass, and none is the default")
    ingress(k, "named", "shop", {"number": 80}, ingressClassName="ngnix")
    k.says("ingress-class-missing", "ingress/named", "the IngressClass ngnix does not exist")
    k.says("ingress-backend-missing", "ingress/named", "the Service shop", "spec.rules[0].http.paths[0].backend")
    k.make("IngressClass", name, {"controller": "example.com/proxy"})
    k.pod("shop", None, {"ports": [{"containerPort": 8080}]})
    service(k, "shop", {"app": "shop"}, 8080)
    with k.gone_after("ingressclasses", name):
        ingress(k, "port", "shop", {"number": 8080}, ingressClassName=name)
        k.says("ingress-port-missing", "ingress/port", "the Service shop has no port 8080", "service/shop spec.ports")
        tls = [{"hosts": ["a.example.com"], "secretName": "cert"}]
        ingress(k, "tls", "shop", {"number": 80}, ingressClassName=name, tls=tls)
        k.says("ingress-secret-missing", "ingress/tls", "the Secret cert", "kubectl create secret tls cert")
        ingress(k, "fine", "shop", {"number": 80}, ingressClassName=name)
        k.well("ingress/fine")


# -- claims -----------------------------------------------------------------------------------------------------------


def claim(k: Asker, name: str, storage: str | None, size: str = "1Gi", **more: Any) -> None:
    spec: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **more}
    k.make("PersistentVolumeClaim", name, spec | ({} if storage is None else {"storageClassName": storage}))


def volume(k: Asker, name: str, storage: str, size: str = "1Gi") -> None:
    spec: Json = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": storage}
    k.make("PersistentVolume", name, spec | {"hostPath": {"path": "/tmp/x"}})


def test_a_storage_class_that_does_not_exist_is_told_to_the_pod_that_waits(k: Asker) -> None:
    claim(k, "data", "fast")
    k.says("storageclass-missing", "pvc/data", "StorageClass fast does not exist", "spec.storageClassName")
    k.pod("db", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    k.says("unschedulable", "pod/db", "unbound immediate", consequence=True)
    k.tells("pod/db", ("storageclass-missing", 1))


def test_a_claim_without_a_class_and_no_default_is_told(k: Asker) -> None:
    claim(k, "data", None)
    k.says("no-default-storageclass", "pvc/data", "none is the default", "kubectl annotate storageclass")


def test_a_claim_that_no_volume_fits_is_told_why(k: Asker) -> None:
    name = f"small-{k.namespace}"
    volume(k, name, "")
    with k.gone_after("persistentvolumes", name):
        claim(k, "large", "", "10Gi")
        k.says("no-volume-fits", "pvc/large", "does not fit = it has 1Gi, and 10Gi are asked for", "kubectl get pv")
        claim(k, "wrong", "", "10Gi", volumeName=name)
        k.says("no-volume-fits", "pvc/wrong", f"the volume {name} that it names does not fit")


def test_a_claim_that_waits_for_a_pod_is_told_so(k: Asker) -> None:
    name = f"lazy-{k.namespace}"
    k.make("StorageClass", name, provisioner="example.com/disks", volumeBindingMode="WaitForFirstConsumer")
    with k.gone_after("storageclasses", name):
        claim(k, "data", name)
        k.says("claim-waits-for-pod", "pvc/data", "no pod does", "volumeBindingMode = WaitForFirstConsumer")


def test_a_provisioner_that_nobody_runs_is_told(k: Asker) -> None:
    name = f"disks-{k.namespace}"
    k.make("StorageClass", name, provisioner="example.com/disks")
    with k.gone_after("storageclasses", name):
        claim(k, "data", name)
        k.says("claim-not-bound", "pvc/data", "not bound", later=-3600, consequence=True)
        k.says("provisioner-missing", "pvc/data", "provisioner example.com/disks", "ExternalProvisioning", later=60)


def test_a_claim_whose_volume_is_gone_is_told(k: Asker) -> None:
    name = f"gone-{k.namespace}"
    volume(k, name, name)
    claim(k, "data", name)
    k.until(lambda: k.get("persistentvolumeclaims", "data")["status"].get("phase") == "Bound")
    k.delete("persistentvolumes", name)
    k.patch("persistentvolumes", name, {"metadata": {"finalizers": None}})
    k.says("claim-lost", "pvc/data", f"its volume {name} is gone", "status.phase = Lost")


# -- nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_that_says_nothing_is_told_before_its_pods(k: Asker) -> None:
    name = f"dark-{k.namespace}"
    k.make("Node", name, {})
    with k.gone_after("nodes", name):
        k.says("node-not-ready", f"node/{name}", "portside node remove")
        k.pod("there", nodeName=name)
        k.says("node-not-ready", "pod/there", name)
        k.says("pod-not-ready", "pod/there", "phase Pending", consequence=True)
        k.until(lambda: [c["cause"] for c in k.asked("")["causes"]][:1] == ["node-not-ready"])


def test_nodes_that_are_not_fit_are_told_before_the_pods_that_find_no_node() -> None:
    with cluster() as api:
        asker = Asker(api.kubeconfig, "default")
        asker.make("Node", "dark", {})
        asker.pod("waits")
        asker.says("unschedulable", "pod/waits", "untolerated taint", consequence=True)
        asker.tells("pod/waits", ("node-not-ready", 1))
        asker.api.close()


def test_a_node_under_pressure_is_told(k: Asker) -> None:
    name = f"full-{k.namespace}"
    k.make("Node", name, {})
    message = {
        "reason": "KubeletHasDiskPressure",
        "message": "the disk is full",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    conditions = [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True", **message}]
    with k.gone_after("nodes", name):
        k.patch("nodes", name, {"status": {"conditions": conditions}}, "status")
        k.says("node-pressure", f"node/{name}", "DiskPressure", "the disk is full")


def test_a_node_that_does_not_reach_anothers_pods_is_told_until_it_does(k: Asker) -> None:
    name = f"walled-{k.namespace}"
    k.make("Node", name, {})
    message = "pods of node far (10.244.2.0/24) are not reached from here: something may drop UDP 8472 (VXLAN)"
    with k.gone_after("nodes", name):
        k.patch("nodes", name, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, "status")
        tell(k, name, "Warning", "PodRouteFails", message)
        k.says("pod-route-fails", f"node/{name}", "UDP 8472", "tcpdump")
        tell(k, name, "Normal", "PodRouteWorks", "pods of node far are reached again")
        k.until(lambda: "pod-route-fails" not in json.dumps(k.asked(f"node/{name}")))


def tell(k: Asker, node: str, kind: str, reason: str, message: str) -> None:
    """An event about a node, as the node itself writes it."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + (reason == "PodRouteWorks")))
    body = {
        "metadata": {"generateName": f"{node}.", "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "type": kind,
        "reason": reason,
        "message": message,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "source": {"component": "kubelet", "host": node},
    }
    k.api.send("POST", "/api/v1/namespaces/default/events", json.dumps(body).encode())


# -- definitions, other servers, certificates, custom resources --------------------------------------------------------


def define(k: Asker, plural: str, kind: str, group: str) -> str:
    name = f"{plural}.{group}"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"plural": plural, "singular": kind.lower(), "kind": kind}
    k.make(
        "CustomResourceDefinition", name, {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    )
    return name


def test_a_definition_whose_names_are_taken_is_told(k: Asker) -> None:
    group = f"{k.namespace}.example.com"
    first = define(k, "widgets", "Widget", group)
    k.condition("customresourcedefinitions", first, "Established")
    second = define(k, "gadgets", "Widget", group)
    with k.gone_after("customresourcedefinitions", first), k.gone_after("customresourcedefinitions", second):
        k.says("definition-not-served", f"crd/{second}", "is already in use", "NamesAccepted")
        k.well(f"crd/{first}")


def test_a_custom_resource_is_told_by_its_conditions_and_generations(k: Asker) -> None:
    group = f"{k.namespace}.example.com"
    name = define(k, "widgets", "Widget", group)
    k.condition("customresourcedefinitions", name, "Established")
    path = f"/apis/{group}/v1/namespaces/{k.namespace}/widgets"
    with k.gone_after("customresourcedefinitions", name):

        def send(method: str, where: str, body: Json) -> Json:
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            return k.api.send(method, where, json.dumps(body).encode(), kind)

        body = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "one"}, "spec": {"size": 1}}
        k.until(lambda: k.api.raw("GET", path)[0] == 200)
        made = send("POST", path, body)
        k.well(f"widgets.{group}/one")
        bad = {"type": "Ready", "status": "False", "reason": "NoLicence", "message": "the licence has run out"}
        send("PATCH", f"{path}/one/status", {"status": {"observedGeneration": 1, "conditions": [bad]}})
        k.says("condition-says", f"widget.{group}/one", "the licence has run out", "status.conditions[Ready].reason")
        k.says("condition-says", "", "the licence has run out")
        owner = {"apiVersion": f"{group}/v1", "kind": "Widget", "name": "one", "uid": made["metadata"]["uid"]}
        meta = {"ownerReferences": [owner | {"controller": True}]}
        k.make("Deployment", "below", workload("below", pod={"nodeSelector": {"disk": "ssd"}}), meta=meta)
        k.says("condition-says", f"widget.{group}/one", "licence", consequence=True)
        k.tells(f"widget.{group}/one", ("unschedulable", 1))
        k.delete("deployments", "below", propagationPolicy="Foreground")
        send("PATCH", f"{path}/one", {"spec": {"size": 2}})
        k.says("custom-controller-behind", f"widget.{group}/one", "status.observedGeneration = 1")


def test_another_api_server_that_does_not_answer_is_told(k: Asker) -> None:
    name = f"v1.{k.namespace}.example.com"
    spec = {"group": f"{k.namespace}.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 1}
    spec["service"] = {"name": "extension", "namespace": k.namespace}
    k.make("APIService", name, spec | {"insecureSkipTLSVerify": True})
    with k.gone_after("apiservices", name):
        k.says("api-unavailable", f"apiservice/{name}", "ServiceNotFound", "kubectl delete apiservice")
        service(k, "extension", {"app": "extension"})
        k.says("api-unavailable", f"apiservice/{name}", "can't be reached", consequence=True)
        k.tells(f"apiservice/{name}", ("service-selects-nothing", 1))


def certificate_request(k: Asker, name: str, signer: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    request = base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()
    k.make("CertificateSigningRequest", name, {"request": request, "signerName": signer, "usages": ["client auth"]})


def decide(k: Asker, name: str, kind: str) -> None:
    condition = {"type": kind, "status": "True", "reason": "Test", "message": "decided by a test"}
    k.patch("certificatesigningrequests", name, {"status": {"conditions": [condition]}}, "approval")


def test_certificate_requests_tell_what_they_wait_for(k: Asker) -> None:
    names = {n: f"{n}-{k.namespace}" for n in ("waits", "denied", "unsigned")}
    for name in names.values():
        certificate_request(k, name, "example.com/nobody")
    k.says("certificate-not-approved", f"csr/{names['waits']}", "kubectl certificate approve")
    decide(k, names["denied"], "Denied")
    k.says("certificate-refused", f"csr/{names['denied']}", "was denied: decided by a test")
    decide(k, names["unsigned"], "Approved")
    k.says("certificate-not-signed", f"csr/{names['unsigned']}", "nobody signs for example.com/nobody", later=60)
    for name in names.values():
        k.delete("certificatesigningrequests", name)


# -- rights -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def visitor(k: Asker, plane: Api, tmp_path: Path) -> Path:
    """The kubeconfig of a service account that may read Deployments, ReplicaSets and pods of its namespace only."""
    rules = [{"apiGroups": ["", "apps"], "resources": ["pods", "deployments", "replicasets"], "verbs": ["get", "list"]}]
    k.make("Role", "reader", rules=rules)
    k.make("ServiceAccount", "visitor")
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subject = {"kind": "ServiceAccount", "name": "visitor", "namespace": k.namespace}
    k.make("RoleBinding", "reader", roleRef=role, subjects=[subject])
    answer = k.api.send("POST", k.path("serviceaccounts", "visitor", "token"), b'{"spec":{}}')
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": answer["status"]["token"]}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_what_a_user_may_not_read_is_said_and_not_taken_for_missing(k: Asker, visitor: Path) -> None:
    k.make("Deployment", "web", workload("web", pod={"nodeSelector": {"disk": "ssd"}}))
    slow = {"annotations": {"sim.portside.io/start-after": "600s"}}
    k.make("Deployment", "secretive", workload("secretive", {"envFrom": [{"secretRef": {"name": "nowhere"}}]}, slow))
    k.says("secret-missing", "deployment/secretive", "the Secret nowhere does not exist")
    asker = Asker(visitor, k.namespace)
    k.until(lambda: Client(visitor).raw("GET", k.path("replicasets"))[0] == 200)
    found = asker.says("unschedulable", "deployment/web", "nodeSelector")
    assert not any(f["object"].startswith("node/") for f in found["evidence"])
    told = asker.asked("deployment/web")
    assert "forbidden" in told["unread"]["nodes"] and "pods" not in told["unread"]
    told = asker.asked("deployment/secretive")
    assert told["state"] == "unknown" and "forbidden" in told["unread"]["secrets"]
    status, raw = Client(visitor).raw("GET", k.path("secrets"))
    assert status == 403, raw
