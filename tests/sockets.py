"""WebSockets to a cluster under test, as libraries and browsers open them."""

from __future__ import annotations

import base64
import ssl
import tempfile
from pathlib import Path
from typing import Any

import yaml
from websocket import WebSocket, create_connection  # type: ignore[import-untyped]

SECONDS = 60


class Dial:
    """Opens WebSockets by the API's paths, as the administrator or as nobody."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = cluster["server"]
        self.folder = tempfile.TemporaryDirectory()
        held = {"ca": cluster["certificate-authority-data"]} | user
        for name, data in held.items():
            (Path(self.folder.name) / name).write_bytes(base64.b64decode(data))
        self.open: list[WebSocket] = []

    def __call__(self, path: str, *, admin: bool = True, protocols: list[str] | None = None) -> WebSocket:
        files = {name: f"{self.folder.name}/{name}" for name in ("ca", "client-certificate-data", "client-key-data")}
        options: dict[str, Any] = {"ca_certs": files["ca"], "cert_reqs": ssl.CERT_REQUIRED}
        if admin:
            options |= {"certfile": files["client-certificate-data"], "keyfile": files["client-key-data"]}
        url = self.server.replace("https:", "wss:") + path
        socket = create_connection(url, timeout=SECONDS, sslopt=options, subprotocols=protocols)
        self.open.append(socket)
        return socket

    def close(self) -> None:
        for socket in self.open:
            socket.close()
        self.folder.cleanup()
