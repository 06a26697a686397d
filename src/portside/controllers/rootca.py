"""Publishes the cluster's CA certificate into every namespace, as the ConfigMap kube-root-ca.crt."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.namespaces import NAMESPACES, active, namespace_of
from portside.controllers.plan import NOTHING, Plan, create, update

CONFIGMAPS: Resource = ("", "v1", "configmaps")
NAME = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
TEXT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


def controller(ca: str) -> Controller:
    """The publisher of this CA certificate (PEM)."""

    def plan(view: View, key: str, now: float) -> Plan:
        if not active(view.get(NAMESPACES, "", key)):
            return NOTHING
        held = view.get(CONFIGMAPS, key, NAME)
        data = {"ca.crt": ca}
        if held is None:
            meta: Json = {"name": NAME, "namespace": key, "annotations": {DESCRIPTION: TEXT}}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
            return Plan([create(CONFIGMAPS, body, ignore=frozenset({409}))])
        annotations = held["metadata"].get("annotations") or {}
        if held.get("data") == data and annotations.get(DESCRIPTION):
            return NOTHING
        meta = {**held["metadata"], "annotations": {DESCRIPTION: TEXT, **annotations}}
        return Plan([update(CONFIGMAPS, {**held, "metadata": meta, "data": data})])

    return Controller("root-ca-certificate-publisher", NAMESPACES, plan, watches={CONFIGMAPS: _own}, workers=2)


def _own(view: View, obj: Json) -> Iterable[str]:
    return namespace_of(view, obj) if obj["metadata"]["name"] == NAME else ()
