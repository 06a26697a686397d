"""Login by OpenID, as people do it: kubectl with a token, or with a plugin that fetches one; and what the cluster's file says."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from portside.cli.api import Api
from tests.conftest import Cluster
from tests.openid_issuer import DISCOVERY, OpenIdIssuer, document

Json = dict[str, Any]


def until(what: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


class Login:
    """A cluster of the module's own, its issuer, and people with tokens."""

    def __init__(self, cluster: Cluster, issuer: OpenIdIssuer, folder: Path) -> None:
        self.cluster, self.issuer, self._folder = cluster, issuer, folder
        self.file = cluster.home / "authentication.yaml"
        self._admin = json.loads(cluster.kubeconfig.read_text())

    def write(self, given: Json) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(given))
        fresh.replace(self.file)

    def kubectl(self, user: Json, *words: str) -> tuple[int, str]:
        """kubectl as somebody: the kubeconfig's ``user`` says how to log in."""
        config = {**self._admin, "users": [{"name": u["name"], "user": user} for u in self._admin["users"]]}
        path = self._folder / "kubeconfig"
        path.write_text(json.dumps(config))
        command = [str(self.cluster.tools / "kubectl"), "--kubeconfig", str(path), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=os.environ | {"HOME": str(path.parent)}
        )
        return done.returncode, done.stdout + done.stderr

    def nobody(self, path: str) -> int:
        """The code of a request without any credentials."""
        api = Api(self.cluster.kubeconfig)
        trusting = ssl.create_default_context(cadata=base64.b64decode(self._authority()).decode())
        connection = http.client.HTTPSConnection(
            api.address.hostname or "", api.address.port, context=trusting, timeout=30
        )
        connection.request("GET", path)
        code = connection.getresponse().status
        connection.close()
        return code

    def _authority(self) -> str:
        return str(self._admin["clusters"][0]["cluster"]["certificate-authority-data"])

    def whoami(self, token: str) -> Json | None:
        """Who the API takes the token for; None when it does not hold."""
        code, said = self.kubectl({"token": token}, "auth", "whoami", "-o", "json")
        if code:
            assert "You must be logged in to the server" in said or "Unauthorized" in said, said
            return None
        found: Json = json.loads(said)["status"]["userInfo"]
        return found


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory, tools: Path) -> Iterator[Login]:
    folder = tmp_path_factory.mktemp("login")
    cluster = Cluster(folder / "home", tools)
    with OpenIdIssuer() as issuer:
        authority = folder / "issuer.pem"
        authority.write_text(issuer.authority)
        try:
            cluster.portside(
                "up", "--simulate", "1", "--oidc-issuer-url", issuer.url, "--oidc-client-id", "portside",
                "--oidc-ca-file", str(authority), "--oidc-groups-claim", "groups", "--oidc-required-claim", "hd=example.com",
            )  # fmt: skip
            yield Login(cluster, issuer, folder)
        finally:
            cluster.portside("down", check=False)


def test_flags_of_up_are_enough_for_people_to_log_in(login: Login) -> None:
    token = login.issuer.token(groups=["dev"], hd="example.com")
    user = until(lambda: login.whoami(token))
    assert user["username"] == f"{login.issuer.url}#jane"
    assert user["groups"] == ["dev", "system:authenticated"]
    assert login.whoami(login.issuer.token(groups=["dev"], hd="evil.example")) is None
    assert login.whoami(login.issuer.token(groups=["system:masters"], hd="example.com")) is None
    code, said = login.kubectl({"token": token}, "get", "pods")
    assert code and f'User "{login.issuer.url}#jane" cannot list resource "pods"' in said
    login.cluster.kubectl("create", "clusterrolebinding", "devs", "--clusterrole=view", "--group=dev")
    assert login.kubectl({"token": token}, "get", "pods")[0] == 0
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    api = Api(login.cluster.kubeconfig)
    status = api.send("POST", "/apis/authentication.k8s.io/v1/tokenreviews", json.dumps(review).encode())["status"]
    assert status["authenticated"] and status["user"]["username"].endswith("#jane")


def test_a_plugin_that_fetches_tokens_logs_in(login: Login, tmp_path: Path) -> None:
    token = login.issuer.token(groups=["dev"], hd="example.com", sub="plugged")
    plugin = tmp_path / "get-token"
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token},
    }  # fmt: skip
    plugin.write_text(f"#!/bin/sh\ncat <<'EOF'\n{json.dumps(credential)}\nEOF\n")
    plugin.chmod(stat.S_IRWXU)
    user = {
        "exec": {
            "apiVersion": credential["apiVersion"],
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    until(lambda: login.kubectl(user, "auth", "whoami")[0] == 0)  # the issuer's keys have been fetched
    assert "#plugged" in login.kubectl(user, "auth", "whoami")[1]


def test_the_flags_leave_a_file_that_somebody_wrote(login: Login) -> None:
    kept = login.file.read_text()
    try:
        login.file.write_text("# mine\n" + kept)
        told = login.cluster.portside("up", "--oidc-issuer-url", "https://x", "--oidc-client-id", "a", check=False)
        assert told.returncode == 2 and "was written by hand" in told.stderr
    finally:
        login.file.write_text(kept)
    told = login.cluster.portside("up", "--oidc-issuer-url", "http://x", "--oidc-client-id", "a", check=False)
    assert told.returncode == 2 and "URL scheme must be https" in told.stderr
    told = login.cluster.portside("up", "--oidc-client-id", "a", check=False)
    assert told.returncode == 2 and "give --oidc-issuer-url and --oidc-client-id together" in told.stderr
    assert login.file.read_text() == kept


def test_the_file_is_followed_and_one_that_is_wrong_changes_nothing(login: Login) -> None:
    token = login.issuer.token(sub="followed", groups=["ops"])
    login.write(document(login.issuer.entry()))
    user = until(lambda: login.whoami(token))
    assert (user["username"], user["groups"]) == ("oidc:followed", ["oidc:ops", "system:authenticated"])
    login.write({"kind": "nonsense"})
    log = login.cluster.home / "logs" / "control-plane.log"
    until(lambda: "what was read before stays in force" in log.read_text())
    assert login.whoami(token)
    login.write(document(login.issuer.entry(), anonymous={"enabled": True, "conditions": [{"path": "/livez"}]}))
    until(lambda: login.nobody("/version") == 401)
    assert login.nobody("/livez") == 200
    assert login.nobody("/livez/ping") == 401
    login.write(document(login.issuer.entry(), anonymous={"enabled": False}))
    until(lambda: login.nobody("/livez") == 401)
    login.file.unlink()
    until(lambda: login.whoami(token) is None)


def test_an_issuer_that_comes_up_later_logs_people_in_then(login: Login) -> None:
    with OpenIdIssuer() as late:
        answer = late.answers.pop(DISCOVERY)
        login.write(document(late.entry()))
        log = login.cluster.home / "logs" / "control-plane.log"
        until(lambda: f"initializing plugin: {late.url}" in log.read_text())
        assert login.whoami(late.token()) is None
        assert login.cluster.kubectl("get", "--raw", "/readyz") == "ok", "the API does not wait for it"
        late.answers[DISCOVERY] = answer
        assert until(lambda: login.whoami(late.token()))["username"] == "oidc:jane"
        login.file.unlink()
