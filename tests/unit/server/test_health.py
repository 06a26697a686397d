"""The health endpoints, and what /metrics/slis tells of them."""

from __future__ import annotations

from portside.server import health
from portside.server.request import Request


def test_what_was_asked_and_what_came_of_it_is_counted_by_check() -> None:
    asked, well = health.Asked(), [True]

    def ask(endpoint: str, check: str = "") -> int:
        request = Request("GET", f"/{endpoint}")
        return health.answer(request, endpoint, check, lambda: well[0], lambda: True, asked).code

    assert (ask("readyz"), ask("livez", "ping"), ask("livez", "ping")) == (200, 200, 200)
    well[0] = False
    assert (ask("readyz", "informer-sync"), ask("readyz", "nothing")) == (500, 404)
    lines = set(asked.render())
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 2' in lines
    assert 'kubernetes_healthchecks_total{name="informer-sync",status="success",type="readyz"} 1' in lines
    assert 'kubernetes_healthchecks_total{name="informer-sync",status="error",type="readyz"} 1' in lines
    assert 'kubernetes_healthcheck{name="informer-sync",type="readyz"} 0' in lines
    assert 'kubernetes_healthcheck{name="etcd",type="readyz"} 1' in lines
    assert not any("nothing" in line for line in lines)
