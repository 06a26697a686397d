"""The short hash that names a template's revision, in upstream's alphabet, and comparison without it."""

from __future__ import annotations

import hashlib

import orjson

from portside.client.protocol import Json

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # without vowels and look-alikes, so that no word arises
LABEL = "pod-template-hash"


def encode(number: int) -> str:
    """A number's decimal digits, each as a letter of the alphabet."""
    return "".join(ALPHABET[ord(digit) % len(ALPHABET)] for digit in str(number))


def hash_of(value: Json, collisions: int | None = None) -> str:
    """Stable for equal values; another for each collision count."""
    data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if collisions is not None:
        data += str(collisions).encode()
    return encode(int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big"))


def bare(template: Json) -> Json:
    """The template without the hash label."""
    meta = template.get("metadata") or {}
    labels = {k: v for k, v in (meta.get("labels") or {}).items() if k != LABEL}
    kept = {k: v for k, v in meta.items() if k not in ("labels", "creationTimestamp") and v is not None}
    if labels:
        kept["labels"] = labels
    return {**template, "metadata": kept}


def equal(a: Json, b: Json) -> bool:
    """Equal but for the hash label."""
    return bare(a) == bare(b)
