"""Logs, exec, attach and port-forward: from a pod to the node it lives on, after authorization."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from portside.api.field import FieldError, forbidden_field, invalid_value
from portside.api.status import ApiError, bad_request, forbidden, invalid, not_found
from portside.server import logsocket
from portside.server.forward import Target, forward, whole
from portside.server.handshake import wants_websocket
from portside.server.request import Request, Response
from portside.server.routes import Route

if TYPE_CHECKING:
    from portside.server.app import ApiServer
    from portside.server.resource import Resource

Json = dict[str, Any]
Sub = Callable[["ApiServer", Request, "Resource", Route], Awaitable[Response]]
ENDED = ("Succeeded", "Failed")
ADDRESSES = ("InternalIP", "ExternalIP")
LOG_PASSED = ("follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream")
REDIRECTED = "the backend attempted to redirect this request, which is not permitted"
TRUE = ("1", "t", "T", "true", "True", "TRUE")


async def stored(server: ApiServer, group: str, plural: str, namespace: str, name: str) -> Json:
    found = await server.read(group, plural, namespace, name)
    if found is None:
        raise not_found(plural, name, group)
    return found


def _node_context(server: ApiServer) -> ssl.SSLContext:
    """TLS towards the nodes: our authority, and the control plane's own certificate. Made anew when that was renewed."""
    name = "apiserver-kubelet-client"
    stamp = server.pki.certificate(name).stat().st_mtime_ns
    held: tuple[int, ssl.SSLContext] | None = getattr(server, "_node_tls", None)
    if held is None or held[0] != stamp:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(server.pki.ca)
        made.load_cert_chain(server.pki.certificate(name), server.pki.key(name))
        made.check_hostname = False  # the certificate must be that node's own: its common name is compared instead
        held = (stamp, made)
        setattr(server, "_node_tls", held)  # noqa: B010  the server does not know this attribute
    return held[1]


async def node_target(server: ApiServer, name: str) -> Target:
    """The agent of a node. Raises ApiError when the node is gone or says no address."""
    node = await stored(server, "", "nodes", "", name)
    status = node.get("status") or {}
    known = {a["type"]: a["address"] for a in reversed(status.get("addresses") or ())}
    address = next((known[kind] for kind in ADDRESSES if kind in known), "")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 10250
    if not address:
        raise ApiError(
            500,
            "InternalError",
            f"Internal error occurred: no preferred addresses found; known addresses: {list(known)}",
        )
    return Target(address, int(port), _node_context(server), common_name=f"system:node:{name}")


def _all_containers(pod: Json) -> list[str]:
    spec = pod["spec"]
    families = ("initContainers", "containers", "ephemeralContainers")
    return [c["name"] for family in families for c in spec.get(family) or ()]


def _container(pod: Json, asked: str) -> str:
    """The container meant. Raises 400 with upstream's words."""
    names, pod_name = _all_containers(pod), pod["metadata"]["name"]
    if not asked:
        main = pod["spec"]["containers"]
        if len(main) != 1:
            raise bad_request(
                f"a container name must be specified for pod {pod_name}, choose one of: [{' '.join(names)}]"
            )
        return str(main[0]["name"])
    if asked not in names:
        raise bad_request(f"container {asked} is not valid for pod {pod_name}")
    return asked


def _number(request: Request, name: str) -> int | None:
    text = request.param(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _check_log_options(request: Request, pod: str) -> None:
    errors: list[FieldError] = []
    tail, limit, since = (_number(request, n) for n in ("tailLines", "limitBytes", "sinceSeconds"))
    if tail is not None and tail < 0:
        errors.append(invalid_value("tailLines", tail, "must be greater than or equal to 0"))
    if limit is not None and limit < 1:
        errors.append(invalid_value("limitBytes", limit, "must be greater than 0"))
    if since is not None and request.param("sinceTime"):
        errors.append(forbidden_field("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif since is not None and since < 1:
        errors.append(invalid_value("sinceSeconds", since, "must be greater than 0"))
    if request.param("stream"):
        errors.append(forbidden_field("stream", "may not be specified"))
    if errors:
        raise invalid("PodLogOptions", pod, errors)


async def _refusal(response: Response) -> ApiError:
    """The node's refusal as a Status."""
    text = (await whole(response)).decode("utf-8", "replace").strip()
    if response.code < 400:  # a node that sends its clients elsewhere, or answers what nobody asked
        return ApiError(502, "", REDIRECTED if response.code >= 300 else text)
    if response.code == 400:
        return bad_request(text)
    if response.code == 404:
        return ApiError(404, "NotFound", text, details={})
    return ApiError(response.code, "InternalError", f"Internal error occurred: {text}")


async def log(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """GET pods/NAME/log"""
    at = route.attributes
    pod = await stored(server, "", "pods", at.namespace, at.name)
    _check_log_options(request, at.name)
    container = _container(pod, request.param("container"))
    node = pod["spec"].get("nodeName")
    if not node:
        return Response(204, b"", "")
    target = await node_target(server, node)
    query = urlencode([(k, request.param(k)) for k in LOG_PASSED if request.param(k)])
    path = f"/containerLogs/{at.namespace}/{at.name}/{container}" + (f"?{query}" if query else "")
    answer = await forward(target, "GET", path, {}, b"", upgrade=False)
    if answer.code != 200:
        raise await _refusal(answer)
    answer.content_type = "text/plain"
    return logsocket.switched(request, answer) if wants_websocket(request.headers) else answer


def _may_create(server: ApiServer, route: Route) -> None:
    """An upgrade by GET needs the same right as one by POST."""
    at = route.attributes
    if at.verb != "create" and not server.authorizer.allowed(at._replace(verb="create")):
        name = f"{at.resource}/{at.subresource}"
        why = f'User "{at.user.name}" cannot create resource "{name}" in API group "" in the namespace "{at.namespace}"'
        raise forbidden(name, at.name, why)


async def admit(server: ApiServer, request: Request, route: Route) -> None:
    """Admission of a connection, before anybody looks whether there is something to connect to. Raises ApiError."""
    dynamic = server.dynamic
    if dynamic.mutating.active or dynamic.validating.active:
        await server.admit(route.attributes, connect_options(request, route), "CONNECT", False, request)


def connect_options(request: Request, route: Route) -> Json:
    """What is asked for, as the object of a CONNECT: PodExecOptions and its like."""
    assert route.sub is not None
    made: Json = {"kind": route.sub.kind, "apiVersion": "v1"}
    if route.sub.name == "proxy":
        path = request.param("path") or ("/" + route.rest if route.rest else "")
        return made | ({"path": path} if path else {})
    if route.sub.name == "portforward":
        ports = [int(p) for word in request.params.get("ports", ()) for p in word.split(",") if p.isdigit()]
        return made | ({"ports": ports} if ports else {})
    made |= {name: True for name in ("stdin", "tty") if request.param(name) in TRUE}
    made |= {"stdout": True, "stderr": True}  # upstream's defaults, whatever the query says
    if container := request.param("container"):
        made["container"] = container
    if route.sub.name == "exec" and (command := request.params.get("command")):
        made["command"] = command
    return made


async def _stream(
    server: ApiServer, request: Request, route: Route, verb: str, options: list[tuple[str, str]]
) -> Response:
    _may_create(server, route)
    at = route.attributes
    await admit(server, request, route)
    pod = await stored(server, "", "pods", at.namespace, at.name)
    path = f"/{verb}/{at.namespace}/{at.name}"
    if verb != "portForward":
        path += "/" + _container(pod, request.param("container"))
    node = pod["spec"].get("nodeName")
    if not node:
        raise bad_request(f"pod {at.name} does not have a host assigned")
    if verb == "exec" and (phase := (pod.get("status") or {}).get("phase")) in ENDED:
        raise bad_request(f"cannot exec into a container in a completed pod; current phase is {phase}")
    target = await node_target(server, node)
    query = urlencode(options)
    answer = await forward(
        target,
        request.method,
        path + (f"?{query}" if query else ""),
        request.headers,
        b"",
        upgrade=bool(request.header("upgrade")),
    )
    if answer.upgrade is None:
        raise await _refusal(answer)
    return answer


def _stream_options(request: Request) -> list[tuple[str, str]]:
    """stdin, stdout, stderr and tty under the node's names."""
    names = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
    return [(theirs, "1") for ours, theirs in names.items() if request.param(ours) in TRUE]


async def execute(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """GET or POST pods/NAME/exec"""
    commands = [("command", word) for word in request.params.get("command", ())]
    return await _stream(server, request, route, "exec", _stream_options(request) + commands)


async def attach(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """GET or POST pods/NAME/attach"""
    return await _stream(server, request, route, "attach", _stream_options(request))


async def port_forward(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """GET or POST pods/NAME/portforward"""
    ports = ",".join(request.params.get("ports", ()))
    return await _stream(server, request, route, "portForward", [("port", ports)] if ports else [])


NODE_SUBRESOURCES: dict[tuple[str, str, str], Sub] = {
    ("", "pods", "log"): log,
    ("", "pods", "exec"): execute,
    ("", "pods", "attach"): attach,
    ("", "pods", "portforward"): port_forward,
}
