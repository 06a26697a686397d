"""PodTopologyLabels: a pod made for a node carries the node's zone and region (binding does the same, see binding.py)."""

from __future__ import annotations

from portside.server.admission.review import Review
from portside.server.binding import TOPOLOGY


def mutate(review: Review) -> None:
    """Copies the labels of ``spec.nodeName``, when there is such a node."""
    name = review.obj["spec"].get("nodeName")
    if not name:
        return
    held = review.server.live.of("nodes").labels(name)
    found = {key: held[key] for key in TOPOLOGY if key in held}
    if found:
        meta = review.obj["metadata"]
        meta["labels"] = (meta.get("labels") or {}) | found
