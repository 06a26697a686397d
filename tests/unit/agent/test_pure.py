"""The agent's pure parts: expansion, resolver settings, image names, back-off, logs, frames, images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.cluster import pod

from portside.agent import atomic_dir
from portside.agent.backoff import Backoff, go_duration
from portside.agent.containerd import Network, config_toml, runtime_folder
from portside.agent.dns import Resolver, hosts_file, resolver
from portside.agent.environment import expand, service_variables
from portside.agent.imagebuild import Entry, ImagePlan, build
from portside.agent.images import normal_name
from portside.agent.logs import LogOptions, read_log
from portside.agent.messages import termination_message
from portside.agent.resources import cgroup_parent, container_limits, qos_class
from portside.agent.serving import HttpProblem, allowed, parse_head
from portside.base import spdy, websocket


def test_expansion_is_upstreams() -> None:
    """$(A) is replaced, $$ escapes, unknown names and broken syntax stay."""
    known = {"A": "1", "B": "$(A)"}.get
    cases = {"$(A)": "1", "$$(A)": "$(A)", "x$(A)y$(C)": "x1y$(C)", "$A": "$A", "$(A": "$(A", "$(B)": "$(A)", "$": "$"}
    assert {text: expand(text, known) for text in cases} == cases


def test_service_variables() -> None:
    service = {
        "metadata": {"name": "my-db", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.5", "ports": [{"name": "sql", "port": 5432}]},
    }
    found = service_variables([service], "default", links=True)
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.5" and found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT"] == "tcp://10.96.0.5:5432" and found["MY_DB_PORT_5432_TCP_ADDR"] == "10.96.0.5"
    assert service_variables([service], "default", links=False) == {}


def test_resolver_and_hosts_follow_the_pods_wishes() -> None:
    host = Resolver(("9.9.9.9",), ("lan",), ("timeout:1",))
    body = pod("web", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}], subdomain="s")
    first = resolver(body, host=host, cluster_dns=("10.0.0.1",), domain="cluster.local")
    assert first == Resolver(
        ("10.0.0.1",), ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"), ("ndots:5",)
    )
    body["spec"] |= {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["8.8.8.8"], "options": [{"name": "edns0"}]}}
    assert resolver(body, host=host, cluster_dns=(), domain="x") == Resolver(("8.8.8.8",), (), ("edns0",))
    text = hosts_file(body, ("10.244.0.7",), host_text="", domain="cluster.local")
    assert "10.244.0.7\tweb.s.default.svc.cluster.local\tweb\n" in text and "1.2.3.4\ta\tb\n" in text


def test_image_names() -> None:
    assert normal_name("busybox") == "docker.io/library/busybox:latest"
    assert normal_name("a/b:1") == "docker.io/a/b:1" and normal_name("r.io:5000/x") == "r.io:5000/x:latest"
    assert normal_name("x@sha256:ab") == "docker.io/library/x@sha256:ab"
    with pytest.raises(ValueError, match="reference"):
        normal_name("a b")


def test_an_image_is_its_input() -> None:
    """Same input, same digest, whatever the order of the files."""
    one = ImagePlan("docker.io/x/y:1", {"bin/a": Entry(b"1"), "b": Entry(b"2")}, command=("a",))
    two = ImagePlan("docker.io/x/y:1", {"b": Entry(b"2"), "bin/a": Entry(b"1")}, command=("a",))
    assert build(one, architecture="amd64") == build(two, architecture="amd64")
    other = ImagePlan("docker.io/x/y:1", {"b": Entry(b"3")}, command=("a",))
    assert build(other, architecture="amd64")[0] != build(one, architecture="amd64")[0]


def test_back_off_doubles_to_five_minutes_and_is_forgotten() -> None:
    backoff, now = Backoff(), 1000.0
    assert backoff.waits("c", now, now) == 0
    waits = []
    for _ in range(7):
        backoff.next("c", now, now)
        waits.append(backoff.waits("c", now, now))
    assert waits == [10, 20, 40, 80, 160, 300, 300] and backoff.waits("c", now + 601, now + 601) == 0
    assert [go_duration(s) for s in (10, 80, 300)] == ["10s", "1m20s", "5m0s"]


def test_limits_classes_and_groups() -> None:
    body = pod(
        "p", {"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "500m", "memory": "64Mi"}}}
    )
    limits = container_limits(body, body["spec"]["containers"][0], 1 << 30)
    assert (limits.cpu_quota, limits.cpu_shares, limits.memory, limits.oom_score) == (50_000, 512, 64 << 20, -997)
    body["metadata"]["uid"] = "u"
    assert qos_class(body) == "Guaranteed" and cgroup_parent(body) == "/kubepods/podu"
    assert cgroup_parent(pod("q") | {"metadata": {"uid": "v"}}) == "/kubepods/besteffort/podv"


def test_long_homes_get_short_sockets() -> None:
    """A Unix socket's path has at most 107 bytes."""
    home = Path("/" + "x" * 120)
    assert len(str(runtime_folder(home) / "containerd.sock.ttrpc")) < 107
    assert runtime_folder(Path("/var/lib/p")) == Path("/var/lib/p/run")
    assert 'sandbox_image = "docker.io/portside/pause:1"' in config_toml(home)
    assert Network("b", "10.244.3.0/24").gateway == "10.244.3.1"


async def lines(path: Path, **options: object) -> bytes:
    return b"".join([part async for part in read_log(path, LogOptions(**options), ended=lambda: True)])  # type: ignore[arg-type]


async def test_logs_tail_since_limit_and_partial_lines(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(
        b"".join(b"2026-01-01T00:00:%02d.5Z stdout F line %d\n" % (i, i) for i in range(10))
        + b"2026-01-01T00:01:00Z stderr P par\n2026-01-01T00:01:00Z stderr F tial\n"
    )
    assert (await lines(path)).splitlines()[-1] == b"partial"
    assert await lines(path, tail=2) == b"line 9\npartial\n" and await lines(path, tail=0) == b""
    assert await lines(path, limit=9) == b"line 0\nli"
    assert (await lines(path, timestamps=True, tail=2)).startswith(b"2026-01-01T00:00:09.5Z line 9\n")
    assert await lines(path, since=1767225609.0) == b"line 9\npartial\n"
    big = tmp_path / "1.log"
    big.write_bytes(b"".join(b"2026-01-01T00:00:00Z stdout F %d\n" % i for i in range(50_000)))
    assert await lines(big, tail=3) == b"49997\n49998\n49999\n"
    assert len((await lines(big, tail=20_000)).splitlines()) == 20_000
    link = tmp_path / "link.log"
    link.symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        await lines(link)


def test_termination_messages(tmp_path: Path) -> None:
    """The file first; the log's end only when asked and the file is empty."""
    file, log = tmp_path / "m", tmp_path / "0.log"
    file.write_text("x" * 5000)
    log.write_bytes(b"2026-01-01T00:00:00Z stdout F boom\n")
    assert len(termination_message(file, str(log), fall_back=True)) == 4096
    file.write_text("")
    assert termination_message(file, str(log), fall_back=True) == "boom\n"
    assert termination_message(file, str(log), fall_back=False) == ""


def test_volumes_change_all_at_once(tmp_path: Path) -> None:
    files = {"a": atomic_dir.Payload(b"1", 0o400), "d/b": atomic_dir.Payload(b"2")}
    assert atomic_dir.write(tmp_path, files) and not atomic_dir.write(tmp_path, files)
    before = os.readlink(tmp_path / "..data")
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "d/b").read_bytes() == b"2"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o400
    assert atomic_dir.write(tmp_path, {"a": atomic_dir.Payload(b"3")}) and os.readlink(tmp_path / "..data") != before
    assert (tmp_path / "a").read_bytes() == b"3" and not (tmp_path / "d").exists()
    with pytest.raises(ValueError, match="invalid"):
        atomic_dir.write(tmp_path, {"../x": atomic_dir.Payload(b"")})


def test_spdy_frames_survive_any_cut() -> None:
    """Headers, data and ends arrive, however the bytes are cut; the dictionary is the one peers announce."""
    import zlib

    assert zlib.adler32(spdy.DICTIONARY) == spdy.DICTIONARY_ID
    sender, receiver = spdy.Framer(), spdy.Framer()
    wire = sender.open(1, {"streamType": "stdin"}) + sender.data(1, b"hello") + sender.open(3, {"port": "80"})
    wire += sender.reply(3) + sender.data(1, b"", fin=True) + sender.reset(3) + sender.pong(2)
    events = [event for byte in wire for event in receiver.receive(bytes([byte]))]
    assert events == [
        spdy.Opened(1, {"streamtype": ["stdin"]}),
        spdy.Data(1, b"hello"),
        spdy.Opened(3, {"port": ["80"]}),
        spdy.Opened(3, {}, reply=True),
        spdy.Data(1, b"", True),
        spdy.Reset(3, 5),
        spdy.Ping(2),
    ]
    with pytest.raises(spdy.SpdyError):
        spdy.Framer().receive(b"\x80\x02\x00\x01\x00\x00\x00\x00")


@given(st.lists(st.binary(max_size=70_000), max_size=4), st.booleans(), st.integers(1, 5000))
def test_web_socket_messages_survive(messages: list[bytes], client: bool, cut: int) -> None:
    """What one side frames the other gets, masked or not, however it is cut."""
    sender, receiver = websocket.Frames(client=client), websocket.Frames()
    wire = b"".join(sender.frame(message) for message in messages)
    found = [m.data for at in range(0, len(wire), cut) for m in receiver.receive(wire[at : at + cut])]
    assert found == messages


def test_the_nodes_server_answers_the_control_plane_only() -> None:
    subject = ((("organizationName", "system:masters"),), (("commonName", "kube-apiserver-kubelet-client"),))
    assert allowed({"subject": subject})
    assert not allowed({"subject": ((("commonName", "kubernetes-admin"),),)}) and not allowed(None)
    request = parse_head(b"GET /exec/a/b/c?command=ls&command=-l&input=1 HTTP/1.1\r\nUpgrade: websocket")
    assert (
        request.query["command"] == ["ls", "-l"] and request.flag("input") and request.headers["upgrade"] == "websocket"
    )
    with pytest.raises(HttpProblem):
        parse_head(b"nonsense")
