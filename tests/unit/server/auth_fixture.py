"""A server's inner side for auth and admission tests: mirrors, a clock, quota writes; no network, no store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from portside.base.pki import ensure_pki
from portside.server.admission.dynamic import Dynamic
from portside.server.auth.authenticate import Authenticator
from portside.server.auth.authorize import Authorizer
from portside.server.live import Live, prefix_of

Json = dict[str, Any]


class FixedClock:
    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class FakeHost:
    """Implements ``portside.server.host.Host`` over dictionaries."""

    def __init__(self, home: Path | None = None) -> None:
        self.clock = FixedClock()
        self.live = Live()
        self.dynamic = Dynamic(self.live)
        self.needs_accounts = True
        self.revision = 0
        self.writes = 0
        self.authorizer = Authorizer(self.live)
        self.objects: dict[tuple[str, str, str, str], tuple[Json, int]] = {}
        if home is not None:
            self.pki = ensure_pki(home, clock=self.clock)
            self.authenticator = Authenticator(self.pki, self.live, self.clock)

    def add(self, plural: str, obj: Json, group: str = "") -> Json:
        meta = obj["metadata"]
        meta.setdefault("uid", f"uid-{plural}-{meta['name']}")
        self.revision += 1
        space = meta.get("namespace", "")
        key = prefix_of(group, plural) + (f"{space}/{meta['name']}" if space else meta["name"])
        self.objects[(group, plural, space, meta["name"])] = (obj, self.revision)
        self.live.feed(group, plural, key, orjson.dumps(obj), self.revision)
        return obj

    def drop(self, plural: str, name: str, space: str = "", group: str = "") -> None:
        key = prefix_of(group, plural) + (f"{space}/{name}" if space else name)
        self.revision += 1
        self.live.feed(group, plural, key, None, self.revision)

    async def read(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        held = self.objects.get((group, plural, namespace, name))
        if held is None:
            return None
        copy: Json = orjson.loads(orjson.dumps(held[0]))
        copy["metadata"]["resourceVersion"] = str(held[1])
        return copy

    async def put(self, group: str, plural: str, obj: Json, *, expected: int | None) -> bool:
        meta = obj["metadata"]
        held = self.objects.get((group, plural, meta.get("namespace", ""), meta["name"]))
        if expected is not None and expected != (held[1] if held else 0):
            return False
        self.writes += 1
        if self.live.wants(group, plural):
            self.add(plural, orjson.loads(orjson.dumps(obj)), group)
        else:
            self.revision += 1
            self.objects[(group, plural, meta.get("namespace", ""), meta["name"])] = (obj, self.revision)
        return True
