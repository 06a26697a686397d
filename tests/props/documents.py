"""Random documents by the published schemas: mostly well formed, now and then wrong in one place. All from one seed."""

from __future__ import annotations

from random import Random
from typing import Any

from portside.api.schema_cache import raw_definition

Json = dict[str, Any]
WORDS = (
    "a", "web", "default", "x" * 64, "x" * 300, "A_b", "-", "", " ", "é", "a.b/c", "kubernetes.io/x", "0", "1", "-1", "true",
    "100m", "1Gi", "1.5", "1e3", "9" * 30, "10%", "-5%", "2020-01-01T00:00:00Z", "2020-13-01", "10.0.0.1", "::1", "10.0.0.0/8",
    "10.0.0.0/33", "*", "*.example.com", "/", "/a/../b", "..", "$(X)", "{{", "%s", "\x00", "\u202e", "self.x > 1", "0 0 * * *",
    "TZ=UTC 0 0 * * *", "Always", "Never", "TCP", "UDP", "ClusterIP", "In", "Exists", "Equal", "NoSchedule", "http", "https",
    "node", "app", "v1", "apps/v1", "Pod", "pods", "system:masters", "example.com", "sha256:00", "a=b", "!a", "a,b", "a in (b)",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    2,
    -1,
    80,
    65535,
    65536,
    100000,
    2**31 - 1,
    2**31,
    -(2**31),
    2**63 - 1,
    2**63,
    10**30,
    0.5,
    -0.0,
    1e300,
)
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    "",
    "x",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"a": {"b": []}},
    10**25,
)


class Documents:
    """``make(name)`` is a document of the definition of that name."""

    def __init__(self, seed: int, *, wrong: float = 0.02) -> None:
        self.random = Random(seed)
        self.wrong = wrong

    def make(self, name: str) -> Json:
        made = self._value({"$ref": name}, 0)
        return made if isinstance(made, dict) else {}

    def _value(self, spec: Json, depth: int) -> Any:
        random = self.random
        if random.random() < self.wrong:
            return random.choice(ODD)
        if "$ref" in spec:
            definition = raw_definition(spec["$ref"].rsplit("/", 1)[-1])
            return self._value({k: v for k, v in definition.items() if k != "description"}, depth)
        kinds = spec.get("type")
        kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
        if "enum" in spec and random.random() < 0.9:
            return random.choice(spec["enum"])
        if kind == "array":
            return [self._value(spec.get("items") or {}, depth + 1) for _ in range(random.choice((0, 1, 1, 1, 2, 3)))]
        if kind == "integer":
            return random.choice(NUMBERS[:9]) if random.random() < 0.9 else random.choice(NUMBERS)
        if kind == "number":
            return random.choice(NUMBERS)
        if kind == "boolean":
            return random.random() < 0.5
        if kind == "string" or spec.get("format") == "int-or-string":
            return random.choice(WORDS) if random.random() < 0.8 else random.choice(NUMBERS[:6])
        if kind == "object" or "properties" in spec:
            return self._object(spec, depth)
        return random.choice(ODD) if random.random() < 0.5 else random.choice(WORDS)

    def _object(self, spec: Json, depth: int) -> Json:
        random = self.random
        properties = spec.get("properties") or {}
        if not properties:
            values = spec.get("additionalProperties")
            kind = values if isinstance(values, dict) else {}
            return {random.choice(WORDS): self._value(kind, depth + 1) for _ in range(random.choice((0, 1, 2)))}
        share = (0.9, 0.5, 0.25, 0.15, 0.1)[min(depth, 4)]
        required = set(spec.get("required") or ())
        made = {}
        for name, child in properties.items():
            if name in ("apiVersion", "kind", "metadata", "status") and depth == 0:
                continue
            if depth < 9 and random.random() < (0.95 if name in required else share):
                made[name] = self._value(child, depth + 1)
        if random.random() < self.wrong:
            made[random.choice(WORDS)] = random.choice(ODD)
        return made

    def changed(self, document: Any) -> Any:
        """A copy of a document with one thing in it replaced, removed or added."""
        random = self.random
        if isinstance(document, dict) and document:
            copy = dict(document)
            key = random.choice(list(copy))
            roll = random.random()
            if roll < 0.7:
                copy[key] = self.changed(copy[key])
            elif roll < 0.85:
                del copy[key]
            else:
                copy[random.choice(WORDS)] = random.choice(ODD)
            return copy
        if isinstance(document, list) and document and random.random() < 0.7:
            at = random.randrange(len(document))
            return [*document[:at], self.changed(document[at]), *document[at + 1 :]]
        return random.choice(ODD) if random.random() < 0.3 else random.choice((*WORDS, *NUMBERS))
