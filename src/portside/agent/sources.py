"""What pods refer to: ConfigMaps, Secrets, Services, claims and tokens, asked from the API and remembered for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portside.agent.following import Following, Key, revision
from portside.agent.podcert import PodCertificates
from portside.agent.trust import TrustBundles
from portside.api.status import ApiError
from portside.base.clock import SYSTEM, Clock
from portside.client.protocol import Client, Resource

Json = dict[str, Any]
FRESH = 1.0  # seconds an object read may be used again; pods of one Deployment starting together ask once
CONFIG_MAPS: Resource = ("", "v1", "configmaps")
SECRETS: Resource = ("", "v1", "secrets")
CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
VOLUMES: Resource = ("", "v1", "persistentvolumes")
ACCOUNTS: Resource = ("", "v1", "serviceaccounts")
RUNTIME_CLASSES: Resource = ("node.k8s.io", "v1", "runtimeclasses")
RESOURCE_CLAIMS: Resource = ("resource.k8s.io", "v1", "resourceclaims")
REMEMBERED = 512  # objects; the oldest goes first


def shown(pod: Json) -> set[Key]:
    """The ConfigMaps and Secrets whose content the pod's volumes show."""
    namespace = pod["metadata"]["namespace"]
    found: set[Key] = set()
    for volume in pod["spec"].get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            if name := (source.get("configMap") or {}).get("name"):
                found.add((CONFIG_MAPS, namespace, name))
            secret = source.get("secret") or {}
            if name := secret.get("secretName") or secret.get("name"):
                found.add((SECRETS, namespace, name))
    return found


def _projected(pod: Json) -> list[Json]:
    return [v["projected"] for v in pod["spec"].get("volumes") or () if v.get("projected")]


@dataclass(slots=True)
class _Read:
    at: float
    answer: asyncio.Future[Json | None]


class Sources:
    """Reads referenced objects. ``None`` means there is none; other refusals are raised as ApiError."""

    def __init__(self, client: Client, node: str, *, clock: Clock = SYSTEM) -> None:
        self._client = client
        self._clock = clock
        self._reads: dict[Key, _Read] = {}
        self._following = Following(client, clock=clock)
        self.bundles = TrustBundles(client)
        self.certificates = PodCertificates(client, node, clock=clock)

    def follow(self, pod: Json, changed: Callable[[], None]) -> None:
        """Call ``changed`` when something the pod's volumes show is no longer as it was read for them."""
        uid = pod["metadata"]["uid"]
        seen = {}
        for key in sorted(shown(pod)):
            read = self._reads.get(key)
            done = read is not None and read.answer.done() and not read.answer.exception()
            seen[key] = revision(read.answer.result()) if read is not None and done else ""
        self._following.follow(uid, seen, changed)
        kinds = {kind for volume in _projected(pod) for source in volume.get("sources") or () for kind in source}
        if "clusterTrustBundle" in kinds:
            self.bundles.follow(uid, changed)
        if "podCertificate" in kinds:
            self.certificates.follow(uid, changed)

    def forget(self, pod: Json) -> None:
        self._following.forget(pod["metadata"]["uid"])
        self.bundles.forget(pod["metadata"]["uid"])
        self.certificates.forget(pod["metadata"]["uid"])

    def close(self) -> None:
        self._following.close()
        self.bundles.close()

    async def _get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        key, now = (resource, namespace, name), self._clock.monotonic()
        certain, value = self._following.known(key)
        if certain and value is not None:
            return value
        known = self._reads.get(key)
        if known is not None and now - known.at < FRESH:
            return await asyncio.shield(known.answer)
        future: asyncio.Future[Json | None] = asyncio.get_running_loop().create_future()
        self._reads.pop(key, None)
        self._reads[key] = _Read(now, future)
        while len(self._reads) > REMEMBERED:
            self._reads.pop(next(iter(self._reads)))
        try:
            found: Json | None = await self._client.get(resource, name, namespace=namespace)
        except BaseException as error:
            if isinstance(error, ApiError) and error.code == 404:
                found = None
            else:
                self._reads.pop(key, None)
                future.set_exception(error if isinstance(error, Exception) else ConnectionError("cancelled"))
                future.exception()
                raise
        if found is None:
            self._reads.pop(key, None)
        future.set_result(found)
        return found

    async def config_map(self, namespace: str, name: str) -> Json | None:
        return await self._get(CONFIG_MAPS, namespace, name)

    async def secret(self, namespace: str, name: str) -> Json | None:
        return await self._get(SECRETS, namespace, name)

    async def claim(self, namespace: str, name: str) -> Json | None:
        return await self._get(CLAIMS, namespace, name)

    async def volume(self, name: str) -> Json | None:
        return await self._get(VOLUMES, "", name)

    async def resource_claim(self, namespace: str, name: str) -> Json | None:
        return await self._get(RESOURCE_CLAIMS, namespace, name)

    async def runtime_class(self, name: str) -> Json | None:
        return await self._get(RUNTIME_CLASSES, "", name)

    async def account(self, namespace: str, name: str) -> Json | None:
        return await self._get(ACCOUNTS, namespace, name)

    async def token(self, pod: Json, *, audience: str, seconds: int) -> Json:
        """A token bound to the pod: the TokenRequest's status (token, expirationTimestamp)."""
        meta = pod["metadata"]
        body: Json = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
            },
        }
        answer = await self._client.create(
            ACCOUNTS,
            body,
            namespace=meta["namespace"],
            name=pod["spec"].get("serviceAccountName") or "default",
            subresource="token",
        )
        return dict(answer["status"])
