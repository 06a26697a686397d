"""Patterns as Go reads them: what is refused and how, and that a hostile one costs nothing."""

from __future__ import annotations

import time

import pytest

from portside.api.goregexp import RegexpError, go_regexp


def test_a_pattern_that_backtracks_forever_is_answered_at_once() -> None:
    pytest.importorskip("re2")
    began = time.thread_time()
    assert go_regexp("(a+)+$").search("a" * 5000 + "b") is None
    assert time.thread_time() - began < 1


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(", "missing closing ): `(`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        ("*a", "missing argument to repetition operator: `*`"),
    ],
)
def test_what_go_refuses_is_refused_in_its_words(pattern: str, problem: str) -> None:
    with pytest.raises(RegexpError) as refused:
        go_regexp(pattern)
    assert str(refused.value) == f"error parsing regexp: {problem}"


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b$", "b\n", False),
        (r"^\d$", "٥", False),
        ("a??b", "b", True),
        (r"[\d-z]", "-", True),
        (r"\Qa.b\E", "axb", False),
    ],
)
def test_a_pattern_means_what_it_means_in_go(pattern: str, text: str, found: bool) -> None:
    assert (go_regexp(pattern).search(text) is not None) is found


@pytest.mark.parametrize(("pattern", "text"), [(r"\p{Latin}", "é"), ("(?i)é", "É"), ("(?P<1a>b)", "b")])
def test_what_only_re2_knows_is_left_to_it(pattern: str, text: str) -> None:
    pytest.importorskip("re2")
    assert go_regexp(pattern).search(text) is not None
