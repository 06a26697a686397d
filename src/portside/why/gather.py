"""Reads what the causes need, over a function that reads one path of the API: the edge of this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from portside.why.causes import causes_of, subjects
from portside.why.finding import condition
from portside.why.pods import references, unstarted
from portside.why.reach import below, reachable
from portside.why.world import BUILT_IN, World

Json = dict[str, Any]
PAGE = 500
MAX_OBJECTS = 10_000  # of one kind
MAX_NAMED = 200  # ConfigMaps and Secrets that are asked for one by one
MAX_REMAINING = 5  # kinds that are looked through for what keeps a namespace from ending
REMAINING = re.compile(r"([a-z0-9-]+)\.([a-z0-9.-]*) has \d+ resource instances")
MAX_DEFINITIONS = 100  # custom kinds that are looked through for a whole cluster


class Unreadable(Exception):
    """The API refused a read. ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


Read = Callable[[str], Json]


class Gathering:
    """What was read so far. ``namespace`` is None for all."""

    def __init__(self, read: Read, namespace: str | None, now: float) -> None:
        self._read = read
        self.namespace = namespace
        self.now = now
        self.objects: dict[str, list[Json]] = {}
        self.named: dict[tuple[str, str, str], Json | None] = {}
        self.unread: dict[str, str] = {}
        self.partial: list[str] = []

    def world(self) -> World:
        return World(self.objects, now=self.now, named=self.named, unread=self.unread, partial=self.partial)

    def list(self, plural: str) -> None:
        """All of a built-in kind, page by page up to MAX_OBJECTS. A kind that the cluster does not serve is left out."""
        kind = BUILT_IN[plural]
        root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
        space = f"/namespaces/{self.namespace}" if kind.namespaced and self.namespace else ""
        self.pages(plural, f"{root}{space}/{plural}", kind.api_version, kind.kind)

    def pages(self, plural: str, path: str, api_version: str, kind: str) -> None:
        found: list[Json] = []
        token = ""
        try:
            while True:
                page = self._read(f"{path}?limit={PAGE}" + (f"&continue={quote(token, safe='')}" if token else ""))
                for item in page.get("items") or ():
                    item.pop("data", None)  # no cause looks at values, and those of Secrets are nobody's business
                    found.append({**item, "apiVersion": api_version, "kind": kind or item["kind"]})
                token = (page.get("metadata") or {}).get("continue") or ""
                if not token:
                    break
                if len(found) >= MAX_OBJECTS:
                    self.partial.append(plural)
                    break
        except Unreadable as refused:
            if refused.code in (404, 405):
                return
            if refused.code != 410 or not found:  # 410: the pages went out of date; what there is counts as a part
                self.unread[plural] = str(refused)
                return
            self.partial.append(plural)
        self.objects[plural] = found

    def customs(self, spec: Json) -> None:
        """All of a kind that a CustomResourceDefinition made."""
        version = next((v["name"] for v in spec["versions"] if v.get("served")), None)
        namespaced = spec["scope"] == "Namespaced"
        if version is None or (self.namespace and not namespaced):
            return
        api, names = f"{spec['group']}/{version}", spec["names"]
        space = f"/namespaces/{self.namespace}" if self.namespace else ""
        self.pages(f"{names['kind']}.{spec['group']}", f"/apis/{api}{space}/{names['plural']}", api, names["kind"])

    def remains(self, namespace: Json) -> None:
        """What keeps a namespace from ending, of the kinds that its own condition names. They stand apart from what is
        read whole, for they are a part."""
        message = str(condition(namespace, "NamespaceContentRemaining").get("message", ""))
        for plural, group in REMAINING.findall(message)[:MAX_REMAINING]:
            built_in = BUILT_IN.get(plural)
            kind = built_in.kind if built_in is not None and built_in.group == group else ""
            if kind and plural in self.objects:
                continue
            try:
                version = self._read(f"/apis/{group}")["preferredVersion"]["groupVersion"] if group else "v1"
            except Unreadable as refused:
                self.unread[f"{plural}.{group}"] = str(refused)
                continue
            root = f"/apis/{version}" if group else "/api/v1"
            path = f"{root}/namespaces/{namespace['metadata']['name']}/{plural}"
            self.pages(f"left.{plural}.{group}.{namespace['metadata']['name']}", path, version, kind)

    def itself(self, name: str) -> None:
        """The namespace. Raises Unreadable when there is none."""
        try:
            found = self._read(f"/api/v1/namespaces/{quote(name, safe='')}")
        except Unreadable as refused:
            if refused.code == 404:
                raise
            self.unread["namespaces"] = str(refused)
            return
        self.objects["namespaces"] = [found]

    def name(self, plural: str, name: str, namespace: str) -> None:
        """One ConfigMap or Secret, without its values."""
        key = (plural, namespace, name)
        if key in self.named or plural in self.unread or plural in self.partial:
            return
        if len(self.named) >= MAX_NAMED:
            self.partial.append(plural)
            return
        try:
            found = self._read(f"/api/v1/namespaces/{namespace}/{plural}/{quote(name, safe='')}")
        except Unreadable as refused:
            if refused.code == 404:
                self.named[key] = None
            else:
                self.unread[plural] = str(refused)
            return
        for field in ("data", "binaryData", "stringData"):
            found[field] = dict.fromkeys(found.get(field) or (), "")
        self.named[key] = found

    def names_of(self, objects: Iterable[Json]) -> None:
        """What pods that wait, and Ingresses, refer to."""
        for obj in objects:
            namespace = obj["metadata"].get("namespace", "")
            if obj["kind"] == "Pod" and unstarted(obj):
                for ref in references(obj):
                    self.name(ref.plural, ref.name, namespace)
                for secret in obj["spec"].get("imagePullSecrets") or ():
                    if secret.get("name"):
                        self.name("secrets", secret["name"], namespace)
            elif obj["kind"] == "Ingress":
                for entry in obj["spec"].get("tls") or ():
                    if entry.get("secretName"):
                        self.name("secrets", entry["secretName"], namespace)


ONE_BY_ONE = ("configmaps", "secrets")
# Kinds without a namespace that are read for one too, because what is in it depends on them.
BACKGROUND = ("customresourcedefinitions", "ingressclasses", "nodes", "persistentvolumes", "storageclasses")


def needed(plurals: Iterable[str]) -> list[str]:
    """The kinds to list so that every cause of these can be asked."""
    plurals = list(plurals)
    wanted = {p for p in plurals if p in BUILT_IN}
    wanted |= {need for plural in plurals for cause in causes_of(plural) for need in cause.needs}
    return sorted({*wanted, "events"} - {*ONE_BY_ONE})


def about(read: Read, start: Json, plural: str, now: float) -> tuple[World, Json]:
    """The world around one object, and the object as it stands there."""
    gathering = Gathering(read, start["metadata"].get("namespace"), now)
    for kind in needed(reachable(plural)):
        gathering.list(kind)
    meta = start["metadata"]
    same = [o for o in gathering.objects.get(plural, ()) if o["metadata"].get("uid") == meta.get("uid")]
    if not same:
        gathering.objects.setdefault(plural, []).append(start)
    held = same[0] if same else start
    if plural == "namespaces":
        gathering.remains(held)
    gathering.names_of([held, *below(gathering.world(), held)])
    return gathering.world(), held


def everything(read: Read, namespace: str | None, now: float) -> World:
    """All kinds that have causes, custom ones included; with a namespace only what is in it, and the namespace itself.
    Raises Unreadable 404 when there is no such namespace."""
    gathering = Gathering(read, namespace, now)
    for kind in needed(subjects()):
        if namespace is None or BUILT_IN[kind].namespaced or kind in BACKGROUND:
            gathering.list(kind)
    if namespace is not None:
        gathering.itself(namespace)
    for held in gathering.objects.get("namespaces", ()):
        if held["metadata"].get("deletionTimestamp"):
            gathering.remains(held)
    definitions = gathering.objects.get("customresourcedefinitions", [])
    for definition in definitions[:MAX_DEFINITIONS]:
        gathering.customs(definition["spec"])
    if len(definitions) > MAX_DEFINITIONS:
        gathering.partial.append("custom resources")
    for plural in ("pods", "ingresses"):
        gathering.names_of(gathering.objects.get(plural, ()))
    return gathering.world()
