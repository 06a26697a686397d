"""ServiceAccount: gives pods their account, its pull secrets, and the projected API token."""

from __future__ import annotations

import random
from typing import Any

from portside.api.podrefs import secret_names
from portside.server.admission.review import Review

Json = dict[str, Any]
MIRROR = "kubernetes.io/config.mirror"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_SECONDS = 3607
# The letters of upstream's random name endings: no vowels, no look-alikes.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
# The default account of a fresh namespace comes from a controller; upstream waits for it this often, a tenth of a second apart.
DEFAULT_TRIES = 10


async def mutate(review: Review) -> None:
    """Raises ApiError 403 when the account is not there."""
    pod = review.obj
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        _check_mirror(review)
        return
    spec = pod["spec"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = await _account(review, name)
    if _wants_token(spec, account):
        _mount_token(spec)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(ref) for ref in account["imagePullSecrets"]]


async def _account(review: Review, name: str) -> Json:
    accounts = review.server.live.of("serviceaccounts")
    for attempt in range(DEFAULT_TRIES if name == "default" else 1):
        if attempt:
            await review.server.clock.sleep(0.1)
        if (found := accounts.get(name, review.namespace)) is not None:
            return found
    raise review.refuse(
        f'error looking up service account {review.namespace}/{name}: serviceaccount "{name}" not found'
    )


def _wants_token(spec: Json, account: Json) -> bool:
    for wish in (spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken")):
        if wish is not None:
            return bool(wish)
    return True


def _mount_token(spec: Json) -> None:
    volumes = spec.get("volumes") or []
    present = next((v["name"] for v in volumes if v.get("name", "").startswith(VOLUME_PREFIX)), "")
    name = present or VOLUME_PREFIX + "".join(random.choices(_LETTERS, k=5))
    needed = False
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            mounts = container.get("volumeMounts") or []
            if any(mount.get("mountPath") == TOKEN_PATH for mount in mounts):
                continue
            container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}]
            needed = True
    if needed and not present:
        spec["volumes"] = [*volumes, token_volume(name)]


def token_volume(name: str) -> Json:
    """The projected volume of token, root certificate and namespace, as upstream spells it."""
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources: list[Json] = [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 420}}


def validate(review: Review) -> None:
    """A mirror pod may use nothing that a node must not hand out."""
    if MIRROR in (review.obj["metadata"].get("annotations") or {}):
        _check_mirror(review)


def _check_mirror(review: Review) -> None:
    spec = review.obj["spec"]
    if spec.get("serviceAccountName"):
        raise review.refuse("a mirror pod may not reference service accounts")
    if next(secret_names(spec), None) is not None:
        raise review.refuse("a mirror pod may not reference secrets")
    for volume in spec.get("volumes") or ():
        for source in (volume.get("projected") or {}).get("sources") or ():
            if "serviceAccountToken" in source:
                raise review.refuse("a mirror pod may not use ServiceAccountToken volume projections")
