"""What users rely on about workloads: defaults, generated selectors, immutables, schedules, statuses."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from portside.api import quantity
from portside.api.rules.cron_schedule import ScheduleError, parse
from portside.api.rules.registry import Context, Rules, rules_for

Json = dict[str, Any]
CTX = Context(now="2026-01-01T00:00:00Z", namespace="default")
TEMPLATE: Json = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
SELECTOR: Json = {"matchLabels": {"app": "a"}}


def made(group: str, kind: str, spec: Json) -> tuple[Rules, Json, list[str]]:
    rules = rules_for(group, "v1", kind)
    meta = {"name": "n", "namespace": "default", "uid": "u-1"}
    obj: Json = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": meta, "spec": copy.deepcopy(spec)}
    rules.default(obj)
    return rules, obj, [str(e) for e in rules.before_create(obj, CTX)]


def changed(rules: Rules, old: Json, change: Json) -> tuple[Json, list[str]]:
    new = copy.deepcopy(old)
    new["spec"] |= copy.deepcopy(change)
    rules.default(new)
    return new, [str(e) for e in rules.before_update(new, old, CTX)]


def test_a_deployment_gets_its_defaults_and_its_selector_never_changes() -> None:
    rules, obj, errors = made("apps", "Deployment", {"selector": SELECTOR, "template": TEMPLATE})
    assert errors == []
    spec = {k: v for k, v in obj["spec"].items() if k not in ("template", "selector")}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert spec == {"replicas": 1, "strategy": rolling, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
    new, errors = changed(rules, obj, {"replicas": 3})
    assert errors == [] and new["metadata"]["generation"] == 2
    other = {"selector": {"matchLabels": {"app": "b"}}, "template": {**TEMPLATE, "metadata": {"labels": {"app": "b"}}}}
    assert changed(rules, obj, other)[1] == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable'
    ]


def test_a_selector_that_misses_its_template_is_refused() -> None:
    spec = {"selector": {"matchLabels": {"app": "b"}}, "template": TEMPLATE}
    for kind in ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"):
        assert made("apps", kind, spec)[2] == [
            'spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`'
        ]


def test_a_daemon_set_counts_its_template_in_an_annotation() -> None:
    rules, obj, errors = made("apps", "DaemonSet", {"selector": SELECTOR, "template": TEMPLATE})
    key = "deprecated.daemonset.template.generation"
    assert errors == [] and obj["metadata"]["annotations"][key] == "1"
    template = {**TEMPLATE, "spec": {"containers": [{"name": "c", "image": "x:2"}]}}
    new, errors = changed(rules, obj, {"template": template})
    assert errors == [] and new["metadata"]["annotations"][key] == "2"


def test_a_strategy_that_is_named_gets_no_numbers_it_does_not_need() -> None:
    spec = {"selector": SELECTOR, "template": TEMPLATE, "updateStrategy": {"type": "RollingUpdate"}}
    assert made("apps", "StatefulSet", spec)[1]["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
    spec["updateStrategy"] = {"type": "OnDelete", "rollingUpdate": {"maxSurge": 1}}
    rolling = {"maxUnavailable": 0, "maxSurge": 1}
    assert made("apps", "DaemonSet", spec)[1]["spec"]["updateStrategy"]["rollingUpdate"] == rolling


def test_a_stateful_set_says_all_that_is_wrong_in_upstreams_order() -> None:
    spec = {"template": {"spec": {}}, "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {}}]}
    assert made("apps", "StatefulSet", spec)[2] == [
        "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
        "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        "spec.selector: Required value",
        "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
        "spec.template.spec.containers: Required value",
    ]


def test_fields_of_jobs_and_volumes_that_are_off_are_not_stored() -> None:
    files = {
        "name": "v",
        "secret": {"secretName": "s", "defaultUser": 5, "items": [{"key": "k", "path": "p", "user": 5}]},
    }
    template = {"spec": {"containers": [{"name": "c", "image": "x:1"}], "volumes": [files], "restartPolicy": "Never"}}
    job = made("batch", "Job", {"template": template, "scheduling": {}})[1]["spec"]
    secret = job["template"]["spec"]["volumes"][0]["secret"]
    assert "scheduling" not in job and "defaultUser" not in secret and "user" not in secret["items"][0]


def test_fields_of_containers_that_are_off_are_not_stored() -> None:
    mount = {"name": "v", "mountPath": "/v", "bindMountOptions": ["noexec"]}
    probes = {
        "livenessProbe": {"httpGet": {"port": 80, "protocol": "HTTP2"}},
        "startupProbe": {"grpc": {"port": 1, "mode": "TLS"}},
    }
    pod = {"containers": [{"name": "c", "image": "x:1", "volumeMounts": [mount], **probes}]}
    volumes = [{"name": "v", "emptyDir": {"mode": 511}}]
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {**pod, "volumes": volumes}}
    made_spec = made("apps", "Deployment", {"selector": SELECTOR, "template": template})[1]["spec"]["template"]["spec"]
    (container,) = made_spec["containers"]
    assert "bindMountOptions" not in container["volumeMounts"][0] and made_spec["volumes"][0]["emptyDir"] == {}
    assert "protocol" not in container["livenessProbe"]["httpGet"] and "mode" not in container["startupProbe"]["grpc"]


def test_a_stateful_set_keeps_its_claims() -> None:
    claim = {
        "metadata": {"name": "d"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    spec = {"serviceName": "s", "selector": SELECTOR, "template": TEMPLATE, "volumeClaimTemplates": [claim]}
    rules, obj, errors = made("apps", "StatefulSet", spec)
    assert errors == []
    assert obj["spec"]["volumeClaimTemplates"][0]["status"] == {"phase": "Pending"}
    assert obj["spec"]["podManagementPolicy"] == "OrderedReady"
    errors = changed(rules, obj, {"serviceName": "t"})[1]
    assert errors == ['spec.serviceName: Invalid value: "t": field is immutable']


def test_a_job_gets_selector_and_labels_from_its_uid() -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x:1"}]}}
    rules, obj, errors = made("batch", "Job", {"template": template})
    assert errors == []
    assert obj["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}
    assert obj["metadata"]["labels"] == obj["spec"]["template"]["metadata"]["labels"]
    assert obj["spec"]["backoffLimit"] == 6
    assert changed(rules, obj, {"completionMode": "Indexed"})[1] == [
        'spec.completionMode: Invalid value: "Indexed": field is immutable'
    ]
    always = {"spec": {"containers": [{"name": "c", "image": "x:1"}]}}
    assert made("batch", "Job", {"template": always})[2] == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 0 * *", "expected exactly 5 fields, found 4: [0 0 * *]"),
        ("61 * * * *", "end of range (61) above maximum (59): 61"),
        ("30-10 * * * *", "beginning of range (30) beyond end of range (10): 30-10"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@fortnightly", "unrecognized descriptor: @fortnightly"),
    ],
)
def test_schedules_that_mean_nothing(text: str, problem: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T00:07:30", "2026-01-01T00:15:00"),
        ("0 0 31 * *", "2026-01-31T00:00:00", "2026-03-31T00:00:00"),
        ("0 12 * * MON-FRI", "2026-01-02T12:00:00", "2026-01-05T12:00:00"),
        ("0 0 13 * 5", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        ("@yearly", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("@every 1h30m", "2026-01-01T00:00:00", "2026-01-01T01:30:00"),
    ],
)
def test_the_next_time_of_a_schedule(text: str, after: str, expected: str) -> None:
    found = parse(text).next(datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found is not None and found.isoformat()[:19] == expected


def test_a_day_that_never_comes_has_no_next_time() -> None:
    assert parse("0 0 31 2 *").next(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", "500m"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("1e9", "1e9"),
        ("1e-1", "100e-3"),
        ("1000", "1k"),
        ("0.1Gi", "107374182400m"),
        (1, "1"),
        ("-1", "-1"),
        ("0", "0"),
    ],
)
def test_quantities_are_written_as_upstream_writes_them(text: str | int, expected: str) -> None:
    assert quantity.canonical(text) == expected
    assert quantity.canonical(expected) == expected


def test_quantities_compare_by_value() -> None:
    assert quantity.compare("1Gi", "1024Mi") == 0
    assert quantity.compare("100m", "0.2") < 0
    assert quantity.milli("0.0005") == 1
    for bad in ("", "1KB", "abc", "1.2.3", "--1"):
        with pytest.raises(quantity.QuantityError):
            quantity.parse(bad)


def test_a_suspended_job_that_loses_its_containers_is_told_so() -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "x:1"}], "restartPolicy": "Never"}}
    rules, job, _ = made("batch", "Job", {"template": template, "suspend": True})
    errors = changed(rules, job, {"template": {"metadata": job["spec"]["template"]["metadata"], "spec": {}}})[1]
    assert errors[0] == "spec.template.spec.containers: Required value"


def test_a_job_that_is_not_indexed_has_no_failed_indexes() -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "x:1"}], "restartPolicy": "Never"}}
    errors = made("batch", "Job", {"template": template, "maxFailedIndexes": 3})[2]
    assert errors == [
        "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        "spec.maxFailedIndexes: Invalid value: 3: requires indexed completion mode",
    ]
