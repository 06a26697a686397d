"""Images from a registry, one of the test's own: a folder of an image is pulled although the image is there."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import platform
import tarfile
import threading
from collections.abc import Iterator

import pytest

from portside.agent.imagebuild import ARCHITECTURES, Entry, ImagePlan, build
from tests.conformance.names import conformance
from tests.real.lab import Lab

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class Registry(http.server.ThreadingHTTPServer):
    """What the distribution protocol asks of one that is only read: manifests by tag and digest, blobs by digest."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.held: dict[str, bytes] = {}
        self.asked: list[str] = []

    def put(self, name: str, text: str) -> str:
        """Hold an image with one file under ``name``; its full reference."""
        reference = f"127.0.0.1:{self.server_address[1]}/{name}"
        plan = ImagePlan(reference, {"text": Entry(text.encode(), mode=0o644)})
        digest, archive = build(plan, architecture=ARCHITECTURES.get(platform.machine(), platform.machine()))
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar.getmembers():
                if (file := tar.extractfile(member)) and member.name.startswith("blobs/"):
                    data = file.read()
                    self.held["sha256:" + hashlib.sha256(data).hexdigest()] = data
        self.held[name.partition(":")[2]] = self.held[digest]
        return reference


class _Answer(http.server.BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        data = self.server.held.get(self.path.rpartition("/")[2])
        found = b"{}" if data is None else data
        self.send_response(404 if data is None and self.path != "/v2/" else 200)
        kind = json.loads(found).get("mediaType") if "/manifests/" in self.path else None
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(found).hexdigest())
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(found)

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@conformance("containers, hooks, init containers", "image volume with pull policy Always")
def test_an_image_volume_is_pulled_anew_when_it_always_shall(lab: Lab, registry: Registry) -> None:
    """The second pod sees what the tag means by then; with IfNotPresent nobody is asked."""
    reference = registry.put("test/volume:1", "first")

    def text(name: str, policy: str) -> str:
        volume = {"name": "i", "image": {"reference": reference, "pullPolicy": policy}}
        mount = {"name": "i", "mountPath": "/i"}
        return lab.run(name, "cat /i/text", volumeMounts=[mount], spec={"volumes": [volume]})

    assert text("pulled", "Always") == "first"
    registry.put("test/volume:1", "second")
    asked = len(registry.asked)
    assert text("present", "IfNotPresent") == "first" and len(registry.asked) == asked
    assert text("again", "Always") == "second"
