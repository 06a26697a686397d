"""Keeps the Ingress proxy true to the cluster, and tells each Ingress its address and what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
import subprocess

from portside.api.status import ApiError
from portside.client.events import EventRecorder
from portside.client.protocol import Client, Json, Resource
from portside.net.haproxy import Haproxy, HaproxyError
from portside.net.ingress import Key, Plan, ours, plan
from portside.net.mirror import Mirror

log = logging.getLogger("portside.ingress")
INGRESSES: Resource = ("networking.k8s.io", "v1", "ingresses")
CLASSES: Resource = ("networking.k8s.io", "v1", "ingressclasses")
SERVICES: Resource = ("", "v1", "services")
SLICES: Resource = ("discovery.k8s.io", "v1", "endpointslices")
SECRETS: Resource = ("", "v1", "secrets")
SETTLE = 0.05  # seconds to gather changes that come together
AGAIN = 5.0  # seconds until a failure is tried again


class IngressServer:
    """Mirrors what routes depend on; a change that changes the configuration reloads the proxy."""

    def __init__(self, client: Client, proxy: Haproxy, address: str, events: EventRecorder) -> None:
        self.client, self.proxy, self.address, self.events = client, proxy, address, events
        self.changed = asyncio.Event()
        tell = self.changed.set
        self.ingresses, self.classes = Mirror(client, INGRESSES, tell), Mirror(client, CLASSES, tell)
        self.services, self.slices = Mirror(client, SERVICES, tell), Mirror(client, SLICES, tell)
        self.secrets = Mirror(client, SECRETS, tell, "type=kubernetes.io/tls")
        self.standing: tuple[Plan, dict[Key, str]] | None = None
        self.said: set[tuple[Key, str]] = set()

    async def run(self) -> None:
        """Until cancelled; the proxy goes on without us."""
        mirrors = (self.ingresses, self.classes, self.services, self.slices, self.secrets)
        async with asyncio.TaskGroup() as group:
            for mirror in mirrors:
                group.create_task(mirror.run())
            group.create_task(self.events.run())
            for mirror in mirrors:
                await mirror.ready.wait()
            while True:
                await self.changed.wait()
                await asyncio.sleep(SETTLE)
                self.changed.clear()
                try:
                    await self._apply()
                except (HaproxyError, ApiError, OSError, TimeoutError, subprocess.SubprocessError) as error:
                    log.error("ingress: %s", error)
                    self._say([(key, f"the proxy does not run: {error}"[:500]) for key in self._mine()])
                    self.standing = None
                    await asyncio.sleep(AGAIN)
                    self.changed.set()

    async def _apply(self) -> None:
        classes = {name: obj for (_, name), obj in self.classes.objects.items()}
        secrets = self.secrets.objects
        wanted = plan(
            self.ingresses.objects.values(), classes, self.services.objects, self.slices.objects.values(), secrets
        )
        used = {c.secret: secrets[c.secret]["metadata"].get("resourceVersion", "") for c in wanted.certificates}
        if self.standing is None or (self._shape(wanted), used) != (self._shape(self.standing[0]), self.standing[1]):
            bad = await asyncio.to_thread(self.proxy.write, wanted, secrets)
            wanted.problems += [
                (c, f"TLS secret {c[1]} is no pair of certificate and key") for c in self._users(bad, wanted)
            ]
            self.standing = (wanted, used)
        self._say(wanted.problems)
        for (namespace, name), ingress in list(self.ingresses.objects.items()):
            await self._status(namespace, name, ingress, ours(ingress, classes))

    def _mine(self) -> list[Key]:
        classes = {name: obj for (_, name), obj in self.classes.objects.items()}
        return [key for key, ingress in self.ingresses.objects.items() if ours(ingress, classes)]

    @staticmethod
    def _shape(made: Plan) -> tuple[object, ...]:
        return (made.routes, made.backends, made.default, made.certificates)

    def _users(self, bad: list[str], wanted: Plan) -> list[Key]:
        return [
            key
            for key, ingress in self.ingresses.objects.items()
            for entry in ingress["spec"].get("tls") or ()
            if f"{key[0]}/{entry.get('secretName')}" in bad
        ]

    def _say(self, problems: list[tuple[Key, str]]) -> None:
        """Each problem once, until it is gone."""
        for key, text in problems:
            if (key, text) not in self.said and (ingress := self.ingresses.objects.get(key)):
                about = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", **ingress}
                self.events.emit(about, "Warning", "NotServed", text, "portside-ingress")
        self.said = set(problems)

    async def _status(self, namespace: str, name: str, ingress: Json, mine: bool) -> None:
        held = ((ingress.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        wanted = [{"ip": self.address}] if mine else []
        if held == wanted or (not mine and held != [{"ip": self.address}]):
            return
        body = {"status": {"loadBalancer": {"ingress": wanted or None}}}
        try:
            await self.client.patch(INGRESSES, name, body, namespace=namespace, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
