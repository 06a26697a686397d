"""Discovery documents, made once from the table of kinds: aggregated (v2) and the older lists of groups and resources.

Order: core first at /api; at /apis the groups in upstream's rank order, then the groups of custom resources.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from portside.api.customkind import CustomKind
from portside.api.kinds import Kind, Sub

Json = dict[str, Any]
AGGREGATED = "apidiscovery.k8s.io/v2"
# Served versions of a group, preferred first, where the table of kinds lists them in another order.
PREFERRED = {"autoscaling": ("v2", "v1")}


# Kinds that upstream keeps in another version than the served one; clients see it in the hash alone.
KEPT_AS: dict[tuple[str, str], tuple[str, str]] = {
    ("events.k8s.io", "Event"): ("", "v1"),
    ("autoscaling", "HorizontalPodAutoscaler"): ("autoscaling", "v2"),
    ("certificates.k8s.io", "ClusterTrustBundle"): ("certificates.k8s.io", "v1beta1"),
    ("certificates.k8s.io", "PodCertificateRequest"): ("certificates.k8s.io", "v1beta1"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): ("apiextensions.k8s.io", "v1beta1"),
    ("resource.k8s.io", "DeviceTaintRule"): ("resource.k8s.io", "v1beta2"),
    ("storagemigration.k8s.io", "StorageVersionMigration"): ("storagemigration.k8s.io", "v1beta1"),
}


def storage_hash(kind: Kind) -> str:
    """The storage version's hash: a stable text per storage kind."""
    import base64

    group, version = KEPT_AS.get((kind.group, kind.kind), (kind.group, kind.version))
    digest = hashlib.sha256(f"{group}/{version}/{kind.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _kind_ref(group: str, version: str, kind: str) -> Json:
    return {"group": group, "version": version, "kind": kind}


def _sub_entry(kind: Kind, sub: Sub) -> Json:
    entry: Json = {"subresource": sub.name}
    # Empty group and version: those of the document around it.
    entry["responseKind"] = _kind_ref(sub.group, sub.version, sub.kind)
    entry["verbs"] = list(sub.verbs)
    return entry


def _resource_entry(kind: Kind) -> Json:
    entry: Json = {
        "resource": kind.plural,
        "responseKind": _kind_ref("", "", kind.kind),
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short:
        entry["shortNames"] = list(kind.short)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subs:
        entry["subresources"] = [_sub_entry(kind, s) for s in kind.subs]
    return entry


def _legacy_entries(kind: Kind) -> Iterable[Json]:
    entry: Json = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short:
        entry["shortNames"] = list(kind.short)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    kept = not isinstance(kind, CustomKind) or kind.storage
    if "list" in kind.verbs and "create" in kind.verbs and kept:
        entry["storageVersionHash"] = storage_hash(kind)
    yield entry
    for sub in kind.subs:
        below: Json = {"name": f"{kind.plural}/{sub.name}", "singularName": "", "namespaced": kind.namespaced}
        if sub.version:
            below |= {"group": sub.group, "version": sub.version}
        below |= {"kind": sub.kind, "verbs": list(sub.verbs)}
        yield below


class Discovery:
    """All documents for one table of kinds; make a new one when the table changes."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._groups: dict[str, dict[str, list[Kind]]] = {}
        for kind in kinds:
            self._groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
        self._made: dict[str, bytes] = {}

    def groups(self) -> list[str]:
        """Groups but core, in order."""
        return [g for g in self._groups if g]

    def versions(self, group: str) -> list[str]:
        found = list(self._groups[group])
        return [v for v in PREFERRED.get(group, ()) if v in found] or found

    def has(self, group: str, version: str | None = None) -> bool:
        return group in self._groups and (version is None or version in self._groups[group])

    def aggregated(self, core: bool) -> bytes:
        """APIGroupDiscoveryList of /api or /apis."""
        made = self._made.get("core" if core else "groups")
        if made is None:
            items = [self._group_entry(g) for g in ([""] if core else self.groups())]
            body = {"kind": "APIGroupDiscoveryList", "apiVersion": AGGREGATED, "metadata": {}, "items": items}
            made = self._made["core" if core else "groups"] = orjson.dumps(body)
        return made

    def etag(self, core: bool) -> str:
        return '"' + hashlib.sha512(self.aggregated(core)).hexdigest().upper() + '"'

    def _group_entry(self, group: str) -> Json:
        versions = [
            {
                "version": version,
                "resources": [_resource_entry(k) for k in sorted(self._groups[group][version], key=lambda k: k.plural)],
                "freshness": "Current",
            }
            for version in self.versions(group)
        ]
        meta: Json = {"name": group} if group else {}
        return {"metadata": meta, "versions": versions}

    def api_versions(self, address: str) -> Json:
        """APIVersions of /api."""
        return {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }

    def group(self, group: str) -> Json:
        """APIGroup of /apis/GROUP."""
        listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in self.versions(group)]
        return {
            "kind": "APIGroup",
            "apiVersion": "v1",
            "name": group,
            "versions": listed,
            "preferredVersion": dict(listed[0]),
        }

    def group_list(self) -> Json:
        """APIGroupList of /apis."""
        groups = []
        for name in self.groups():
            entry = self.group(name)
            groups.append({k: v for k, v in entry.items() if k not in ("kind", "apiVersion")})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def resources(self, group: str, version: str) -> Json:
        """APIResourceList of a group version."""
        kinds = sorted(self._groups[group][version], key=lambda k: k.plural)
        entries = sorted((e for k in kinds for e in _legacy_entries(k)), key=lambda e: str(e["name"]))
        head: Json = {"kind": "APIResourceList"}
        if group:
            head["apiVersion"] = "v1"
        return head | {"groupVersion": f"{group}/{version}" if group else version, "resources": entries}
