"""DefaultTolerationSeconds: a pod tolerates a node that is not ready or unreachable for five minutes."""

from __future__ import annotations

from portside.server.admission.review import Review

SECONDS = 300
KEYS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def mutate(review: Review) -> None:
    spec = review.obj["spec"]
    held = spec.get("tolerations") or []
    covered = {t.get("key") or "" for t in held if t.get("effect") in (None, "", "NoExecute")}
    if "" in covered:
        return
    fresh = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
        for key in KEYS
        if key not in covered
    ]
    if fresh:
        spec["tolerations"] = [*held, *fresh]
