"""Namespaces, the kubernetes Service with its endpoints, service addresses, priority classes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
# name -> (value, description)
PRIORITY_CLASSES = {
    "system-cluster-critical": (
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    "system-node-critical": (
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}
_SKIP = {"endpointslice.kubernetes.io/skip-mirror": "true"}


def namespaces() -> Iterator[Json]:
    for name in NAMESPACES:
        yield {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        }


def priority_classes() -> Iterator[Json]:
    for name, (value, text) in PRIORITY_CLASSES.items():
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name, "generation": 1},
            "value": value,
            "description": text,
            "preemptionPolicy": "PreemptLowerPriority",
        }


def kubernetes_service(cluster_ip: str, port: int) -> Json:
    """Service default/kubernetes; ``port`` is the API server's own."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    }


def kubernetes_endpoints(address: str, port: int) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": _SKIP},
        "subsets": [
            {"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]},
        ],
    }


def kubernetes_slice(address: str, port: int) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "generation": 1,
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "protocol": "TCP", "port": port}],
    }


def service_cidr(cidr: str, now: str) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": [cidr]},
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "lastTransitionTime": now,
                    "reason": "",
                    "message": "Kubernetes Service CIDR is ready",
                }
            ]
        },
    }


def ip_address(address: str, namespace: str, service: str) -> Json:
    """The record that a service holds an address."""
    labels = {
        "ipaddress.kubernetes.io/ip-family": "IPv6" if ":" in address else "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    parent = {"group": "", "resource": "services", "namespace": namespace, "name": service}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": address, "labels": labels},
        "spec": {"parentRef": parent},
    }


def authentication_config(client_ca: str, proxy_ca: str) -> Json:
    """ConfigMap by which aggregated API servers learn whom to trust."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": client_ca,
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-client-ca-file": proxy_ca,
            "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
            "requestheader-group-headers": '["X-Remote-Group"]',
            "requestheader-uid-headers": '["X-Remote-Uid"]',
            "requestheader-username-headers": '["X-Remote-User"]',
        },
    }


# Who joins by a bootstrap token is in this group, when the token says so.
JOINING = "system:bootstrappers:portside:default-node-token"
# name -> (cluster role, group)
JOIN_BINDINGS = {
    "portside:kubelet-bootstrap": ("system:node-bootstrapper", JOINING),
    "portside:node-autoapprove-bootstrap": (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        JOINING,
    ),
    "portside:node-autoapprove-certificate-rotation": (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "system:nodes",
    ),
}
_RBAC = "rbac.authorization.k8s.io"


def join_bindings() -> Iterator[Json]:
    """Nodes that join may ask for a certificate, and get one without a person; nodes may renew their own."""
    for name, (role, group) in JOIN_BINDINGS.items():
        yield {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "subjects": [{"kind": "Group", "apiGroup": _RBAC, "name": group}],
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        }


def cluster_info(server: str, ca: str) -> Json:
    """ConfigMap that tells who joins where the API is; each bootstrap token's signature is added to it."""
    import base64

    cluster = f"    certificate-authority-data: {base64.b64encode(ca.encode()).decode()}\n    server: {server}\n"
    text = f'apiVersion: v1\nclusters:\n- cluster:\n{cluster}  name: ""\ncontexts: null\n'
    text += 'current-context: ""\nkind: Config\nusers: null\n'
    meta = {"name": "cluster-info", "namespace": "kube-public"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"kubeconfig": text}}


def cluster_info_access() -> tuple[Json, Json]:
    """Role and binding by which anybody may read the cluster-info."""
    meta = {"name": "portside:bootstrap-signer-clusterinfo", "namespace": "kube-public"}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["get"]}
    role = {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": meta, "rules": [rule]}
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "subjects": [{"kind": "User", "apiGroup": _RBAC, "name": "system:anonymous"}],
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": meta["name"]},
    }
    return role, binding
