"""Random identities of objects. Randomness is asked of the system for many at a time: a system call for each would cost more than
all the rest."""

from __future__ import annotations

import os

_AT_ONCE = 256
_VARIANTS = "89ab"
_fresh: list[str] = []


def new_uid() -> str:
    """A random UUID of version 4, as ``uuid.uuid4`` makes them."""
    try:
        digits = _fresh.pop()
    except IndexError:
        drawn = os.urandom(16 * _AT_ONCE).hex()
        _fresh.extend(drawn[at : at + 32] for at in range(0, len(drawn), 32))
        digits = _fresh.pop()
    variant = _VARIANTS[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
