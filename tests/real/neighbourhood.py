"""A namespace with three answering pods and one that asks, for the tests of the network."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from tests.conftest import Cluster

T = TypeVar("T")
IMAGE = "docker.io/portside/busybox:1"
PATIENCE = 120.0  # seconds; the machine may be loaded
SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
# Answers every request with its own name, the method, the path and the body; one process per connection.
ANSWER = r"""
read -r method path version; length=0
while read -r line && [ ${#line} -gt 1 ]; do
  case $line in [Cc]ontent-[Ll]ength:*) length=${line#*: }; length=${length%?};; esac
done
body=; [ "$length" = 0 ] || body=$(head -c "$length")
kind=text/plain; text="$HOSTNAME $method $path $body"; code='200 OK'
case $path in
  /page*) kind=text/html; text='<a href="/next">next</a> <a href="stay">stay</a> <img src="/i.png">';;
  /moved*) code='302 Found'; extra='Location: /there\r\n';;
  /teapot*) code='418 Teapot';;
esac
printf "HTTP/1.1 $code\r\nContent-Type: $kind\r\nX-Method: $method\r\n${extra}Connection: close\r\n"
printf 'Content-Length: %s\r\n\r\n' $((${#text}+1))
[ "$method" = HEAD ] || printf '%s\n' "$text"
"""


def server(port: int = 8080) -> str:
    """A shell script that answers HTTP on a port until TERM."""
    return f"""cat > /answer <<'END'
{ANSWER}
END
nc -ll -p {port} -e sh /answer & trap 'exit 0' TERM; while :; do sleep 0.2; done"""


def until(found: Callable[[], T], good: Callable[[T], bool], patience: float = PATIENCE) -> T:
    """Ask until the answer is good."""
    end = time.monotonic() + patience
    while not good(answer := found()):
        assert time.monotonic() < end, f"still: {answer!r}"
        time.sleep(0.1)
    return answer


def fetch(address: str, port: int, path: str = "/", timeout: float = 2.0, source: str = "") -> str:
    """A page as this machine sees it, or why there is none. A new connection each time."""
    try:
        where = (source, 0) if source else None
        with socket.create_connection((address, port), timeout=timeout, source_address=where) as link:
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while more := link.recv(4096):
                data += more
        return data.partition(b"\r\n\r\n")[2].decode()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return f"error: {error}"


class Neighbourhood:
    """kubectl in one namespace, and the API by HTTP."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]
        addresses = self.node["status"]["addresses"]
        self.address = next(a["address"] for a in addresses if a["type"] == "InternalIP")

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin, timeout=PATIENCE + 30, check=check)

    def apply(self, *objects: dict[str, Any]) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", kind, name, "-o", "json")))

    def patch(self, kind: str, name: str, body: dict[str, Any]) -> None:
        self.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(body))

    def remove(self, *words: str) -> None:
        self.kubectl("delete", *words, "--ignore-not-found", "--now", check=False)

    def ready(self, *names: str) -> None:
        self.kubectl("wait", *(f"pod/{n}" for n in names), "--for=condition=Ready", f"--timeout={PATIENCE:.0f}s")

    def sh(self, pod: str, script: str, check: bool = False) -> str:
        """What a script in a pod printed."""
        return self.kubectl("exec", pod, "--", "sh", "-c", script, check=check)

    def ask(self, pod: str, url: str) -> str:
        """A page as a pod sees it."""
        return self.sh(pod, f"timeout 10 wget -qO- {url} 2>&1")

    def gets(self, pod: str, url: str, wanted: str) -> str:
        """Ask until the page has this in it."""
        return until(lambda: self.ask(pod, url), lambda page: wanted in page)

    def prints(self, pod: str, script: str, wanted: str) -> str:
        """Run a script in a pod until it prints this."""
        return until(lambda: self.sh(pod, script), lambda said: wanted in said)

    def hears(self, pod: str, script: str, wanted: set[str]) -> None:
        """Run a script of questions in a pod until exactly these pods have answered."""
        until(lambda: names(self.sh(pod, script).splitlines()), lambda found: found == wanted)

    def served(self, name: str, count: int) -> None:
        """Wait until a Service has that many ready endpoints."""
        query = ("-l", f"kubernetes.io/service-name={name}", "-o", "jsonpath={.items[*].endpoints[*].conditions.ready}")
        until(lambda: self.kubectl("get", "endpointslices", *query).split(), lambda told: told == ["true"] * count)

    def address_of(self, pod: str) -> str:
        return str(self.get("pod", pod)["status"]["podIP"])

    def look_up(self, pod: str, name: str, kind: str = "a") -> str:
        """What nslookup says; ``kind`` "" asks for a name by address."""
        return self.sh(pod, f"nslookup {f'-type={kind} ' if kind else ''}{name} 2>&1")


def pod(name: str, script: str, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of one shell script; ``container`` adds to its container, the rest to its spec."""
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script]} | spec.pop("container", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name} | (labels or {})},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]} | spec,
    }


def web(name: str, port: int = 8080, **more: Any) -> dict[str, Any]:
    """A pod that answers HTTP and is ready when it does."""
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 30}
    more["container"] = {"readinessProbe": probe} | more.get("container", {})
    return pod(name, server(port), **more)


def service(name: str, selector: dict[str, str] | None, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"ports": list(ports) or [{"port": 80, "targetPort": 8080}]} | spec
    if selector:
        body["selector"] = selector
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def endpoint_slice(name: str, owner: str, ports: list[dict[str, Any]], *addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
    }


def names(answers: list[str]) -> set[str]:
    """The pods that answered."""
    return {found[0] for a in answers if (found := re.match(r"\S+", a))}


class Echo:
    """A UDP server of this machine that answers with its own word."""

    def __init__(self, address: str, word: str) -> None:
        import threading

        self.word = word
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, peer = self.socket.recvfrom(512)
                self.socket.sendto(self.word.encode(), peer)

    def close(self) -> None:
        self.socket.close()


def udp(link: socket.socket, address: str, port: int) -> str:
    """One question over a socket that may have asked before."""
    link.settimeout(0.5)
    try:
        link.sendto(b"?", (address, port))
        return link.recvfrom(512)[0].decode()
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return f"error: {error.strerror}"


def http_status(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
