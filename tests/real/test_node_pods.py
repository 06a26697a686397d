"""Conformance "Node": probes, the life of pods, generation, resize, WebSockets, what the kubelet refuses."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.conformance.names import conformance
from tests.real.lab import IMAGE, Json, Lab, Refused
from tests.real.sockets import dialled

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SERVE = "mkdir -p /www; touch /www/ok; exec httpd -f -p 8080 -h /www"
# One failure is enough, so that an answer which is only late, on a loaded machine, must not be one.
FAST = {"periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1, "timeoutSeconds": 30}
UNHURRIED = {"periodSeconds": 1, "failureThreshold": 300, "timeoutSeconds": 30}


def http(path: str) -> Json:
    return {"httpGet": {"path": path, "port": 8080}}


# -- probes -----------------------------------------------------------------------------------------------------------

PROBES: dict[str, tuple[Json, bool]] = {
    "http liveness ok: no restart": (http("/ok"), False),
    "tcp liveness ok: no restart": ({"tcpSocket": {"port": 8080}}, False),
    "exec liveness ok: no restart": ({"exec": {"command": ["true"]}}, False),
    "http liveness fails: restart": (http("/absent"), True),
    "tcp liveness fails: restart": ({"tcpSocket": {"port": 8081}}, True),
    "exec liveness fails: restart": ({"exec": {"command": ["cat", "/absent"]}}, True),
    "gRPC liveness fails: restart": ({"grpc": {"port": 8081}}, True),
}


@pytest.fixture(scope="module")
def probed(lab: Lab) -> Lab:
    lab.pod("grows", "exit 1", spec={"restartPolicy": "Always"})
    for index, (probe, restarts) in enumerate(PROBES.values()):
        first = {} if restarts else {"startupProbe": UNHURRIED | probe}  # the server may need long to begin
        lab.pod(f"probe-{index}", SERVE, livenessProbe=FAST | probe, spec={"restartPolicy": "Always"}, **first)
    return lab


@conformance(
    "probes",
    "http liveness ok: no restart",
    "exec liveness ok: no restart",
    "tcp liveness ok: no restart",
    "http liveness fails: restart",
    "gRPC liveness fails: restart",
    "exec liveness fails: restart",
)
@pytest.mark.parametrize("name", PROBES)
def test_liveness_probes(probed: Lab, name: str) -> None:
    own, restarts = f"probe-{list(PROBES).index(name)}", PROBES[name][1]
    if restarts:
        probed.until(lambda: probed.container(own)["restartCount"] >= 1, "a restart")
        probed.event(own, "Unhealthy: Liveness probe")
        probed.event(own, "Killing: Container main failed liveness probe, will be restarted")
    else:
        probed.ready(own)
        time.sleep(1)
        assert probed.container(own)["restartCount"] == 0
    probed.delete("pods", own)


@contextlib.contextmanager
def health_service(*, serving: bool) -> Iterator[int]:
    """A gRPC server of this machine that answers health checks; its port."""

    async def check(request: bytes, context: grpc.aio.ServicerContext) -> bytes:  # type: ignore[type-arg]
        return b"\x08\x01" if serving else b"\x08\x02"

    started: queue.Queue[int] = queue.Queue()
    ended = threading.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(check)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),))  # fmt: skip
        started.put(server.add_insecure_port("0.0.0.0:0"))
        await server.start()
        await asyncio.to_thread(ended.wait)
        await server.stop(0)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield started.get(timeout=60)
    finally:
        ended.set()
        thread.join()


@conformance("probes", "gRPC liveness ok: no restart")
def test_health_over_grpc_decides_about_life(lab: Lab) -> None:
    """A server that serves is left alone; one that says it does not is restarted."""
    spec = {"restartPolicy": "Always", "hostNetwork": True}
    with health_service(serving=True) as good, health_service(serving=False) as bad:
        for name, port in (("good", good), ("bad", bad)):
            lab.pod(f"grpc-{name}", "exec sleep 1000", livenessProbe=FAST | {"grpc": {"port": port}}, spec=spec)
        lab.until(lambda: lab.container("grpc-bad")["restartCount"] >= 2, "two restarts")
        lab.running("grpc-good")
        assert lab.container("grpc-good")["restartCount"] == 0
        assert "running" in lab.container("grpc-good")["state"]
        for name in ("good", "bad"):
            lab.delete("pods", f"grpc-{name}")


@conformance("probes", "readiness initial delay", "readiness failing: never ready, never restarted")
def test_readiness_waits_and_startup_goes_first(lab: Lab) -> None:
    """ "readiness initial delay", "readiness failing: never ready, never restarted", and a startup probe in front."""
    delayed = {"exec": {"command": ["true"]}, "initialDelaySeconds": 3, "periodSeconds": 1}
    lab.pod("delayed", "exec sleep 1000", readinessProbe=delayed)
    lab.pod("never", "exec sleep 1000", readinessProbe=FAST | {"exec": {"command": ["false"]}})
    begun = {"exec": {"command": ["test", "-e", "/begun"]}}
    lab.pod(
        "begins",
        "sleep 2; touch /begun; exec sleep 1000",
        startupProbe=UNHURRIED | begun,
        livenessProbe=FAST | begun,
    )
    lab.ready("delayed")
    status = lab.status("delayed")
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")["lastTransitionTime"]
    began = status["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert _seconds(ready) - _seconds(began) >= 3
    lab.ready("begins")
    assert lab.container("begins")["restartCount"] == 0
    lab.event("never", "Unhealthy: Readiness probe failed")
    assert (lab.container("never")["ready"], lab.container("never")["restartCount"]) == (False, 0)
    for name in ("delayed", "never", "begins"):
        lab.delete("pods", name)


def _seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))


@conformance("probes", "restart count grows monotonically")
def test_restart_counts_only_grow(probed: Lab) -> None:
    """restart count grows monotonically"""
    lab = probed
    seen: list[int] = []

    def counted() -> bool:
        seen.append(lab.container("grows")["restartCount"])
        return seen[-1] >= 2

    lab.until(counted, "two restarts")
    assert seen == sorted(seen)
    lab.delete("pods", "grows")


# -- life -------------------------------------------------------------------------------------------------------------


@conformance("pods", "generation and graceful delete", "generation starts at 1, observedGeneration follows")
def test_generation_and_observed_generation(lab: Lab) -> None:
    """ "generation starts at 1, observedGeneration follows", also in every condition, and graceful deletion raises it."""
    assert lab.pod("gen", "exec sleep 1000", spec={"terminationGracePeriodSeconds": 600})["metadata"]["generation"] == 1
    lab.running("gen")
    tolerations = [{"key": "x", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600}]
    before = lab.get("pods", "gen")["spec"]["tolerations"]
    changed = lab.patch("pods", "gen", {"spec": {"tolerations": [*before, *tolerations]}})
    assert changed["metadata"]["generation"] == 2
    lab.until(lambda: lab.status("gen").get("observedGeneration") == 2, "observed")
    kubelets = [c for c in lab.status("gen")["conditions"] if c["type"] != "PodScheduled"]
    assert {c["observedGeneration"] for c in kubelets} == {2}
    lab.patch("pods", "gen", {"metadata": {"annotations": {"a": "b"}}})
    lab.delete("pods", "gen")
    assert lab.get("pods", "gen")["metadata"]["generation"] == 3
    lab.delete("pods", "gen", gracePeriodSeconds=0)


@conformance("pods", "generation over 500 updates converges")
def test_five_hundred_generations_converge(lab: Lab) -> None:
    """ "generation over 500 updates converges"."""
    lab.pod("many", "exec sleep 1000", spec={"activeDeadlineSeconds": 10000})
    lab.running("many")
    for number in range(500):
        lab.patch("pods", "many", {"spec": {"activeDeadlineSeconds": 9999 - number}})
    assert lab.get("pods", "many")["metadata"]["generation"] == 501
    lab.until(lambda: lab.status("many").get("observedGeneration") == 501, "observed")
    lab.delete("pods", "many")


@conformance("pods", "activeDeadlineSeconds updated")
def test_active_deadline_can_be_shortened(lab: Lab) -> None:
    """ "activeDeadlineSeconds updated": the pod fails with DeadlineExceeded."""
    lab.pod("deadline", "exec sleep 1000")
    lab.running("deadline")
    lab.patch("pods", "deadline", {"spec": {"activeDeadlineSeconds": 2}})
    status = lab.phase("deadline", "Failed")
    assert (status["reason"], status["message"]) == (
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    )
    lab.delete("pods", "deadline")


@conformance("pods", "updated")
def test_a_pods_image_can_be_replaced_while_it_runs(lab: Lab) -> None:
    """ "updated": the container is started anew with the other image."""
    lab.pod("image", "exec sleep 1000", spec={"restartPolicy": "Always"})
    lab.running("image")
    patch = {"spec": {"containers": [{"name": "main", "image": "portside/busybox:1"}]}}
    lab.patch("pods", "image", patch)
    lab.event("image", "Killing: Container main definition changed, will be restarted")
    lab.until(lambda: lab.container("image")["restartCount"] == 1 and "running" in lab.container("image")["state"])
    lab.delete("pods", "image")


@conformance("pods", "QoS class", "host IP")
def test_quality_classes_and_addresses(lab: Lab) -> None:
    """ "QoS class", "host IP", hostIPs and podIPs."""
    size = {"cpu": "10m", "memory": "16Mi"}
    wanted = {
        "guaranteed": ({"requests": size, "limits": size}, "Guaranteed"),
        "burstable": ({"requests": size}, "Burstable"),
        "besteffort": ({}, "BestEffort"),
    }
    for name, (resources, qos) in wanted.items():
        assert lab.pod(name, "exec sleep 1000", resources=resources)["status"]["qosClass"] == qos
    for name in wanted:
        status = lab.running(name)
        assert status["podIPs"] == [{"ip": status["podIP"]}] and status["hostIPs"] == [{"ip": status["hostIP"]}]
        lab.delete("pods", name)


@conformance("pods", "submitted, watched, removed with grace")
@conformance("kubelet", "failing pod can be deleted", "failing container has a terminated reason")
def test_a_pod_is_submitted_watched_and_removed_with_grace(lab: Lab) -> None:
    """The container sees TERM; the object goes when it has ended; a failing pod can be deleted too."""
    up: Json = {"readinessProbe": {"exec": {"command": ["test", "-e", "/up"]}, "periodSeconds": 1}}
    script = "trap 'exit 0' TERM; touch /up; while true; do sleep 0.1; done"
    lab.pod("graceful", script, **up, spec={"terminationGracePeriodSeconds": 600})
    lab.pod("failing", "exit 1", spec={"restartPolicy": "Always"})
    lab.ready("graceful")  # not before it listens to TERM
    lab.until(lambda: lab.container("failing")["restartCount"], "a failure")
    last = lab.container("failing")["lastState"] or lab.container("failing")["state"]
    assert last["terminated"]["reason"] == "Error"
    for name in ("graceful", "failing"):
        lab.delete("pods", name)
    lab.until(lambda: not {"graceful", "failing"} & {p["metadata"]["name"] for p in lab.get("pods")["items"]}, "gone")


@conformance("pods", "status patch")
def test_a_status_patch_is_not_fought_over(lab: Lab) -> None:
    """ "status patch": a foreign condition stays beside the kubelet's."""
    lab.pod("patched", "exec sleep 1000")
    lab.running("patched")
    condition = {"type": "example.com/checked", "status": "True"}
    lab.patch("pods", "patched", {"status": {"conditions": [condition]}}, "status")
    lab.patch("pods", "patched", {"spec": {"activeDeadlineSeconds": 1000}})
    lab.until(lambda: lab.status("patched").get("observedGeneration") == 2, "observed")
    types = {c["type"] for c in lab.status("patched")["conditions"]}
    assert {"example.com/checked", "Ready", "PodReadyToStartContainers"} <= types
    lab.delete("pods", "patched")


@conformance("pods", "pod and status lifecycle", "deletecollection")
def test_a_pod_is_patched_its_status_replaced_and_its_kind_collected(lab: Lab) -> None:
    """An exchanged image leaves Ready true from one container to the next, unless that takes longer than a second;
    a foreign status is taken as it is written."""
    for number in range(3):
        meta = {"labels": {"set": "cycle"}}
        lab.pod(f"cycle-{number}", "exec sleep 1000", meta=meta, spec={"restartPolicy": "Always"})
    for number in range(3):
        lab.ready(f"cycle-{number}")
    image = {"containers": [{"name": "main", "image": "portside/busybox:1"}]}
    patched = lab.patch("pods", "cycle-0", {"metadata": {"labels": {"patched": "yes"}}, "spec": image})
    assert patched["metadata"]["labels"]["patched"] == "yes"

    seen: set[str] = set()

    def exchanged() -> Json:
        status = lab.status("cycle-0")
        (ready,) = (c for c in status["conditions"] if c["type"] == "Ready")
        seen.add(ready["status"])
        only = status["containerStatuses"][0]
        return {"ready": ready, **only} if only["restartCount"] and ready["status"] == "True" else {}

    found = lab.until(exchanged, "the other image")
    if seen != {"True"}:
        ended = found["lastState"]["terminated"]["finishedAt"]
        assert _seconds(found["ready"]["lastTransitionTime"]) - _seconds(ended) >= 1

    def unready(pod: Json) -> None:
        for condition in pod["status"]["conditions"]:
            if condition["type"] in ("Ready", "ContainersReady"):
                condition["status"] = "False"

    written = lab.replace("pods", "cycle-0/status", unready)
    told = {c["type"]: c["status"] for c in written["status"]["conditions"]}
    assert told["Ready"] == told["ContainersReady"] == "False"
    lab.call("DELETE", lab.path("pods") + "?labelSelector=set%3Dcycle", {"gracePeriodSeconds": 1})
    lab.until(lambda: not [p for p in lab.get("pods")["items"] if p["metadata"]["name"].startswith("cycle-")], "gone")


# -- WebSockets -------------------------------------------------------------------------------------------------------


@conformance("pods", "exec over WebSocket")
def test_exec_over_websocket(lab: Lab) -> None:
    """The oldest protocol carries channels 0 to 4, and an error as plain text."""
    lab.pod("socket", "echo alive; exec sleep 1000")
    lab.running("socket")
    path = lab.path("pods", "socket/exec?command=sh&command=-c&stdout=1&stderr=1&container=main&command=")
    with dialled(lab, path + "echo%20remote%3Bexit%203", "channel.k8s.io") as found:
        messages = [m.data for m in found]
    assert b"".join(m[1:] for m in messages if m[0] == 1) == b"remote\n"
    assert b"".join(m[1:] for m in messages if m[0] == 3).endswith(b"exit code 3")
    with dialled(lab, path + "echo%20hi", "base64.channel.k8s.io") as found:
        texts = [m.data for m in found]
    assert b"".join(base64.b64decode(t[1:]) for t in texts if t[:1] == b"1") == b"hi\n"


@conformance("pods", "logs over WebSocket")
def test_logs_over_websocket(lab: Lab) -> None:
    """Each piece of the log is a message."""
    lab.until(lambda: lab.log("socket"), "a line")
    with dialled(lab, lab.path("pods", "socket/log?container=main"), "binary.k8s.io") as found:
        assert b"".join(m.data for m in found) == b"alive\n"
    lab.delete("pods", "socket")


# -- what the kubelet refuses, and other kinds -------------------------------------------------------------------------


@conformance("kubelet", "sysctls: invalid refused")
def test_unsafe_sysctls_are_refused(lab: Lab) -> None:
    lab.pod("sysctl", "true", spec={"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}})
    assert lab.phase("sysctl", "Failed")["reason"] == "SysctlForbidden"
    lab.event("sysctl", 'SysctlForbidden: Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted')


@conformance(
    "kubelet",
    "RuntimeClass overhead set",
    "RuntimeClass without overhead",
    "RuntimeClass unknown: pod refused",
    "RuntimeClass deleted: pod refused",
)
def test_runtime_classes(lab: Lab) -> None:
    """A known handler runs, with overhead in its group; an unknown one says so in an event."""
    path = "/apis/node.k8s.io/v1/runtimeclasses"
    overhead = {"podFixed": {"cpu": "10m", "memory": "8Mi"}}
    for name, handler, more in (("runc", "runc", {"overhead": overhead}), ("plain", "runc", {}), ("odd", "odd", {})):
        lab.call("POST", path, {"metadata": {"name": f"{lab.namespace}-{name}"}, "handler": handler} | more)

    def classed(name: str) -> Json:
        return lab.pod(f"class-{name}", "true", spec={"runtimeClassName": f"{lab.namespace}-{name}"})

    assert classed("runc")["spec"]["overhead"] == {"cpu": "10m", "memory": "8Mi"}
    assert "overhead" not in classed("plain")["spec"]
    lab.phase("class-runc", "Succeeded")
    lab.phase("class-plain", "Succeeded")
    classed("odd")
    lab.event(
        "class-odd",
        'FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "odd" is configured',
    )
    lab.delete("pods", "class-odd")
    for name in ("runc", "plain", "odd"):
        lab.call("DELETE", f"{path}/{lab.namespace}-{name}")
    for name in ("runc", "unknown"):
        with pytest.raises(Refused, match=f'RuntimeClass "{lab.namespace}-{name}" not found'):
            lab.pod("class-gone", "true", spec={"runtimeClassName": f"{lab.namespace}-{name}"})


def test_image_volumes_are_read_only_folders(lab: Lab) -> None:
    """The image's files, whole and by subPath; nothing can be written."""
    volume = {"name": "i", "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"}}
    mounts = [{"name": "i", "mountPath": "/i"}, {"name": "i", "mountPath": "/one", "subPath": "etc/group"}]
    script = "head -1 /i/etc/passwd; head -1 /one; touch /i/x 2>/dev/null || echo refused"
    out = lab.run("image-volume", script, volumeMounts=mounts, spec={"volumes": [volume]})
    assert out == "root:x:0:0:root:/root:/bin/sh\nroot:x:0:\nrefused\n"
    missing = {"name": "i", "image": {"reference": "docker.io/portside/absent:1", "pullPolicy": "Never"}}
    lab.pod("image-absent", "true", volumeMounts=mounts[:1], spec={"volumes": [missing]})
    lab.until(lambda: lab.container("image-absent")["state"].get("waiting", {}).get("reason") == "ErrImageNeverPull")
    lab.delete("pods", "image-absent")


def test_memory_over_the_limit_is_told(lab: Lab) -> None:
    """OOMKilled with exit code 137."""
    lab.pod("oom", "tail /dev/zero", resources={"limits": {"memory": "16Mi"}})
    ended: Any = lab.phase("oom", "Failed")["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137), json.dumps(ended)


def test_a_pod_may_use_its_full_name(lab: Lab) -> None:
    """setHostnameAsFQDN: what hostname prints."""
    spec = {"hostname": "web", "subdomain": "front", "setHostnameAsFQDN": True}
    assert lab.run("fqdn", "hostname", spec=spec) == f"web.front.{lab.namespace}.svc.cluster.local\n"


def test_pod_level_resources_limit_the_whole_pod(lab: Lab) -> None:
    """The pod's own figures are those of its group; the status repeats them."""
    own = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}}
    lab.pod("whole", "tail /dev/zero; sleep 1000", spec={"resources": own})
    status = lab.phase("whole", "Failed", "Running")
    assert (status["resources"], status["allocatedResources"]) == (own, own["requests"])
    lab.until(lambda: lab.status("whole")["phase"] == "Failed", "killed at the pod's limit")
    lab.delete("pods", "whole")


def test_a_taken_host_port_refuses_a_pod_bound_by_hand(lab: Lab) -> None:
    """ "recreates an evicted/failed pod" of StatefulSets rests on this."""
    node = json.loads(lab.call("GET", "/api/v1/nodes"))["items"][0]["metadata"]["name"]
    ports = [{"containerPort": 21017, "hostPort": 21017}]
    for name in ("holds-port", "wants-port"):
        lab.pod(name, "exec sleep 1000", ports=ports, spec={"nodeName": node})
        lab.phase(name, "Running", "Failed")
    assert (lab.status("wants-port")["phase"], lab.status("wants-port")["reason"]) == ("Failed", "NodePorts")
    lab.delete("pods", "holds-port")


def test_readiness_is_asked_until_the_end(lab: Lab) -> None:
    """A pod that is ending becomes unready when its probe fails; it is not restarted by its liveness probe."""
    probe = FAST | {"exec": {"command": ["test", "!", "-e", "/ending"]}}
    script = "trap 'touch /ending; sleep 600; exit 0' TERM; touch /up; while true; do sleep 0.1; done"
    first = {"startupProbe": UNHURRIED | {"exec": {"command": ["test", "-e", "/up"]}}}
    spec = {"terminationGracePeriodSeconds": 600}
    lab.pod("ending", script, readinessProbe=probe, livenessProbe=probe, spec=spec, **first)
    lab.ready("ending")
    lab.delete("pods", "ending")
    lab.until(lambda: not lab.container("ending")["ready"], "unready while it ends")
    assert "running" in lab.container("ending")["state"]
    lab.delete("pods", "ending", gracePeriodSeconds=0)


def test_sidecars_of_a_deleted_pod_end_one_by_one(lab: Lab) -> None:
    """The main container first, then the last sidecar, then the first; each tells when."""

    def told(name: str) -> Json:
        script = f"trap 'date +%s%N > /v/{name}; exit 0' TERM; touch /up; while true; do sleep 0.05; done"
        return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], "volumeMounts": mounts}

    mounts = [{"name": "v", "mountPath": "/v"}]
    volumes = [{"name": "v", "hostPath": {"path": f"/tmp/{lab.namespace}-order", "type": "DirectoryOrCreate"}}]
    up = {"startupProbe": UNHURRIED | {"exec": {"command": ["test", "-e", "/up"]}}}  # not before it listens to TERM
    init = [told(name) | up | {"restartPolicy": "Always"} for name in ("one", "two")]
    spec = {"initContainers": init, "volumes": volumes, "terminationGracePeriodSeconds": 90}
    lab.pod("ordered", spec=spec | {"containers": [told("main") | up]})
    lab.ready("ordered")
    lab.delete("pods", "ordered")
    lab.until(lambda: "ordered" not in {p["metadata"]["name"] for p in lab.get("pods")["items"]}, "gone")
    script = "cd /v; cat main two one | sort -nc && cat main two one | wc -l; rm -r /v/*"
    assert lab.run("order", script, volumeMounts=mounts, spec={"volumes": volumes}) == "3\n"
