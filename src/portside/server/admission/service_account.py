"""ServiceAccount: gives pods their account, its pull secrets, and the projected API token."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from zlib import crc32

from portside.api.podrefs import secret_names
from portside.server.admission.review import Review

Json = dict[str, Any]
MIRROR = "kubernetes.io/config.mirror"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
TOKEN_SECONDS = 3607
# The letters of upstream's name endings: no vowels, no look-alikes.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
# The default account of a fresh namespace comes from a controller; upstream waits for it this often, a tenth of a second apart.
DEFAULT_TRIES = 10
# An account with this annotation lets its pods see the Secrets it lists, and no other.
ENFORCE = "kubernetes.io/enforce-mountable-secrets"
KINDS_OF_CONTAINERS = (
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
)


async def mutate(review: Review) -> None:
    """Raises ApiError 403 when the account is not there."""
    pod = review.obj
    if not review.server.needs_accounts:
        return
    if MIRROR in (pod["metadata"].get("annotations") or {}):
        _check_mirror(review)
        return
    spec = pod["spec"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = await _account(review, name)
    if _wants_token(spec, account):
        _mount_token(spec, f"{review.namespace}/{name}")
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


@lru_cache(maxsize=4096)
def _ending(account: str) -> str:
    """Five letters, the same for all pods of an account: upstream draws them, but then no two pods of a workload are alike, and
    nothing that was found out about one of them, nor any part of it in memory, serves the next."""
    number, letters = crc32(account.encode()), ""
    for _ in range(5):
        number, at = divmod(number, len(_LETTERS))
        letters += _LETTERS[at]
    return letters


def _mount_token(spec: Json, account: str) -> None:
    volumes = spec.get("volumes") or []
    present = next((v["name"] for v in volumes if v.get("name", "").startswith(VOLUME_PREFIX)), "")
    name = present or VOLUME_PREFIX + _ending(account)
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
    """A mirror pod may use nothing that a node must not hand out; others what their account may mount, if that is limited,
    containers that are added later included."""
    if MIRROR in (review.obj["metadata"].get("annotations") or {}):
        _check_mirror(review)
        return
    name = review.obj["spec"].get("serviceAccountName") or ""
    account = review.server.live.of("serviceaccounts").get(name, review.namespace)
    if account is not None and _is_limited(account):
        added = review.attributes.subresource == "ephemeralcontainers"  # what the pod had before is not asked again
        _check_mountable(review, account, KINDS_OF_CONTAINERS[-1:] if added else KINDS_OF_CONTAINERS)
        if not added:
            _check_volumes_and_pulls(review, account)


def _is_limited(account: Json) -> bool:
    said = (account["metadata"].get("annotations") or {}).get(ENFORCE, "")
    return said in ("1", "t", "T", "true", "TRUE", "True")


def _not_allowed(account: Json) -> str:
    return f"is not allowed because service account {account['metadata']['name']} does not reference that"


def _check_mountable(review: Review, account: Json, kinds: tuple[tuple[str, str], ...]) -> None:
    """Secrets in the environment of these containers. Raises ApiError 403."""
    mountable = {ref.get("name") for ref in account.get("secrets") or ()}
    for field, noun in kinds:
        for container in review.obj["spec"].get(field) or ():
            for what, secret in _of_environment(container):
                if secret not in mountable:
                    who = f"{noun} {container['name']} with {what}"
                    raise review.refuse(
                        f'{who} referencing secret.secretName="{secret}" {_not_allowed(account)} secret'
                    )


def _check_volumes_and_pulls(review: Review, account: Json) -> None:
    """The other ways a pod can see a Secret. Raises ApiError 403."""
    spec = review.obj["spec"]
    mountable = {ref.get("name") for ref in account.get("secrets") or ()}
    pull = {ref.get("name") for ref in account.get("imagePullSecrets") or ()}
    for volume in spec.get("volumes") or ():
        named = [(volume.get("secret") or {}).get("secretName")]
        named += [(s.get("secret") or {}).get("name") for s in (volume.get("projected") or {}).get("sources") or ()]
        for secret in named:
            if secret and secret not in mountable:
                raise review.refuse(f'volume with secret.secretName="{secret}" {_not_allowed(account)} secret')
    for i, ref in enumerate(spec.get("imagePullSecrets") or ()):
        if ref.get("name") not in pull:
            what = f'imagePullSecrets[{i}].name="{ref.get("name", "")}"'
            raise review.refuse(f"{what} {_not_allowed(account)} imagePullSecret")


def _of_environment(container: Json) -> Iterator[tuple[str, str]]:
    """Where a container's environment names a Secret, and which."""
    for variable in container.get("env") or ():
        ref = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
        if ref.get("name"):
            yield f"envVar {variable['name']}", ref["name"]
    for source in container.get("envFrom") or ():
        if name := (source.get("secretRef") or {}).get("name"):
            yield "envFrom", name


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
