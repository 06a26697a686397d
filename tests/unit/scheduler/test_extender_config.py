"""``extenders`` of a scheduler configuration: what is read, and what is refused in which words."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from tests.unit.scheduler.conftest import pod

from portside.base.errors import PortsideError
from portside.run.scheduler_config import scheduler_profiles
from portside.scheduler.configuration import configuration
from portside.scheduler.extender_config import Extender
from portside.scheduler.pod_info import read_pod
from portside.scheduler.profile import ConfigError

Json = dict[str, Any]
HEAD = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
GPU = "example.com/gpu"


def read(*extenders: Json, **more: Any) -> tuple[Extender, ...]:
    return configuration(HEAD | {"extenders": [{"urlPrefix": "http://e"} | e for e in extenders]} | more).extenders


def test_an_extender_is_read_with_upstreams_defaults() -> None:
    (found,) = read({"filterVerb": "filter"})
    assert found == Extender("http://e", filter_verb="filter", seconds=5.0)
    (found,) = read(
        {
            **{
                "prioritizeVerb": "rank",
                "bindVerb": "bind",
                "preemptVerb": "evict",
                "weight": 3,
                "httpTimeout": "1m30s",
            },
            **{"nodeCacheCapable": True, "ignorable": True},
            "managedResources": [{"name": GPU, "ignoredByScheduler": True}, {"name": "example.com/nic"}],
        }
    )
    assert (found.prioritize_verb, found.bind_verb, found.preempt_verb, found.weight) == ("rank", "bind", "evict", 3)
    assert (found.seconds, found.cache_capable, found.ignorable) == (90.0, True, True)
    assert (found.managed, found.ignored) == ({GPU, "example.com/nic"}, {GPU})


def test_those_that_may_be_ignored_are_asked_last() -> None:
    found = read({"ignorable": True, "urlPrefix": "http://a"}, {"urlPrefix": "http://b"}, {"urlPrefix": "http://c"})
    assert [e.url for e in found] == ["http://b", "http://c", "http://a"]


def test_resources_that_extenders_alone_look_at_are_passed_over_in_every_profile() -> None:
    args = {"pluginConfig": [{"name": "NodeResourcesFit", "args": {"ignoredResources": ["example.com/other"]}}]}
    managed = [{"name": GPU, "ignoredByScheduler": True}]
    body = HEAD | {
        "profiles": [args, {"schedulerName": "second"}],
        "extenders": [{"urlPrefix": "http://e", "managedResources": managed}],
    }
    assert [p.ignored_resources for p in configuration(body).profiles] == [{GPU}, {GPU}]


@pytest.mark.parametrize(
    ("extenders", "why"),
    [
        (
            [{"prioritizeVerb": "p"}],
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            [{"bindVerb": "b"}, {"bindVerb": "b"}],
            'extenders: Invalid value: "found 2 extenders implementing bind": only one extender can implement bind',
        ),
        (
            [{"managedResources": [{"name": "foo"}]}],
            'extenders[0].managedResources[0].name: Invalid value: "foo": is an invalid extended resource name',
        ),
        (
            [{"managedResources": [{"name": "kubernetes.io/foo"}]}],
            'extenders[0].managedResources[0].name: Invalid value: "kubernetes.io/foo": is an invalid extended resource name',
        ),
        (
            [{"managedResources": [{"name": "-"}]}],
            'extenders[0].managedResources[0].name: Invalid value: "-": name part must consist of alphanumeric characters',
        ),
        (
            [{"managedResources": [{"name": GPU}]}, {"managedResources": [{"name": "a.b/c"}, {"name": GPU}]}],
            f'extenders[1].managedResources[1].name: Invalid value: "{GPU}": duplicate extender managed resource name',
        ),
        (
            [{"urlPrefix": ""}],
            'extenders[0].urlPrefix: Invalid value: "": must begin with http:// or https:// and a host',
        ),
        ([{"weight": "1"}], 'extenders[0].weight: Invalid value: "1": must be an integer'),
        ([{"ignorable": "yes"}], 'extenders[0].ignorable: Invalid value: "yes": must be true or false'),
        ([{"httpTimeout": "5"}], 'extenders[0].httpTimeout: time: invalid duration "5"'),
        ([{"httpTimeout": "-1s"}], "extenders[0].httpTimeout: Invalid value"),
        ([{"filter": "f"}], 'strict decoding error: unknown field "extenders[0].filter"'),
        ([{"tlsConfig": {"ca": "x"}}], 'strict decoding error: unknown field "extenders[0].tlsConfig.ca"'),
        ([{"managedResources": [{"named": "x"}]}], 'unknown field "extenders[0].managedResources[0].named"'),
        (
            [{"tlsConfig": {"insecure": True, "caFile": "/ca"}}],
            "extenders[0].tlsConfig: specifying a root certificates file with the insecure flag is not allowed",
        ),
        ([{"tlsConfig": {"certFile": "/c"}}], "extenders[0].tlsConfig: a client certificate needs both"),
        ([{"tlsConfig": {"caData": "*"}}], "extenders[0].tlsConfig.caData: must be base64"),
    ],
)
def test_what_can_not_be_used_is_refused_by_its_field(extenders: list[Json], why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        read(*extenders)


def test_over_https_without_authorities_any_server_is_believed_as_upstream_has_it() -> None:
    assert read({"enableHTTPS": True})[0].tls.insecure
    assert not read({"enableHTTPS": True, "tlsConfig": {"caFile": "/ca"}})[0].tls.insecure
    assert not read({})[0].tls.insecure


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        ("caFile: /nowhere/ca.pem", "open /nowhere/ca.pem: no such file or directory"),
        (f"caData: {base64.b64encode(b'no pem').decode()}", "unable to load root certificates"),
        ("{certData: eA==, keyData: eA==}", "failed to use the client certificate"),
    ],
)
def test_certificates_that_can_not_be_used_keep_the_control_plane_from_starting(
    tmp_path: Path, tls: str, why: str
) -> None:
    text = f"extenders:\n- urlPrefix: https://e\n  tlsConfig:\n    {tls}\n"
    if tls.startswith("{"):
        text = f"extenders:\n- urlPrefix: https://e\n  tlsConfig: {tls}\n"
    head = "".join(f"{k}: {v}\n" for k, v in HEAD.items())
    (tmp_path / "scheduler.yaml").write_text(head + text)
    with pytest.raises(PortsideError) as refused:
        scheduler_profiles(tmp_path)
    assert why in str(refused.value.why)


@pytest.mark.parametrize(
    ("containers", "inits", "interested"),
    [
        ([{}], [], False),
        ([{"requests": {"cpu": "1"}}], [], False),
        ([{}, {"requests": {GPU: "1"}}], [], True),
        ([{"limits": {GPU: "1"}}], [], True),
        ([{}], [{"requests": {GPU: "0"}}], True),
    ],
)
def test_an_extender_is_interested_in_pods_whose_containers_name_what_it_manages(
    containers: list[Json], inits: list[Json], interested: bool
) -> None:
    made = pod("p")
    made["spec"]["containers"] = [{"name": f"c{i}", "image": "i", "resources": r} for i, r in enumerate(containers)]
    made["spec"]["initContainers"] = [{"name": f"i{i}", "image": "i", "resources": r} for i, r in enumerate(inits)]
    info = read_pod(made)
    assert read({"managedResources": [{"name": GPU}]})[0].interested(info) is interested
    assert read({})[0].interested(info)
