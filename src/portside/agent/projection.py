"""The files of configMap, secret, downwardAPI and projected volumes, computed from what they refer to."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from portside.agent.atomic_dir import Payload
from portside.agent.environment import ConfigProblem, Place, field_text, resource_text
from portside.agent.podcert import NotIssued
from portside.agent.sources import Sources
from portside.agent.stamps import seconds
from portside.agent.trust import NoBundle
from portside.base.clock import SYSTEM, Clock

Json = dict[str, Any]
DEFAULT_MODE = 0o644
TOKEN_SECONDS = 3600
RENEW_SHARE = 0.8  # of a token's life, after which it is asked again
RENEW_LONGEST = 24 * 3600.0  # seconds; and at the latest after a day


class VolumeProblem(Exception):
    """A volume can't be made; the text goes into a FailedMount event."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at: float


class Projector:
    """Computes files; remembers tokens per pod so that a refresh does not ask for one each time."""

    def __init__(self, sources: Sources, *, clock: Clock = SYSTEM) -> None:
        self._sources = sources
        self._clock = clock
        self._tokens: dict[tuple[str, str, int], _Token] = {}

    def forget(self, uid: str) -> None:
        for key in [k for k in self._tokens if k[0] == uid]:
            del self._tokens[key]

    async def files(self, pod: Json, volume: Json, place: Place) -> dict[str, Payload]:
        """The files of one volume. Raises VolumeProblem."""
        if source := volume.get("configMap"):
            return await self._keyed(pod, source, "configMap", source.get("name", ""), source.get("defaultMode"))
        if source := volume.get("secret"):
            return await self._keyed(pod, source, "secret", source.get("secretName", ""), source.get("defaultMode"))
        if (source := volume.get("downwardAPI")) is not None:
            return self._downward(pod, source, source.get("defaultMode"), place)
        projected = volume["projected"]
        default = projected.get("defaultMode")
        files: dict[str, Payload] = {}
        for index, item in enumerate(projected.get("sources") or ()):
            if source := item.get("configMap"):
                files |= await self._keyed(pod, source, "configMap", source.get("name", ""), default)
            elif source := item.get("secret"):
                files |= await self._keyed(pod, source, "secret", source.get("name", ""), default)
            elif source := item.get("downwardAPI"):
                files |= self._downward(pod, source, default, place)
            elif source := item.get("serviceAccountToken"):
                files[source["path"]] = await self._token(pod, source, default)
            elif source := item.get("clusterTrustBundle"):
                files[source["path"]] = await self._bundle(pod, source, default)
            elif source := item.get("podCertificate"):
                files |= await self._certificate(pod, volume["name"], index, source, default)
            else:
                raise VolumeProblem(f"projected source {', '.join(item)} is not supported by this node")
        return files

    async def _keyed(self, pod: Json, source: Json, kind: str, name: str, mode: int | None) -> dict[str, Payload]:
        namespace = pod["metadata"]["namespace"]
        read = self._sources.config_map if kind == "configMap" else self._sources.secret
        item = await read(namespace, name)
        if item is None:
            if source.get("optional"):
                return {}
            raise VolumeProblem(f'{kind.lower()} "{name}" not found')
        data: dict[str, bytes] = {}
        if kind == "configMap":
            data |= {k: v.encode("utf-8", "surrogateescape") for k, v in (item.get("data") or {}).items()}
            data |= {k: base64.b64decode(v) for k, v in (item.get("binaryData") or {}).items()}
        else:
            data |= {k: base64.b64decode(v) for k, v in (item.get("data") or {}).items()}
        default = DEFAULT_MODE if mode is None else mode
        if not source.get("items"):
            return {k: Payload(v, default) for k, v in data.items()}
        files = {}
        for entry in source["items"]:
            if entry["key"] in data:
                own = entry.get("mode")
                files[entry["path"]] = Payload(data[entry["key"]], default if own is None else own)
            elif not source.get("optional"):
                raise VolumeProblem(f"references non-existent {kind.lower()} key: {entry['key']}")
        return files

    def _downward(self, pod: Json, source: Json, mode: int | None, place: Place) -> dict[str, Payload]:
        files = {}
        default = DEFAULT_MODE if mode is None else mode
        for entry in source.get("items") or ():
            try:
                if reference := entry.get("fieldRef"):
                    text = field_text(pod, reference["fieldPath"], place)
                else:
                    text = resource_text(pod, entry["resourceFieldRef"], {}, place)
            except ConfigProblem as problem:
                raise VolumeProblem(str(problem)) from None
            own = entry.get("mode")
            files[entry["path"]] = Payload(text.encode(), default if own is None else own)
        return files

    async def _token(self, pod: Json, source: Json, mode: int | None) -> Payload:
        uid = pod["metadata"]["uid"]
        audience, wanted = source.get("audience", ""), int(source.get("expirationSeconds") or TOKEN_SECONDS)
        key, now = (uid, audience, wanted), self._clock.now()
        known = self._tokens.get(key)
        if known is None or now >= known.renew_at:
            answer = await self._sources.token(pod, audience=audience, seconds=wanted)
            life = seconds(answer["expirationTimestamp"]) - now
            known = _Token(answer["token"], now + min(life * RENEW_SHARE, RENEW_LONGEST))
            self._tokens[key] = known
        return _personal(pod, known.text.encode(), mode)

    async def _bundle(self, pod: Json, source: Json, mode: int | None) -> Payload:
        try:
            return _personal(pod, await self._sources.bundles.content(source), mode)
        except NoBundle as problem:
            raise VolumeProblem(str(problem)) from None

    async def _certificate(
        self, pod: Json, volume: str, index: int, source: Json, mode: int | None
    ) -> dict[str, Payload]:
        try:
            made = await self._sources.certificates.credential(pod, volume, index, source)
        except NotIssued as problem:
            raise VolumeProblem(f"while getting a pod certificate: {problem}") from None
        paths = {"credentialBundlePath": made.bundle, "keyPath": made.key, "certificateChainPath": made.chain}
        return {source[key]: _personal(pod, data, mode) for key, data in paths.items() if source.get(key)}


def _personal(pod: Json, data: bytes, mode: int | None) -> Payload:
    """A file for the pod's own identity: only its user's when all containers run as one, else by the default mode."""
    context = pod["spec"].get("securityContext") or {}
    users = {
        (c.get("securityContext") or {}).get("runAsUser", context.get("runAsUser"))
        for c in (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ()))
    }
    user = next(iter(users)) if len(users) == 1 else None
    if user is not None or context.get("fsGroup") is not None:
        return Payload(data, 0o600, uid=user)
    return Payload(data, DEFAULT_MODE if mode is None else mode)
