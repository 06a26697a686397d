"""The storage class that a cluster with real nodes starts with: claims get folders on the node of their pod."""

from __future__ import annotations

import json
from typing import Any

from portside.cli.api import Api, Refused
from portside.run.home import Home

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
NAME = "local"
PROVISIONER = "portside.io/local-path"
DEFAULT = "storageclass.kubernetes.io/is-default-class"


def storage_class(path: str, *, default: bool) -> dict[str, Any]:
    """``path``: where the folders are, on every node."""
    meta: dict[str, Any] = {"name": NAME}
    if default:
        meta["annotations"] = {DEFAULT: "true"}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": meta,
        "provisioner": PROVISIONER,
        "parameters": {"path": path},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def ensure_class(home: Home, facts: dict[str, Any], api: Api, *, wanted: bool) -> None:
    """Made once in a cluster's life: who deletes it does not find it again. Simulated nodes have no folders."""
    if facts.get("storage") or facts["simulate"]:
        return
    facts["storage"] = "local" if wanted else "none"
    if wanted:
        held = api.send("GET", CLASSES)["items"]
        taken = any((c["metadata"].get("annotations") or {}).get(DEFAULT) == "true" for c in held)
        try:
            body = storage_class(str(home.root / "volumes"), default=not taken)
            api.send("POST", CLASSES, json.dumps(body).encode())
        except Refused as refused:
            if refused.code != 409:
                raise
    home.save_cluster(facts)
