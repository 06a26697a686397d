"""The CLI's own small API client: synchronous and on the standard library, so that a verb starts fast."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from portside.cli.steps import CliError
from portside.client.kubeconfig import KubeconfigError, connection_of
from portside.run.home import Home

Json = dict[str, Any]


class Refused(Exception):
    """The API answered with an error Status."""

    def __init__(self, code: int, body: Any) -> None:
        self.code = code
        self.body = body if isinstance(body, dict) else {}
        self.reason = self.body.get("reason", "")
        super().__init__(self.body.get("message") or f"HTTP {code}")


def read_kubeconfig(path: Path) -> Json:
    """A kubeconfig as data. Raises CliError when it can't be read."""
    try:
        text = path.read_text()
    except OSError as error:
        if joined := Home(path.parent).cluster().get("joined"):
            raise CliError(
                f"this machine is a node of {joined} and has no administrator's rights",
                todo="use the machine that runs the control plane, or a kubeconfig from there",
                code=4,
            ) from error
        raise CliError(
            f"the kubeconfig {path} can't be read",
            why=error.strerror or "",
            todo="start the cluster with: portside up",
            code=4,
        ) from error
    try:
        return dict(json.loads(text))
    except ValueError:
        import yaml

        return dict(yaml.safe_load(text))


class Api:
    """One keep-alive connection, as the kubeconfig's user."""

    def __init__(self, kubeconfig: Path) -> None:
        try:
            found = connection_of(read_kubeconfig(kubeconfig), kubeconfig)
        except KubeconfigError as error:
            raise CliError("the kubeconfig can't be used", why=str(error), code=4) from error
        self.server = found.server
        self.namespace = found.namespace
        self.address = urlsplit(self.server)
        self.context = found.ssl_context()
        token = found.token or (Path(found.token_file).read_text().strip() if found.token_file else "")
        self.identity = {"Authorization": f"Bearer {token}"} if token else {}
        self.connection: http.client.HTTPSConnection | None = None

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float = 10.0,
    ) -> Json:
        """One call; returns the decoded answer. Raises Refused, OSError."""
        status, raw = self.raw(method, path, body, content_type, timeout)
        try:
            answer = json.loads(raw) if raw else {}
        except ValueError:
            answer = {"message": raw.decode("utf-8", "replace")}
        if status >= 400:
            raise Refused(status, answer)
        return dict(answer)

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float = 10.0,
    ) -> tuple[int, bytes]:
        headers = (
            {"Accept": "application/json", "User-Agent": "portside"}
            | self.identity
            | ({"Content-Type": content_type} if body is not None else {})
        )
        for attempt in (0, 1):
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(
                    self.address.hostname or "127.0.0.1", self.address.port, context=self.context, timeout=timeout
                )
            try:
                self.connection.request(method, path, body=body, headers=headers)
                answer = self.connection.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, ConnectionError, BrokenPipeError) as error:
                self.close()  # the server closed an idle connection: once more on a new one
                if attempt:
                    raise OSError(str(error) or type(error).__name__) from error
            except OSError:
                self.close()
                raise
        raise OSError("unreachable")

    def close(self) -> None:
        if self.connection:
            self.connection.close()
        self.connection = None
