"""Rows of the kinds of the other groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portside.api.selector import format_object
from portside.api.tables_core import balancer, only_age
from portside.api.tables_format import age, human, labels, name, since, some

Json = Mapping[str, Any]
Row = Callable[[Json, float], list[Any]]


def _spec(obj: Json) -> Json:
    return obj.get("spec") or {}


def row_ingress(obj: Json, now: float) -> list[Any]:
    spec = _spec(obj)
    hosts = [r["host"] for r in spec.get("rules") or () if r.get("host")]
    return [
        name(obj),
        spec.get("ingressClassName") or "<none>",
        some(hosts) if hosts else "*",
        balancer(obj.get("status")),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def row_ingressclass(obj: Json, now: float) -> list[Any]:
    p = _spec(obj).get("parameters")
    group = f".{p['apiGroup']}" if p and p.get("apiGroup") else ""
    text = f"{p.get('kind')}{group}/{p.get('name')}" if p else "<none>"
    annotations = obj["metadata"].get("annotations") or {}
    default = " (default)" if annotations.get("ingressclass.kubernetes.io/is-default-class") == "true" else ""
    return [name(obj) + default, _spec(obj).get("controller") or "", text, age(obj, now)]


def row_networkpolicy(obj: Json, now: float) -> list[Any]:
    return [name(obj), format_object(_spec(obj).get("podSelector") or {}), age(obj, now)]


def row_ipaddress(obj: Json, now: float) -> list[Any]:
    p = _spec(obj).get("parentRef") or {}
    resource = ".".join(t for t in (p.get("resource"), p.get("group")) if t)
    # Upstream sends the age although there is no column for it.
    return [name(obj), "/".join(t for t in (resource, p.get("namespace"), p.get("name")) if t), age(obj, now)]


def row_servicecidr(obj: Json, now: float) -> list[Any]:
    return [name(obj), ",".join(_spec(obj).get("cidrs") or ()), age(obj, now)]


def row_endpointslice(obj: Json, now: float) -> list[Any]:
    ports = ["*" if p.get("port") is None else str(p["port"]) for p in obj.get("ports") or ()]
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    return [
        name(obj),
        obj.get("addressType") or "",
        some(ports) if ports else "<unset>",
        some(addresses) if addresses else "<unset>",
        age(obj, now),
    ]


def row_binding(obj: Json, now: float) -> list[Any]:
    found: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for s in obj.get("subjects") or ():
        text = f"{s.get('namespace', '')}/{s.get('name')}" if s.get("kind") == "ServiceAccount" else s.get("name", "")
        found.setdefault(s.get("kind", ""), []).append(text)
    role = obj.get("roleRef") or {}
    listed = [", ".join(found[k]) for k in ("User", "Group", "ServiceAccount")]
    return [name(obj), f"{role.get('kind', '')}/{role.get('name', '')}", age(obj, now), *listed]


def _true(obj: Json) -> set[str]:
    return {
        c.get("type") for c in (obj.get("status") or {}).get("conditions") or () if c.get("status", "True") == "True"
    }


def row_certificatesigningrequest(obj: Json, now: float) -> list[Any]:
    spec, found = _spec(obj), {c.get("type") for c in (obj.get("status") or {}).get("conditions") or ()}
    text = "Denied" if "Denied" in found else "Approved" if "Approved" in found else "Pending"
    text += ",Failed" if "Failed" in found else ""
    text += ",Issued" if (obj.get("status") or {}).get("certificate") else ""
    lasts = spec.get("expirationSeconds")
    return [
        name(obj),
        age(obj, now),
        spec.get("signerName") or "<none>",
        spec.get("username") or "",
        "<none>" if lasts is None else human(lasts),
        text,
    ]


def row_clustertrustbundle(obj: Json, now: float) -> list[Any]:
    return [name(obj), _spec(obj).get("signerName") or "<none>"]


def row_podcertificaterequest(obj: Json, now: float) -> list[Any]:
    spec, found = _spec(obj), _true(obj)
    state = next((s for s in ("Issued", "Denied", "Failed") if s in found), "Pending")
    fields = [spec.get(f) or "" for f in ("podName", "serviceAccountName", "nodeName", "signerName")]
    return [name(obj), *fields, state, labels(spec.get("unverifiedUserAnnotations"))]


def row_lease(obj: Json, now: float) -> list[Any]:
    return [name(obj), _spec(obj).get("holderIdentity") or "", age(obj, now)]


def row_storageclass(obj: Json, now: float) -> list[Any]:
    return [
        name(obj),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def row_volumeattributesclass(obj: Json, now: float) -> list[Any]:
    return [name(obj), obj.get("driverName") or "", age(obj, now)]


def row_volumeattachment(obj: Json, now: float) -> list[Any]:
    spec = _spec(obj)
    volume = (spec.get("source") or {}).get("persistentVolumeName") or ""
    attached = bool((obj.get("status") or {}).get("attached"))
    return [name(obj), spec.get("attacher") or "", volume, spec.get("nodeName") or "", attached, age(obj, now)]


def row_csidriver(obj: Json, now: float) -> list[Any]:
    spec = _spec(obj)
    tokens = spec.get("tokenRequests")
    return [
        name(obj),
        spec.get("attachRequired", True),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        ",".join(t.get("audience") or "" for t in tokens) if tokens else "<unset>",
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or "<none>",
        age(obj, now),
    ]


def row_csinode(obj: Json, now: float) -> list[Any]:
    return [name(obj), len(_spec(obj).get("drivers") or ()), age(obj, now)]


def row_priorityclass(obj: Json, now: float) -> list[Any]:
    policy = obj.get("preemptionPolicy") or "PreemptLowerPriority"
    return [name(obj), obj.get("value") or 0, bool(obj.get("globalDefault")), age(obj, now), policy]


def row_runtimeclass(obj: Json, now: float) -> list[Any]:
    return [name(obj), obj.get("handler") or "", age(obj, now)]


def row_flowschema(obj: Json, now: float) -> list[Any]:
    spec = _spec(obj)
    missing = next(
        (c.get("status") for c in (obj.get("status") or {}).get("conditions") or () if c.get("type") == "Dangling"), "?"
    )
    return [
        name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or "<none>",
        age(obj, now),
        missing,
    ]


def row_prioritylevelconfiguration(obj: Json, now: float) -> list[Any]:
    spec = _spec(obj)
    limited = spec.get("limited") or {}
    queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
    queues = [queuing.get(f, "<none>") for f in ("queues", "handSize", "queueLengthLimit")]
    shares = limited.get("nominalConcurrencyShares", "<none>")
    return [name(obj), spec.get("type") or "", shares, *queues, age(obj, now)]


def row_webhooks(obj: Json, now: float) -> list[Any]:
    return [name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def row_policy(obj: Json, now: float) -> list[Any]:
    spec, kind = _spec(obj), _spec(obj).get("paramKind")
    count = len(spec.get("validations") or spec.get("mutations") or ())
    return [name(obj), count, f"{kind.get('apiVersion')}/{kind.get('kind')}" if kind else "<unset>", age(obj, now)]


def row_policybinding(obj: Json, now: float) -> list[Any]:
    spec, ref = _spec(obj), _spec(obj).get("paramRef")
    text = "<unset>"
    if ref:
        text = ref.get("name") or format_object(ref.get("selector"))
        text = f"{ref['namespace']}/{text}" if ref.get("namespace") else text
    return [name(obj), spec.get("policyName") or "", text, age(obj, now)]


def row_resourceclaim(obj: Json, now: float) -> list[Any]:
    status = obj.get("status") or {}
    states = ["deleted"] if obj["metadata"].get("deletionTimestamp") else []
    states += ["allocated"] if status.get("allocation") else []
    states += ["reserved"] if status.get("reservedFor") else []
    return [name(obj), ",".join(states) or "pending", age(obj, now)]


def row_resourceslice(obj: Json, now: float) -> list[Any]:
    spec = _spec(obj)
    pool = (spec.get("pool") or {}).get("name") or ""
    return [name(obj), spec.get("nodeName") or "", spec.get("driver") or "", pool, age(obj, now)]


def row_devicetaintrule(obj: Json, now: float) -> list[Any]:
    taint = _spec(obj).get("taint") or {}
    added = since(taint["timeAdded"], now) if taint.get("timeAdded") else ""
    told = [taint.get(field) or "" for field in ("key", "value", "effect")]
    return [name(obj), *told, added, age(obj, now)]


def row_storageversionmigration(obj: Json, now: float) -> list[Any]:
    resource = _spec(obj).get("resource") or {}
    state = "Unknown"
    for c in (obj.get("status") or {}).get("conditions") or ():
        if c.get("status") == "True" and c.get("type") in ("Running", "Failed", "Succeeded"):
            state = c["type"]
    return [name(obj), ".".join(t for t in (resource.get("resource"), resource.get("group")) if t), state]


def row_customresourcedefinition(obj: Json, now: float) -> list[Any]:
    spec = _spec(obj)
    names = spec.get("names") or {}
    served = [v for v in spec.get("versions") or () if v.get("served")]
    versions = sorted(v["name"] + ("(storage)" if v.get("storage") else "") for v in served)
    conditions = (obj.get("status") or {}).get("conditions") or ()
    established = any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)
    made = obj["metadata"].get("creationTimestamp")
    short = ",".join(names.get("shortNames") or ())
    scope, group, kind = spec.get("scope") or "", spec.get("group") or "", names.get("kind") or ""
    return [name(obj), scope, ",".join(versions), made, group, kind, short, established]


def row_apiservice(obj: Json, now: float) -> list[Any]:
    service = _spec(obj).get("service")
    where = f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"
    state = "Unknown"
    for c in (obj.get("status") or {}).get("conditions") or ():
        if c.get("type") == "Available":
            state = c.get("status") or ""
            state += f" ({c.get('reason') or ''})" if state != "True" else ""
    return [name(obj), where, state, age(obj, now)]


ROWS: dict[str, Row] = {
    "_age": only_age,
    "Ingress": row_ingress,
    "IngressClass": row_ingressclass,
    "NetworkPolicy": row_networkpolicy,
    "IPAddress": row_ipaddress,
    "ServiceCIDR": row_servicecidr,
    "EndpointSlice": row_endpointslice,
    "RoleBinding": row_binding,
    "ClusterRoleBinding": row_binding,
    "CertificateSigningRequest": row_certificatesigningrequest,
    "ClusterTrustBundle": row_clustertrustbundle,
    "PodCertificateRequest": row_podcertificaterequest,
    "Lease": row_lease,
    "StorageClass": row_storageclass,
    "VolumeAttributesClass": row_volumeattributesclass,
    "VolumeAttachment": row_volumeattachment,
    "CSIDriver": row_csidriver,
    "CSINode": row_csinode,
    "PriorityClass": row_priorityclass,
    "RuntimeClass": row_runtimeclass,
    "FlowSchema": row_flowschema,
    "PriorityLevelConfiguration": row_prioritylevelconfiguration,
    "MutatingWebhookConfiguration": row_webhooks,
    "ValidatingWebhookConfiguration": row_webhooks,
    "ValidatingAdmissionPolicy": row_policy,
    "MutatingAdmissionPolicy": row_policy,
    "ValidatingAdmissionPolicyBinding": row_policybinding,
    "MutatingAdmissionPolicyBinding": row_policybinding,
    "ResourceClaim": row_resourceclaim,
    "ResourceSlice": row_resourceslice,
    "DeviceTaintRule": row_devicetaintrule,
    "StorageVersionMigration": row_storageversionmigration,
    "CustomResourceDefinition": row_customresourcedefinition,
    "APIService": row_apiservice,
}
