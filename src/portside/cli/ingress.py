"""Ingress out of the box: asked for by --ingress or by a manifest with an Ingress; HAProxy on the first machine serves it."""

from __future__ import annotations

import json
from typing import Any

from portside.cli.api import Api, Refused
from portside.cli.manifests import Manifest
from portside.run.home import Home, stop

CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
NAME, CONTROLLER = "portside", "portside.io/ingress"
DEFAULT = "ingressclass.kubernetes.io/is-default-class"


def wanted(facts: dict[str, Any], manifests: list[Manifest], *, asked: bool) -> bool:
    """Whether this cluster is to serve Ingresses: once it does, it goes on."""
    if facts.get("simulate"):
        return False
    return bool(facts.get("ingress")) or asked or any(m.body["kind"] == "Ingress" for m in manifests)


def turn_on(home: Home, facts: dict[str, Any]) -> None:
    """Remember it; a node that runs without it is stopped, so that `up` starts it anew (its pods run on)."""
    if facts.get("ingress"):
        return
    facts["ingress"] = True
    home.save_cluster(facts)
    record = home.record("agent")
    if record is not None and record.alive:
        stop(record)


def ensure_class(home: Home, facts: dict[str, Any], api: Api) -> None:
    """The IngressClass, made once in a cluster's life; the default one when there is no other."""
    if not facts.get("ingress") or facts.get("ingress_class"):
        return
    held = api.send("GET", CLASSES)["items"]
    taken = any((c["metadata"].get("annotations") or {}).get(DEFAULT) == "true" for c in held)
    meta: dict[str, Any] = {"name": NAME} | ({} if taken else {"annotations": {DEFAULT: "true"}})
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": meta,
        "spec": {"controller": CONTROLLER},
    }
    try:
        api.send("POST", CLASSES, json.dumps(body).encode())
    except Refused as refused:
        if refused.code != 409:
            raise
    facts["ingress_class"] = NAME
    home.save_cluster(facts)
