"""A container's environment: variables from everywhere, service variables, and ``$(VAR)`` expansion."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from portside.agent import envfile
from portside.agent.resources import amount, milli, whole

Json = dict[str, Any]


class ConfigProblem(Exception):
    """A reference that can't be resolved: the container waits with CreateContainerConfigError."""


class Objects(Protocol):
    """Where ConfigMaps and Secrets come from; ``None`` when there is none of that name."""

    async def config_map(self, namespace: str, name: str) -> Json | None: ...

    async def secret(self, namespace: str, name: str) -> Json | None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """What fieldRef may say about where the pod runs."""

    node_name: str
    host_ip: str
    pod_ips: tuple[str, ...]
    allocatable: Mapping[str, str]
    host_ips: tuple[str, ...] = ()
    volumes: Mapping[str, Path] = field(default_factory=dict)


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """Replace ``$(NAME)``; ``$$`` is one dollar; what is not known stays as it is."""
    out: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char != "$" or at + 1 >= len(text):
            out.append(char)
            at += 1
            continue
        following = text[at + 1]
        if following == "$":
            out.append("$")
            at += 2
        elif following == "(" and (end := text.find(")", at + 2)) != -1:
            name = text[at + 2 : end]
            value = lookup(name)
            out.append(f"$({name})" if value is None else value)
            at = end + 1
        else:
            out.append(char + (following if following != "(" else ""))
            at += 2 if following != "(" else 1
    return "".join(out)


def field_text(pod: Json, path: str, place: Place) -> str:
    """The text a fieldRef names. Raises ConfigProblem for a path that is none."""
    meta, spec = pod["metadata"], pod["spec"]
    simple = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": place.node_name,
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.hostIP": place.host_ip,
        "status.hostIPs": ",".join(place.host_ips or (place.host_ip,)),
        "status.podIP": place.pod_ips[0] if place.pod_ips else "",
        "status.podIPs": ",".join(place.pod_ips),
    }
    if path in simple:
        return str(simple[path])
    for family in ("annotations", "labels"):
        values = meta.get(family) or {}
        if path == f"metadata.{family}":
            return "\n".join(f"{k}={_quoted(v)}" for k, v in sorted(values.items()))
        start = f"metadata.{family}['"
        if path.startswith(start) and path.endswith("']"):
            return str(values.get(path[len(start) : -2], ""))
    raise ConfigProblem(f"unsupported fieldPath: {path}")


def _quoted(text: str) -> str:
    """As Go's %q prints it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def resource_text(pod: Json, reference: Json, own: Json, place: Place) -> str:
    """The figure a resourceFieldRef names, divided and rounded up; limits fall back to the node's allocatable."""
    spec = pod["spec"]
    name = reference.get("containerName")
    everyone = (*spec["containers"], *spec.get("initContainers", ()))
    container = next((c for c in everyone if c["name"] == name), None) if name else own
    if container is None:
        raise ConfigProblem(f'container "{name}" not found')
    kind, _, resource = reference["resource"].partition(".")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(resource)
    if value is None and kind == "limits" and resource in ("cpu", "memory", "ephemeral-storage"):
        value = place.allocatable.get(resource)
    value = value or "0"
    divisor = amount(reference.get("divisor") or "1") or 1
    if resource == "cpu":
        return str(-(-milli(value) // int(divisor * 1000)))
    return str(-(-whole(value) // max(1, whole(str(divisor)))))


def service_variables(services: Iterable[Json], namespace: str, *, links: bool) -> dict[str, str]:
    """Docker-link style variables of the namespace's services (those of `kubernetes` always)."""
    found: dict[str, str] = {}
    for service in services:
        meta, spec = service["metadata"], service["spec"]
        address = spec.get("clusterIP")
        ports = spec.get("ports") or ()
        if not address or address == "None" or not ports:
            continue
        master = meta["namespace"] == "default" and meta["name"] == "kubernetes"
        if not (master or (links and meta["namespace"] == namespace)):
            continue
        prefix = meta["name"].upper().replace("-", "_")
        found[f"{prefix}_SERVICE_HOST"] = address
        found[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        host = f"[{address}]" if ":" in address else address
        for index, port in enumerate(ports):
            protocol, number = port.get("protocol", "TCP").lower(), str(port["port"])
            if name := port.get("name"):
                found[f"{prefix}_SERVICE_PORT_{name.upper().replace('-', '_')}"] = number
            url = f"{protocol}://{host}:{number}"
            base = f"{prefix}_PORT_{number}_{protocol.upper()}"
            if index == 0:
                found[f"{prefix}_PORT"] = url
            found |= {base: url, f"{base}_PROTO": protocol, f"{base}_PORT": number, f"{base}_ADDR": address}
    return found


async def _from_sources(pod: Json, container: Json, objects: Objects) -> dict[str, str]:
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix", "")
        if reference := source.get("configMapRef"):
            item = await objects.config_map(namespace, reference["name"])
            if item is None and not reference.get("optional"):
                raise ConfigProblem(f'configmap "{reference["name"]}" not found')
            values: dict[str, str] = (item or {}).get("data") or {}
        else:
            reference = source.get("secretRef") or {}
            item = await objects.secret(namespace, reference["name"])
            if item is None and not reference.get("optional"):
                raise ConfigProblem(f'secret "{reference["name"]}" not found')
            data = (item or {}).get("data") or {}
            values = {k: base64.b64decode(v).decode("utf-8", "surrogateescape") for k, v in data.items()}
        found |= {prefix + k: v for k, v in sorted(values.items()) if k and "=" not in k}
    return found


async def _referenced(pod: Json, container: Json, source: Json, objects: Objects, place: Place) -> str | None:
    """The value of a valueFrom; None when an optional one is absent."""
    meta = pod["metadata"]
    namespace = meta["namespace"]
    if reference := source.get("fieldRef"):
        return field_text(pod, reference["fieldPath"], place)
    if reference := source.get("resourceFieldRef"):
        return resource_text(pod, reference, container, place)
    if reference := source.get("configMapKeyRef"):
        item = await objects.config_map(namespace, reference["name"])
        data: dict[str, str] = (item or {}).get("data") or {}
        if reference["key"] in data:
            return data[reference["key"]]
        if reference.get("optional"):
            return None
        if item is None:
            raise ConfigProblem(f'configmap "{reference["name"]}" not found')
        raise ConfigProblem(f"couldn't find key {reference['key']} in ConfigMap {namespace}/{reference['name']}")
    if reference := source.get("secretKeyRef"):
        item = await objects.secret(namespace, reference["name"])
        data = (item or {}).get("data") or {}
        if reference["key"] in data:
            return base64.b64decode(data[reference["key"]]).decode("utf-8", "surrogateescape")
        if reference.get("optional"):
            return None
        if item is None:
            raise ConfigProblem(f'secret "{reference["name"]}" not found')
        raise ConfigProblem(f"couldn't find key {reference['key']} in Secret {namespace}/{reference['name']}")
    if reference := source.get("fileKeyRef"):
        return _from_file(reference, place)
    return None


def _from_file(reference: Json, place: Place) -> str | None:
    """The value in a file of a volume; None when it is optional and absent. An empty one counts as absent, as upstream."""
    volume, path, key = reference["volumeName"], reference["path"], reference["key"]
    if volume not in place.volumes:
        raise ConfigProblem(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    try:
        value = envfile.value_of(envfile.read(place.volumes[volume], path), key)
    except FileNotFoundError:
        if reference.get("optional"):
            return None
        raise ConfigProblem(f'couldn\'t parse env file: "{path}" in volume "{volume}" does not exist') from None
    except envfile.BadEnvFile as problem:
        raise ConfigProblem(f'couldn\'t parse env file: "{path}" in volume "{volume}": {problem}') from problem
    if not value and not reference.get("optional"):
        raise ConfigProblem(f'environment variable key "{key}" not found in file "{path}" of volume "{volume}"')
    return value or None


async def environment(
    pod: Json, container: Json, *, objects: Objects, services: Mapping[str, str], place: Place
) -> dict[str, str]:
    """Every variable of the container in order: services, envFrom, env. Raises ConfigProblem."""
    result = await _from_sources(pod, container, objects)
    for entry in container.get("env") or ():
        name, value = entry["name"], entry.get("value", "")
        if value:
            value = expand(value, lambda n: result.get(n, services.get(n)))
        elif entry.get("valueFrom"):
            referenced = await _referenced(pod, container, entry["valueFrom"], objects, place)
            if referenced is None:
                continue
            value = referenced
        result[name] = value
    return {**{k: v for k, v in services.items() if k not in result}, **result}
