"""Defaults of pods and pod templates (upstream's SetDefaults_PodSpec and relatives), in place, skipping what is absent."""

from __future__ import annotations

from typing import Any

from portside.api import quantity
from portside.api.rules.pod_shape import tidy
from portside.base import gates

Json = dict[str, Any]

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
# Volume source -> fields and their defaults.
_VOLUME: dict[str, Json] = {
    "secret": {"defaultMode": 420},
    "configMap": {"defaultMode": 420},
    "downwardAPI": {"defaultMode": 420},
    "projected": {"defaultMode": 420},
    "iscsi": {"iscsiInterface": "default"},
    "rbd": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "azureDisk": {"cachingMode": "ReadWrite", "kind": "Shared", "fsType": "ext4", "readOnly": False},
    "scaleIO": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "hostPath": {"type": ""},
}
# Fields of features that are off in 1.37's default configuration: a write drops them, its managedFields still tell.
_OFF_SPEC = tuple(
    field
    for field in ("schedulingGroup", "evictionResponders", "workloadRef")
    if field != "schedulingGroup" or not gates.enabled(gates.WORKLOADS)
)
_FILES = frozenset(("configMap", "downwardAPI", "projected", "secret"))
"""Volumes that are files, whose owner may be chosen one day."""
_HANDLERS = frozenset(("livenessProbe", "readinessProbe", "startupProbe"))


def image_tag(image: str) -> str:
    """The tag of an image reference; ``latest`` without tag and digest, empty with a digest alone."""
    name, _, digest = image.partition("@")
    tail = name.rsplit("/", 1)[-1]
    _, colon, tag = tail.partition(":")
    return tag if colon else ("" if digest else "latest")


def _http(action: Json) -> None:
    if not action.get("path"):
        action["path"] = "/"
    if not action.get("scheme"):
        action["scheme"] = "HTTP"
    action.setdefault("port", 0)


def default_probe(probe: Json) -> None:
    for key, value in _PROBE.items():
        if not probe.get(key):
            probe[key] = value
    if probe.get("httpGet") is not None:
        _http(probe["httpGet"])
    if probe.get("tcpSocket") is not None:
        probe["tcpSocket"].setdefault("port", 0)
    if probe.get("grpc") is not None:
        probe["grpc"].setdefault("port", 0)
        if probe["grpc"].get("service") is None:
            probe["grpc"]["service"] = ""


def _default_env(env: list[Json]) -> None:
    for variable in env:
        source = variable.get("valueFrom")
        if not source:
            continue
        if source.get("fieldRef") is not None:
            _default_field_ref(source["fieldRef"])
        if source.get("resourceFieldRef") is not None:
            source["resourceFieldRef"].setdefault("divisor", "0")
        if source.get("fileKeyRef") is not None and source["fileKeyRef"].get("optional") is None:
            source["fileKeyRef"]["optional"] = False


def _default_field_ref(ref: Json) -> None:
    if not ref.get("apiVersion"):
        ref["apiVersion"] = "v1"


def requests_from_limits(resources: Json) -> None:
    """A limit without a request is the request too."""
    limits = resources.get("limits")
    if not limits:
        return
    requests = resources.get("requests")
    if requests is None:
        resources["requests"] = dict(limits)
        return
    for name, value in limits.items():
        if name not in requests:
            requests[name] = value


def _round_quantities(resources: Json) -> None:
    """Upstream rounds container quantities up to a thousandth."""
    for kind in ("limits", "requests"):
        for name, text in (resources.get(kind) or {}).items():
            value = quantity.parse(text)
            if value * 1000 % 1:
                rounded = quantity.parse(f"{quantity.milli(text)}m")
                resources[kind][name] = quantity.format_value(rounded)


def default_container(container: Json) -> None:
    """What every container gets, in pods and templates alike."""
    if not container.get("imagePullPolicy"):
        tag = image_tag(container.get("image") or "")
        container["imagePullPolicy"] = "Always" if tag == "latest" else "IfNotPresent"
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    resources = container.get("resources")
    if resources is None:
        container["resources"] = {}
    elif resources:
        _round_quantities(resources)
    for port in container.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    if "env" in container:
        _default_env(container["env"] or [])
    for key in PROBES:
        probe = container.get(key)
        if probe is not None:
            default_probe(probe)
    lifecycle = container.get("lifecycle")
    if lifecycle is not None:
        for key in ("postStart", "preStop"):
            handler = lifecycle.get(key)
            if handler:
                if handler.get("httpGet") is not None:
                    _http(handler["httpGet"])
                if handler.get("tcpSocket") is not None:
                    handler["tcpSocket"].setdefault("port", 0)
    context = container.get("securityContext")
    if context and context.get("procMount") == "":
        context["procMount"] = "Default"


def _default_downward(items: list[Json] | None) -> None:
    for item in items or ():
        if item.get("fieldRef") is not None:
            _default_field_ref(item["fieldRef"])
        if item.get("resourceFieldRef") is not None:
            item["resourceFieldRef"].setdefault("divisor", "0")


def default_volume(volume: Json) -> None:
    """A volume without a source is an emptyDir."""
    if len(volume) <= 1 and ("name" in volume or not volume):
        volume["emptyDir"] = {}
        return
    for source, values in _VOLUME.items():
        details = volume.get(source)
        if details is not None:
            for key, value in values.items():
                if details.get(key) is None or (details[key] == "" and value):
                    details[key] = value
    if volume.get("downwardAPI") is not None:
        _default_downward(volume["downwardAPI"].get("items"))
    if volume.get("projected") is not None:
        # Not omitted when empty: Go writes null.
        sources = volume["projected"]["sources"] = volume["projected"].get("sources") or None
        for source in sources or ():
            if source.get("downwardAPI") is not None:
                _default_downward(source["downwardAPI"].get("items"))
            token = source.get("serviceAccountToken")
            if token is not None and token.get("expirationSeconds") is None:
                token["expirationSeconds"] = 3600
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template is not None:
        template.setdefault("spec", {}).setdefault("resources", {})
        template.setdefault("metadata", {})
        if template["spec"].get("volumeMode") is None:
            template["spec"]["volumeMode"] = "Filesystem"
    image = volume.get("image")
    if image is not None and not image.get("pullPolicy"):
        image["pullPolicy"] = "Always" if image_tag(image.get("reference") or "") == "latest" else "IfNotPresent"


def default_spec(spec: Json) -> None:
    """Defaults that pods and pod templates share. Also drops what Go would not write."""
    tidy(spec, "PodSpec")
    if "dnsPolicy" not in spec:
        spec["dnsPolicy"] = "ClusterFirst"
    if "restartPolicy" not in spec:
        spec["restartPolicy"] = "Always"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if "schedulerName" not in spec:
        spec["schedulerName"] = "default-scheduler"
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    else:
        spec.pop("serviceAccount", None)
    for container in spec.get("containers") or ():
        default_container(container)
    if "initContainers" in spec:
        for container in spec["initContainers"]:
            default_container(container)
    if "ephemeralContainers" in spec:
        for container in spec["ephemeralContainers"]:
            default_container(container)
    if "volumes" in spec:
        for volume in spec["volumes"]:
            default_volume(volume)
    for constraint in spec.get("topologySpreadConstraints") or ():
        tidy_selector(constraint, "labelSelector")
    if spec.get("overhead"):
        _round_quantities({"limits": spec["overhead"]})


def drop_switched_off(spec: Json) -> None:
    """Takes out the fields of features that are off; a lifecycle that had nothing else goes too."""
    for key in _OFF_SPEC:
        if key in spec:
            del spec[key]
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            _drop_of_container(container)
    for volume in spec.get("volumes") or ():
        for kind in _FILES.intersection(volume):
            _drop_users(volume[kind] or {})
        if volume.get("emptyDir"):
            volume["emptyDir"].pop("mode", None)


def _drop_of_container(container: Json) -> None:
    for mount in container.get("volumeMounts") or ():
        mount.pop("bindMountOptions", None)
    for handler in _HANDLERS.intersection(container):
        action = container[handler] or {}
        for kind, key in (("httpGet", "protocol"), ("grpc", "mode")):
            (action.get(kind) or {}).pop(key, None)
    lifecycle = container.get("lifecycle")
    if lifecycle and "stopSignal" in lifecycle:
        del lifecycle["stopSignal"]
        if not lifecycle:
            del container["lifecycle"]


def drop_switched_off_job(spec: Json) -> None:
    """The same for the spec of a Job."""
    spec.pop("scheduling", None)
    drop_switched_off(spec["template"]["spec"])


def _drop_users(source: Json) -> None:
    source.pop("defaultUser", None)
    for part in (source, *(part for one in source.get("sources") or () for part in one.values() if part)):
        part.pop("user", None)
        for item in part.get("items") or ():
            item.pop("user", None)


def tidy_selector(owner: Json, key: str) -> None:
    """Drops the empty parts of a label selector."""
    selector = owner.get(key)
    if selector:
        for part in ("matchLabels", "matchExpressions"):
            if part in selector and not selector[part]:
                del selector[part]
        for expression in selector.get("matchExpressions") or ():
            if "values" in expression and not expression["values"]:
                del expression["values"]


def tidy_metadata(meta: Json) -> None:
    """Drops empty metadata fields that Go leaves out."""
    for key in [k for k, v in meta.items() if not v and k not in ("creationTimestamp", "deletionGracePeriodSeconds")]:
        del meta[key]


def default_template(template: Json) -> None:
    """A pod template's defaults: metadata's emptiness and the shared spec."""
    tidy_metadata(template.setdefault("metadata", {}))
    template["metadata"].pop("creationTimestamp", None)
    default_spec(template.setdefault("spec", {}))


def _host_ports(containers: list[Json]) -> None:
    for container in containers:
        for port in container.get("ports") or ():
            if not port.get("hostPort"):
                port["hostPort"] = port.get("containerPort") or 0


def default_pod(pod: Json) -> None:
    """Everything a stored pod has by default, except what admission adds."""
    spec = pod.get("spec")
    if spec is None:
        spec = pod["spec"] = {}
    default_spec(spec)
    containers = spec.get("containers") or []
    for container in containers:
        requests_from_limits(container["resources"])
    for container in spec.get("initContainers") or ():
        requests_from_limits(container["resources"])
    if spec.get("resources"):
        _pod_requests(spec)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        _host_ports(containers)
        _host_ports(spec.get("initContainers") or [])
    if spec.get("nodeSelector") == {}:
        del spec["nodeSelector"]


def _pod_requests(spec: Json) -> None:
    """Pod-level requests: what containers request together, else the pod's limit (kinds that pods may share)."""
    from portside.api.rules.pod_resources import aggregate

    resources = spec["resources"]
    limits = resources.get("limits") or {}
    if not limits:
        return
    requests = dict(resources.get("requests") or {})
    shared = aggregate(spec, "requests")
    for name in limits:
        if name in requests:
            continue
        if name in shared and not name.startswith("hugepages-"):
            requests[name] = shared[name]
        else:
            requests[name] = limits[name]
    resources["requests"] = requests
