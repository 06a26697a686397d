"""portside why: workloads whose pods can't be made, rollouts, Jobs, CronJobs, autoscalers. Brought about for real."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from portside.testing.cluster import Api, cluster
from tests.asking import Asker, Json, template, workload
from tests.conformance.admission_fixture import rule
from tests.conformance.why_site import k, own_node, plane
from tests.webhook_server import WebhookServer

__all__ = ["k", "own_node", "plane"]
HOOKS = "admissionregistration.k8s.io/v1"


def deploy(k: Asker, name: str, **more: Any) -> None:
    k.make("Deployment", name, workload(name, **({"replicas": 3} | more)))


# -- refused ----------------------------------------------------------------------------------------------------------


def test_a_quota_that_is_used_up_is_named(k: Asker) -> None:
    k.make("ResourceQuota", "few", {"hard": {"pods": "1"}})
    k.until(lambda: (k.get("resourcequotas", "few").get("status") or {}).get("hard"))
    deploy(k, "web")
    found = k.says(
        "quota-exceeded", "deployment/web", "quota few", "pods=1 used", "resourcequota/few status.hard = pods=1"
    )
    assert found["object"]["kind"] == "ReplicaSet"
    k.says("pods-not-ready", "deployment/web", "1 of 3 pods are ready", consequence=True)
    k.says("quota-full", "quota/few", "pods 1 of 1")


def test_a_deployment_whose_replicasets_are_refused_is_told(k: Asker) -> None:
    k.make("ResourceQuota", "none", {"hard": {"count/replicasets.apps": "0"}})
    k.until(lambda: (k.get("resourcequotas", "none").get("status") or {}).get("hard"))
    deploy(k, "web")
    k.says("quota-exceeded", "deployment/web", "quota none", "conditions[Progressing].reason = ReplicaSetCreateError")


def test_a_quota_that_wants_requests_is_named(k: Asker) -> None:
    k.make("ResourceQuota", "cores", {"hard": {"requests.cpu": "4"}})
    k.until(lambda: (k.get("resourcequotas", "cores").get("status") or {}).get("hard"))
    deploy(k, "web")
    k.says("quota-needs-requests", "deployment/web", "cores", "requests.cpu", "LimitRange")


def test_a_limit_range_is_named(k: Asker) -> None:
    k.make("LimitRange", "small", {"limits": [{"type": "Container", "max": {"cpu": "500m"}}]})
    deploy(k, "web", container={"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}})
    k.says("limit-range", "deployment/web", "maximum cpu usage per Container is 500m", "limitrange/small spec.limits")


def test_pod_security_is_named(k: Asker) -> None:
    k.patch("namespaces", k.namespace, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}})
    k.make("DaemonSet", "agent", workload("agent", pod={"hostNetwork": True}))
    k.says("pod-security", "ds/agent", "Pod Security baseline:latest", "host namespaces")


@pytest.mark.parametrize(
    ("cause", "spec", "words"),
    [
        ("serviceaccount-missing", {"serviceAccountName": "robot"}, "kubectl create serviceaccount robot"),
        ("priorityclass-missing", {"priorityClassName": "urgent"}, "kubectl create priorityclass urgent"),
        ("runtimeclass-missing", {"runtimeClassName": "gvisor"}, "RuntimeClass gvisor does not exist"),
        ("create-refused", {"priority": 7}, "must not be provided in pod spec"),
    ],
)
def test_what_the_pods_lack_is_named(k: Asker, cause: str, spec: Json, words: str) -> None:
    k.make("StatefulSet", "db", workload("db", pod=spec, serviceName="db"))
    k.says(cause, "sts/db", words)


@pytest.fixture(scope="module")
def hooks() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


def configure(k: Asker, name: str, client: Json) -> None:
    hook = {
        "name": f"{name}.example.com",
        "clientConfig": client,
        "rules": [rule("pods", "CREATE")],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 5,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": k.namespace}},
    }
    k.make("ValidatingWebhookConfiguration", f"{name}-{k.namespace}", webhooks=[hook])


def test_a_webhook_that_says_no_is_named(k: Asker, hooks: WebhookServer) -> None:
    path = f"/{k.namespace}"
    hooks.on(path, lambda request: {"allowed": False, "status": {"message": "no team label"}})
    configure(k, "teams", hooks.at(path))
    deploy(k, "web")
    k.says("webhook-refused", "deployment/web", "teams.example.com refuses the pods: no team label")
    k.delete("validatingwebhookconfigurations", f"teams-{k.namespace}")


def test_a_webhook_that_does_not_answer_is_named(k: Asker) -> None:
    configure(k, "gone", {"url": "https://127.0.0.1:1/none"})
    k.make("Job", "once", {"template": template("once", restartPolicy="Never")})
    k.says("webhook-unreachable", "job/once", "gone.example.com", "failurePolicy: Ignore")
    k.delete("validatingwebhookconfigurations", f"gone-{k.namespace}")


def test_a_policy_that_says_no_is_named(k: Asker) -> None:
    name = f"owners-{uuid.uuid4().hex[:6]}"
    match = {"resourceRules": [rule("pods", "CREATE")]}
    match["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": k.namespace}}
    check = {"expression": "has(object.metadata.labels.owner)", "message": "say who owns it"}
    k.make("ValidatingAdmissionPolicy", name, {"matchConstraints": match, "validations": [check]})
    k.make("ValidatingAdmissionPolicyBinding", name, {"policyName": name, "validationActions": ["Deny"]})
    deploy(k, "web")
    k.says("policy-refused", "deployment/web", name, "say who owns it")
    k.delete("validatingadmissionpolicybindings", name)
    k.delete("validatingadmissionpolicies", name)


# -- rollouts ---------------------------------------------------------------------------------------------------------


def test_a_pause_with_changes_is_told(k: Asker) -> None:
    deploy(k, "web")
    k.well("deployment/web")
    k.patch("deployments", "web", {"spec": {"paused": True}})
    k.well("deployment/web")
    k.patch("deployments", "web", {"spec": {"template": {"metadata": {"labels": {"v": "2"}}}}})
    k.says("rollout-paused", "deployment/web", "spec.paused", "kubectl rollout resume deployment/web")


def test_a_rollout_without_progress_is_the_consequence_of_its_pods(k: Asker) -> None:
    deploy(k, "web", pod={"nodeSelector": {"disk": "ssd"}}, progressDeadlineSeconds=1)
    k.says("progress-deadline", "deployment/web", "no progress for 1 s", consequence=True)
    k.tells("deployment/web", ("unschedulable", 3))


def test_a_set_that_is_scaled_to_zero_says_so(k: Asker) -> None:
    deploy(k, "web", replicas=0)
    k.says("scaled-to-zero", "deployment/web", "spec.replicas", "kubectl scale")


def test_an_ordered_set_names_the_pod_it_waits_for(k: Asker) -> None:
    never = {"annotations": {"sim.portside.io/ready-after": "600s"}}
    k.make("StatefulSet", "db", workload("db", meta=never, replicas=3, serviceName="db"))
    k.says("earlier-pod-not-ready", "sts/db", "2 more pods are not made before pod/db-0 is ready", consequence=True)


def test_a_daemonset_without_a_node_says_why(k: Asker) -> None:
    k.make("DaemonSet", "agent", workload("agent", pod={"nodeSelector": {"disk": "ssd"}}))
    k.says("daemonset-without-nodes", "ds/agent", "nodeSelector or affinity matches none", "disk=ssd")


def test_a_controller_that_does_not_look_is_told() -> None:
    with cluster(controllers=False, scheduler=False) as api:
        asker = Asker(api.kubeconfig, "default")
        asker.make("Deployment", "web", workload("web"))
        asker.says("controller-behind", "deployment/web", "metadata.generation", "portside status", later=60)
        asker.api.close()


def test_a_budget_that_allows_nothing_is_told(k: Asker, own_node: str) -> None:
    deploy(k, "web", replicas=1, pod={"nodeSelector": {"own": own_node}})
    selector = {"matchLabels": {"app": "web"}}
    k.make("PodDisruptionBudget", "web", {"minAvailable": 1, "selector": selector})
    k.says("budget-blocks", "pdb/web", "1 of 1 pods are healthy and 1 must be", "spec.minAvailable")
    k.patch("nodes", own_node, {"spec": {"unschedulable": True}})
    k.says("drain-blocked", f"node/{own_node}", "waits for pod/web-", "poddisruptionbudget/web")
    k.says("node-cordoned", f"node/{own_node}", f"kubectl uncordon {own_node}")


# -- Jobs, CronJobs, autoscalers --------------------------------------------------------------------------------------

FAILS = {"annotations": {"sim.portside.io/fail-after": "0s"}}


def job(meta: Json | None = None, **spec: Any) -> Json:
    return {"template": template("job", None, meta, restartPolicy="Never"), **spec}


def test_a_job_that_gave_up_follows_from_its_pods(k: Asker) -> None:
    k.make("Job", "hard", job(FAILS, backoffLimit=0))
    k.says("job-backoff-limit", "job/hard", "failed more often than backoffLimit", consequence=True)
    k.tells("job/hard", ("container-failed", 1))


def test_a_job_out_of_time_is_told(k: Asker) -> None:
    long = {"annotations": {"sim.portside.io/end-after": "600s"}}
    k.make("Job", "long", job(long, activeDeadlineSeconds=1))
    k.says("job-deadline", "job/long", "spec.activeDeadlineSeconds = 1", "conditions[Failed].reason = DeadlineExceeded")


def test_a_failure_policy_is_told(k: Asker) -> None:
    policy = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]}
    k.make("Job", "strict", job(FAILS, podFailurePolicy=policy))
    k.says("job-failure-policy", "job/strict", "FailJob", consequence=True)


def test_failed_indexes_are_told(k: Asker) -> None:
    k.make("Job", "parts", job(FAILS, completions=2, completionMode="Indexed", backoffLimitPerIndex=0))
    k.says("job-failed-indexes", "job/parts", "backoffLimitPerIndex", consequence=True)


def cronjob(**spec: Any) -> Json:
    return {"schedule": "* * * * *", "jobTemplate": {"spec": job()}, **spec}


def test_a_suspension_is_told(k: Asker) -> None:
    k.make("Job", "later", job(suspend=True))
    k.says("suspended", "job/later", "spec.suspend", "kubectl patch")
    k.make("CronJob", "later", cronjob(suspend=True))
    k.says("suspended", "cronjob/later", "no new Jobs are made")


def test_a_run_that_the_one_before_forbids_is_told(k: Asker) -> None:
    spec = cronjob(concurrencyPolicy="Forbid", suspend=True)
    spec["jobTemplate"]["spec"] = job({"annotations": {"sim.portside.io/end-after": "600s"}})
    made = k.make("CronJob", "often", spec)
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "often", "uid": made["metadata"]["uid"]}
    run = k.make(
        "Job", "often-1", spec["jobTemplate"]["spec"], meta={"ownerReferences": [owner | {"controller": True}]}
    )
    active = {"kind": "Job", "namespace": k.namespace, "name": "often-1", "uid": run["metadata"]["uid"]}
    past = {"lastScheduleTime": "2026-01-01T00:00:00Z", "active": [active | {"apiVersion": "batch/v1"}]}
    k.patch("cronjobs", "often", {"status": past}, "status")
    k.patch("cronjobs", "often", {"spec": {"suspend": False, "startingDeadlineSeconds": 200}})
    k.says("run-forbidden", "cronjob/often", "often-1", "concurrencyPolicy is Forbid", "JobAlreadyActive")


def test_a_schedule_that_can_not_be_kept_is_told(k: Asker) -> None:
    k.make("CronJob", "never", cronjob(schedule="0 0 31 2 *"))
    k.says("schedule-not-kept", "cronjob/never", "spec.schedule", "0 0 31 2 *")


def autoscaler(name: str) -> Json:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    return {"scaleTargetRef": target, "maxReplicas": 3, "metrics": [metric]}


def test_an_autoscaler_says_what_it_lacks(k: Asker) -> None:
    k.make("HorizontalPodAutoscaler", "lost", autoscaler("lost"))
    k.says("autoscaler-without-target", "hpa/lost", "can't find what it is to scale: deployment/lost")
    deploy(k, "blind")
    k.make("HorizontalPodAutoscaler", "blind", autoscaler("blind"))
    k.says("autoscaler-without-metrics", "hpa/blind", "ScalingActive", "nobody serves that metrics API")
    deploy(k, "off", replicas=0)
    k.make("HorizontalPodAutoscaler", "off", autoscaler("off"))
    k.says("autoscaler-off", "hpa/off", "scaled to zero", "--replicas=1")


# -- the whole --------------------------------------------------------------------------------------------------------


def test_all_is_well_and_what_is_not_is_told_once_worst_first(plane: Api, k: Asker) -> None:
    deploy(k, "good")
    k.well("deployment/good")
    k.well("")
    deploy(k, "bad", pod={"nodeSelector": {"disk": "ssd"}})
    deploy(k, "idle", replicas=0)
    k.says("unschedulable", "", "nodeSelector")
    for about in ("", f"namespace/{k.namespace}"):
        k.tells(about, ("unschedulable", 3), ("scaled-to-zero", 1))
