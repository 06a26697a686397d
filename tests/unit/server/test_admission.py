"""Admission: what pods get on their way in, what is refused, and that quotas cannot be overdrawn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.server.auth_fixture import FakeHost

from portside.api.status import ApiError
from portside.server.admission import chain
from portside.server.admission.review import Review
from portside.server.attributes import Attributes, User
from portside.server.bootstrap import roles
from portside.server.bootstrap.apply import mend_rbac

Json = dict[str, Any]
USER = User("alice", groups=("system:masters",))


def host_with_namespace() -> FakeHost:
    host = FakeHost()
    host.add("namespaces", {"metadata": {"name": "a"}})
    host.add("serviceaccounts", {"metadata": {"name": "default", "namespace": "a"}})
    return host


def pod(**spec: Any) -> Json:
    return {"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [{"name": "c"}], **spec}}


async def admit(host: FakeHost, obj: Json, plural: str = "pods", **more: Any) -> Json:
    asked = Attributes(more.pop("user", USER), "create", resource=plural, namespace="a", name=obj["metadata"]["name"])
    more = {"operation": "CREATE", "dry_run": False, "old": None} | more
    return await chain.admit(Review(asked, obj, server=host, **more))


async def test_a_pod_gets_account_token_priority_and_tolerations() -> None:
    made = (await admit(host_with_namespace(), pod()))["spec"]
    assert made["serviceAccountName"] == "default" and made["priority"] == 0
    assert made["preemptionPolicy"] == "PreemptLowerPriority"
    assert [t["tolerationSeconds"] for t in made["tolerations"]] == [300, 300]
    volume = made["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    mount = made["containers"][0]["volumeMounts"][0]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/var/run/secrets/kubernetes.io/serviceaccount")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (
            {"serviceAccountName": "nobody"},
            'error looking up service account a/nobody: serviceaccount "nobody" not found',
        ),
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        ({"priority": 7}, r"the integer value of priority \(7\) must not be provided"),
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
    ],
)
async def test_references_to_nothing_are_refused(spec: Json, why: str) -> None:
    with pytest.raises(ApiError, match=why) as refused:
        await admit(host_with_namespace(), pod(**spec))
    assert refused.value.code == 403


async def test_namespaces_that_are_absent_going_or_needed() -> None:
    host = FakeHost()
    with pytest.raises(ApiError, match='namespaces "a" not found'):
        await admit(host, pod())
    host.add("namespaces", {"metadata": {"name": "a", "deletionTimestamp": "x"}, "status": {"phase": "Terminating"}})
    with pytest.raises(ApiError, match="because it is being terminated") as refused:
        await admit(host, {"metadata": {"name": "x", "namespace": "a"}}, "configmaps")
    assert refused.value.details is not None and refused.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    gone = Attributes(USER, "delete", resource="namespaces", name="kube-system", namespace="kube-system")
    with pytest.raises(ApiError, match="this namespace may not be deleted"):
        await chain.admit(Review(gone, {}, {"metadata": {}}, "DELETE", False, host))


async def test_limit_ranges_fill_in_and_hold() -> None:
    host = host_with_namespace()
    limits = {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "200m"}, "max": {"cpu": "1"}}
    host.add("limitranges", {"metadata": {"name": "r", "namespace": "a"}, "spec": {"limits": [limits]}})
    made = await admit(host, pod())
    assert made["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "200m"}, "limits": {"cpu": "500m"}}
    assert "cpu request for container c; cpu limit for container c" in str(made["metadata"]["annotations"])
    big = [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]
    with pytest.raises(ApiError, match="maximum cpu usage per Container is 1, but limit is 2"):
        await admit(host, pod(containers=big))


async def test_a_quota_is_never_overdrawn_however_many_ask_at_once() -> None:
    host = host_with_namespace()
    hard = {"configmaps": "5"}
    status = {"hard": hard, "used": {"configmaps": "0"}}
    host.add("resourcequotas", {"metadata": {"name": "q", "namespace": "a"}, "spec": {"hard": hard}, "status": status})

    async def one(number: int) -> bool:
        try:
            await admit(host, {"metadata": {"name": f"x{number}", "namespace": "a"}}, "configmaps")
        except ApiError as refused:
            assert "exceeded quota: q, requested: configmaps=1, used: configmaps=5, limited: configmaps=5" in str(
                refused
            )
            return False
        return True

    assert sum(await asyncio.gather(*(one(n) for n in range(12)))) == 5
    quota = host.live.of("resourcequotas").get("q", "a")
    assert quota is not None and quota["status"]["used"] == {"configmaps": "5"}


async def test_nodes_keep_to_themselves() -> None:
    host = FakeHost()
    node = User("system:node:n1", groups=("system:nodes",))
    with pytest.raises(ApiError, match='node "n1" is not allowed to modify node "n2"'):
        await admit_node(host, {}, node, "n2")
    labels = {"node-restriction.kubernetes.io/a": "b", "kubelet.kubernetes.io/x": "y", "own": "z"}
    with pytest.raises(ApiError, match=r"following labels: node-restriction\.kubernetes\.io/a$"):
        await admit_node(host, labels, node)
    made = await admit_node(host, {"own": "z"}, node)
    assert made["spec"]["taints"] == [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


async def admit_node(host: FakeHost, labels: Json, user: User, name: str = "n1") -> Json:
    asked = Attributes(user, "create", resource="nodes", name=name)
    obj = {"metadata": {"name": name, "labels": labels}}
    return await chain.admit(Review(asked, obj, None, "CREATE", False, host))


def test_default_roles_are_complete_and_mended_without_undoing_people() -> None:
    found = {r["metadata"]["name"]: r for r in roles.cluster_roles()}
    assert len(found) == 73
    view, edit, admin = (found[n]["rules"] for n in ("view", "edit", "admin"))
    assert all(rule in edit for rule in view) and all(rule in admin for rule in edit)
    assert {b["roleRef"]["name"] for b in roles.cluster_role_bindings()} <= found.keys()
    wanted = found["system:discovery"]
    assert mend_rbac(wanted, wanted) is None
    extra = {"verbs": ["get"], "nonResourceURLs": ["/mine"]}
    mended = mend_rbac(wanted | {"rules": [extra]}, wanted)
    assert mended is not None and extra in mended["rules"] and wanted["rules"][0] in mended["rules"]
    kept = {"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": []}
    assert mend_rbac(kept, wanted) is None
