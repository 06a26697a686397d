"""Certificates of pods: a key made here, a PodCertificateRequest per key, the issued chain kept and renewed in time."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portside.agent.stamps import seconds
from portside.api.status import ApiError
from portside.base.clock import SYSTEM, Clock
from portside.client.protocol import Client, Resource

Json = dict[str, Any]
REQUESTS: Resource = ("certificates.k8s.io", "v1", "podcertificaterequests")
NODES: Resource = ("", "v1", "nodes")
ACCOUNTS: Resource = ("", "v1", "serviceaccounts")
PATIENCE = 10.0  # seconds a volume waits for the signer before its pod's start says so
AGAIN = 60.0  # seconds after a request that ended without a certificate
DEFAULT_LIFE = 86400


class NotIssued(Exception):
    """There is no certificate (yet); the text says why. ``final``: the signer has refused, asking again is of no use."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key (PKCS#8, PEM), its certificate chain (PEM), and when to ask for the next (epoch seconds)."""

    key: bytes
    chain: bytes
    renew_at: float

    @property
    def bundle(self) -> bytes:
        """Key and chain in one file."""
        return self.key + self.chain


@dataclass(slots=True)
class _State:
    credential: Credential | None = None
    task: asyncio.Task[None] | None = None
    problem: str = ""
    retry_at: float = 0.0


def _private_key(kind: str) -> Any:
    """A fresh key of a keyType. Takes up to seconds for RSA: call it in a thread."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match kind:
        case "RSA3072" | "RSA4096":
            return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
        case "ECDSAP256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ECDSAP384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ECDSAP521":
            return ec.generate_private_key(ec.SECP521R1())
        case "ED25519":
            return ed25519.Ed25519PrivateKey.generate()
    raise NotIssued(f"unknown key type {kind}")


def make_key(kind: str) -> tuple[bytes, bytes]:
    """(PKCS#8 key as PEM, certificate request without a subject as DER)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key = _private_key(kind)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    digests: dict[str, Any] = {"ED25519": None, "ECDSAP384": hashes.SHA384(), "ECDSAP521": hashes.SHA512()}
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = asked.sign(key, digests.get(kind, hashes.SHA256()))
    return pem, signed.public_bytes(serialization.Encoding.DER)


def request_body(pod: Json, source: Json, csr: bytes, *, node: str, node_uid: str, account_uid: str) -> Json:
    """The PodCertificateRequest of a projected source."""
    meta = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    spec: Json = {
        "signerName": source["signerName"],
        "podName": meta["name"],
        "podUID": meta["uid"],
        "serviceAccountName": pod["spec"].get("serviceAccountName") or "default",
        "serviceAccountUID": account_uid,
        "nodeName": node,
        "nodeUID": node_uid,
        "maxExpirationSeconds": source.get("maxExpirationSeconds") or DEFAULT_LIFE,
        "stubPKCS10Request": base64.b64encode(csr).decode(),
    }
    if source.get("userAnnotations"):
        spec["unverifiedUserAnnotations"] = source["userAnnotations"]
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "PodCertificateRequest",
        "metadata": {"generateName": "req-", "namespace": meta["namespace"], "ownerReferences": [owner]},
        "spec": spec,
    }


def verdict(request: Json) -> tuple[bool, str]:
    """(issued, why it never will be) of a request."""
    for condition in (request.get("status") or {}).get("conditions") or ():
        kind = condition["type"]
        if kind == "Issued":
            return True, ""
        if kind in ("Denied", "Failed"):
            text = f'reason="{condition.get("reason", "")}", message="{condition.get("message", "")}"'
            return False, f"PodCertificateRequest was permanently {kind.lower()}; {text}"
    return False, ""


class PodCertificates:
    """All credentials of the node's pods; a key never leaves this process but into the pod's volume."""

    def __init__(self, client: Client, node: str, *, clock: Clock = SYSTEM) -> None:
        self._client, self._node, self._clock = client, node, clock
        self._states: dict[tuple[str, str, int], _State] = {}
        self._followers: dict[str, Callable[[], None]] = {}
        self._node_uid = ""

    def follow(self, uid: str, changed: Callable[[], None]) -> None:
        """Call ``changed`` when one of the pod's certificates was renewed."""
        self._followers[uid] = changed

    def forget(self, uid: str) -> None:
        self._followers.pop(uid, None)
        for key in [k for k in self._states if k[0] == uid]:
            if (task := self._states.pop(key).task) is not None:
                task.cancel()

    async def credential(self, pod: Json, volume: str, index: int, source: Json) -> Credential:
        """The newest certificate of a projected source. Raises NotIssued."""
        uid = pod["metadata"]["uid"]
        state = self._states.setdefault((uid, volume, index), _State())
        now = self._clock.now()
        running = state.task is not None and not state.task.done()
        due = state.credential is None or now >= state.credential.renew_at
        if due and not running and now >= state.retry_at:
            renewal = state.credential is not None
            state.task = asyncio.create_task(self._obtain(pod, source, state), name=f"certificate {volume}")
            if renewal:
                state.task.add_done_callback(lambda _: self._followers.get(uid, lambda: None)())
        if state.credential is None and state.task is not None:
            await asyncio.wait({state.task}, timeout=PATIENCE)
        if state.credential is None:
            raise NotIssued(state.problem or "PodCertificateRequest is not issued yet")
        return state.credential

    async def _obtain(self, pod: Json, source: Json, state: _State) -> None:
        state.problem = ""
        try:
            state.credential = await self._ask(pod, source)
        except (NotIssued, ApiError, OSError, TimeoutError) as problem:
            state.problem = str(problem)
            final = isinstance(problem, NotIssued) and problem.final
            state.retry_at = float("inf") if final else self._clock.now() + AGAIN

    async def _ask(self, pod: Json, source: Json) -> Credential:
        key, csr = await asyncio.to_thread(make_key, source["keyType"])
        namespace = pod["metadata"]["namespace"]
        if not self._node_uid:
            self._node_uid = (await self._client.get(NODES, self._node))["metadata"]["uid"]
        account = await self._client.get(
            ACCOUNTS, pod["spec"].get("serviceAccountName") or "default", namespace=namespace
        )
        body = request_body(
            pod,
            source,
            csr,
            node=self._node,
            node_uid=self._node_uid,
            account_uid=account["metadata"]["uid"],
        )
        made = await self._client.create(REQUESTS, body, namespace=namespace)
        status = (await self._answer(namespace, made["metadata"]["name"])).get("status") or {}
        chain = str(status.get("certificateChain") or "")
        renew = status.get("beginRefreshAt") or status.get("notAfter")
        return Credential(key, chain.encode(), seconds(renew) if renew else self._clock.now() + AGAIN)

    async def _answer(self, namespace: str, name: str) -> Json:
        """The request once it is issued. Raises NotIssued when it is denied, failed or deleted."""
        while True:
            events = self._client.watch(
                REQUESTS, namespace=namespace, field_selector=f"metadata.name={name}", send_initial_events=True
            )
            async with contextlib.aclosing(events) as stream:  # type: ignore[type-var]
                async for event in stream:
                    if event.type == "DELETED":
                        raise NotIssued(f'PodCertificateRequest "{name}" was deleted')
                    issued, never = verdict(event.object) if event.type != "BOOKMARK" else (False, "")
                    if issued:
                        return event.object
                    if never:
                        raise NotIssued(never, final=True)
            await self._clock.sleep(1.0)
