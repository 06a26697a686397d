"""A machine's membership: certificates asked of the API, and the facts a node that joined needs.

``join`` is what `portside join` does before the node's process starts; ``renew`` asks for the same certificates again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portside.api.status import ApiError
from portside.base.errors import PortsideError
from portside.base.kubeconfig_file import write_kubeconfig
from portside.base.pki import Pki, load_certificate
from portside.client.http import http_client
from portside.client.kubeconfig import Connection
from portside.client.protocol import Client, Resource
from portside.run.home import Home, write_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

Json = dict[str, Any]
REQUESTS: Resource = ("certificates.k8s.io", "v1", "certificatesigningrequests")
NODES: Resource = ("", "v1", "nodes")
CONFIGMAPS: Resource = ("", "v1", "configmaps")
CLIENT, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
PATIENCE = 60.0  # seconds for a certificate, and for a part of the pod addresses
POLL = 0.1
FRESH = 40.0  # seconds: a node heard of more recently is alive


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person said to `portside join`."""

    server: str
    token: str
    ca_hash: str
    name: str
    address: str


def key_hash(ca: bytes) -> str:
    """``sha256:…`` of the public key of an authority in PEM, as join commands carry it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(ca).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def vouched(info: Json, token: str) -> bool:
    """Whether the cluster-info carries the token's signature (a detached JWS with HS256) over what it says."""
    ident, _, secret = token.partition(".")
    data = info.get("data") or {}
    header, _, rest = str(data.get(f"jws-kubeconfig-{ident}") or "").partition("..")
    try:
        kind = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except ValueError:
        return False
    if not isinstance(kind, dict) or kind.get("alg") != "HS256":
        return False
    content = f"{header}.{_url64(str(data.get('kubeconfig') or '').encode())}".encode()
    return hmac.compare_digest(_url64(hmac.new(secret.encode(), content, hashlib.sha256).digest()), rest)


def authority(info: Json, asked: Asked) -> bytes:
    """The cluster's authority in PEM, once the cluster-info is believed. Raises PortsideError."""
    import yaml

    if not vouched(info, asked.token):
        raise PortsideError(
            "the API's cluster-info is not signed with this token",
            why="the token has ended or was deleted, or the server is not the one it was made on",
            todo="make a new one on the first machine: portside token create",
        )
    config = yaml.safe_load(info["data"]["kubeconfig"])
    ca = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
    if asked.ca_hash and not hmac.compare_digest(key_hash(ca), asked.ca_hash):
        raise PortsideError(
            "the cluster's authority is not the one the join command names",
            why=f"it is {key_hash(ca)}",
            todo="compare with what portside token create prints on the first machine",
        )
    return ca


async def _believe(asked: Asked) -> bytes:
    client = http_client(Connection(asked.server, insecure=True), user_agent="portside-join")
    try:
        return authority(await client.get(CONFIGMAPS, "cluster-info", namespace="kube-public"), asked)
    except (OSError, TimeoutError, ssl.SSLError) as error:
        raise PortsideError(
            f"the API at {asked.server} can't be reached",
            why=str(error) or type(error).__name__,
            todo="check address, port and firewalls; the first machine must listen for others (portside up --listen)",
        ) from error
    finally:
        await client.close()


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _request(key: EllipticCurvePrivateKey, node: str, names: tuple[str, ...]) -> bytes:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        found: list[x509.GeneralName] = []
        for name in names:
            try:
                found.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                found.append(x509.DNSName(name))
        builder = builder.add_extension(x509.SubjectAlternativeName(found), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


async def certificate(client: Client, node: str, signer: str, names: tuple[str, ...] = ()) -> tuple[bytes, bytes]:
    """A new certificate and its key, in PEM. Raises PortsideError with what the cluster said."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = _new_key()
    usages = ["digital signature", "client auth" if signer == CLIENT else "server auth"]
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": f"node-{'client' if signer == CLIENT else 'serving'}-"},
        "spec": {
            "request": base64.b64encode(_request(key, node, names)).decode(),
            "signerName": signer,
            "usages": usages,
        },
    }
    made = await client.create(REQUESTS, body)
    end = time.monotonic() + PATIENCE
    while not (issued := (made.get("status") or {}).get("certificate")):
        for entry in (made.get("status") or {}).get("conditions") or ():
            if entry["type"] in ("Denied", "Failed"):
                raise PortsideError(
                    f"the request {made['metadata']['name']} was {entry['type'].lower()}", why=entry.get("message", "")
                )
        if time.monotonic() > end:
            name = made["metadata"]["name"]
            raise PortsideError(
                f"the request {name} was not answered in {PATIENCE:.0f} s",
                todo=f"on the first machine: kubectl describe csr {name}; kubectl certificate approve {name}",
            )
        await asyncio.sleep(POLL)
        made = await client.get(REQUESTS, made["metadata"]["name"])
    return base64.b64decode(issued), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def store_pair(pki: Pki, name: str, pair: tuple[bytes, bytes]) -> None:
    """Certificate and key under a name; each file is replaced as a whole."""
    write_private(pki.key(name), pair[1].decode())
    write_private(pki.certificate(name), pair[0].decode())


def node_client(home: Home, server: str, node: str) -> Path:
    """The kubeconfig of a node that joined, made from the files of its home."""
    pki, name, path = Pki(home.root / "pki"), f"node-{node}", home.root / f"node-{node}.kubeconfig"
    certificate_, key = pki.certificate(name).read_bytes(), pki.key(name).read_bytes()
    write_kubeconfig(path, server=server, ca=pki.ca.read_bytes(), certificate=certificate_, key=key)
    return path


async def join(home: Home, asked: Asked) -> Json:
    """Become a node: the home gets certificates and facts. Answers the facts. Raises PortsideError, ApiError, OSError."""
    ca = await _believe(asked)
    client = http_client(Connection(asked.server, ca=ca, token=asked.token), user_agent="portside-join")
    try:
        pair = await certificate(client, asked.name, CLIENT)
    except ssl.SSLCertVerificationError as error:
        raise PortsideError(
            f"the API's certificate does not name {asked.server}",
            why=error.verify_message,
            todo="use the address that portside token create prints",
        ) from error
    finally:
        await client.close()
    pki = Pki(home.root / "pki")
    pki.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(pki.ca, ca.decode())
    store_pair(pki, f"node-{asked.name}", pair)
    node = http_client(Connection(asked.server, ca=ca, certificate=pair[0], key=pair[1]), user_agent="portside-join")
    try:
        facts = await _register(node, asked)
        store_pair(
            pki, f"node-{asked.name}-server", await certificate(node, asked.name, SERVING, (asked.name, asked.address))
        )
    finally:
        await node.close()
    home.save_cluster(facts)
    return facts


async def _register(client: Client, asked: Asked) -> Json:
    """Create the Node, wait for its part of the pod addresses, and read what nodes are told."""
    from portside.agent.node import address_list, fresh_node

    try:
        told = (await client.get(CONFIGMAPS, "portside-network", namespace="kube-system"))["data"]
    except ApiError as error:
        if error.code not in (403, 404):
            raise
        raise PortsideError(
            "the cluster does not say what its nodes' network is",
            why="its nodes are simulated, or it is none of Portside's",
            todo="join a cluster that was started with: portside up",
        ) from error
    fresh = fresh_node(asked.name) | {"status": {"addresses": address_list(asked.name, (asked.address,))}}
    try:
        node = await client.create(NODES, fresh)
    except ApiError as error:
        if error.code != 409:
            raise
        node = await client.get(NODES, asked.name)
        _refuse_living(node)
        status = {"status": fresh["status"]}
        node = await client.patch(NODES, asked.name, status, patch_type="strategic", subresource="status")
    end = time.monotonic() + PATIENCE
    while not (cidr := (node.get("spec") or {}).get("podCIDR")):
        if time.monotonic() > end:
            raise PortsideError(
                "the node was given no pod addresses",
                why="all parts of the cluster's range may be taken",
                todo=f"on the first machine: kubectl describe node {asked.name}",
            )
        await asyncio.sleep(POLL)
        node = await client.get(NODES, asked.name)
    return {
        "simulate": 0,
        "joined": asked.server,
        "api": asked.server,
        "node": asked.name,
        "address": asked.address,
        "pod_cidr": cidr,
        "cluster_cidr": told["podCIDR"],
        "service_cidr": told["serviceCIDR"],
    }


def _refuse_living(node: Json) -> None:
    """A Node that is alive is another machine's. Raises PortsideError."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        name = node["metadata"]["name"]
        raise PortsideError(
            f"the cluster has a node {name} already, and it is ready",
            todo=f"give this machine another name with --name, or remove the old one: portside node remove {name}",
        )


def due(path: Path, now: float) -> bool:
    """Whether a certificate has less than a third of its life left."""
    held = load_certificate(path)
    begin, end = held.not_valid_before_utc.timestamp(), held.not_valid_after_utc.timestamp()
    return now > begin + (end - begin) * 2 / 3


async def renew(home: Home, client: Client, now: float) -> bool:
    """Ask anew for what ends soon. True when there is something new to use."""
    facts, pki = home.cluster(), Pki(home.root / "pki")
    node, changed = str(facts["node"]), False
    for name, signer, names in (
        (f"node-{node}", CLIENT, ()),
        (f"node-{node}-server", SERVING, (node, str(facts["address"]))),
    ):
        if due(pki.certificate(name), now):
            store_pair(pki, name, await certificate(client, node, signer, names))
            changed = True
    return changed


def again() -> None:
    """Execute this process anew, with the same arguments: pods run on, and what is read at the start is read again."""
    import sys

    os.execv(sys.executable, [sys.executable, "-m", "portside.run.node", *sys.argv[1:]])
