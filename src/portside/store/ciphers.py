"""How one value is encrypted with one key, bound to the key it is stored under: the providers of upstream's file.

``aesgcm`` is upstream's own form. Upstream's ``aescbc`` carries no authentication and its ``secretbox`` binds nothing, so
that whoever can write the file could change values or swap two of them: here the first is encrypt-then-MAC and the second
XChaCha20-Poly1305, both with the place bound, and their version says v2.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.ciphers import Cipher as Primitive
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

FAILED = "message authentication failed"


class SealError(Exception):
    """A value can't be opened: the key is wrong, or the bytes are not those that were written there."""


class Cipher(Protocol):
    """``bound`` is where the value lies; what was sealed there opens nowhere else."""

    tag: bytes
    """What stored values begin with, before the name of the key."""

    def seal(self, value: bytes, bound: bytes) -> bytes: ...

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        """Raises SealError."""
        ...


class AesGcm:
    """AES-GCM with a random nonce of 12 bytes: one key is good for 2^32 writes at the very most."""

    tag = b"k8s:enc:aesgcm:v1:"
    lengths = (16, 24, 32)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, value: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, value, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        if len(sealed) < 12 + 16:
            raise SealError(FAILED)
        try:
            return self._aead.decrypt(sealed[:12], sealed[12:], bound)
        except InvalidTag:
            raise SealError(FAILED) from None


class AesCbc:
    """AES-CBC with PKCS#7 padding, then HMAC-SHA256 over place, vector and ciphertext; both keys derived from the one given."""

    tag = b"k8s:enc:aescbc:v2:"
    lengths = (16, 24, 32)
    _MAC = 32

    def __init__(self, key: bytes) -> None:
        self._encrypting = HKDFExpand(hashes.SHA256(), len(key), b"portside aescbc v2 encrypt").derive(key)
        self._signing = HKDFExpand(hashes.SHA256(), 32, b"portside aescbc v2 sign").derive(key)

    def _mac(self, body: bytes, bound: bytes) -> bytes:
        return hmac.digest(self._signing, len(bound).to_bytes(8, "big") + bound + body, hashlib.sha256)

    def seal(self, value: bytes, bound: bytes) -> bytes:
        vector = os.urandom(16)
        pad = padding.PKCS7(128).padder()
        work = Primitive(algorithms.AES(self._encrypting), modes.CBC(vector)).encryptor()
        body = vector + work.update(pad.update(value) + pad.finalize()) + work.finalize()
        return body + self._mac(body, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        body, mac = sealed[: -self._MAC], sealed[-self._MAC :]
        if len(body) < 32 or not hmac.compare_digest(mac, self._mac(body, bound)):
            raise SealError(FAILED)
        work = Primitive(algorithms.AES(self._encrypting), modes.CBC(body[:16])).decryptor()
        unpad = padding.PKCS7(128).unpadder()
        return unpad.update(work.update(body[16:]) + work.finalize()) + unpad.finalize()


class SecretBox:
    """XChaCha20-Poly1305: nonces of 24 random bytes never meet, so a key needs no rotation for the number of writes."""

    tag = b"k8s:enc:secretbox:v2:"
    lengths = (32,)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _aead(self, nonce: bytes) -> tuple[ChaCha20Poly1305, bytes]:
        """The cipher of one nonce and what is left of it (draft-irtf-cfrg-xchacha): a key by HChaCha20 of the first 16 bytes.

        A block of ChaCha20 is the permuted state plus the state itself; HChaCha20 is eight words of the permuted state.
        """
        block = Primitive(algorithms.ChaCha20(self._key, nonce[:16]), mode=None).encryptor().update(bytes(64))
        words = struct.unpack("<16I", block)
        first = struct.unpack("<4I", b"expand 32-byte k")
        last = struct.unpack("<4I", nonce[:16])
        kept = [(w - s) % 2**32 for w, s in zip(words[:4] + words[12:], first + last, strict=True)]
        return ChaCha20Poly1305(struct.pack("<8I", *kept)), bytes(4) + nonce[16:]

    def seal(self, value: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(24)
        aead, rest = self._aead(nonce)
        return nonce + aead.encrypt(rest, value, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes:
        if len(sealed) < 24 + 16:
            raise SealError(FAILED)
        aead, rest = self._aead(sealed[:24])
        try:
            return aead.decrypt(rest, sealed[24:], bound)
        except InvalidTag:
            raise SealError(FAILED) from None
