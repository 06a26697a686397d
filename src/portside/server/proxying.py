"""The proxy subresource: any method on a pod, a service or a node, passed on to where it is, links brought back."""

from __future__ import annotations

import ipaddress
import random
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from portside.api.status import ApiError, bad_request, not_found
from portside.server import rewrite
from portside.server.forward import Target, forward
from portside.server.nodeproxy import ADDRESSES, REDIRECTED, Sub, admit, node_target, stored
from portside.server.request import Request, Response
from portside.server.routes import Route
from portside.server.webhooks.service_names import safe

if TYPE_CHECKING:
    from portside.server.app import ApiServer
    from portside.server.resource import Resource

Json = dict[str, Any]
SCHEMES = ("", "http", "https")
DEFAULT_PORTS = {"": 80, "http": 80, "https": 443}


def split(name: str, kind: str) -> tuple[str, str, str]:
    """(scheme, name, port) of ``[scheme:]name[:port]``. Raises 400."""
    parts = name.split(":")
    if len(parts) == 1:
        found = ("", parts[0], "")
    elif len(parts) == 2:
        found = ("", parts[0], parts[1])
    elif len(parts) == 3:
        found = (parts[0], parts[1], parts[2])
    else:
        found = ("", "", "")
    if not found[1] or found[0] not in SCHEMES:
        raise bad_request(f'invalid {kind} request "{name}"')
    return found


def checked(address: str) -> str:
    """An address users may be sent to: not the server itself, not its link, however it is written. Raises 400."""
    if not safe(address, loopback=False):
        raise bad_request("address not allowed")
    return str(ipaddress.ip_address(address))


def _unverified(scheme: str) -> ssl.SSLContext | None:
    """TLS to a pod, whose certificate nobody vouches for."""
    if scheme != "https":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _target(address: str, port: str | int, scheme: str) -> Target:
    """Raises 503 for a port that is no number, as a dial to it would fail."""
    text = str(port) or str(DEFAULT_PORTS[scheme])
    if not text.isdigit() or int(text) > 65535:
        why = f"lookup tcp/{text}: unknown port" if not text.isdigit() else f"address {text}: invalid port"
        raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: dial tcp: {why}")
    return Target(checked(address), int(text), _unverified(scheme))


async def _proxied(request: Request, route: Route, target: Target) -> Response:
    tail = "/" + route.rest if route.rest else ""
    if request.path.endswith("/") and not tail.endswith("/"):
        tail += "/"
    query = f"?{request.query}" if request.query else ""
    upgrade = bool(request.header("upgrade"))
    if not tail and request.method in ("GET", "HEAD") and not upgrade:
        # Relative links of the page at the root need the slash.
        return Response(301, b"", "", [("Location", _quoted(request.path) + "/" + query)])
    prefix = request.path.removesuffix(tail) if tail else request.path
    path = _quoted(tail or "/")
    headers = dict(request.headers) | {
        "x-forwarded-uri": _quoted(prefix) + path,
        "x-forwarded-host": request.header("host"),
        "x-forwarded-proto": "https",
    }
    if request.remote:
        known = request.header("x-forwarded-for")
        headers["x-forwarded-for"] = f"{known}, {request.remote}" if known else request.remote
    answer = await forward(target, request.method, path + query, headers, request.body, upgrade=upgrade)
    if upgrade and 300 <= answer.code < 400:
        raise ApiError(502, "", REDIRECTED)
    return answer if answer.upgrade else await _brought_back(answer, prefix, f"{target.host}:{target.port}")


def _quoted(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=~-._")


async def _brought_back(answer: Response, prefix: str, host: str) -> Response:
    """Redirects and the links of HTML pages lead through the proxy."""
    answer.headers = [
        (name, rewrite.url(value, prefix, host) if name.lower() == "location" else value)
        for name, value in answer.headers
    ]
    if answer.content_type.split(";")[0].strip().lower() != "text/html" or answer.stream is None:
        return answer
    body, stream = b"", answer.stream
    pieces = aiter(stream)
    async for piece in pieces:
        body += piece
        if len(body) > rewrite.MAX_PAGE:
            return Response(
                answer.code, content_type=answer.content_type, headers=answer.headers, stream=_rest(body, pieces)
            )
    encoding = next((v.lower() for k, v in answer.headers if k.lower() == "content-encoding"), "")
    plain = rewrite.unpacked(body, encoding)
    if plain is None:
        return Response(answer.code, body, answer.content_type, answer.headers)
    headers = [(k, v) for k, v in answer.headers if k.lower() != "content-encoding"]
    return Response(answer.code, rewrite.page(plain, prefix, host), answer.content_type, headers)


async def _rest(first: bytes, pieces: Any) -> Any:
    yield first
    async for piece in pieces:
        yield piece


async def proxy_pod(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """Any method on pods/[SCHEME:]NAME[:PORT]/proxy/PATH"""
    await admit(server, request, route)
    scheme, name, port = split(route.attributes.name, "pod")
    pod = await stored(server, "", "pods", route.attributes.namespace, name)
    if not port:
        ports = [p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or ()]
        port = str(ports[0]) if ports else ""
    address = checked((pod.get("status") or {}).get("podIP") or "")
    return await _proxied(request, route, _target(address, port, scheme))


async def proxy_node(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """Any method on nodes/[SCHEME:]NAME[:PORT]/proxy/PATH; without a port, or with the agent's, it is the agent."""
    await admit(server, request, route)
    scheme, name, port = split(route.attributes.name, "node")
    target = await node_target(server, name)
    if port and port != str(target.port):
        node = await stored(server, "", "nodes", "", name)
        known = {a["type"]: a["address"] for a in reversed((node.get("status") or {}).get("addresses") or ())}
        address = next(known[kind] for kind in ADDRESSES if kind in known)
        target = _target(address, port, scheme)
    return await _proxied(request, route, target)


async def _endpoints(server: ApiServer, namespace: str, name: str, port_name: str) -> list[tuple[str, int]]:
    """The ready addresses of a service's port that belong to pods: users are sent to nothing else."""
    import orjson

    from portside.server.watchcache_filter import Filter

    listing = server.caches.of("discovery.k8s.io", "endpointslices").list(Filter(namespace=namespace))
    found: list[tuple[str, int]] = []
    for item in listing.objects:
        piece = orjson.loads(item.full)
        if (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") != name:
            continue
        port = next((p.get("port") for p in piece.get("ports") or () if (p.get("name") or "") == port_name), None)
        if port is None:
            continue
        for endpoint in piece.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready")
            if ready is not False and await _is_pod(server, namespace, endpoint):
                found.append((endpoint["addresses"][0], int(port)))
    return found


async def _is_pod(server: ApiServer, namespace: str, endpoint: Json) -> bool:
    target = endpoint.get("targetRef") or {}
    if target.get("kind") != "Pod" or not endpoint.get("addresses"):
        return False
    pod = await server.read("", "pods", namespace, target.get("name") or "")
    status = (pod or {}).get("status") or {}
    ips = {status.get("podIP"), *(entry["ip"] for entry in status.get("podIPs") or ())}
    return endpoint["addresses"][0] in ips


async def proxy_service(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """Any method on services/[SCHEME:]NAME[:PORT]/proxy/PATH"""
    await admit(server, request, route)
    asked, namespace = route.attributes.name, route.attributes.namespace
    scheme, name, port_name = split(asked, "service")
    service = await server.read("", "services", namespace, name)
    if service is None:
        raise not_found("services" if port_name.isdigit() else "endpoints", name, "")
    if port_name.isdigit():
        names = [p.get("name") or "" for p in service["spec"].get("ports") or () if p["port"] == int(port_name)]
        if not names:
            text = f'no service port {int(port_name)} found for service "{name}"'
            raise ApiError(503, "ServiceUnavailable", text)
        port_name = names[0]
    found = await _endpoints(server, namespace, name, port_name)
    if not found:
        raise ApiError(503, "ServiceUnavailable", f'no endpoints available for service "{asked}"')
    address, number = random.choice(found)
    return await _proxied(request, route, _target(address, number, scheme))


PROXY_SUBRESOURCES: dict[tuple[str, str, str], Sub] = {
    ("", "pods", "proxy"): proxy_pod,
    ("", "nodes", "proxy"): proxy_node,
    ("", "services", "proxy"): proxy_service,
}
