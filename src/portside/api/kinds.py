"""The table of built-in kinds: names, scope, verbs and subresources of every resource of Kubernetes 1.37's stable groups,
and of features that were switched on (``GATED``).

Routes, discovery, OpenAPI, RBAC and tests derive from it. Order is upstream's discovery order.
"""

from __future__ import annotations

from dataclasses import dataclass

from portside.base import gates

ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
GPU = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Sub:
    """A subresource: its name, the kind it answers, its verbs, and that kind's group and version when they differ."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One served resource. ``group`` is "" for core."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL
    subs: tuple[Sub, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition made it."""
        return False

    def sub(self, name: str) -> Sub | None:
        return next((s for s in self.subs if s.name == name), None)


_ALWAYS: tuple[Kind, ...] = (
    Kind("", "v1", "Binding", "bindings", True, verbs=("create",)),
    Kind("", "v1", "ComponentStatus", "componentstatuses", False, short=("cs",), verbs=("get", "list")),
    Kind("", "v1", "ConfigMap", "configmaps", True, short=("cm",)),
    Kind("", "v1", "Endpoints", "endpoints", True, short=("ep",)),
    Kind("", "v1", "Event", "events", True, short=("ev",)),
    Kind("", "v1", "LimitRange", "limitranges", True, short=("limits",)),
    Kind(
        "",
        "v1",
        "Namespace",
        "namespaces",
        False,
        short=("ns",),
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
        subs=(Sub("finalize", "Namespace", ("update",)), Sub("status", "Namespace", GPU)),
    ),
    Kind(
        "",
        "v1",
        "Node",
        "nodes",
        False,
        short=("no",),
        subs=(
            Sub("proxy", "NodeProxyOptions", ("create", "delete", "get", "patch", "update")),
            Sub("status", "Node", GPU),
        ),
    ),
    Kind(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        True,
        short=("pvc",),
        subs=(Sub("status", "PersistentVolumeClaim", GPU),),
    ),
    Kind(
        "",
        "v1",
        "PersistentVolume",
        "persistentvolumes",
        False,
        short=("pv",),
        subs=(Sub("status", "PersistentVolume", GPU),),
    ),
    Kind(
        "",
        "v1",
        "Pod",
        "pods",
        True,
        short=("po",),
        categories=("all",),
        subs=(
            Sub("attach", "PodAttachOptions", ("create", "get")),
            Sub("binding", "Binding", ("create",)),
            Sub("ephemeralcontainers", "Pod", GPU),
            Sub("eviction", "Eviction", ("create",), "policy", "v1"),
            Sub("exec", "PodExecOptions", ("create", "get")),
            Sub("log", "Pod", ("get",)),
            Sub("portforward", "PodPortForwardOptions", ("create", "get")),
            Sub("proxy", "PodProxyOptions", ("create", "delete", "get", "patch", "update")),
            Sub("resize", "Pod", GPU),
            Sub("status", "Pod", GPU),
        ),
    ),
    Kind("", "v1", "PodTemplate", "podtemplates", True),
    Kind(
        "",
        "v1",
        "ReplicationController",
        "replicationcontrollers",
        True,
        short=("rc",),
        categories=("all",),
        subs=(Sub("scale", "Scale", GPU, "autoscaling", "v1"), Sub("status", "ReplicationController", GPU)),
    ),
    Kind(
        "", "v1", "ResourceQuota", "resourcequotas", True, short=("quota",), subs=(Sub("status", "ResourceQuota", GPU),)
    ),
    Kind("", "v1", "Secret", "secrets", True),
    Kind(
        "",
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        True,
        short=("sa",),
        subs=(Sub("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),),
    ),
    Kind(
        "",
        "v1",
        "Service",
        "services",
        True,
        short=("svc",),
        categories=("all",),
        subs=(
            Sub("proxy", "ServiceProxyOptions", ("create", "delete", "get", "patch", "update")),
            Sub("status", "Service", GPU),
        ),
    ),
    Kind(
        "apiregistration.k8s.io",
        "v1",
        "APIService",
        "apiservices",
        False,
        categories=("api-extensions",),
        subs=(Sub("status", "APIService", GPU),),
    ),
    Kind("apps", "v1", "ControllerRevision", "controllerrevisions", True),
    Kind(
        "apps",
        "v1",
        "DaemonSet",
        "daemonsets",
        True,
        short=("ds",),
        categories=("all",),
        subs=(Sub("status", "DaemonSet", GPU),),
    ),
    Kind(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        True,
        short=("deploy",),
        categories=("all",),
        subs=(Sub("scale", "Scale", GPU, "autoscaling", "v1"), Sub("status", "Deployment", GPU)),
    ),
    Kind(
        "apps",
        "v1",
        "ReplicaSet",
        "replicasets",
        True,
        short=("rs",),
        categories=("all",),
        subs=(Sub("scale", "Scale", GPU, "autoscaling", "v1"), Sub("status", "ReplicaSet", GPU)),
    ),
    Kind(
        "apps",
        "v1",
        "StatefulSet",
        "statefulsets",
        True,
        short=("sts",),
        categories=("all",),
        subs=(Sub("scale", "Scale", GPU, "autoscaling", "v1"), Sub("status", "StatefulSet", GPU)),
    ),
    Kind("events.k8s.io", "v1", "Event", "events", True, short=("ev",)),
    Kind("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", False, verbs=("create",)),
    Kind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", False, verbs=("create",)),
    Kind(
        "authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", True, verbs=("create",)
    ),
    Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False, verbs=("create",)),
    Kind("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False, verbs=("create",)),
    Kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", False, verbs=("create",)),
    Kind(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        True,
        short=("hpa",),
        categories=("all",),
        subs=(Sub("status", "HorizontalPodAutoscaler", GPU),),
    ),
    Kind(
        "autoscaling",
        "v1",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        True,
        short=("hpa",),
        categories=("all",),
        subs=(Sub("status", "HorizontalPodAutoscaler", GPU),),
    ),
    Kind(
        "batch",
        "v1",
        "CronJob",
        "cronjobs",
        True,
        short=("cj",),
        categories=("all",),
        subs=(Sub("status", "CronJob", GPU),),
    ),
    Kind("batch", "v1", "Job", "jobs", True, categories=("all",), subs=(Sub("status", "Job", GPU),)),
    Kind(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        False,
        short=("csr",),
        subs=(Sub("approval", "CertificateSigningRequest", GPU), Sub("status", "CertificateSigningRequest", GPU)),
    ),
    Kind("certificates.k8s.io", "v1", "ClusterTrustBundle", "clustertrustbundles", False),
    Kind(
        "certificates.k8s.io",
        "v1",
        "PodCertificateRequest",
        "podcertificaterequests",
        True,
        subs=(Sub("status", "PodCertificateRequest", GPU),),
    ),
    Kind("networking.k8s.io", "v1", "IngressClass", "ingressclasses", False),
    Kind(
        "networking.k8s.io", "v1", "Ingress", "ingresses", True, short=("ing",), subs=(Sub("status", "Ingress", GPU),)
    ),
    Kind("networking.k8s.io", "v1", "IPAddress", "ipaddresses", False, short=("ip",)),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", True, short=("netpol",)),
    Kind("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs", False, subs=(Sub("status", "ServiceCIDR", GPU),)),
    Kind(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        True,
        short=("pdb",),
        subs=(Sub("status", "PodDisruptionBudget", GPU),),
    ),
    Kind("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", False),
    Kind("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", False),
    Kind("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", True),
    Kind("rbac.authorization.k8s.io", "v1", "Role", "roles", True),
    Kind("storage.k8s.io", "v1", "CSIDriver", "csidrivers", False),
    Kind("storage.k8s.io", "v1", "CSINode", "csinodes", False, subs=(Sub("status", "CSINode", GPU),)),
    Kind("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", True),
    Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", False, short=("sc",)),
    Kind(
        "storage.k8s.io",
        "v1",
        "VolumeAttachment",
        "volumeattachments",
        False,
        subs=(Sub("status", "VolumeAttachment", GPU),),
    ),
    Kind("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", False, short=("vac",)),
    Kind(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicies",
        False,
        categories=("api-extensions",),
    ),
    Kind(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybindings",
        False,
        categories=("api-extensions",),
    ),
    Kind(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        False,
        categories=("api-extensions",),
    ),
    Kind(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        False,
        categories=("api-extensions",),
        subs=(Sub("status", "ValidatingAdmissionPolicy", GPU),),
    ),
    Kind(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        False,
        categories=("api-extensions",),
    ),
    Kind(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        False,
        categories=("api-extensions",),
    ),
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        False,
        short=("crd", "crds"),
        categories=("api-extensions",),
        subs=(Sub("status", "CustomResourceDefinition", GPU),),
    ),
    Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", False, short=("pc",)),
    Kind("coordination.k8s.io", "v1", "Lease", "leases", True),
    Kind("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", False),
    Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", True),
    Kind("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", False),
    Kind(
        "resource.k8s.io",
        "v1",
        "DeviceTaintRule",
        "devicetaintrules",
        False,
        subs=(Sub("status", "DeviceTaintRule", GPU),),
    ),
    Kind("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", True, subs=(Sub("status", "ResourceClaim", GPU),)),
    Kind("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", True),
    Kind("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", False),
    Kind(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "FlowSchema",
        "flowschemas",
        False,
        subs=(Sub("status", "FlowSchema", GPU),),
    ),
    Kind(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "PriorityLevelConfiguration",
        "prioritylevelconfigurations",
        False,
        subs=(Sub("status", "PriorityLevelConfiguration", GPU),),
    ),
    Kind(
        "storagemigration.k8s.io",
        "v1",
        "StorageVersionMigration",
        "storageversionmigrations",
        False,
        subs=(Sub("status", "StorageVersionMigration", GPU),),
    ),
)

# Kinds of features that are off by default, by their gate. They follow their group's stable kinds.
GATED: dict[str, tuple[Kind, ...]] = {
    gates.WORKLOADS: (
        Kind("scheduling.k8s.io", "v1beta1", "PodGroup", "podgroups", True, subs=(Sub("status", "PodGroup", GPU),)),
        Kind("scheduling.k8s.io", "v1beta1", "Workload", "workloads", True),
    )
}


def _table() -> tuple[Kind, ...]:
    """The kinds that this process serves."""
    found = list(_ALWAYS)
    for kind in (k for gate, kinds in GATED.items() if gates.enabled(gate) for k in kinds):
        last = max(i for i, k in enumerate(found) if k.group == kind.group)
        found.insert(last + 1, kind)
    return tuple(found)


KINDS: tuple[Kind, ...] = _table()
BY_RESOURCE: dict[tuple[str, str, str], Kind] = {(k.group, k.version, k.plural): k for k in KINDS}
BY_KIND: dict[tuple[str, str, str], Kind] = {(k.group, k.version, k.kind): k for k in KINDS}
