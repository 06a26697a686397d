"""What kopf's own examples do, in one operator: children, retries, updates, daemons, timers, indexes, events, webhooks."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portside.api.status import ApiError
from portside.base.pki import ensure_pki
from portside.testing import Api

KEXES = ("kopf.example.com", "v1", "kexes")
CONFIG_MAPS, EVENTS = ("", "v1", "configmaps"), ("", "v1", "events")
DEFINITIONS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SECONDS = 60.0
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kexes.kopf.example.com"},
    "spec": {
        "group": "kopf.example.com",
        "scope": "Namespaced",
        "names": {"plural": "kexes", "singular": "kex", "kind": "Kex", "listKind": "KexList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": FREE, "status": FREE}}},
            }
        ],
    },
}
OPERATOR = """
import os
import kopf
import kubernetes_asyncio as k

WHERE = ("kopf.example.com", "v1", "kexes")

@kopf.on.startup()
def configure(settings, **_):
    settings.posting.level = 20
    files = {k: os.environ[f"KEXES_{k.upper()}"] for k in ("cafile", "certfile", "pkeyfile")}
    settings.admission.server = kopf.WebhookServer(addr="127.0.0.1", host="127.0.0.1", **files)
    settings.admission.managed = "auto.kopf.example.com"

@kopf.on.login()
def login(**kwargs):
    return kopf.login_with_kubeconfig(**kwargs)

@kopf.index(*WHERE)
def sizes(name, spec, **_):
    return {name: spec.get("size", 0)}

@kopf.on.create(*WHERE)
async def child(name, namespace, spec, **_):
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"size": str(spec["size"])}}
    kopf.adopt(child)
    configuration = k.client.Configuration()
    await k.config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=configuration)
    async with k.client.ApiClient(configuration) as connection:
        await k.client.CoreV1Api(connection).create_namespaced_config_map(namespace, child)
    return {"child": name}

@kopf.on.create(*WHERE)
def stubborn(retry, **_):
    if retry < 2:
        raise kopf.TemporaryError("not yet", delay=0.1)
    return retry

@kopf.on.update(*WHERE, field="spec.size")
def grown(old, new, patch, sizes: kopf.Index, **_):
    patch.status["grown"] = [old, new]

@kopf.daemon(*WHERE)
async def daemon(stopped, memo, **_):
    memo.daemon = "running"
    await stopped.wait()

@kopf.timer(*WHERE, interval=0.3)
def ticked(memo, patch, **_):
    memo.ticks = memo.get("ticks", 0) + 1
    patch.status["ticks"], patch.status["daemon"] = memo.ticks, memo.get("daemon")

@kopf.on.delete(*WHERE)
def gone(body, **_):
    kopf.info(body, reason="Gone", message="said goodbye")

@kopf.on.validate(*WHERE)
def check(spec, **_):
    if spec.get("size", 0) > 100:
        raise kopf.AdmissionError("too large", code=422)

@kopf.on.mutate(*WHERE)
def fill(spec, patch, **_):
    if "size" not in spec:
        patch.spec["size"] = 7
"""


class Kexes:
    """Objects of the operator's kind."""

    def __init__(self, api: Api) -> None:
        self.api, self.client = api, api.client

    def create(self, name: str, **spec: Any) -> Any:
        body = {"apiVersion": "kopf.example.com/v1", "kind": "Kex", "metadata": {"name": name}, "spec": spec}
        return self.api.call(self.client.create(KEXES, body, namespace="default"))

    def get(self, name: str, resource: tuple[str, str, str] = KEXES) -> Any:
        """The object; {} when there is none."""
        try:
            return self.api.call(self.client.get(resource, name, namespace="default"))
        except ApiError as error:
            assert error.code == 404
            return {}

    def status(self, name: str, **wanted: Any) -> Any:
        """Wait until the operator has written this, or something that is true of it."""

        async def said() -> Any:
            while True:
                status = (await self.client.get(KEXES, name, namespace="default")).get("status") or {}
                if all(w(status.get(k)) if callable(w) else status.get(k) == w for k, w in wanted.items()):
                    return status
                await asyncio.sleep(0.05)

        return self.api.call(said(), SECONDS)


@pytest.fixture
def kexes(portside_fresh: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kexes]:
    """The operator runs, and its webhooks are there. Handlers register for the whole process: none are left behind."""
    import kopf
    from kopf.testing import KopfRunner

    monkeypatch.setenv("KUBECONFIG", str(portside_fresh.kubeconfig))
    pki = ensure_pki(tmp_path)
    for name, file in (("CAFILE", pki.ca), ("CERTFILE", pki.certificate("server")), ("PKEYFILE", pki.key("server"))):
        monkeypatch.setenv(f"KEXES_{name}", str(file))
    operator = tmp_path / "operator_of_kexes.py"
    operator.write_text(textwrap.dedent(OPERATOR))
    made = Kexes(portside_fresh)
    portside_fresh.call(made.client.create(DEFINITIONS, DEFINITION))

    async def guarded() -> None:
        for kind in ("mutating", "validating"):
            path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/auto.kopf.example.com"
            while b'"clientConfig"' not in (await made.client.request("GET", path))[2]:
                await asyncio.sleep(0.05)

    with KopfRunner(["run", "--standalone", "--namespace=default", str(operator)]) as runner:
        try:
            portside_fresh.call(guarded(), SECONDS)
            yield made
        except BaseException:
            print(runner.output)
            raise
    kopf.set_default_registry(kopf.OperatorRegistry())
    assert runner.exit_code == 0


def test_an_operator_of_many_handlers(kexes: Kexes) -> None:
    assert kexes.create("one")["spec"] == {"size": 7}, "the mutating webhook filled it in"
    with pytest.raises(ApiError) as refused:
        kexes.create("huge", size=101)
    assert (refused.value.code, "too large" in refused.value.message) == (422, True)
    status = kexes.status("one", child={"child": "one"}, stubborn=2, daemon="running", ticks=lambda n: n and n > 1)
    assert "grown" not in status
    child = kexes.get("one", CONFIG_MAPS)
    assert (child["data"], child["metadata"]["ownerReferences"][0]["kind"]) == ({"size": "7"}, "Kex")
    patch = kexes.client.patch(KEXES, "one", {"spec": {"size": 9}}, namespace="default")
    kexes.api.call(patch)
    kexes.status("one", grown=[7, 9])
    kexes.api.call(kexes.client.delete(KEXES, "one", namespace="default"))

    async def over() -> None:
        while kexes_left := (await kexes.client.list(KEXES, namespace="default")).items:
            assert kexes_left[0]["metadata"]["deletionTimestamp"], "it waits for its daemon and handlers"
            await asyncio.sleep(0.05)

    kexes.api.call(over(), SECONDS)

    async def told() -> None:
        """kopf posts events beside everything else: this one may come after the object has gone."""
        while "said goodbye" not in [
            e.get("message") for e in (await kexes.client.list(EVENTS, namespace="default")).items
        ]:
            await asyncio.sleep(0.05)

    kexes.api.call(told(), SECONDS)
