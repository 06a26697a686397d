"""Client libraries from the package index, unchanged, against the API that ``portside.testing`` starts in the test's process."""

from __future__ import annotations

import asyncio
import socket
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from portside.testing import Api, NotReady, cluster

SECONDS = 90  # until what does not come counts as a failure
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "c", "image": "docker.io/portside/busybox:1"}]},
}
WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def test_kubernetes(portside: Api) -> None:
    """The official client: typed objects, the dynamic client, a watch, and refusals as exceptions."""
    import kubernetes as k

    configuration = k.client.Configuration()
    k.config.load_kube_config(str(portside.kubeconfig), client_configuration=configuration)
    with k.client.ApiClient(configuration) as connection:
        core, apps = k.client.CoreV1Api(connection), k.client.AppsV1Api(connection)
        template = {"metadata": {"labels": {"app": "web"}}, "spec": POD["spec"]}
        body = {
            "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }
        apps.create_namespaced_deployment(portside.namespace, body)
        for event in k.watch.Watch().stream(
            apps.list_namespaced_deployment, portside.namespace, timeout_seconds=SECONDS
        ):
            if event["object"].status.available_replicas == 2:
                break
        pods = core.list_namespaced_pod(portside.namespace, label_selector="app=web").items
        assert [p.status.phase for p in pods] == ["Running", "Running"]
        with pytest.raises(k.client.ApiException) as refused:
            core.read_namespaced_pod("nobody", portside.namespace)
        assert refused.value.status == 404
        dynamic = k.dynamic.DynamicClient(connection).resources.get(api_version="v1", kind="ConfigMap")
        made = dynamic.create({"metadata": {"name": "m"}, "data": {"a": "b"}}, namespace=portside.namespace)
        assert made.data.a == "b"


async def test_kubernetes_asyncio(portside: Api) -> None:
    import kubernetes_asyncio as k

    configuration = k.client.Configuration()
    await k.config.load_kube_config(str(portside.kubeconfig), client_configuration=configuration)
    async with k.client.ApiClient(configuration) as connection:
        core = k.client.CoreV1Api(connection)
        await core.create_namespaced_pod(portside.namespace, POD)
        async with k.watch.Watch().stream(
            core.list_namespaced_pod, portside.namespace, timeout_seconds=SECONDS
        ) as stream:
            async for event in stream:
                if event["object"].status.phase == "Running":
                    break
        assert (await core.read_namespaced_pod("web", portside.namespace)).status.phase == "Running"


def test_kr8s(portside: Api) -> None:
    import kr8s
    from kr8s.objects import Pod

    api = kr8s.api(kubeconfig=str(portside.kubeconfig))
    pod = Pod({**POD, "metadata": {"name": "web", "namespace": portside.namespace}}, api=api)
    pod.create()
    pod.wait("condition=Ready", timeout=SECONDS)
    assert [p.name for p in api.get("pods", namespace=portside.namespace)] == ["web"]
    pod.label({"tier": "front"})
    pod.refresh()
    assert pod.labels["tier"] == "front"
    pod.delete()


def test_lightkube(portside: Api) -> None:
    import lightkube
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.core_v1 import ConfigMap, Pod

    client = lightkube.Client(lightkube.KubeConfig.from_file(str(portside.kubeconfig)), field_manager="test")
    client.create(Pod.from_dict(POD), namespace=portside.namespace)
    client.wait(Pod, "web", for_conditions=["Ready"], namespace=portside.namespace)
    config = ConfigMap(metadata=ObjectMeta(name="m", namespace=portside.namespace), data={"a": "1"})
    config.apiVersion, config.kind = "v1", "ConfigMap"
    assert client.apply(config).data == {"a": "1"}
    config.data = {"a": "2"}
    assert client.apply(config).data == {"a": "2"}
    assert [p.metadata.name for p in client.list(Pod, namespace=portside.namespace)] == ["web"]
    with pytest.raises(lightkube.ApiError) as refused:
        client.get(Deployment, "nobody", namespace=portside.namespace)
    assert refused.value.status.reason == "NotFound"


OPERATOR = """
import kopf

@kopf.on.login()
def login(**kwargs):
    return kopf.login_with_kubeconfig(**kwargs)

@kopf.on.create("example.com", "v1", "widgets")
async def created(spec, name, namespace, patch, **_):
    patch.status["seen"] = spec["size"] * 2
"""


def test_kopf(portside_fresh: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator: it watches a custom resource, keeps its finalizer and annotations, and writes the status."""
    from kopf.testing import KopfRunner

    monkeypatch.setenv("KUBECONFIG", str(portside_fresh.kubeconfig))
    operator = tmp_path / "operator_of_widgets.py"
    operator.write_text(textwrap.dedent(OPERATOR))
    definitions = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    widgets = ("example.com", "v1", "widgets")
    client = portside_fresh.client
    portside_fresh.call(client.create(definitions, WIDGETS))

    async def widget_is_seen() -> bool:
        found = await client.get(widgets, "one", namespace="default")
        return (found.get("status") or {}).get("seen") == 42

    async def make() -> None:
        while True:
            listed = await client.request("GET", "/apis/example.com/v1")
            if listed[0] == 200:
                break
            await asyncio.sleep(0.01)
        body = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "one"}, "spec": {"size": 21}}
        await client.create(widgets, body, namespace="default")

    portside_fresh.call(make())
    with KopfRunner(["run", "--standalone", "--namespace=default", str(operator)]) as runner:
        end = time.monotonic() + SECONDS
        while not portside_fresh.call(widget_is_seen()):
            assert time.monotonic() < end, runner.output
            time.sleep(0.1)
    assert runner.exit_code == 0


def test_clusters_side_by_side_do_not_meet(portside: Api) -> None:
    with cluster(controllers=False, scheduler=False) as other:
        assert other.url != portside.url
        namespaces = ("", "v1", "namespaces")
        listed = other.call(other.client.list(namespaces))
        assert portside.namespace not in [n["metadata"]["name"] for n in listed.items]


def test_without_controllers_pods_are_stored_and_need_no_account() -> None:
    with cluster(controllers=False, scheduler=False) as api:
        made = api.call(api.client.create(("", "v1", "pods"), POD, namespace="default"))
        assert "serviceAccountName" not in made["spec"]


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "portside"}


def test_a_cluster_leaves_no_thread_and_no_folder_behind() -> None:
    before = threads()
    with cluster() as api:
        folder = api.kubeconfig.parent
        assert folder.is_dir() and threads() > before
    assert not folder.exists()
    assert threads() == before


def test_a_cluster_that_can_not_start_says_why_and_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threads()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "api-port").write_text(str(taken.getsockname()[1]))
        with pytest.raises(OSError, match="in use"), cluster(folder=tmp_path):
            pass
    assert threads() == before


def test_what_takes_too_long_is_said() -> None:
    with cluster(controllers=False, scheduler=False) as api, pytest.raises(NotReady, match=r"within 0.05 s"):
        api.call(asyncio.sleep(5), seconds=0.05)


def test_the_plugin_gives_workers_clusters_of_their_own(tmp_path: Path) -> None:
    """Run as a user has it: a folder with a test file and nothing else, in two workers."""
    import subprocess

    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_names_do_not_clash(portside, number):
            maps = ("", "v1", "configmaps")
            portside.call(portside.client.create(maps, {"metadata": {"name": "same"}}, namespace=portside.namespace))
            assert len(portside.call(portside.client.list(maps, namespace=portside.namespace)).items) <= 2
        """)
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
