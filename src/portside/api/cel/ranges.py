"""Ranges of unsigned 64-bit numbers that stop at the largest one instead of overflowing."""

from __future__ import annotations

import math

Range = tuple[int, int]
MOST = 2**64 - 1
ZERO: Range = (0, 0)
UNKNOWN: Range = (0, MOST)


def fixed(value: int) -> Range:
    return value, value


def add(*ranges: Range) -> Range:
    return min(sum(r[0] for r in ranges), MOST), min(sum(r[1] for r in ranges), MOST)


def times(a: Range, b: Range) -> Range:
    return min(a[0] * b[0], MOST), min(a[1] * b[1], MOST)


def union(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])


def scale_one(value: int, factor: float) -> int:
    """``value`` times ``factor`` rounded up, in doubles as upstream computes it."""
    product = math.ceil(float(value) * factor)
    return product if product < 2**64 else MOST


def scale(range_: Range, factor: float) -> Range:
    return scale_one(range_[0], factor), scale_one(range_[1], factor)
