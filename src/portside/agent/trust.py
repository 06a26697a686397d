"""ClusterTrustBundles for projected volumes: one by name, or all of a signer that a selector takes, joined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from portside.api.selector import from_object
from portside.client.informer import Informer
from portside.client.protocol import Client, Resource

Json = dict[str, Any]
BUNDLES: Resource = ("certificates.k8s.io", "v1", "clustertrustbundles")
PATIENCE = 10.0  # seconds for the first list
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class NoBundle(Exception):
    """What a source asks for is not there."""


def joined(bundles: Iterable[Json]) -> bytes:
    """The certificates of all bundles, each once, in an order that says nothing."""
    found: set[str] = set()
    for bundle in bundles:
        for part in str(bundle["spec"].get("trustBundle") or "").split(BEGIN)[1:]:
            body = "".join(part.partition(END)[0].split())
            lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
            found.add(f"{BEGIN}\n{lines}\n{END}\n")
    return "".join(sorted(found)).encode()


def chosen(bundles: Iterable[Json], source: Json) -> list[Json]:
    """The bundles of a projected source. Raises NoBundle with the kubelet's words unless it is optional."""
    if name := source.get("name"):
        found = [b for b in bundles if b["metadata"]["name"] == name]
        problem = f'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "{name}" not found'
    else:
        selector = from_object(source.get("labelSelector"))
        found = [
            b
            for b in bundles
            if b["spec"].get("signerName") == source.get("signerName")
            and selector.matches(b["metadata"].get("labels") or {})
        ]
        problem = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    if not found and not source.get("optional"):
        raise NoBundle(problem)
    return found


class TrustBundles:
    """The cluster's bundles, watched from the first pod on that asks for one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informer: Informer | None = None
        self._task: asyncio.Task[None] | None = None
        self._followers: dict[str, Callable[[], None]] = {}

    async def content(self, source: Json) -> bytes:
        """The file of a clusterTrustBundle source. Raises NoBundle."""
        if self._informer is None:
            self._informer = Informer(self._client, BUNDLES)
            self._informer.add_handler(lambda old, new: self._changed())
            self._task = asyncio.create_task(self._informer.run(), name="trust bundles")
        try:
            async with asyncio.timeout(PATIENCE):
                await self._informer.synced.wait()
        except TimeoutError:
            raise NoBundle("the cluster's ClusterTrustBundles can't be read yet") from None
        return joined(chosen(self._informer.cache.objects.values(), source))

    def follow(self, uid: str, changed: Callable[[], None]) -> None:
        self._followers[uid] = changed

    def forget(self, uid: str) -> None:
        self._followers.pop(uid, None)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _changed(self) -> None:
        for changed in list(self._followers.values()):
            changed()
