"""Publishes the authority of the API's serving certificates as a ClusterTrustBundle; bundles of earlier authorities go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import Plan, Step, create, delete, update

BUNDLES: Resource = ("certificates.k8s.io", "v1", "clustertrustbundles")
NAMESPACES: Resource = ("", "v1", "namespaces")
SIGNER = "kubernetes.io/kube-apiserver-serving"
_ANCHOR = "kube-system"  # one key to plan for: the bundle is the cluster's


def bundle_name(ca: str) -> str:
    """The signer's prefix and the start of the bundle's hash."""
    return f"{SIGNER.replace('/', ':')}:{hashlib.sha256(ca.encode()).hexdigest()[:24]}"


def controller(ca: str) -> Controller:
    """The publisher of this authority (PEM)."""
    name = bundle_name(ca)

    def plan(view: View, key: str, now: float) -> Plan:
        if key != _ANCHOR:
            return Plan()
        spec = {"signerName": SIGNER, "trustBundle": ca}
        steps: list[Step] = []
        held = view.get(BUNDLES, "", name)
        if held is None:
            body = {"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle", "metadata": {"name": name}}
            steps.append(create(BUNDLES, {**body, "spec": spec}, ignore=frozenset({409})))
        elif held.get("spec") != spec:
            steps.append(update(BUNDLES, {**held, "spec": spec}))
        for other in view.all(BUNDLES):
            if other["spec"].get("signerName") == SIGNER and other["metadata"]["name"] != name:
                steps.append(delete(BUNDLES, other))
        return Plan(steps)

    return Controller(
        "kube-apiserver-serving-clustertrustbundle-publisher-controller",
        NAMESPACES,
        plan,
        watches={BUNDLES: _own},
        workers=1,
    )


def _own(view: View, obj: Json) -> Iterable[str]:
    return (_ANCHOR,) if obj["spec"].get("signerName") == SIGNER else ()
