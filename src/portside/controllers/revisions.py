"""ControllerRevisions: the numbered past templates of a DaemonSet or StatefulSet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.claim import candidates, claim, selector_of
from portside.controllers.plan import Op, create, delete, patch
from portside.controllers.pods import owner_reference
from portside.controllers.template_hash import hash_of

REVISIONS: Resource = ("apps", "v1", "controllerrevisions")
HASH = "controller-revision-hash"


@dataclass(slots=True)
class History:
    """The revisions of one owner, oldest first; ``current`` is that of its present template."""

    revisions: list[Json]
    current: Json
    ops: list[Op]
    collisions: int

    @property
    def current_name(self) -> str:
        return str(self.current["metadata"]["name"])

    @property
    def current_hash(self) -> str:
        return str((self.current["metadata"].get("labels") or {}).get(HASH, ""))


def data_of(template: Json) -> Json:
    """What a revision stores: a patch that puts the template back. Its keys are in order: clients of upstream find the
    revision of a template by comparing bytes."""
    made: Json = _ordered({"spec": {"template": {**template, "$patch": "replace"}}})
    return made


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def history(view: View, owner: Json, kind: str, *, collisions: int = 0) -> History:
    """Adopts, finds or makes the revision of the present template, and numbers it highest."""
    reference = owner_reference(owner, "apps/v1", kind)
    selector = selector_of(owner["spec"].get("selector"))
    found, ops = claim(owner, reference, selector, REVISIONS, candidates(view, REVISIONS, owner))
    found.sort(key=lambda r: (int(r.get("revision", 0)), r["metadata"].get("creationTimestamp", "")))
    wanted = data_of(owner["spec"]["template"])
    highest = int(found[-1].get("revision", 0)) if found else 0
    equal = [r for r in found if r.get("data") == wanted]
    if equal:
        current = equal[-1]
        if int(current.get("revision", 0)) < highest:
            ops.append(patch(REVISIONS, current, {"revision": highest + 1}))
        return History(found, current, ops, collisions)
    meta = owner["metadata"]
    while True:
        code = hash_of(owner["spec"]["template"], collisions)
        name = f"{meta['name']}-{code}"
        if view.get(REVISIONS, meta["namespace"], name) is None:
            break
        collisions += 1
    labels = {**((owner["spec"]["template"].get("metadata") or {}).get("labels") or {}), HASH: code}
    made: Json = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [reference],
        },
        "data": wanted,
        "revision": highest + 1,
    }
    annotations = {
        k: v
        for k, v in (meta.get("annotations") or {}).items()
        if k != "kubectl.kubernetes.io/last-applied-configuration"
    }
    if annotations:
        made["metadata"]["annotations"] = annotations
    ops.append(create(REVISIONS, made))
    return History(found, made, ops, collisions)


def surplus(past: History, used: Iterable[str], limit: int, key: Callable[[Json], str]) -> list[Op]:
    """Deletions of the oldest revisions that nothing uses, beyond the limit."""
    live = {*used, key(past.current)}
    unused = [r for r in past.revisions if key(r) not in live]
    return [delete(REVISIONS, r) for r in unused[: max(len(unused) - limit, 0)]]
