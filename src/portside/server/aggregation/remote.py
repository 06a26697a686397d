"""A server behind an APIService: where it is, how it is spoken to, and who is said to ask."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from portside.base.pki import Pki
from portside.server.attributes import User
from portside.server.forward import Target
from portside.server.request import Request, Response

Json = dict[str, Any]
FRONT_PROXY = "front-proxy-client"


@dataclass(frozen=True, slots=True)
class Unreachable(Exception):
    """No address to go to: upstream's reason and message of the condition."""

    reason: str
    message: str
    known: bool = True


def tls_context(pki: Pki, spec: Json) -> ssl.SSLContext:
    """TLS as the APIService says, with the front proxy's certificate. Raises ValueError for a bundle that is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if spec.get("insecureSkipTLSVerify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif bundle := spec.get("caBundle"):
        try:
            context.load_verify_locations(cadata=base64.b64decode(bundle).decode())
        except ssl.SSLError as error:
            raise ValueError(f"the APIService's caBundle can't be used: {error}") from error
    else:
        context.load_default_certs()
    context.load_cert_chain(pki.certificate(FRONT_PROXY), pki.key(FRONT_PROXY))
    context.set_alpn_protocols(["http/1.1"])
    return context


def identity(user: User) -> list[tuple[str, str]]:
    """The headers that name a user to a server that trusts the front proxy."""
    named = [("X-Remote-User", user.name)]
    if user.uid:
        named.append(("X-Remote-Uid", user.uid))
    named += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        named += [(f"X-Remote-Extra-{quote(key.lower(), safe='-._~')}", value) for value in values]
    return named


def server_name(spec: Json) -> str:
    """The name that the server's certificate must carry."""
    service = spec["service"]
    return f"{service['name']}.{service['namespace']}.svc"


def locate(spec: Json, service: Json | None, slices: Iterable[Json]) -> tuple[str, int]:
    """Address and port of a ready endpoint. Raises Unreachable."""
    name, namespace = spec["service"]["name"], spec["service"]["namespace"]
    port = spec["service"].get("port") or 443
    who = f'service/{name} in "{namespace}"'
    if service is None:
        raise Unreachable("ServiceNotFound", f"{who} is not present")
    if service["spec"].get("type") == "ExternalName":
        return str(service["spec"].get("externalName") or ""), port
    found = next((p for p in service["spec"].get("ports") or () if p.get("port") == port), None)
    if found is None:
        raise Unreachable("ServicePortError", f"{who} is not listening on port {port}")
    own = [s for s in slices if (s["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name]
    if not own:
        raise Unreachable("EndpointsNotFound", f"cannot find endpointslices for {who}")
    wanted = found.get("name") or ""
    for piece in own:
        there = next((p.get("port") for p in piece.get("ports") or () if (p.get("name") or "") == wanted), None)
        for endpoint in piece.get("endpoints") or () if there else ():
            if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
                return str(endpoint["addresses"][0]), int(there or 0)
    text = f'endpoints for {who} have no addresses with port name "{wanted}"'
    raise Unreachable("MissingEndpoints", text)


@dataclass(slots=True)
class Remote:
    """An APIService of another server, and what is known of it. ``tls`` is made at the first request, and anew when
    the front proxy's certificate was renewed; ``inner`` answers in place of another server."""

    obj: Json
    tls: tuple[int, ssl.SSLContext] | None = None
    discovery: Json | None = None  # its version's entry in aggregated discovery
    inner: Callable[[Request], Awaitable[Response]] | None = None

    @property
    def spec(self) -> Json:
        found: Json = self.obj["spec"]
        return found

    @property
    def group_version(self) -> tuple[str, str]:
        return self.spec.get("group") or "", self.spec.get("version") or ""

    @property
    def available(self) -> bool:
        conditions = (self.obj.get("status") or {}).get("conditions") or ()
        return any(c.get("type") == "Available" and c.get("status") == "True" for c in conditions)

    def target(self, pki: Pki, service: Json | None, slices: Iterable[Json]) -> Target:
        """Where to send a request now. Raises Unreachable and ValueError."""
        host, port = locate(self.spec, service, slices)
        stamp = pki.certificate(FRONT_PROXY).stat().st_mtime_ns
        if self.tls is None or self.tls[0] != stamp:
            self.tls = stamp, tls_context(pki, self.spec)
        name = server_name(self.spec)
        wanted = f"{name}:{self.spec['service'].get('port') or 443}"
        return Target(host, port, self.tls[1], server_name=name, authority=wanted)
