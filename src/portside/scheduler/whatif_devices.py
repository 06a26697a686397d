"""Claims for devices in a copy of a cluster: given back by pods that leave, made anew from templates, given to those that come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portside.api.podrefs import resource_claims
from portside.scheduler.devices import Allocation, Devices
from portside.scheduler.pod_info import PodInfo

Json = dict[str, Any]
KINDS = ("ResourceClaim", "ResourceClaimTemplate", "ResourceSlice", "DeviceClass", "DeviceTaintRule")


class ClaimsCopy:
    """``held``: the copy's objects by plural and key. They are replaced, never changed."""

    def __init__(self, held: dict[str, dict[str, Json]], devices: Devices) -> None:
        self.held = held
        self.devices = devices

    def add(self, manifests: Iterable[Json]) -> None:
        """What a file brings along of claims, templates, classes and slices."""
        for body in manifests:
            if (kind := body.get("kind")) not in KINDS:
                continue
            plural = f"{str(kind).lower()}{'es' if str(kind).endswith('s') else 's'}"
            meta = dict(body["metadata"])
            if str(kind).startswith("ResourceClaim"):
                meta.setdefault("namespace", "default")
            key = f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else meta["name"]
            self.held[plural][key] = {**body, "metadata": meta}

    def release(self, pod: PodInfo) -> None:
        """A pod leaves: claims made for it go, of others its name; what nobody uses is free again."""
        claims = self.held["resourceclaims"]
        for name, own in resource_claims(pod.object):
            key = f"{pod.namespace}/{name}"
            claim = claims.get(key)
            if claim is None:
                continue
            if own:
                del claims[key]
                continue
            status = claim.get("status") or {}
            users = [u for u in status.get("reservedFor") or () if u.get("uid") != pod.uid]
            left = {**status, "reservedFor": users} if users else {}
            claims[key] = {**claim, "status": left}

    def renew(self, body: Json) -> Json:
        """A pod as its controller would make it again, with claims made from its templates."""
        meta, made = body["metadata"], []
        for wish in body["spec"].get("resourceClaims") or ():
            template = self.held["resourceclaimtemplates"].get(
                f"{meta['namespace']}/{wish.get('resourceClaimTemplateName')}"
            )
            if template is None:
                continue
            name = f"{meta['name']}-{wish['name']}"
            owner = {"kind": "Pod", "name": meta["name"], "uid": meta.get("uid", ""), "controller": True}
            about = {"name": name, "namespace": meta["namespace"], "ownerReferences": [owner]}
            self.held["resourceclaims"][f"{meta['namespace']}/{name}"] = {
                "metadata": about,
                "spec": template["spec"]["spec"],
            }
            made.append({"name": wish["name"], "resourceClaimName": name})
        return {**body, "status": {**(body.get("status") or {}), "resourceClaimStatuses": made}} if made else body

    def give(self, pod: PodInfo, allocations: list[Allocation]) -> None:
        """A pod got its place: its claims have what was planned, as if the API said so."""
        claims = self.held["resourceclaims"]
        for made in allocations:
            key, claim = made.claim, claims.get(made.claim)
            if made.make is not None:
                name = f"{pod.name}-extended-resources"
                key, claim = (
                    f"{pod.namespace}/{name}",
                    {**made.make, "metadata": {**made.make["metadata"], "name": name}},
                )
                said = {"resourceClaimName": name, "requestMappings": list(made.uses)}
                pod.object = {
                    **pod.object,
                    "status": {**(pod.object.get("status") or {}), "extendedResourceClaimStatus": said},
                }
            if claim is None:
                continue
            status = claim.get("status") or {}
            users = [*(status.get("reservedFor") or ()), {"resource": "pods", "name": pod.name, "uid": pod.uid}]
            given = status.get("allocation") or made.status
            claims[key] = {**claim, "status": {**status, "reservedFor": users, "allocation": given}}
        self.devices.forget(allocations)
