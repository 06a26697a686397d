"""Whatever is sent to whatever endpoint, the answer is a decision: never an internal error, never a hang.

PORTSIDE_FUZZ=N sends N times as much as the default run; PORTSIDE_SEED=S begins elsewhere. A failing line names its seed.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from portside.api.kinds import KINDS, Kind
from portside.api.schema_tree import definition_name
from portside.base.pki import ensure_pki
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend
from tests.props.documents import NUMBERS, ODD, WORDS, Documents

Json = dict[str, Any]
ROUNDS = 2 * int(os.environ.get("PORTSIDE_FUZZ", "1"))
SEED = int(os.environ.get("PORTSIDE_SEED", "0"))
SECONDS = 60.0
# Where upstream itself answers 500: the recorded conversations show each of these.
UPSTREAMS_OWN = re.compile(
    r"strconv\.ParseUint|resourceVersion should not be set on objects to be created|unable to find api field|"
    r"invalid patch|unknown patch type|does not contain declared merge key|failed to create typed patch|expected map|"
    r"doesn't match \$setElementOrder|unable to parse|not a valid patch|This eviction subresource does not support|"
    r"can't be bound|pod .* is already assigned|is being deleted, cannot be assigned|cannot restore|"
    r"converting|schema error|duplicate entries for key|failed to prune|field is required|"
    r"target\.(kind|name): |This pod has more than one PodDisruptionBudget|line \d+|no corresponding type|invalid object"
)
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


class Asked:
    """A server in memory, and what it must not answer."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.make = server.make_request(User("admin", groups=("system:masters", "system:authenticated")))
        self.seed = 0

    async def __call__(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        place, _, query = path.partition("?")
        data = body if isinstance(body, bytes) else orjson.dumps(_small(body)) if body is not None else b""
        headers = {"accept": "application/json", "content-type": kind, "user-agent": "fuzz"}
        request = self.make(method=method, path=place, query=query, headers=headers, body=data)
        answer = await asyncio.wait_for(self.server.handler(request), SECONDS)
        decoded = orjson.loads(answer.body) if answer.body[:1] == b"{" else {}
        if answer.code >= 500 and answer.code != 504:
            message = str(decoded.get("message", answer.body[:300]))
            assert "Internal error occurred" not in message and UPSTREAMS_OWN.search(message), (
                f"PORTSIDE_SEED={self.seed}: {method} {path} {kind} {data[:3000]!r} was answered {answer.code}: {message}"
            )
        return decoded


def _small(value: Any) -> Any:
    """Integers beyond 64 bits as floats: the sending encoder has no others."""
    if isinstance(value, dict):
        return {k: _small(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_small(v) for v in value]
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


@pytest.fixture(scope="module")
def pki_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
async def asked(pki_home: Path) -> AsyncIterator[Asked]:
    pki = ensure_pki(pki_home)
    server = ApiServer(MemoryBackend(), pki)
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443), pki)
    found = Asked(server)
    await found("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    yield found
    await server.stop()


def place_of(kind: Kind) -> str:
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    return f"{root}/namespaces/default/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"


async def life(asked: Asked, kind: Kind, name: str, seed: int) -> None:
    """One object by random requests: made, asked for, changed in every way, deleted."""
    asked.seed = seed
    documents = Documents(seed)
    random, place = documents.random, place_of(kind)
    body = documents.make(name)
    body |= {"apiVersion": kind.api_version, "kind": kind.kind}
    body["metadata"] = {"name": random.choice(("fuzz", "fuzz", "a.b", "")), "labels": {"app": "web"}}
    if random.random() < 0.3:
        body["metadata"] |= documents.make("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    made = await asked("POST", place, body)
    if made.get("kind") != kind.kind and random.random() < 0.7:
        # So that updates have something to stand on: the same without what was refused at random.
        made = await asked("POST", place, _plain(kind, body))
    here = f"{place}/{(made.get('metadata') or {}).get('name') or 'fuzz'}"
    for _ in range(3):
        await asked("PUT", here, documents.changed(made))
        await asked("PATCH", here, _patch(documents, made), random.choice(PATCHES))
        for sub in kind.subs:
            if sub.name in ("exec", "attach", "portforward", "proxy", "log"):
                continue
            if "update" in sub.verbs:
                await asked("PUT", f"{here}/{sub.name}", documents.changed(made))
            if "patch" in sub.verbs:
                await asked("PATCH", f"{here}/{sub.name}", _patch(documents, made), random.choice(PATCHES))
            if "create" in sub.verbs:
                await asked("POST", f"{here}/{sub.name}", documents.changed(made))
    await asked("GET", f"{place}?{_query(documents)}")
    await asked(
        "DELETE", f"{here}?{_query(documents)}", random.choice((None, {}, {"gracePeriodSeconds": 0}, {"a": []}))
    )
    await asked("DELETE", f"{place}?{_query(documents)}")


def _plain(kind: Kind, body: Json) -> Json:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "fuzz"}, "spec": {}, "data": {}}


def _patch(documents: Documents, made: Json) -> Any:
    random = documents.random
    if random.random() < 0.4:
        paths = [
            "/spec",
            "/metadata/labels/app",
            "/status/conditions/0",
            "/",
            "",
            "/spec/containers/-",
            "/a/b",
            "/metadata",
        ]
        operations = ("add", "remove", "replace", "move", "copy", "test", "x", None)
        return [
            {
                "op": random.choice(operations),
                "path": random.choice(paths),
                "from": random.choice(paths),
                "value": random.choice(ODD),
            }
            for _ in range(random.choice((0, 1, 2)))
        ]
    changed = documents.changed({k: v for k, v in made.items() if k not in ("metadata",)})
    if isinstance(changed, dict) and random.random() < 0.5:
        changed["metadata"] = {"labels": {"x": random.choice(ODD)}, random.choice(("$patch", "name")): "delete"}
    return changed


def _query(documents: Documents) -> str:
    random = documents.random
    names = (
        "limit", "continue", "resourceVersion", "resourceVersionMatch", "labelSelector", "fieldSelector", "dryRun",
        "fieldManager", "fieldValidation", "pretty", "propagationPolicy", "gracePeriodSeconds", "orphanDependents",
        "timeoutSeconds", "force",
    )  # fmt: skip
    values = (*WORDS[:40], *(str(n) for n in NUMBERS), "All", "Exact", "metadata.name=x", "a=b", "Strict", "Foreground")
    chosen = [(random.choice(names), random.choice(values)) for _ in range(random.choice((0, 1, 1, 2)))]
    return "&".join(f"{n}={v}" for n, v in chosen if n not in ("watch",) and "%" not in v and " " not in v)


STORED = [k for k in KINDS if definition_name(k.group, k.version, k.kind) and "create" in k.verbs]


@pytest.mark.parametrize("kind", STORED, ids=lambda k: f"{k.plural}.{k.group or 'core'}.{k.version}")
async def test_no_request_makes_the_server_fail(asked: Asked, kind: Kind) -> None:
    name = definition_name(kind.group, kind.version, kind.kind)
    assert name is not None
    for number in range(ROUNDS):
        await life(asked, kind, name, SEED + number)
