"""The root of Portside's own failures: what happened, why, and what a person can do."""

from __future__ import annotations


class PortsideError(Exception):
    """A failure with its explanation. ``str()`` is one line; the CLI prints the three parts on lines of their own."""

    def __init__(self, what: str, *, why: str = "", todo: str = "") -> None:
        super().__init__(": ".join(part for part in (what, why, todo) if part))
        self.what, self.why, self.todo = what, why, todo
