"""Which values are encrypted on disk, and with what: the first provider writes, any key reads.

    seal = Seal([Rule(("/core/secrets/",), (Slot(b"key1", SecretBox(key)), PLAIN))])
    seal.seal("/core/secrets/default/db", value)      # b"k8s:enc:secretbox:v2:key1:…"

A backend that keeps values on disk applies it between its memory and the disk: changes, caches and answers are plain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from portside.store.backend import Unreadable
from portside.store.ciphers import Cipher, SealError

MARK = b"k8s:enc:"
"""What every encrypted value begins with; a plain one begins with a brace."""
# The provider's name within a tag -> what upstream calls its transformer when no key has the name.
_TRANSFORMER = {b"aesgcm": "AES", b"aescbc": "AES", b"secretbox": "Secretbox"}


class Slot(NamedTuple):
    """One key of a provider under its name, or the provider that encrypts nothing (``PLAIN``)."""

    name: bytes
    cipher: Cipher | None

    @property
    def prefix(self) -> bytes:
        """What its values begin with."""
        return b"" if self.cipher is None else self.cipher.tag + self.name + b":"


PLAIN = Slot(b"", None)


@dataclass(frozen=True)
class Rule:
    """``slots`` hold for keys that begin with one of ``prefixes``; the first writes."""

    prefixes: tuple[str, ...]
    slots: tuple[Slot, ...]


class Seal:
    """Rules in order, the first that fits a key decides. ``identity`` tells one set of rules and keys from another."""

    def __init__(self, rules: Sequence[Rule] = (), identity: bytes = b"") -> None:
        self._rules = tuple(rules)
        self.touched: tuple[str, ...] = tuple(p for rule in rules for p in rule.prefixes)
        """Keys that begin otherwise are none of its business: their values pass as they are."""
        self._by_prefix: dict[bytes, list[Cipher]] = {}
        for rule in rules:
            for slot in rule.slots:
                if slot.cipher is not None:
                    self._by_prefix.setdefault(slot.prefix, []).append(slot.cipher)
        self.identity = int.from_bytes(hashlib.sha256(identity).digest()[:7], "big")

    def _slots(self, key: str) -> tuple[Slot, ...]:
        if key.startswith(self.touched):
            for rule in self._rules:
                if key.startswith(rule.prefixes):
                    return rule.slots
        return ()

    def seal(self, key: str, value: bytes) -> bytes:
        """The stored form of a plain value."""
        slots = self._slots(key)
        if not slots or slots[0].cipher is None:
            return value
        return slots[0].prefix + slots[0].cipher.seal(value, key.encode())

    def open(self, key: str, stored: bytes) -> bytes:
        """The plain value, or an Unreadable that says in upstream's words why there is none."""
        try:
            if stored.startswith(MARK):
                return self._opened(key, stored)
            slots = self._slots(key)
            if slots and PLAIN not in slots:
                raise SealError("no matching prefix found")
        except SealError as problem:
            return Unreadable(stored, str(problem))
        return stored

    def _opened(self, key: str, stored: bytes) -> bytes:
        """Any key of the file opens, whatever kind it is listed for: a kind that is no longer listed stays readable."""
        parts = stored.split(b":", 5)
        prefix = stored[: len(stored) - len(parts[-1])] if len(parts) == 6 else b""
        found = self._by_prefix.get(prefix)
        if not found:
            if not self._rules:
                raise SealError("identity transformer tried to read encrypted data")
            tag = stored[: len(stored) - sum(map(len, parts[4:])) - 1] if len(parts) == 6 else b""
            if any(p.startswith(tag) for p in self._by_prefix) and tag:
                transformer = _TRANSFORMER.get(parts[2], parts[2].decode(errors="replace"))
                raise SealError(f"no matching key was found for the provided {transformer} transformer")
            raise SealError("no matching prefix found")
        for cipher in found[:-1]:
            try:
                return cipher.open(parts[5], key.encode())
            except SealError:
                continue
        return found[-1].open(parts[5], key.encode())

    def is_current(self, key: str, start: bytes) -> bool:
        """Whether a stored value that begins with ``start`` is in the form that would be written now."""
        slots = self._slots(key)
        wanted = slots[0].prefix if slots else b""
        return start.startswith(wanted) if wanted else not start.startswith(MARK)
