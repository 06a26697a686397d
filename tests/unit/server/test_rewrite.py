"""Links of proxied pages lead back through the proxy, and only those that must."""

from __future__ import annotations

import gzip

from portside.server.rewrite import page, unpacked, url

PREFIX, HOST = "/api/v1/namespaces/d/pods/p/proxy", "10.244.0.5:80"


def test_absolute_paths_get_the_prefix_and_other_links_stay() -> None:
    assert url("/a?b=c#d", PREFIX, HOST) == f"{PREFIX}/a?b=c#d"
    assert url("http://10.244.0.5:80/a", PREFIX, HOST) == f"{PREFIX}/a"
    for same in ("a", "../a", "#x", "?q", "https://example.com/a", "mailto:a@b", "", f"{PREFIX}/a", "http://[bad/"):
        assert url(same, PREFIX, HOST) == same


def test_only_attributes_that_are_links_are_touched() -> None:
    text = b'<A HREF=\'/a\' title="/t">x</A> <img alt=y src=/i.png><p data="/d">/text</p><script src="/s.js"></script>'
    assert page(text, "/p", HOST) == (
        b'<A HREF=\'/p/a\' title="/t">x</A> <img alt=y src=/p/i.png><p data="/d">/text</p><script src="/p/s.js"></script>'
    )


def test_bytes_that_are_no_text_survive() -> None:
    assert page(b'<a href="/\xff">\xfe</a>', "/p", HOST) == b'<a href="/p/\xff">\xfe</a>'


def test_packed_pages_are_read_and_bombs_are_not() -> None:
    assert unpacked(gzip.compress(b"hello"), "gzip") == b"hello"
    assert unpacked(b"hello", "") == b"hello"
    assert unpacked(b"hello", "br") is None
    assert unpacked(b"no gzip", "gzip") is None
    assert unpacked(gzip.compress(b"0" * (30 << 20)), "gzip") is None
