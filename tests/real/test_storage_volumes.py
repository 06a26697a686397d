"""Conformance "Storage": configMap, secret, downwardAPI, projected and emptyDir volumes, subPath; one case per name.

All pods of the table start together; each test reads what its own one printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conformance.names import conformance
from tests.real.lab import Json, Lab, pod

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SHOW = "stat -Lc %a /v/{0}; cat /v/{0}"
IDS = {"securityContext": {"runAsUser": 1000, "fsGroup": 1001}}


@dataclass(frozen=True)
class Case:
    """A pod with volumes (mounted at /v, /w, …) and what it prints."""

    script: str
    expected: str
    volumes: list[Json]
    container: Json = field(default_factory=dict)
    spec: Json = field(default_factory=dict)
    meta: Json = field(default_factory=dict)
    mounts: list[Json] = field(default_factory=list)

    def body(self, name: str) -> Json:
        volumes = [{"name": f"v{i}"} | v for i, v in enumerate(self.volumes)]
        mounts = self.mounts or [
            {"name": v["name"], "mountPath": f"/{p}"} for p, v in zip("vwx", volumes, strict=False)
        ]
        spec = {"volumes": volumes} | self.spec
        return pod(name, self.script, volumeMounts=mounts, spec=spec, meta=self.meta, **self.container)


def cm(**more: Any) -> Json:
    return {"configMap": {"name": "cm"} | more}


def secret(**more: Any) -> Json:
    return {"secret": {"secretName": "secret"} | more}


def projected(source: Json, **more: Any) -> Json:
    return {"projected": {"sources": [source]} | more}


def projected_cm(mode: Json | None = None, **more: Any) -> Json:
    return projected({"configMap": {"name": "cm"} | more}, **(mode or {}))


def projected_secret(mode: Json | None = None, **more: Any) -> Json:
    return projected({"secret": {"name": "secret"} | more}, **(mode or {}))


MAPPED = {"items": [{"key": "data-1", "path": "path/to/data-1"}]}
MAPPED_MODE = {"items": [{"key": "data-1", "path": "path/to/data-1", "mode": 0o400}]}
AS_USER = {"securityContext": {"runAsUser": 1000}}


def keyed(word: str, make: Any, mode: Any) -> dict[str, Case]:
    """The cases configMap and secret volumes have in common; ``mode`` puts a defaultMode in its place."""
    plain, mapped = SHOW.format("data-1"), SHOW.format("path/to/data-1")
    return {
        f"{word}: default mode": Case(plain, "644\nvalue-1", [make()]),
        f"{word}: non-root": Case("cat /v/data-1; id -u", "value-11000\n", [make()], spec=AS_USER),
        f"{word}: defaultMode set": Case(plain, "400\nvalue-1", [mode()]),
        f"{word}: non-root, defaultMode, fsGroup": Case(plain, "440\nvalue-1", [mode()], spec=IDS),
        f"{word}: mapped": Case(mapped, "644\nvalue-1", [make(**MAPPED)]),
        f"{word}: mapped with item mode": Case(mapped, "400\nvalue-1", [make(**MAPPED_MODE)]),
        f"{word}: mapped, non-root": Case(mapped, "644\nvalue-1", [make(**MAPPED)], spec=AS_USER),
        f"{word}: several volumes in a pod": Case(
            "cat /v/data-1 /w/data-1", "value-1value-1", [make(), make()], spec=AS_USER
        ),
    }


LIMITS = {"resources": {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "1250m", "memory": "64Mi"}}}


def downward(word: str, wrap: Any) -> dict[str, Case]:
    """The cases of downward API files; ``wrap`` makes a volume of items."""

    def figure(resource: str, divisor: str = "1") -> list[Json]:
        reference = {"containerName": "main", "resource": resource, "divisor": divisor}
        return [wrap([{"path": "f", "resourceFieldRef": reference}])]

    name = {"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}
    show = "cat /v/f"
    return {
        f"{word}: cpu limit": Case(show, "2", figure("limits.cpu"), LIMITS),
        f"{word}: cpu request": Case(show, "250", figure("requests.cpu", "1m"), LIMITS),
        f"{word}: memory limit": Case(show, str(64 << 20), figure("limits.memory"), LIMITS),
        f"{word}: memory request": Case(show, "32", figure("requests.memory", "1Mi"), LIMITS),
        f"{word}: default cpu limit from the node": Case(show, "NODE cpu", figure("limits.cpu")),
        f"{word}: default memory limit from the node": Case(show, "NODE memory", figure("limits.memory")),
        f"{word}: pod name": Case("cat /v/podname", "NAME", [wrap([name])]),
        f"{word}: defaultMode": Case("stat -Lc %a /v/podname", "400\n", [wrap([name], defaultMode=0o400)]),
        f"{word}: item mode": Case("stat -Lc %a /v/podname", "400\n", [wrap([name | {"mode": 0o400}])]),
    }


def _downward_volume(items: list[Json], **more: Any) -> Json:
    return {"downwardAPI": {"items": items} | more}


def _projected_downward(items: list[Json], **more: Any) -> Json:
    return projected({"downwardAPI": {"items": items}}, **more)


def empty_dirs() -> dict[str, Case]:
    """Owner × mode × medium, and the mode of the folder itself."""
    cases = {}
    for medium, source in {"disk": {}, "tmpfs": {"medium": "Memory"}}.items():
        volume: list[Json] = [{"emptyDir": source}]
        kind = "stat -fc %T /v; " if medium == "tmpfs" else ""
        said = "tmpfs\n" if medium == "tmpfs" else ""
        cases[f"emptyDir: default mode, {medium}"] = Case(f"{kind}stat -c %a /v", f"{said}777\n", volume)
        for who in ("root", "non-root"):
            for mode in ("644", "666", "777"):
                script = f"{kind}echo -n new > /v/f; chmod {mode} /v/f; stat -c %a,%u /v/f; cat /v/f"
                spec = AS_USER if who == "non-root" else {}
                expected = f"{said}{mode},{1000 if who == 'non-root' else 0}\nnew"
                cases[f"emptyDir: {who} 0{mode} {medium}"] = Case(script, expected, volume, spec=spec)
    return cases


def sub_paths() -> dict[str, Case]:
    """Single files of volumes, and one over a file of the image."""

    def one(volume: Json, key: str, expected: str, path: str = "/sub") -> Case:
        return Case(f"cat {path}", expected, [volume], mounts=[{"name": "v0", "mountPath": path, "subPath": key}])

    name = [{"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}]
    return {
        "subPath: configmap": one(cm(), "data-1", "value-1"),
        "subPath: configmap over an existing file": one(cm(), "data-1", "value-1", "/etc/group"),
        "subPath: downward API": one(_downward_volume(name), "podname", "NAME"),
        "subPath: projected": one(projected_cm(), "data-1", "value-1"),
        "subPath: secret": one(secret(), "data-1", "value-1"),
    }


EVERYTHING = {
    "projected": {
        "sources": [
            {"configMap": {"name": "cm"}},
            {"secret": {"name": "other", "items": [{"key": "k", "path": "s/k"}]}},
            {"downwardAPI": {"items": [{"path": "podname", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
        ]
    }
}
CASES: dict[str, Case] = {
    "configmap: text and binary data": Case(
        "cat /v/text; od -An -tx1 /v/bin | tr -d ' \\n'", "words000102ff", [{"configMap": {"name": "binary"}}]
    ),
    "configmap: immutable": Case("cat /v/a", "fixed", [{"configMap": {"name": "fixed"}}]),
    "secret: immutable": Case("cat /v/a", "fixed", [{"secret": {"secretName": "fixed"}}]),
    "secret and configmap volumes don't clash": Case("cat /v/data-1 /w/data-1", "value-1value-1", [cm(), secret()]),
    "projected: all sources combined": Case(
        "cat /v/data-1 /v/s/k /v/podname; grep -c . /v/token", "value-1vNAME1\n", [EVERYTHING]
    ),
    "emptyDir: shared between containers": Case(
        "cat /v/f",
        "hello",
        [{"emptyDir": {}}],
        spec={
            "initContainers": [
                {
                    "name": "i",
                    "image": "docker.io/portside/busybox:1",
                    "command": ["sh", "-c", "echo -n hello > /v/f"],
                    "volumeMounts": [{"name": "v0", "mountPath": "/v"}],
                }
            ]
        },
    ),
    **keyed("configmap", cm, lambda: cm(defaultMode=0o400)),
    **keyed("secret", secret, lambda: secret(defaultMode=0o400)),
    **keyed("projected configmap", projected_cm, lambda: projected_cm({"defaultMode": 0o400})),
    **keyed("projected secret", projected_secret, lambda: projected_secret({"defaultMode": 0o400})),
    **downward("downward API", _downward_volume),
    **downward("projected downward API", _projected_downward),
    **empty_dirs(),
    **sub_paths(),
}


def pod_name(case: str) -> str:
    return f"case-{list(CASES).index(case)}"


@pytest.fixture(scope="module")
def started(lab: Lab) -> Lab:
    """Everything the table needs, and all its pods."""
    lab.create("configmaps", {"metadata": {"name": "cm"}, "data": {"data-1": "value-1"}})
    lab.secret("secret", **{"data-1": "value-1"})
    lab.secret("other", k="v")
    lab.create(
        "configmaps", {"metadata": {"name": "binary"}, "data": {"text": "words"}, "binaryData": {"bin": "AAEC/w=="}}
    )
    lab.create("configmaps", {"metadata": {"name": "fixed"}, "data": {"a": "fixed"}, "immutable": True})
    lab.create("secrets", {"metadata": {"name": "fixed"}, "stringData": {"a": "fixed"}, "immutable": True})
    for name, case in CASES.items():
        lab.create("pods", case.body(pod_name(name)))
    return lab


def allocatable(lab: Lab, resource: str) -> int:
    """What the node gives to pods: whole cores, or bytes."""
    import json

    node = json.loads(lab.call("GET", "/api/v1/nodes"))["items"][0]
    text = node["status"]["allocatable"][resource]
    return int(text[:-2]) << 10 if text.endswith("Ki") else int(text)


@conformance(
    "configmap volumes",
    "text and binary data",
    "default mode",
    "non-root",
    "defaultMode set",
    "mapped",
    "mapped with item mode",
    "mapped, non-root",
    "several volumes in a pod",
)
@conformance(
    "downward API volumes",
    "cpu limit",
    "cpu request",
    "memory limit",
    "memory request",
    "default cpu limit from the node",
    "default memory limit from the node",
    "pod name",
    "defaultMode",
    "item mode",
)
@conformance(
    "emptyDir",
    "shared between containers",
    "non-root 0644 disk",
    "non-root 0644 tmpfs",
    "non-root 0666 disk",
    "non-root 0666 tmpfs",
    "non-root 0777 disk",
    "non-root 0777 tmpfs",
    "root 0644 disk",
    "root 0644 tmpfs",
    "root 0666 disk",
    "root 0666 tmpfs",
    "root 0777 disk",
    "root 0777 tmpfs",
    "default mode, disk",
    "default mode, tmpfs",
    "secret and configmap volumes don't clash",
)
@conformance(
    "projected volumes",
    "all sources combined",
    "configmap: default mode",
    "configmap: non-root",
    "configmap: defaultMode set",
    "configmap: mapped",
    "configmap: mapped with item mode",
    "configmap: mapped, non-root",
    "configmap: several volumes",
)
@conformance(
    "projected volumes",
    "downward: cpu limit",
    "downward: cpu request",
    "downward: memory limit",
    "downward: memory request",
    "downward: default cpu limit",
    "downward: default memory limit",
    "downward: pod name",
    "downward: defaultMode",
    "downward: item mode",
)
@conformance(
    "projected volumes",
    "secret: default mode",
    "secret: non-root, defaultMode, fsGroup",
    "secret: defaultMode set",
    "secret: mapped",
    "secret: mapped with item mode",
    "secret: several volumes",
)
@conformance(
    "secret volumes",
    "default mode",
    "non-root, defaultMode, fsGroup",
    "defaultMode set",
    "mapped",
    "mapped with item mode",
    "several volumes",
)
@conformance("subPath", "configmap", "configmap over an existing file", "downward API", "projected", "secret")
@pytest.mark.parametrize("name", CASES)
def test_volumes_show_what_they_shall(started: Lab, name: str) -> None:
    """Content, mode and owner of every kind of volume."""
    expected = CASES[name].expected.replace("NAME", pod_name(name))
    if expected.startswith("NODE "):
        expected = str(allocatable(started, expected.split()[1]))
    assert started.output(pod_name(name)) == expected
    started.delete("pods", pod_name(name))


WATCH = (
    "while true; do for f in {0}; do printf '%s=' $f; cat $f 2>/dev/null || printf none; echo; done; sleep 0.2; done"
)


def shows(lab: Lab, name: str, *lines: str) -> None:
    """Wait until the pod's last lines are these."""
    lab.until(lambda: lab.log(name, f"tailLines={len(lines) * 2}").splitlines()[-len(lines) :], "log")
    lab.until(lambda: set(lines) <= set(lab.log(name, f"tailLines={len(lines) * 2}").splitlines()), str(lines))


@conformance("configmap volumes", "optional ones created, updated, deleted", "update seen in the volume")
@conformance(
    "projected volumes",
    "configmap: optional created, updated, deleted",
    "configmap: update seen",
    "secret: optional created, updated, deleted",
)
@conformance("secret volumes", "optional created, updated, deleted")
@pytest.mark.parametrize("kind", ["configmap", "secret", "projected configmap", "projected secret"])
def test_sources_are_updated_created_and_deleted_under_a_running_pod(lab: Lab, kind: str) -> None:
    """ "update seen in the volume" and "optional ones created, updated, deleted"."""
    plural = "secrets" if "secret" in kind else "configmaps"
    field_name = "stringData" if plural == "secrets" else "data"
    word = kind.replace(" ", "-")

    def volume(name: str, optional: bool) -> Json:
        if kind.startswith("projected"):
            source = "secret" if plural == "secrets" else "configMap"
            return projected({source: {"name": f"{word}-{name}", "optional": optional}})
        if plural == "secrets":
            return {"secret": {"secretName": f"{word}-{name}", "optional": optional}}
        return {"configMap": {"name": f"{word}-{name}", "optional": optional}}

    for name in ("changed", "deleted"):
        lab.create(plural, {"metadata": {"name": f"{word}-{name}"}, field_name: {"k": "1"}})
    case = Case(
        WATCH.format("/v/k /w/k /x/k"),
        "",
        [volume("changed", False), volume("deleted", True), volume("created", True)],
    )
    lab.create("pods", case.body(word))
    lab.running(word)
    shows(lab, word, "/v/k=1", "/w/k=1", "/x/k=none")
    lab.patch(plural, f"{word}-changed", {field_name: {"k": "2"}})
    lab.delete(plural, f"{word}-deleted")
    lab.create(plural, {"metadata": {"name": f"{word}-created"}, field_name: {"k": "3"}})
    shows(lab, word, "/v/k=2", "/w/k=none", "/x/k=3")
    lab.delete("pods", word)


@conformance("downward API volumes", "annotations change", "labels change")
@conformance("projected volumes", "downward: annotations change", "downward: labels change")
@pytest.mark.parametrize("wrap", [_downward_volume, _projected_downward])
def test_labels_and_annotations_change_in_the_volume(lab: Lab, wrap: Any) -> None:
    """ "labels change" and "annotations change"."""
    items = [{"path": word, "fieldRef": {"fieldPath": f"metadata.{word}"}} for word in ("labels", "annotations")]
    name = "meta" + wrap.__name__.replace("_", "-")
    meta = {"labels": {"a": "1"}, "annotations": {"b": "1"}}
    lab.create("pods", Case(WATCH.format("/v/labels /v/annotations"), "", [wrap(items)], meta=meta).body(name))
    lab.running(name)
    shows(lab, name, '/v/labels=a="1"', '/v/annotations=b="1"')
    lab.patch("pods", name, {"metadata": {"labels": {"a": "2"}, "annotations": {"b": "2"}}})
    shows(lab, name, '/v/labels=a="2"', '/v/annotations=b="2"')
    lab.delete("pods", name)


@conformance("emptyDir", "50 configmap volumes x 5 pods, no race")
def test_fifty_config_maps_in_each_of_five_pods(lab: Lab) -> None:
    """ "50 configmap volumes x 5 pods, no race"."""
    for i in range(50):
        lab.config_map(f"many-{i}", k=str(i))
    volumes = [{"name": f"v{i}", "configMap": {"name": f"many-{i}"}} for i in range(50)]
    mounts = [{"name": f"v{i}", "mountPath": f"/m/{i}"} for i in range(50)]
    for i in range(5):
        lab.pod(f"many-{i}", "cat /m/*/k | wc -c", volumeMounts=mounts, spec={"volumes": volumes})
    assert {lab.output(f"many-{i}") for i in range(5)} == {"90\n"}
    for i in range(5):
        lab.delete("pods", f"many-{i}")


@conformance("secret volumes", "same name in another namespace")
def test_a_secret_of_the_same_name_elsewhere_is_not_meant(lab: Lab, namespace: str) -> None:
    """ "same name in another namespace"."""
    lab.secret("twice", k="mine")
    lab.call("POST", f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "twice"}, "data": {"k": "eA=="}})
    case = Case("cat /v/k", "mine", [{"secret": {"secretName": "twice"}}])
    lab.create("pods", case.body("twice"))
    assert lab.output("twice") == "mine"
