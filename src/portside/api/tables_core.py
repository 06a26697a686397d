"""Rows of the core kinds that run no pods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portside.api.tables_format import age, labels, name, since

Json = Mapping[str, Any]
_MODES = (("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP"))
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def only_age(obj: Json, now: float) -> list[Any]:
    return [name(obj), age(obj, now)]


def balancer(status: Json | None) -> str:
    """The addresses of a load balancer."""
    points = (((status or {}).get("loadBalancer")) or {}).get("ingress") or ()
    return ",".join(dict.fromkeys(p.get("ip") or p.get("hostname") or "" for p in points))


def _external(spec: Json, status: Json) -> str:
    type_, ips = spec.get("type") or "ClusterIP", ",".join(spec.get("externalIPs") or ())
    if type_ == "ExternalName":
        return str(spec.get("externalName") or "")
    if type_ == "LoadBalancer":
        shown = [t for t in (balancer(status), ips) if t]
        return ",".join(shown) or "<pending>"
    return ips or "<none>"


def _port(port: Json) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol') or 'TCP'}"


def row_service(obj: Json, now: float) -> list[Any]:
    spec = obj.get("spec") or {}
    ips = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        name(obj),
        spec.get("type") or "ClusterIP",
        ips[0] if ips else "<none>",
        _external(spec, obj.get("status") or {}),
        ",".join(_port(p) for p in spec.get("ports") or ()) or "<none>",
        age(obj, now),
        labels(spec.get("selector")),
    ]


def row_endpoints(obj: Json, now: float) -> list[Any]:
    listed = []
    for subset in obj.get("subsets") or ():
        addresses = [a.get("ip", "") for a in subset.get("addresses") or ()]
        if not subset.get("ports"):
            listed += addresses
        for port in subset.get("ports") or ():
            listed += [f"[{ip}]:{port.get('port')}" if ":" in ip else f"{ip}:{port.get('port')}" for ip in addresses]
    text = ",".join(listed[:3]) + (f" + {len(listed) - 3} more..." if len(listed) > 3 else "")
    return [name(obj), text if obj.get("subsets") else "<none>", age(obj, now)]


def _roles(obj: Json) -> str:
    found = set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        prefix, _, role = key.partition("node-role.kubernetes.io/")
        if not prefix and role:
            found.add(role)
        elif key == "kubernetes.io/role" and value:
            found.add(value)
    return ",".join(sorted(found)) or "<none>"


def row_node(obj: Json, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    state = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if spec.get("unschedulable"):
        state.append("SchedulingDisabled")
    info, found = status.get("nodeInfo") or {}, status.get("addresses") or ()
    addresses = [
        next((a.get("address") for a in found if a.get("type") == t), None) or "<none>"
        for t in ("InternalIP", "ExternalIP")
    ]
    facts = [info.get(f) or "<unknown>" for f in ("osImage", "kernelVersion", "containerRuntimeVersion")]
    version = info.get("kubeletVersion") or ""
    return [name(obj), ",".join(state), _roles(obj), age(obj, now), version, *addresses, *facts]


def row_event(obj: Json, now: float) -> list[Any]:
    target = obj.get("involvedObject") or obj.get("regarding") or {}
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    seen = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or seen
    count, series = obj.get("count") or obj.get("deprecatedCount") or 1, obj.get("series")
    if series:
        last, count = series.get("lastObservedTime"), series.get("count") or 0
    who = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    where = source.get("host") or obj.get("reportingInstance")
    kind = (target.get("kind") or "").lower()
    return [
        since(last, now),
        obj.get("type") or "",
        obj.get("reason") or "",
        f"{kind}/{target['name']}" if target.get("name") else kind,
        target.get("fieldPath") or "",
        f"{who}, {where}" if where else who,
        (obj.get("message") or obj.get("note") or "").strip(),
        since(seen, now),
        count,
        name(obj),
    ]


def row_namespace(obj: Json, now: float) -> list[Any]:
    return [name(obj), (obj.get("status") or {}).get("phase") or "", age(obj, now)]


def row_secret(obj: Json, now: float) -> list[Any]:
    return [name(obj), obj.get("type") or "", len(obj.get("data") or ()), age(obj, now)]


def row_configmap(obj: Json, now: float) -> list[Any]:
    return [name(obj), len(obj.get("data") or ()) + len(obj.get("binaryData") or ()), age(obj, now)]


def _access(modes: Any) -> str:
    return ",".join(short for mode, short in _MODES if mode in (modes or ()))


def _phase(obj: Json) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else (obj.get("status") or {}).get("phase") or ""


def _class(obj: Json) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    if _CLASS_ANNOTATION in annotations:
        return str(annotations[_CLASS_ANNOTATION])
    return str((obj.get("spec") or {}).get("storageClassName") or "")


def row_persistentvolume(obj: Json, now: float) -> list[Any]:
    spec, claim = obj.get("spec") or {}, (obj.get("spec") or {}).get("claimRef")
    return [
        name(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _access(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or "<unset>",
        (obj.get("status") or {}).get("reason") or "",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def row_persistentvolumeclaim(obj: Json, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        _phase(obj),
        spec.get("volumeName") or "",
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        _access(status.get("accessModes")) if bound else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def row_componentstatus(obj: Json, now: float) -> list[Any]:
    healthy: Json = next((c for c in obj.get("conditions") or () if c.get("type") == "Healthy"), {})
    words = {"True": "Healthy", "False": "Unhealthy"}.get(healthy.get("status", ""), "Unknown")
    return [name(obj), words, healthy.get("message") or "", healthy.get("error") or ""]


def row_resourcequota(obj: Json, now: float) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    shown = [(r, f"{r}: {used.get(r, '0')}/{hard[r]}") for r in sorted(hard)]
    requests = ", ".join(text for r, text in shown if not r.startswith("limits"))
    limits = ", ".join(text for r, text in shown if r.startswith("limits"))
    return [name(obj), requests, limits, age(obj, now)]


ROWS = {
    "_age": only_age,
    "ServiceAccount": only_age,
    "Service": row_service,
    "Endpoints": row_endpoints,
    "Node": row_node,
    "Event": row_event,
    "Namespace": row_namespace,
    "Secret": row_secret,
    "ConfigMap": row_configmap,
    "PersistentVolume": row_persistentvolume,
    "PersistentVolumeClaim": row_persistentvolumeclaim,
    "ComponentStatus": row_componentstatus,
    "ResourceQuota": row_resourcequota,
}
