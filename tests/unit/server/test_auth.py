"""Who asks and may they: tokens die with what they are bound to, nobody gains more than RBAC gives."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.unit.server.auth_fixture import FakeHost

from portside.api.status import ApiError
from portside.base.pki import Pki, ensure_node_client
from portside.server.attributes import ANONYMOUS, Attributes, User
from portside.server.auth.escalation import check_escalation
from portside.server.auth.gate import Gate
from portside.server.auth.token_handlers import token_request, token_review

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
ALICE = User("alice", groups=("devs", "system:authenticated"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def der(pki: Pki, name: str) -> bytes:
    return x509.load_pem_x509_certificate(pki.certificate(name).read_bytes()).public_bytes(Encoding.DER)


def role(name: str, rules: list[Json], space: str = "a") -> Json:
    return {"metadata": {"name": name, "namespace": space}, "rules": rules}


def binding(name: str, ref: str, subject: Json, space: str = "a", kind: str = "Role") -> Json:
    meta = {"name": name, "namespace": space} if space else {"name": name}
    return {"metadata": meta, "roleRef": {"kind": kind, "name": ref}, "subjects": [subject]}


def account_host(home: Path) -> FakeHost:
    host = FakeHost(home)
    host.add("serviceaccounts", {"metadata": {"name": "u", "namespace": "a"}})
    host.add(
        "pods", {"metadata": {"name": "p", "namespace": "a"}, "spec": {"serviceAccountName": "u", "nodeName": "n"}}
    )
    host.add("nodes", {"metadata": {"name": "n"}})
    return host


async def token(host: FakeHost, **spec: Any) -> Json:
    asked = Attributes(ALICE, "create", resource="serviceaccounts", subresource="token", namespace="a", name="u")
    return await token_request(asked, {"apiVersion": "x", "kind": "TokenRequest", "spec": spec}, host)


def test_a_token_in_a_secret_holds_while_the_secret_holds_it(home: Path) -> None:
    host = account_host(home)
    made = host.authenticator.signer.sign_for_secret("a", "u", "uid-serviceaccounts-u", "tok")
    headers = {"authorization": f"Bearer {made}"}
    meta = {"name": "tok", "namespace": "a"}
    with pytest.raises(ApiError):
        host.authenticator.authenticate(None, headers)
    host.add("secrets", {"metadata": dict(meta), "data": {"token": base64.b64encode(made.encode()).decode()}})
    user = host.authenticator.authenticate(None, headers)
    assert user is not None and user.name == "system:serviceaccount:a:u"
    host.clock.time += 10 * 365 * 86400
    assert host.authenticator.authenticate(None, headers) == user, "it never expires"
    host.add("secrets", {"metadata": dict(meta), "data": {"token": "b3RoZXI="}})
    with pytest.raises(ApiError):
        host.authenticator.authenticate(None, headers)


def test_the_use_of_a_secrets_token_is_noted_daily_and_a_marked_one_is_refused(home: Path) -> None:
    host = account_host(home)
    host.add("serviceaccounts", {"metadata": {"name": "u", "namespace": "a"}, "secrets": [{"name": "tok"}]})
    made = host.authenticator.signer.sign_for_secret("a", "u", "uid-serviceaccounts-u", "tok")
    headers = {"authorization": f"Bearer {made}"}
    meta: Json = {"name": "tok", "namespace": "a"}
    data = {"token": base64.b64encode(made.encode()).decode()}
    host.add("secrets", {"metadata": dict(meta), "data": data})
    used: list[str] = []
    host.authenticator.on_use = lambda secret, now: used.append(secret["metadata"]["name"])
    told: list[str] = []
    for _ in range(3):
        assert host.authenticator.authenticate(None, headers, told) is not None
    assert used == ["tok"]
    assert len(told) == 3 and told[0].startswith("Use tokens from the TokenRequest API")
    host.clock.time += 86400
    assert host.authenticator.authenticate(None, headers) is not None
    assert used == ["tok", "tok"]
    marked = {**meta, "labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}
    host.add("secrets", {"metadata": marked, "data": data})
    with pytest.raises(ApiError) as refused:
        host.authenticator.authenticate(None, headers)
    assert refused.value.code == 401
    assert used == ["tok"] * 3, "the refused use is noted as well"


async def test_a_bound_token_says_who_and_dies_with_its_pod(home: Path) -> None:
    host = account_host(home)
    made = await token(host, boundObjectRef={"kind": "Pod", "apiVersion": "v1", "name": "p"})
    headers = {"authorization": f"Bearer {made['status']['token']}"}
    user = host.authenticator.authenticate(None, headers)
    assert user is not None and user.name == "system:serviceaccount:a:u"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert user.extra["authentication.kubernetes.io/node-name"] == ("n",)
    assert host.authenticator.authenticate(None, headers) is user
    host.drop("pods", "p", "a")
    with pytest.raises(ApiError) as refused:
        host.authenticator.authenticate(None, headers)
    assert refused.value.code == 401


async def test_tokens_expire_and_foreign_or_tampered_ones_are_refused(home: Path) -> None:
    host = account_host(home)
    text = (await token(host, expirationSeconds=600))["status"]["token"]
    other = (await token(host, audiences=["vault"]))["status"]["token"]
    head, body, signature = text.split(".")
    none = "eyJhbGciOiJub25lIn0." + body + "."
    for bad in (
        text + "x",
        f"{head}.{body[:-2]}xx.{signature}",
        "nonsense",
        other,
        none,
        f"{head}.{body}.",
        "a" * 50000,
    ):
        with pytest.raises(ApiError):
            host.authenticator.authenticate(None, {"authorization": f"Bearer {bad}"})
    assert host.authenticator.authenticate(None, {"authorization": f"bearer  {text}"}) is not None
    host.clock.time += 601
    with pytest.raises(ApiError):
        host.authenticator.authenticate(None, {"authorization": f"Bearer {text}"})
    host.clock.time -= 601
    body_of = {"apiVersion": "x", "kind": "TokenReview", "spec": {"token": other, "audiences": ["vault", "b"]}}
    answer = await token_review(Attributes(ALICE, "create"), body_of, host)
    assert answer["status"]["authenticated"] and answer["status"]["audiences"] == ["vault"]


def test_certificates_and_the_front_proxy(home: Path) -> None:
    host = FakeHost(home)
    ensure_node_client(host.pki, "n1", clock=host.clock)
    node = host.authenticator.authenticate(der(host.pki, "node-n1"), {"x-remote-user": "root"})
    assert node is not None and node.name == "system:node:n1" and "system:nodes" in node.groups
    proxied = {"x-remote-user": "bob", "x-remote-group": "one\ntwo"}
    bob = host.authenticator.authenticate(der(host.pki, "front-proxy-client"), proxied)
    assert bob is not None and bob.name == "bob" and bob.groups == ("one", "two", "system:authenticated")
    assert host.authenticator.authenticate(None, proxied) is None
    for bad in (der(host.pki, "server"), der(host.pki, "ca"), b"nonsense"):
        with pytest.raises(ApiError):
            host.authenticator.authenticate(bad, {})
    host.clock.time += 400 * 86400
    with pytest.raises(ApiError):
        host.authenticator.authenticate(der(host.pki, "admin"), {})


def test_rbac_follows_changes_and_names_the_grant() -> None:
    host = FakeHost()
    asked = Attributes(ALICE, "get", resource="configmaps", namespace="a", name="x")
    assert not host.authorizer.allowed(asked)
    host.add("rolebindings", binding("rb", "r", {"kind": "Group", "name": "devs"}), RBAC)
    assert host.authorizer.authorize(asked).reason == f'RBAC: role.{RBAC} "r" not found'
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["x"]}]
    host.add("roles", role("r", rules), RBAC)
    decision = host.authorizer.authorize(asked)
    assert decision.allowed
    assert decision.reason == 'RBAC: allowed by RoleBinding "rb/a" of Role "r" to Group "devs"'
    assert not host.authorizer.allowed(Attributes(ALICE, "get", resource="configmaps", namespace="a", name="y"))
    assert host.authorizer.allowed(asked)
    assert not host.authorizer.allowed(Attributes(ALICE, "get", resource="configmaps", namespace="b", name="x"))
    assert not host.authorizer.allowed(Attributes(ALICE, "list", resource="configmaps", namespace="a"))
    host.drop("rolebindings", "rb", "a", RBAC)
    assert not host.authorizer.allowed(asked)


def test_nobody_grants_or_impersonates_more_than_they_hold() -> None:
    host = FakeHost()
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    host.add("roles", role("r", rules), RBAC)
    host.add("rolebindings", binding("rb", "r", {"kind": "User", "name": "alice"}), RBAC)
    asked = Attributes(ALICE, "create", RBAC, "v1", "roles", namespace="a", name="new")
    check_escalation(asked, role("new", rules), None, host.authorizer)
    wide = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}]
    with pytest.raises(ApiError, match=r'Resources:\["pods"\], Verbs:\["delete"\]'):
        check_escalation(asked, role("new", wide), None, host.authorizer)
    gate = Gate(host.authorizer)
    look = Attributes(ALICE, "get", resource="pods", namespace="a", name="p", path="/api/v1/namespaces/a/pods/p")
    assert gate.pass_gate(look, {}).user is ALICE
    with pytest.raises(ApiError, match="cannot impersonate-on:user-info:get"):
        gate.pass_gate(look, {"impersonate-user": "bob"})
    with pytest.raises(ApiError, match="without impersonating a user name"):
        gate.pass_gate(look, {"impersonate-group": "system:masters"})
    with pytest.raises(ApiError, match="system:anonymous"):
        gate.pass_gate(Attributes(ANONYMOUS, "get", path="/metrics", is_resource=False), {})


def test_a_node_reads_what_its_own_pods_need_and_nothing_else() -> None:
    host = FakeHost()
    node = User("system:node:n1", groups=("system:nodes", "system:authenticated"))
    container = {"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}
    pod = {"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n1", "containers": [container]}}
    host.add("pods", pod)

    def reads(name: str, who: User = node, verb: str = "get") -> bool:
        return host.authorizer.allowed(Attributes(who, verb, resource="secrets", namespace="a", name=name))

    assert reads("s") and not reads("other") and not reads("s", verb="update") and not reads("", verb="list")
    assert not reads("s", User("system:node:n2", groups=("system:nodes",)))
    host.add("pods", pod | {"spec": pod["spec"] | {"nodeName": "n2"}})
    assert not reads("s")
