"""containerd's own events: enough of their encoding to read which container one is about."""

from __future__ import annotations

from collections.abc import Iterable


def _fields(raw: bytes) -> Iterable[tuple[int, bytes]]:
    """The length-delimited fields of a protobuf message; numbers are skipped. Enough to read an event's id."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(raw):
        key = varint()
        if key & 7 == 0:
            varint()
        elif key & 7 == 2:
            size = varint()
            yield key >> 3, raw[at : at + size]
            at += size
        else:
            at += 8 if key & 7 == 1 else 4


def event_id(envelope: bytes) -> str:
    """The container id of a containerd task event (Envelope.event is Any: its value's first text is the id)."""
    for number, value in _fields(envelope):
        if number == 4:
            body = dict(_fields(value)).get(2, b"")
            for inner, text in _fields(body):
                if inner == 1:
                    return text.decode("utf-8", "replace")
    return ""
