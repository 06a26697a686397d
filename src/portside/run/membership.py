"""A machine's membership: certificates asked of the API, and the facts a node that joined needs.

``join`` is what `portside join` does before the node's process starts; ``renew`` asks for the same certificates again.
"""

from __future__ import annotations

import asyncio
import base64
import calendar
import hashlib
import hmac
import json
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from portside.api.status import ApiError
from portside.base.address import has_address, own_address, source_address
from portside.base.errors import PortsideError
from portside.base.kubeconfig_file import write_kubeconfig
from portside.base.pki import Pki, load_certificate
from portside.client.http import http_client
from portside.client.kubeconfig import Connection
from portside.client.protocol import Client, Resource
from portside.run.home import Home, write_private
from portside.run.leave import LEAVE, LEFT

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

Json = dict[str, Any]
REQUESTS: Resource = ("certificates.k8s.io", "v1", "certificatesigningrequests")
NODES: Resource = ("", "v1", "nodes")
LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
CONFIGMAPS: Resource = ("", "v1", "configmaps")
CLIENT, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
PATIENCE = 60.0  # seconds for a certificate, and for a part of the pod addresses
POLL = 0.1
JOINING = 60.0  # seconds a machine that has just made its Node has to become ready
SILENT = 13.0  # seconds without a heartbeat, which are due every ten, until a machine of our address counts as gone
NOT_YET_VALID, EXPIRED = 9, 10  # OpenSSL's words for certificates (X509_V_ERR_…)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person said to `portside join`."""

    server: str
    token: str
    ca_hash: str
    name: str
    address: str
    node_ip: str = ""  # the address that was asked for, which is not to follow the machine's


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


def _verification(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The certificate's fault behind a lost connection, if that is what it was."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) and hasattr(error, "verify_code"):
            return error
        error = error.__cause__ or getattr(error, "certificate_error", None)
    return None


def trouble(error: BaseException, server: str, now: float) -> PortsideError:
    """What a connection's failure means to the person who joins. ``now``: this machine's clock."""
    held = _verification(error)
    if held is None:
        return PortsideError(
            f"the API at {server} can't be reached",
            why=str(error) or type(error).__name__,
            todo="check address, port and firewalls; the first machine must listen for others (portside up --listen)",
        )
    if held.verify_code in (NOT_YET_VALID, EXPIRED):
        clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        return PortsideError(
            f"the certificate of {server} is not valid at this machine's time",
            why=f"{held.verify_message}; the clock here says {clock}",
            todo="compare the clocks of both machines (date -u) and set the wrong one",
        )
    return PortsideError(
        f"the API's certificate does not name {server}",
        why=held.verify_message,
        todo="use the address that portside token create prints",
    )


async def _believe(asked: Asked) -> bytes:
    client = http_client(Connection(asked.server, insecure=True), user_agent="portside-join")
    try:
        return authority(await client.get(CONFIGMAPS, "cluster-info", namespace="kube-public"), asked)
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


async def join(home: Home, asked: Asked, fits: Callable[[Json], None] = lambda told: None) -> Json:
    """Become a node: the home gets certificates and facts, all at the end, so that a join that broke off left nothing here.
    ``fits`` looks at the cluster's ranges before anything is made there. Answers the facts. Raises PortsideError, ApiError."""
    try:
        ca = await _believe(asked)
        pair = await _client_certificate(asked, ca)
        node = http_client(
            Connection(asked.server, ca=ca, certificate=pair[0], key=pair[1]), user_agent="portside-join"
        )
        try:
            told = await _told(node)
            await _check_name(node, asked.name, asked.address)
            fits(told)
            cidr = await register(node, asked.name, asked.address)
            serving = await certificate(node, asked.name, SERVING, (asked.name, asked.address))
        finally:
            await node.close()
    except (OSError, TimeoutError) as error:
        raise trouble(error, asked.server, time.time()) from error
    pki = Pki(home.root / "pki")
    pki.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(pki.ca, ca.decode())
    store_pair(pki, f"node-{asked.name}", pair)
    store_pair(pki, f"node-{asked.name}-server", serving)
    facts = {
        "simulate": 0,
        "joined": asked.server,
        "api": asked.server,
        "node": asked.name,
        "address": asked.address,
        "node_ip": asked.node_ip,
        "pod_cidr": cidr,
        "cluster_cidr": told["podCIDR"],
        "service_cidr": told["serviceCIDR"],
    }
    home.save_cluster(facts)
    return facts


async def rejoin(home: Home, asked: Asked) -> bool:
    """Join the cluster this home is a node of: its API may have another address, the node another one, and a client
    certificate that ends soon, or has ended, is asked for anew. True when something changed. Raises PortsideError, ApiError."""
    facts, pki = home.cluster(), Pki(home.root / "pki")
    name = str(facts["node"])
    if asked.name and asked.name != name:
        raise PortsideError(
            f"this machine is node {name} of {facts['joined']}, and a node keeps its name",
            todo=f"give it up first: portside node remove {name} on the first machine; then join with the other name",
        )
    try:
        ca = await _believe(asked)
        if key_hash(ca) != key_hash(pki.ca.read_bytes()):
            raise PortsideError(
                f"{home.root} is a node of another cluster, {facts['joined']}",
                todo="use another --home, or give it up first: portside reset",
            )
        changed = {"joined": asked.server, "api": asked.server}
        if asked.node_ip:
            changed |= {"address": asked.node_ip, "node_ip": asked.node_ip}
        renewed = due(pki.certificate(f"node-{name}"), time.time())
        if renewed:
            store_pair(pki, f"node-{name}", await _client_certificate(replace(asked, name=name), ca))
    except (OSError, TimeoutError) as error:
        raise trouble(error, asked.server, time.time()) from error
    home.save_cluster(changed)
    return renewed or any(facts.get(key) != value for key, value in changed.items())


async def _client_certificate(asked: Asked, ca: bytes) -> tuple[bytes, bytes]:
    client = http_client(Connection(asked.server, ca=ca, token=asked.token), user_agent="portside-join")
    try:
        return await certificate(client, asked.name, CLIENT)
    finally:
        await client.close()


async def _told(client: Client) -> Json:
    """What nodes are told of the cluster's network. Raises PortsideError when they are told nothing."""
    try:
        return dict((await client.get(CONFIGMAPS, "portside-network", namespace="kube-system"))["data"])
    except ApiError as error:
        if error.code not in (403, 404):
            raise
        raise PortsideError(
            "the cluster does not say what its nodes' network is",
            why="its nodes are simulated, or it is none of Portside's",
            todo="join a cluster that was started with: portside up",
        ) from error


async def register(client: Client, name: str, address: str) -> str:
    """Create the Node, or take over one whose machine is gone, and wait for its part of the pod addresses."""
    from portside.agent.node import address_list, fresh_node

    fresh = fresh_node(name) | {"status": {"addresses": address_list(name, (address,))}}
    try:
        node = await client.create(NODES, fresh)
    except ApiError as error:
        if error.code != 409:
            raise
        await _check_name(client, name, address)
        unmarked = {"metadata": {"annotations": {LEAVE: None, LEFT: None}}}  # of a removal that broke off
        await client.patch(NODES, name, unmarked, patch_type="merge")
        status = {"status": fresh["status"]}
        node = await client.patch(NODES, name, status, patch_type="strategic", subresource="status")
    end = time.monotonic() + PATIENCE
    while not (cidr := (node.get("spec") or {}).get("podCIDR")):
        if time.monotonic() > end:
            raise PortsideError(
                "the node was given no pod addresses",
                why="all parts of the cluster's range may be taken",
                todo=f"on the first machine: kubectl describe node {name}",
            )
        await asyncio.sleep(POLL)
        node = await client.get(NODES, name)
    return str(cidr)


async def _check_name(client: Client, name: str, address: str) -> None:
    """Raises PortsideError when the name is another machine's."""
    try:
        node = await client.get(NODES, name)
    except ApiError as error:
        if error.code != 404:
            raise
        return
    try:
        refuse_living(node, address, time.time())
    except PortsideError:
        if not await _same_machine(client, node, address):
            raise


async def part(client: Client, name: str, address: str) -> str:
    """This node's part of the pod addresses, as its Node says; a Node that is gone is made anew. Raises ApiError, OSError,
    PortsideError."""
    try:
        found = str(((await client.get(NODES, name)).get("spec") or {}).get("podCIDR") or "")
    except ApiError as error:
        if error.code != 404:
            raise
        found = ""
    return found or await register(client, name, address)


def _internal(node: Json) -> str:
    found = (node.get("status") or {}).get("addresses") or ()
    return next((str(a["address"]) for a in found if a["type"] == "InternalIP"), "")


async def _same_machine(client: Client, node: Json, address: str) -> bool:
    """Whether the Node was this machine's, which gave its home up: its address is ours, and nobody renews its lease."""
    if _internal(node) != address:
        return False
    name: str = node["metadata"]["name"]
    seen: set[str] = set()
    end = time.monotonic() + SILENT
    while time.monotonic() < end and len(seen) < 2:
        try:
            seen.add((await client.get(LEASES, name, namespace="kube-node-lease"))["spec"].get("renewTime"))
        except ApiError as error:
            if error.code != 404:
                raise
            return True
        await asyncio.sleep(POLL * 5)
    return len(seen) < 2


def refuse_living(node: Json, address: str, now: float) -> None:
    """A Node that is alive, or is becoming so at this moment, is another machine's. Raises PortsideError."""
    status, name = node.get("status") or {}, node["metadata"]["name"]
    ready = next((c["status"] for c in status.get("conditions") or () if c["type"] == "Ready"), "")
    todo = f"give this machine another name with --name, or remove the old one: portside node remove {name}"
    if ready == "True":
        raise PortsideError(f"the cluster has a node {name} already, and it is ready", todo=todo)
    made = calendar.timegm(time.strptime(node["metadata"]["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ"))
    other = _internal(node)
    if not ready and other not in ("", address) and now - made < JOINING:
        raise PortsideError(f"another machine, {other}, joins as node {name} at this moment", todo=todo)


def due(path: Path, now: float) -> bool:
    """Whether a certificate has less than a third of its life left."""
    held = load_certificate(path)
    begin, end = held.not_valid_before_utc.timestamp(), held.not_valid_after_utc.timestamp()
    return now > begin + (end - begin) * 2 / 3


def certified(path: Path) -> set[str]:
    """The names and addresses a certificate is for."""
    from cryptography import x509

    found = load_certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


async def renew(home: Home, client: Client, now: float) -> bool:
    """Ask anew for what ends soon, and for a serving certificate of this node's address when it has another one now.
    True when there is something new to use."""
    facts, pki = home.cluster(), Pki(home.root / "pki")
    node, changed = str(facts["node"]), False
    for name, signer, names in (
        (f"node-{node}", CLIENT, ()),
        (f"node-{node}-server", SERVING, (node, str(facts["address"]))),
    ):
        if due(pki.certificate(name), now) or (names and not set(names) <= certified(pki.certificate(name))):
            store_pair(pki, name, await certificate(client, node, signer, names))
            changed = True
    return changed


def present_address(facts: Json) -> str:
    """The address other nodes reach this one at: the one that was asked for; the one it had, while this machine has it;
    else what it sends from towards the API, or by its default route where the API is its own. While it knows no way, the
    one it had."""
    had = str(facts.get("address") or "")
    if facts.get("node_ip"):
        return str(facts["node_ip"])
    if had and has_address(had):
        return had
    host = urlsplit(str(facts.get("joined") or "")).hostname
    return source_address(host or "") or had or own_address()


def again() -> None:
    """Execute this process anew, with the same arguments: pods run on, and what is read at the start is read again."""
    import sys

    os.execv(sys.executable, [sys.executable, "-m", "portside.run.node", *sys.argv[1:]])
