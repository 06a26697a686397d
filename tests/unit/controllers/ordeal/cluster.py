"""Stories of namespaces, garbage, quotas, policies, certificates, tokens and sizes."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from tests.unit.controllers.ordeal.storage import pod
from tests.unit.controllers.ordeal.workloads import COLLECTING, DEPLOYING, DEPLOYMENTS, SETS, status, workload
from tests.unit.controllers.ordeal.world import PODS, Json, Scenario, World

from portside.base import gates
from portside.base.clock import rfc3339
from portside.client.protocol import Resource

NAMESPACES: Resource = ("", "v1", "namespaces")
CONFIGMAPS: Resource = ("", "v1", "configmaps")
SECRETS: Resource = ("", "v1", "secrets")
ACCOUNTS: Resource = ("", "v1", "serviceaccounts")
QUOTAS: Resource = ("", "v1", "resourcequotas")
ROLES: Resource = ("rbac.authorization.k8s.io", "v1", "clusterroles")
POLICIES: Resource = ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
SCHEMAS: Resource = ("flowcontrol.apiserver.k8s.io", "v1", "flowschemas")
LEVELS: Resource = ("flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations")
REQUESTS: Resource = ("certificates.k8s.io", "v1", "certificatesigningrequests")
POD_REQUESTS: Resource = ("certificates.k8s.io", "v1", "podcertificaterequests")
MIGRATIONS: Resource = ("storagemigration.k8s.io", "v1", "storageversionmigrations")
LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
GROUPS: Resource = ("scheduling.k8s.io", "v1beta1", "podgroups")
ENDED = {"status": {"phase": "Succeeded"}}
TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
INVALID = "kubernetes.io/legacy-token-invalid-since"
AUTOSCALERS: Resource = ("autoscaling", "v2", "horizontalpodautoscalers")


def _there(world: World, kind: str, name: str, namespace: str = "") -> bool:
    return any(
        o["metadata"]["name"] == name and o["metadata"].get("namespace", "") == namespace for o in world.of_kind(kind)
    )


def named(name: str, **more: Any) -> Json:
    return {"metadata": {"name": name}, **more}


async def _space(world: World) -> None:
    """A namespace gets what every one has, and goes with all that is in it, pods first."""
    await world.client.create(NAMESPACES, named("team"))
    await world.until(lambda: _there(world, "ServiceAccount", "default", "team"))
    await world.until(lambda: _there(world, "ConfigMap", "kube-root-ca.crt", "team"))
    await world.create(PODS, pod(), namespace="team")
    await world.create(CONFIGMAPS, {"metadata": {"name": "held", "finalizers": ["example.org/wait"]}}, namespace="team")
    await world.client.delete(NAMESPACES, "team")
    await world.until(lambda: not _there(world, "Pod", "user", "team"))
    await world.until(lambda: "SomeFinalizersRemain" in str(world.of_kind("Namespace")))
    await world.patch(CONFIGMAPS, "held", {"metadata": {"finalizers": None}}, namespace="team")
    await world.until(lambda: not _there(world, "Namespace", "team"))


async def _garbage(world: World) -> None:
    """Foreground from the leaves, orphans that stay, and dependents of who never was."""
    await world.create(DEPLOYMENTS, workload(replicas=2))
    await world.until(lambda: status(world, "Deployment").get("availableReplicas") == 2)
    await world.delete(DEPLOYMENTS, "web", "Orphan")
    await world.until(lambda: not world.of_kind("Deployment"))
    (left,) = world.of_kind("ReplicaSet")
    await world.delete(SETS, left["metadata"]["name"], "Foreground")
    await world.until(lambda: not world.of_kind("ReplicaSet") and not world.of_kind("Pod"))
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "5f0c6d7e-0000-4000-8000-000000000000"}
    await world.create(CONFIGMAPS, {"metadata": {"name": "child", "ownerReferences": [owner]}})
    await world.until(lambda: not _there(world, "ConfigMap", "child", "default"))


async def _quota(world: World) -> None:
    await world.create(QUOTAS, named("q", spec={"hard": {"pods": "5", "configmaps": "5"}}))

    def used(what: str) -> Any:
        return ((world.of_kind("ResourceQuota")[0].get("status") or {}).get("used") or {}).get(what)

    await world.until(lambda: used("pods") == "0")
    await world.create(PODS, pod())
    await world.until(lambda: used("pods") == "1")
    await world.delete(PODS, "user")
    await world.until(lambda: used("pods") == "0")


async def _roles(world: World) -> None:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    chosen = {"clusterRoleSelectors": [{"matchLabels": {"team": "a"}}]}
    await world.client.create(ROLES, named("sum", aggregationRule=chosen, rules=[]))
    for name in ("part-1", "part-2"):
        part = {"metadata": {"name": name, "labels": {"team": "a"}}, "rules": [{**rule, "resources": [name]}]}
        await world.client.create(ROLES, part)

    def sizes() -> list[int]:
        return [len(r.get("rules") or ()) for r in world.of_kind("ClusterRole") if r["metadata"]["name"] == "sum"]

    await world.until(lambda: sizes() == [2])
    await world.client.delete(ROLES, "part-1")
    await world.until(lambda: sizes() == [1])


async def _policy(world: World) -> None:
    rules = [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": "object.spec.replicas > 'a'"}],
    }
    await world.client.create(POLICIES, named("odd", spec=spec))
    await world.until(lambda: "typeChecking" in str(world.of_kind("ValidatingAdmissionPolicy")))


async def _flow(world: World) -> None:
    spec = {"priorityLevelConfiguration": {"name": "nowhere"}, "matchingPrecedence": 900}
    await world.client.create(SCHEMAS, named("lost", spec=spec))
    await world.until(lambda: "no such object" in str(world.of_kind("FlowSchema")))
    await world.client.delete(SCHEMAS, "catch-all")
    await world.client.delete(LEVELS, "catch-all")
    await world.until(lambda: _there(world, "FlowSchema", "catch-all"))
    await world.until(lambda: _there(world, "PriorityLevelConfiguration", "catch-all"))


def request(name: str, user: str, signer: str, usage: str, host: str = "") -> Json:
    """A signing request of a node."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    words = [(NameOID.ORGANIZATION_NAME, "system:nodes"), (NameOID.COMMON_NAME, user)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(*w) for w in words]))
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    asked = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM)
    usages = ["digital signature", usage]
    return named(name, spec={"request": base64.b64encode(asked).decode(), "signerName": signer, "usages": usages})


async def _certificates(world: World) -> None:
    """A node's two certificates are approved and signed, and the requests go after their hour."""
    from portside.client.inprocess import inprocess_client
    from portside.server.attributes import User

    who = User("system:node:n2", groups=("system:nodes", "system:authenticated"))
    client = inprocess_client(world.server.handler, world.server.make_request(who), user_agent="kubelet")
    await world.join("n2")
    user = "system:node:n2"
    await client.create(REQUESTS, request("client", user, "kubernetes.io/kube-apiserver-client-kubelet", "client auth"))
    await client.create(REQUESTS, request("serving", user, "kubernetes.io/kubelet-serving", "server auth", "n2"))

    def signed() -> int:
        return sum(1 for r in world.of_kind("CertificateSigningRequest") if (r.get("status") or {}).get("certificate"))

    await world.until(lambda: signed() == 2)
    await world.wait(3700)
    await world.until(lambda: not world.of_kind("CertificateSigningRequest"))


async def _pod_certificate(world: World) -> None:
    """A request that nobody answers goes after a quarter of an hour."""
    from portside.agent.podcert import make_key, request_body

    await world.create(PODS, pod())
    (held,) = world.of_kind("Pod")
    uids = {o["kind"]: o["metadata"]["uid"] for o in world.objects.values() if o["kind"] in ("Node", "ServiceAccount")}
    source, asked = {"signerName": "signer.example/pods"}, make_key("ED25519")[1]
    where = {"node": "n1", "node_uid": uids["Node"], "account_uid": uids["ServiceAccount"]}
    await world.create(POD_REQUESTS, request_body(held, source, asked, **where))
    await world.until(lambda: not world.of_kind("PodCertificateRequest"))


def _secret(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def _tokens(world: World) -> None:
    data = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-signing": "true",
        "expiration": rfc3339(world.clock.now() + 300),
    }
    body = {
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {k: _secret(v) for k, v in data.items()},
    }
    await world.create(SECRETS, body, namespace="kube-system")

    def signed() -> bool:
        return any("jws-kubeconfig-abcdef" in (c.get("data") or {}) for c in world.of_kind("ConfigMap"))

    await world.until(signed)
    await world.until(lambda: not world.of_kind("Secret") and not signed())


async def _account_token(world: World) -> None:
    await world.create(ACCOUNTS, named("robot"))
    for name in ("kept", "gone"):
        meta = {"name": name, "annotations": {"kubernetes.io/service-account.name": "robot" if name == "kept" else "x"}}
        await world.create(SECRETS, {"metadata": meta, "type": "kubernetes.io/service-account-token"})
    await world.until(lambda: [bool((s.get("data") or {}).get("token")) for s in world.of_kind("Secret")] == [True])


async def _unused_tokens(world: World) -> None:
    """Of tokens made for an account, the unused is marked, the long marked goes, the mounted one stays."""
    await world.until(lambda: _there(world, "ConfigMap", TRACKING, "kube-system"))
    names = ("fresh", "marked", "mounted")
    await world.create(ACCOUNTS, named("robot", secrets=[{"name": n} for n in names]))
    for name in names:
        labels = {INVALID: "2020-01-01"} if name == "marked" else {}
        meta = {"name": name, "labels": labels, "annotations": {"kubernetes.io/service-account.name": "robot"}}
        await world.create(SECRETS, {"metadata": meta, "type": "kubernetes.io/service-account-token"})
    await world.create(PODS, pod(volumes=[{"name": "v", "secret": {"secretName": "mounted"}}]))
    await world.patch(CONFIGMAPS, TRACKING, {"data": {"since": "2020-01-01"}}, namespace="kube-system")
    await world.until(lambda: not _there(world, "Secret", "marked", "default"))

    def marked() -> set[str]:
        return {
            s["metadata"]["name"] for s in world.of_kind("Secret") if INVALID in (s["metadata"].get("labels") or {})
        }

    await world.until(lambda: marked() == {"fresh"})


async def _migration(world: World) -> None:
    for i in range(3):
        await world.create(CONFIGMAPS, named(f"c{i}"))
    spec = {"resource": {"group": "", "resource": "configmaps"}}
    await world.client.create(MIGRATIONS, named("all", spec=spec))
    await world.until(lambda: "StorageVersionMigrationSucceeded" in str(world.of_kind("StorageVersionMigration")))


async def _size(world: World) -> None:
    """Pods that use twice the wanted share are doubled up to the most, whatever happens in between."""
    await world.create(DEPLOYMENTS, workload(replicas=1, template=_asking()))
    await world.until(lambda: status(world, "Deployment").get("availableReplicas") == 1)
    target = {"type": "Utilization", "averageUtilization": 50}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "maxReplicas": 4,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    await world.create(AUTOSCALERS, named("web", spec=spec))
    await world.until(lambda: status(world, "Deployment").get("availableReplicas") == 4)


def _asking() -> Json:
    container = {"name": "c", "image": "a", "resources": {"requests": {"cpu": "100m"}}}
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}


async def _gang(world: World) -> None:
    """A group that is deleted stays until the last of its pods has ended."""
    policy = {"schedulingPolicy": {"gang": {"minCount": 1}}}
    made = await world.create(GROUPS, named("g", spec=policy))
    assert made["metadata"]["finalizers"] == ["scheduling.k8s.io/podgroup-protection"]
    await world.create(PODS, pod(schedulingGroup={"podGroupName": "g"}))
    await world.until(lambda: world.of_kind("Pod")[0]["status"]["phase"] == "Running")
    await world.delete(GROUPS, "g")
    await world.wait(10)
    assert world.of_kind("PodGroup")
    await world.patch(PODS, world.of_kind("Pod")[0]["metadata"]["name"], ENDED, subresource="status")
    await world.until(lambda: not world.of_kind("PodGroup"))


async def _identity(world: World) -> None:
    """The server's own lease comes and is renewed; that of a server that was lost an hour ago goes."""
    renewed = rfc3339(world.clock.now() - 3590).replace("Z", ".000000Z")
    meta = {"name": "apiserver-lost", "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver"}}
    spec = {"holderIdentity": "lost", "leaseDurationSeconds": 3600, "renewTime": renewed}
    await world.create(LEASES, {"metadata": meta, "spec": spec}, namespace="kube-system")
    seen: set[str] = set()

    async def renewals() -> None:
        while len(seen) < 3:
            leases = await world.all(LEASES, "kube-system")
            names = {lease["metadata"]["name"] for lease in leases}
            if "apiserver-lost" not in names:
                seen.update(lease["spec"]["renewTime"] for lease in leases)
            await world.wait(5)

    await asyncio.wait_for(renewals(), 1800)


SPACES = (
    "service-account-controller of namespaces",
    "root-ca-certificate-publisher of namespaces",
    "kube-apiserver-serving-clustertrustbundle-publisher-controller of namespaces",
    "namespace-controller of namespaces",
)
SIGNING = (
    "certificatesigningrequest-approving-controller of certificatesigningrequests",
    "certificatesigningrequest-signing-controller of certificatesigningrequests",
    "certificatesigningrequest-cleaner-controller of certificatesigningrequests",
    "node-serving-approver of certificatesigningrequests",
)
BOOTSTRAP = ("bootstrap-signer-controller of configmaps", "token-cleaner-controller of secrets")
UNUSED = ("legacy-token-tracking-controller of configmaps", "legacy-service-account-token-cleaner of secrets")
FLOW = (
    "priority-and-fairness-config-consumer of flowschemas",
    "priority-and-fairness-config-producer of prioritylevelconfigurations",
)

SCENARIOS = (
    Scenario("a namespace", SPACES, _space),
    Scenario("garbage", (*DEPLOYING, COLLECTING), _garbage),
    Scenario("a quota", ("resourcequota-controller of resourcequotas",), _quota),
    Scenario("aggregated roles", ("clusterrole-aggregation-controller of clusterroles",), _roles),
    Scenario("a policy", ("validatingadmissionpolicy-status-controller of validatingadmissionpolicies",), _policy),
    Scenario("flow schemas", FLOW, _flow),
    Scenario("certificates", SIGNING, _certificates),
    Scenario(
        "a pod's certificate", ("podcertificaterequest-cleaner-controller of podcertificaterequests",), _pod_certificate
    ),
    Scenario("bootstrap tokens", BOOTSTRAP, _tokens),
    Scenario("an account's token", ("serviceaccount-token-controller of secrets",), _account_token),
    Scenario("tokens that nobody uses", UNUSED, _unused_tokens, ahead=400 * 86400.0),
    Scenario("a migration", ("storage-version-migrator-controller of storageversionmigrations",), _migration),
    Scenario("the lease of the API server", ("apiserver-identity-lease of leases",), _identity),
    Scenario("sizes", (*DEPLOYING, "horizontal-pod-autoscaler of horizontalpodautoscalers"), _size),
)
GATED = (Scenario("a group of pods", ("podgroup-protection-controller of podgroups",), _gang),)
SCENARIOS += GATED if gates.enabled(gates.WORKLOADS) else ()
