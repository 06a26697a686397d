"""Images for containers: pull policy, pull secrets, one pull per image at a time, and back-off after failures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from portside.agent.backoff import Backoff
from portside.agent.runtime import ContainerRuntime, Credentials, Image, RuntimeFailure
from portside.agent.sources import Sources
from portside.base.clock import SYSTEM, Clock

Json = dict[str, Any]
Say = Callable[[str, str, str], None]  # type, reason, message of an event
DEFAULT_REGISTRY = "docker.io"


class ImageProblem(Exception):
    """An image isn't there: waiting reason, message, and when to try again (seconds from now)."""

    def __init__(self, reason: str, message: str, wait: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.wait = wait


def normal_name(image: str) -> str:
    """The full reference: docker.io/library/NAME:latest for a short one. Raises ValueError when it is no reference."""
    if (
        not image
        or image != image.strip()
        or any(c.isspace() for c in image)
        or image.rsplit("/", 1)[-1].startswith(":")
    ):
        raise ValueError("invalid reference format")
    name, at, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = DEFAULT_REGISTRY, name if slash else f"library/{name}"
    if rest != rest.lower() and ":" not in rest:
        raise ValueError("repository name must be lowercase")
    if ":" not in rest.rsplit("/", 1)[-1] and not at:
        rest += ":latest"
    return f"{first}/{rest}{at}{digest}"


def image_names(pod: Json) -> set[str]:
    """Full references of every image the pod's containers and volumes name; what is no reference is left out."""
    spec = pod["spec"]
    families = ("initContainers", "containers", "ephemeralContainers")
    named = [c["image"] for family in families for c in spec.get(family) or ()]
    named += [(v.get("image") or {}).get("reference", "") for v in spec.get("volumes") or ()]
    found = set()
    for name in named:
        with contextlib.suppress(ValueError):
            found.add(normal_name(name))
    return found


def pull_policy(container: Json) -> str:
    """The container's policy; the API fills it, static pods may not."""
    if policy := container.get("imagePullPolicy"):
        return str(policy)
    name = container["image"].rsplit("/", 1)[-1]
    return "Always" if "@" not in name and (":" not in name or name.endswith(":latest")) else "IfNotPresent"


def _decoded(entry: Mapping[str, str], server: str) -> Credentials:
    username, password = entry.get("username", ""), entry.get("password", "")
    if auth := entry.get("auth"):
        username, _, password = base64.b64decode(auth).decode("utf-8", "replace").partition(":")
    return Credentials(
        username,
        password,
        server=server,
        identity_token=entry.get("identitytoken", ""),
        registry_token=entry.get("registrytoken", ""),
    )


def logins(secret: Json, image: str) -> list[Credentials]:
    """The logins of a pull secret that fit the image's registry, the longest path first."""
    data = secret.get("data") or {}
    try:
        if raw := data.get(".dockerconfigjson"):
            entries = json.loads(base64.b64decode(raw)).get("auths") or {}
        else:
            entries = json.loads(base64.b64decode(data.get(".dockercfg", "e30=")))
    except ValueError:
        return []
    fitting = []
    for server, entry in entries.items():
        plain = server.split("://", 1)[-1].rstrip("/")
        plain = plain.removesuffix("/v1").removesuffix("/v2")
        if plain == "index.docker.io":
            plain = DEFAULT_REGISTRY
        if image == plain or image.startswith(plain + "/"):
            fitting.append((len(plain), _decoded(entry, server)))
    return [login for _, login in sorted(fitting, key=lambda pair: -pair[0])]


class Images:
    """Makes sure a container's image is on the node."""

    def __init__(self, runtime: ContainerRuntime, sources: Sources, *, clock: Clock = SYSTEM) -> None:
        self._runtime = runtime
        self._sources = sources
        self._clock = clock
        self._backoff = Backoff()
        self._why: dict[str, str] = {}
        self._since: dict[str, float] = {}  # when the last pull failed
        self._pulls: dict[str, asyncio.Task[str]] = {}
        self._slots = asyncio.Semaphore(5)

    async def ensure(self, pod: Json, container: Json, say: Say) -> Image:
        """The image, pulled if policy says so. Raises ImageProblem."""
        name = container["image"]
        try:
            full = normal_name(name)
        except ValueError as problem:
            say(
                "Warning",
                "InspectFailed",
                f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {problem}',
            )
            raise ImageProblem(
                "InvalidImageName",
                f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {problem}',
                10.0,
            ) from None
        policy = pull_policy(container)
        present = await self._runtime.image(full)
        if present is not None and policy != "Always":
            text = f'Container image "{name}" already present on machine and can be accessed by the pod'
            say("Normal", "Pulled", text)
            return present
        if policy == "Never":
            text = f'Container image "{name}" is not present with pull policy of Never'
            say("Warning", "ErrImageNeverPull", text)
            raise ImageProblem("ErrImageNeverPull", text, 10.0)
        return await self._pull(pod, name, full, say)

    async def _pull(self, pod: Json, name: str, full: str, say: Say) -> Image:
        key, now = f"{pod['metadata']['uid']} {full}", self._clock.monotonic()
        known_at = self._since.get(key)
        wait = self._backoff.waits(key, known_at, now) if known_at is not None else 0.0
        if wait > 0:
            say("Normal", "BackOff", f'Back-off pulling image "{name}"')
            text = f'Back-off pulling image "{name}": {self._why.get(key, "")}'.rstrip(": ")
            raise ImageProblem("ImagePullBackOff", text, wait)
        say("Normal", "Pulling", f'Pulling image "{name}"')
        begun = self._clock.monotonic()
        try:
            await self._shared(pod, full)
        except RuntimeFailure as failure:
            self._backoff.next(key, now, now)
            self._since[key] = self._clock.monotonic()
            self._why[key] = f"ErrImagePull: {failure.message}"
            say("Warning", "Failed", f'Failed to pull image "{name}": {failure.message}')
            raise ImageProblem("ErrImagePull", failure.message, 1.0) from None
        self._backoff.forget(key)
        image = await self._runtime.image(full)
        if image is None:
            raise ImageProblem("ErrImagePull", f'image "{name}" vanished after it was pulled', 10.0)
        took = f"{self._clock.monotonic() - begun:.3f}".rstrip("0").rstrip(".") + "s"
        say(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{name}" in {took} ({took} including waiting). Image size: {image.size} bytes.',
        )
        return image

    async def _shared(self, pod: Json, full: str) -> str:
        """Pull with the first login that works; pods that need the same image wait for one pull."""
        credentials = await self._logins(pod, full)
        if credentials:
            async with self._slots:
                for number, login in enumerate(credentials, 1):
                    try:
                        return await self._runtime.pull_image(full, credentials=login)
                    except RuntimeFailure:
                        if number == len(credentials):
                            raise
        task = self._pulls.get(full)
        if task is None:
            task = self._pulls[full] = asyncio.create_task(self._plain(full))
            task.add_done_callback(lambda done: (self._pulls.pop(full, None), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _plain(self, full: str) -> str:
        async with self._slots:
            return await self._runtime.pull_image(full)

    async def _logins(self, pod: Json, full: str) -> list[Credentials]:
        found: list[Credentials] = []
        for reference in pod["spec"].get("imagePullSecrets") or ():
            secret = await self._sources.secret(pod["metadata"]["namespace"], reference.get("name", ""))
            if secret is not None:
                found += logins(secret, full)
        return found
