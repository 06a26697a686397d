"""Encrypted values: whatever was sealed opens where it lies, with its key, unchanged; and nothing else opens."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.store.backend import Unreadable
from portside.store.ciphers import AesCbc, AesGcm, Cipher, SealError, SecretBox
from portside.store.seal import MARK, PLAIN, Rule, Seal, Slot

KEYS = st.binary(min_size=32, max_size=32)
VALUES = st.binary(max_size=200)
PLACES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).map(lambda t: f"/core/secrets/{t}")
KINDS = st.sampled_from([AesGcm, AesCbc, SecretBox])


def sealed_by(cipher: Cipher, *more: Slot, name: bytes = b"key1") -> Seal:
    return Seal([Rule(("/core/secrets/",), (Slot(name, cipher), *more))], b"any")


@given(KINDS, KEYS, VALUES, PLACES)
def test_what_is_sealed_opens_again_and_shows_nothing(kind: type[AesGcm], key: bytes, value: bytes, place: str) -> None:
    seal = sealed_by(kind(key))
    stored = seal.seal(place, value)
    assert stored.startswith(kind.tag + b"key1:")
    assert len(value) < 8 or value not in stored
    assert seal.open(place, stored) == value
    assert seal.is_current(place, stored[:128])
    assert stored != seal.seal(place, value), "the same value twice does not look the same"


@given(KINDS, KEYS, VALUES, PLACES, st.data())
def test_a_changed_bit_or_a_cut_is_found(
    kind: type[AesGcm], key: bytes, value: bytes, place: str, data: st.DataObject
) -> None:
    seal = sealed_by(kind(key))
    stored = bytearray(seal.seal(place, value))
    start = len(kind.tag) + len(b"key1:")
    if data.draw(st.booleans()):
        at = data.draw(st.integers(start, len(stored) - 1))
        stored[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del stored[data.draw(st.integers(start, len(stored) - 1)) :]
    opened = seal.open(place, bytes(stored))
    assert isinstance(opened, Unreadable) and opened.why == "message authentication failed"
    assert opened == bytes(stored), "the bytes stay what they are"


@given(KINDS, KEYS, VALUES, PLACES, PLACES)
def test_two_rows_that_change_places_do_not_open(
    kind: type[AesGcm], key: bytes, value: bytes, place: str, other: str
) -> None:
    seal = sealed_by(kind(key))
    if place != other:
        assert isinstance(seal.open(other, seal.seal(place, value)), Unreadable)


@given(KINDS, KEYS, KEYS, VALUES)
def test_another_key_of_the_same_name_opens_nothing_and_a_third_place_does_not_matter(
    kind: type[AesGcm], key: bytes, wrong: bytes, value: bytes
) -> None:
    if key == wrong:
        return
    stored = sealed_by(kind(key)).seal("/core/secrets/a", value)
    assert isinstance(sealed_by(kind(wrong)).open("/core/secrets/a", stored), Unreadable)
    both = Seal([Rule(("/core/secrets/",), (Slot(b"key1", kind(wrong)), Slot(b"key1", kind(key))))])
    assert both.open("/core/secrets/a", stored) == value, "keys of one name are all tried"


def test_the_first_key_writes_and_any_key_of_the_file_reads() -> None:
    old, new = AesCbc(bytes(32)), SecretBox(bytes(32))
    before, after = sealed_by(old, name=b"old"), sealed_by(new, Slot(b"old", old), PLAIN, name=b"new")
    stored = before.seal("/core/secrets/a", b"{}")
    assert after.open("/core/secrets/a", stored) == b"{}" and not after.is_current("/core/secrets/a", stored)
    assert after.seal("/core/secrets/a", b"{}").startswith(b"k8s:enc:secretbox:v2:new:")
    assert after.open("/core/secrets/a", b'{"plain":1}') == b'{"plain":1}', "stale plain data is read by identity"
    assert before.open("/core/secrets/a", b"{}").why == "no matching prefix found", "and only by identity"
    assert after.seal("/core/pods/a", b"{}") == b"{}" and after.is_current("/core/pods/a", b"{}")


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (b"k8s:enc:secretbox:v2:other:x", "no matching key was found for the provided Secretbox transformer"),
        (b"k8s:enc:aescbc:v2:other:x", "no matching key was found for the provided AES transformer"),
        (b"k8s:enc:aescbc:v1:key1:x", "no matching prefix found"),
        (b"k8s:enc:", "no matching prefix found"),
        (MARK + b"\xff:\xff:\xff:\xff", "no matching prefix found"),
    ],
)
def test_what_no_key_opens_says_why_in_upstreams_words(stored: bytes, why: str) -> None:
    slots = (Slot(b"key1", SecretBox(bytes(32))), Slot(b"key1", AesCbc(bytes(32))), PLAIN)
    assert Seal([Rule(("/core/secrets/",), slots)]).open("/core/secrets/a", stored).why == why
    assert Seal().open("/core/secrets/a", stored).why == "identity transformer tried to read encrypted data"


def test_secretbox_is_xchacha20_poly1305_of_the_published_vector() -> None:
    """draft-irtf-cfrg-xchacha, A.3.1."""
    text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
    sealed = bytes.fromhex(
        "404142434445464748494a4b4c4d4e4f5051525354555657"
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
        "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49"
    )
    bound = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    box = SecretBox(struct.pack("32B", *range(0x80, 0xA0)))
    assert box.open(sealed, bound) == text
    with pytest.raises(SealError):
        box.open(sealed, b"")
