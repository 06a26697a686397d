"""Nobody grants more than they hold. Upstream checks this in storage, between mutating admission and validation."""

from __future__ import annotations

from portside.server.admission.review import Review
from portside.server.auth.escalation import check_escalation


def mutate(review: Review) -> None:
    """Changes nothing; raises ApiError 403, 404."""
    check_escalation(review.attributes, review.obj, review.old, review.server.authorizer)
