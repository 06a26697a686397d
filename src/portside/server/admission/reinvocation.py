"""Who runs again: mutating webhooks and policies with ``reinvocationPolicy: IfNeeded``, when the object changed after them.

Upstream's rule: as soon as anyone changed the object, the whole mutating half runs a second time, built-in plugins included. In
that second round a webhook is called only if it was called before, asked for it, and something changed since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

Json = dict[str, Any]


def _seen(obj: Json) -> bytes:
    return orjson.dumps(obj, option=orjson.OPT_SORT_KEYS)


@dataclass(slots=True)
class Invocations:
    """What one plugin (webhooks, or policies) knows of its own calls."""

    before: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    output: bytes = b""

    def changed(self) -> None:
        """The object changed: everybody called before may be called again."""
        self.again |= self.before
        self.before.clear()


@dataclass(slots=True)
class Rounds:
    """The state of one request's mutating half."""

    second: bool = False
    needed: bool = False
    plugins: dict[str, Invocations] = field(default_factory=dict)

    def begin(self, plugin: str, obj: Json) -> Invocations:
        """A plugin's turn begins: in the second round it learns whether built-in plugins changed its output."""
        own = self.plugins.setdefault(plugin, Invocations())
        if self.second and own.output != _seen(obj):
            own.changed()
        return own

    def end(self, plugin: str, obj: Json) -> None:
        self.plugins[plugin].output = _seen(obj)

    def skips(self, own: Invocations, key: str) -> bool:
        """Whether the second round leaves this one out."""
        return self.second and key not in own.again

    def called(self, own: Invocations, key: str, *, changed: bool, repeatable: bool) -> None:
        """One was called."""
        if changed:
            own.changed()
            self.needed = True
        if repeatable:
            own.before.add(key)
