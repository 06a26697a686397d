"""helm 4 with charts of five shapes: what it installs, waits for, upgrades, takes back, tests and removes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from portside.cli.api import Refused
from tests.conformance.charts import CHARTS, Helm
from tests.conformance.charts import definitions as definitions
from tests.conformance.charts import ground as ground
from tests.conformance.charts import helm as helm
from tests.conformance.ground import Ground

pytestmark = pytest.mark.timeout(600)
SHORT = "--timeout=10s"  # until what never gets ready has failed; the way back has as long again


def data(ground: Ground, name: str) -> dict[str, str]:
    return dict(ground.get("configmaps", name)["data"])


# --- a web application -------------------------------------------------------------------------------------------------


def test_install_waits_for_what_the_chart_runs(ground: Ground, helm: Helm) -> None:
    told = helm.install("web", "--set", "page=first,readyAfter=2s")
    assert "STATUS: deployed" in told
    assert "The page of r says first, revision 1." in told
    assert ground.get("deployments", "r")["status"]["availableReplicas"] == 2
    assert {e["kind"] for e in helm.manifests()} == {"ConfigMap", "Deployment", "Service"}
    status = json.loads(helm("status", "r", "-o", "json"))
    assert status["info"]["status"] == "deployed"
    assert json.loads(helm("get", "values", "r", "-o", "json")) == {"page": "first", "readyAfter": "2s"}
    assert [r["chart"] for r in helm.releases()] == ["web-1.2.0"]


def test_an_upgrade_changes_what_differs_and_a_rollback_takes_it_back(ground: Ground, helm: Helm) -> None:
    helm.install("web")
    before = ground.get("services", "r")
    helm.upgrade("web", "--set", "page=second", "--set", "replicas=3")
    assert data(ground, "r-page") == {"index.html": "second"}
    deployment = ground.get("deployments", "r")
    assert deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert deployment["status"]["availableReplicas"] == 3
    same = ("uid", "resourceVersion")
    after = ground.get("services", "r")
    assert [after["metadata"][k] for k in same] == [before["metadata"][k] for k in same], "a no-op apply writes nothing"
    helm("rollback", "r", "1", "--wait")
    assert data(ground, "r-page") == {"index.html": "hello"}
    assert ground.get("deployments", "r")["spec"]["replicas"] == 2
    assert helm.history() == [(1, "superseded"), (2, "superseded"), (3, "deployed")]


def test_a_rendered_upgrade_is_tried_on_the_server_and_writes_nothing(ground: Ground, helm: Helm) -> None:
    helm.install("web")
    before = ground.get("configmaps", "r-page")
    told = helm.upgrade("web", "--set", "page=tried", "--dry-run=server")
    assert 'index.html: "tried"' in told
    assert ground.get("configmaps", "r-page") == before
    assert helm.history() == [(1, "deployed")]


def test_an_upgrade_that_never_gets_ready_is_taken_back(ground: Ground, helm: Helm) -> None:
    helm.install("web")
    told = helm(
        "upgrade", "r", str(CHARTS / "web"), "--set", "page=broken,readyAfter=10m", "--rollback-on-failure", SHORT,
        fails=True,
    )  # fmt: skip
    assert "rolled back" in told
    assert data(ground, "r-page") == {"index.html": "hello"}
    assert helm.history() == [(1, "superseded"), (2, "failed"), (3, "deployed")]


def test_an_installation_that_never_gets_ready_leaves_nothing(ground: Ground, helm: Helm) -> None:
    told = helm(
        "install",
        "r",
        str(CHARTS / "web"),
        "--set",
        "readyAfter=10m",
        "--rollback-on-failure",
        SHORT,
        fails=True,
    )
    assert "uninstalled" in told
    assert [r for r in helm.releases("--all-namespaces") if r["namespace"] == ground.name] == []
    ground.until(lambda: ground.gone("deployments", "r"), 60)


def test_values_that_the_schema_forbids_and_objects_that_the_server_refuses_are_told(helm: Helm) -> None:
    assert "replicas" in helm.install("web", "--set", "replicas=-1", fails=True)
    told = helm.install("web", "--set", "service.port=70000", fails=True)
    assert 'Service "r" is invalid: spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535' in told


def test_a_field_of_another_manager_is_a_conflict_unless_it_is_forced(ground: Ground, helm: Helm) -> None:
    helm.install("web")
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "r"}, "spec": {"replicas": 4}}
    ground.kubectl(
        "apply", "--server-side", "--field-manager=scaler", "--force-conflicts", "-f", "-", stdin=json.dumps(scaled)
    )
    told = helm.upgrade("web", "--set", "replicas=1", fails=True)
    assert 'conflict with "scaler"' in told
    assert ".spec.replicas" in told
    assert ground.get("deployments", "r")["spec"]["replicas"] == 4
    helm.upgrade("web", "--set", "replicas=1", "--force-conflicts")
    assert ground.get("deployments", "r")["spec"]["replicas"] == 1


def test_a_release_of_client_side_apply_is_upgraded_by_the_server(ground: Ground, helm: Helm) -> None:
    helm.install("web", "--server-side=false")
    helm.upgrade("web", "--server-side=true", "--set", "page=moved", "--force-conflicts")
    assert data(ground, "r-page") == {"index.html": "moved"}
    managers = {m["operation"] for m in ground.get("configmaps", "r-page")["metadata"]["managedFields"]}
    assert managers == {"Apply"}


def test_objects_that_are_there_are_taken_over_only_when_asked(ground: Ground, helm: Helm) -> None:
    ground.create("configmaps", {"metadata": {"name": "r-page"}, "data": {"mine": "yes"}})
    told = helm.install("web", fails=True)
    assert 'ConfigMap "r-page" in namespace' in told
    assert "cannot be imported into the current release" in told
    helm.install("web", "--take-ownership", "--force-conflicts")
    labels = ground.get("configmaps", "r-page")["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "Helm"
    assert data(ground, "r-page") == {"index.html": "hello", "mine": "yes"}


def test_a_release_is_tested(ground: Ground, helm: Helm) -> None:
    helm.install("web")
    assert "Phase:          Succeeded" in helm("test", "r")
    assert ground.get("pods", "r-reach")["status"]["phase"] == "Succeeded"
    assert "Phase:          Succeeded" in helm("test", "r"), "the pod of the first test makes room"


def test_uninstall_removes_everything_and_may_keep_the_history(ground: Ground, helm: Helm) -> None:
    helm.install("web")
    assert 'release "r" uninstalled' in helm.uninstall("--keep-history", "--wait")
    for plural, name in (("deployments", "r"), ("services", "r"), ("configmaps", "r-page")):
        assert ground.gone(plural, name)
    assert helm.history() == [(1, "uninstalled")]
    helm("rollback", "r", "1", "--wait")
    assert helm.history() == [(1, "uninstalled"), (2, "deployed")]
    helm.uninstall("--cascade=foreground")
    ground.until(lambda: ground.gone("deployments", "r"), 60)
    assert ground.all("secrets", "owner=helm") == []


# --- hooks -------------------------------------------------------------------------------------------------------------


def stamp(ground: Ground, event: str) -> tuple[str, str]:
    """When a hook's Job was made and when it was complete."""
    job = ground.get("jobs", f"r-{event}")
    return job["metadata"]["creationTimestamp"], job["status"]["completionTime"]


def test_hooks_run_by_weight_before_and_after(ground: Ground, helm: Helm) -> None:
    helm.install("hooks")
    made = ground.get("configmaps", "r-value")["metadata"]["creationTimestamp"]
    before, after = stamp(ground, "pre-install"), stamp(ground, "post-install")
    assert ground.get("serviceaccounts", "r-first")["metadata"]["creationTimestamp"] <= before[0]
    assert before[1] <= made <= after[0]
    assert ground.gone("jobs", "r-second"), "its policy removes it once it has succeeded"
    assert ground.gone("jobs", "r-pre-upgrade")
    helm.upgrade("hooks", "--set", "value=two")
    assert stamp(ground, "pre-upgrade")[1] <= stamp(ground, "post-upgrade")[0]
    first = ground.get("jobs", "r-pre-upgrade")["metadata"]["uid"]
    helm.upgrade("hooks", "--set", "value=three")
    assert ground.get("jobs", "r-pre-upgrade")["metadata"]["uid"] != first, "the old hook made room for the new one"
    helm("rollback", "r", "2", "--wait")
    assert stamp(ground, "pre-rollback")[1] <= stamp(ground, "post-rollback")[0]
    assert data(ground, "r-value") == {"value": "two"}
    helm.uninstall()
    ground.until(lambda: ground.gone("configmaps", "r-value"), 60)
    assert stamp(ground, "pre-delete")[1] <= stamp(ground, "post-delete")[0]


def test_a_failed_hook_holds_up_the_upgrade(ground: Ground, helm: Helm) -> None:
    helm.install("hooks")
    told = helm.upgrade("hooks", "--set", "value=two,fail=pre-upgrade", fails=True)
    assert "pre-upgrade hooks failed" in told
    assert "BackoffLimitExceeded" in told or "failed" in told
    assert data(ground, "r-value") == {"value": "one"}
    assert helm.history() == [(1, "deployed"), (2, "failed")]
    helm.upgrade("hooks", "--set", "value=two", "--no-hooks")
    assert data(ground, "r-value") == {"value": "two"}


def test_a_failed_hook_before_an_installation_leaves_a_failed_release(ground: Ground, helm: Helm) -> None:
    assert "pre-install" in helm.install("hooks", "--set", "fail=pre-install", fails=True)
    assert helm.history() == [(1, "failed")]
    assert ground.gone("configmaps", "r-value")
    helm("upgrade", "--install", "r", str(CHARTS / "hooks"), "--wait")
    assert data(ground, "r-value") == {"value": "one"}


# --- definitions, objects of them, and templates that ask ----------------------------------------------------------------


def test_definitions_come_before_templates_and_stay(ground: Ground, helm: Helm, definitions: str) -> None:
    helm.install("custom")
    backup = json.loads(ground.kubectl("get", "bk", "r", "-o", "json"))
    assert backup["spec"]["keep"] == 7
    facts = data(ground, "r-facts")
    space = ground.api.send("GET", f"/api/v1/namespaces/{ground.name}")
    assert facts["namespace"] == space["metadata"]["uid"]
    assert (facts["nobody"], facts["nodes"], facts["policies"]) == ("true", "3", "true")
    assert facts["version"].startswith("v1.37.")
    helm.upgrade("custom", "--set", "keep=9")
    assert json.loads(ground.kubectl("get", "bk", "r", "-o", "json"))["spec"]["keep"] == 9
    told = helm.upgrade("custom", "--set", "keep=100", fails=True)
    assert "too many" in told
    helm("rollback", "r", "1")
    assert json.loads(ground.kubectl("get", "bk", "r", "-o", "json"))["spec"]["keep"] == 7
    helm.uninstall()
    assert "No resources found" in ground.cluster.kubectl("get", "backups", "-n", ground.name, check=False)
    assert definitions in ground.kubectl("get", "crd", "-o", "name")


def test_an_object_of_a_kind_that_is_not_there_is_told(ground: Ground, helm: Helm) -> None:
    told = helm.install("custom", "--skip-crds", "--set", "keep=1")
    assert "STATUS: deployed" in told
    assert [m["kind"] for m in helm.manifests()] == ["ConfigMap"], "the template asks whether the kind is served"


# --- a parent with subcharts ---------------------------------------------------------------------------------------------


def names(ground: Ground) -> set[str]:
    return {c["metadata"]["name"] for c in ground.all("configmaps")} - {"kube-root-ca.crt"}


def test_subcharts_come_and_go_by_condition_and_tag(ground: Ground, helm: Helm) -> None:
    helm.install("umbrella")
    assert names(ground) == {"r-front", "r-cache"}
    assert ground.get("configmaps", "r-cache")["metadata"]["labels"]["team"] == "blue"
    helm.upgrade("umbrella", "--set", "sessions.enabled=true,cache.enabled=false,tags.extras=true")
    assert names(ground) == {"r-front", "r-sessions", "r-search"}
    assert data(ground, "r-sessions") == {"size": "16"}
    helm.upgrade("umbrella", "--reset-values")
    assert names(ground) == {"r-front", "r-cache"}


def test_a_post_renderer_changes_what_is_applied(ground: Ground, helm: Helm) -> None:
    folder: Path = helm.home / "plugins" / "stamp"
    folder.mkdir(parents=True)
    script = folder / "stamp.sh"
    script.write_text("#!/bin/sh\nsed 's/team: blue/team: green/'\n")
    script.chmod(0o755)
    (folder / "plugin.yaml").write_text(
        "apiVersion: v1\ntype: postrenderer/v1\nname: stamp\nversion: 0.1.0\nruntime: subprocess\n"
        "runtimeConfig:\n  platformCommand:\n    - command: ${HELM_PLUGIN_DIR}/stamp.sh\n"
    )
    helm.install("umbrella", "--post-renderer", "stamp")
    assert ground.get("configmaps", "r-front")["metadata"]["labels"]["team"] == "green"


# --- a store with volumes ------------------------------------------------------------------------------------------------


def test_a_stateful_chart_is_installed_scaled_and_removed(ground: Ground, helm: Helm) -> None:
    helm.install("stateful")
    store = ground.get("statefulsets", "r")
    assert store["status"]["readyReplicas"] == 2
    claims = [c["metadata"]["name"] for c in ground.all("persistentvolumeclaims")]
    assert claims == ["data-r-0", "data-r-1"]
    assert ground.status("poddisruptionbudgets", "r", 60, currentHealthy=2)["status"]["disruptionsAllowed"] == 1
    secret = ground.get("secrets", "r-password")["data"]["PASSWORD"]
    helm.upgrade("stateful", "--set", "replicas=3,setting=b")
    assert ground.get("statefulsets", "r")["status"]["readyReplicas"] == 3
    assert ground.get("secrets", "r-password")["data"]["PASSWORD"] == secret, "lookup found the old one"
    settings = [s["data"]["SETTING"] for s in ground.all("secrets") if s.get("immutable")]
    assert settings == [base64.b64encode(b"b").decode()]
    helm("rollback", "r", "1", "--wait")
    assert ground.get("statefulsets", "r")["spec"]["replicas"] == 2
    helm.uninstall("--cascade=foreground")
    ground.until(lambda: not ground.all("persistentvolumeclaims"), 60)
    assert ground.get("secrets", "r-password")["data"]["PASSWORD"] == secret, "its policy keeps it"
    for plural in ("statefulsets", "poddisruptionbudgets"):
        ground.until(lambda p=plural: ground.gone(p, "r"), 60)


def test_an_immutable_secret_is_not_changed_by_an_upgrade(ground: Ground, helm: Helm) -> None:
    helm.install("stateful")
    name = next(s["metadata"]["name"] for s in ground.all("secrets") if s.get("immutable"))
    with pytest.raises(Refused) as refused:
        ground.patch("secrets", name, {"data": {"SETTING": "Yw=="}})
    assert "field is immutable when `immutable` is set" in str(refused.value)
    helm.upgrade("stateful", "--set", "host=new.example.com")
    assert ground.kubectl("get", "ingress", "r", "-o", "jsonpath={.spec.rules[0].host}") == "new.example.com"
