"""Identities of objects: random UUIDs, drawn many at a time."""

from __future__ import annotations

import uuid

from portside.base.uid import new_uid


def test_an_identity_is_a_random_uuid_and_no_two_are_equal() -> None:
    made = [new_uid() for _ in range(2000)]
    assert len(set(made)) == 2000
    for text in made:
        found = uuid.UUID(text)
        assert str(found) == text and found.version == 4 and found.variant == uuid.RFC_4122
