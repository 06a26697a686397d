"""Delivery of committed changes to subscribers, shared by the embedded backends.

A subscription starts holding: live changes are kept aside while its backlog is read from the store; ``release`` delivers
the backlog, then what was held, then everything live, each change once and in revision order.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from portside.store.backend import Change, Sink

log = logging.getLogger(__name__)


class FeedSubscription:
    """One sink with its place in the log."""

    __slots__ = ("_feed", "_held", "last", "prefix", "sink")

    def __init__(self, feed: Feed, prefix: str, sink: Sink, after: int) -> None:
        self._feed = feed
        self._held: list[Change] | None = []
        self.prefix = prefix
        self.sink = sink
        self.last = after

    def release(self, backlog: Sequence[Change]) -> None:
        """End holding. ``backlog`` must reach at least to the revision at which the subscription was attached."""
        held, self._held = self._held or [], None
        self.offer(backlog)
        self.offer(held)

    def offer(self, changes: Sequence[Change]) -> None:
        if self._held is not None:
            self._held.extend(changes)
            return
        if not changes:
            return
        last = self.last
        if changes[0].revision <= last or self.prefix != "/":
            prefix = self.prefix
            changes = [c for c in changes if c.revision > last and c.key.startswith(prefix)]
            if not changes:
                return
        self.last = max(last, changes[-1].revision)
        try:
            self.sink(changes)
        except Exception:  # one broken sink must not stop the others or fail writers whose data is on disk
            log.exception("a subscriber of %s failed at revision %d", self.prefix, self.last)

    def close(self) -> None:
        self.sink = _ignore
        self._feed.detach(self)


class Feed:
    """The subscribers of one backend."""

    def __init__(self) -> None:
        self._subscriptions: list[FeedSubscription] = []

    def attach(self, prefix: str, sink: Sink, after: int) -> FeedSubscription:
        """A subscription that holds until ``release``."""
        subscription = FeedSubscription(self, prefix, sink, after)
        self._subscriptions.append(subscription)
        return subscription

    def detach(self, subscription: FeedSubscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions = [s for s in self._subscriptions if s is not subscription]

    def deliver(self, changes: Sequence[Change]) -> None:
        for subscription in self._subscriptions:
            subscription.offer(changes)


def _ignore(changes: Sequence[Change]) -> None:
    """The sink of a closed subscription."""
