"""Bootstrap tokens: signs the cluster-info for each of them, so that who joins can tell it is this cluster; removes old ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from datetime import datetime

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, delete, update

SECRETS: Resource = ("", "v1", "secrets")
CONFIGMAPS: Resource = ("", "v1", "configmaps")
TYPE = "bootstrap.kubernetes.io/token"
SIGNED_PREFIX = "jws-kubeconfig-"
SPACE, INFO_SPACE, INFO = "kube-system", "kube-public", "cluster-info"


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signature(content: str, token_id: str, secret: str) -> str:
    """A detached JWS (HS256) of ``content``: header, nothing, signature."""
    header = _url64(json.dumps({"alg": "HS256", "kid": token_id}, separators=(",", ":")).encode())
    signed = hmac.new(secret.encode(), f"{header}.{_url64(content.encode())}".encode(), hashlib.sha256).digest()
    return f"{header}..{_url64(signed)}"


def field(secret: Json, name: str) -> str:
    """A value of the token's data."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(name) or "").decode()
    except ValueError:
        return ""


def expires(secret: Json) -> float | None:
    """When the token ends; at once when its time can't be read; None without an end."""
    text = field(secret, "expiration")
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def signing(secret: Json, now: float) -> tuple[str, str] | None:
    """Id and secret of a token that signs; None for any other secret."""
    if secret.get("type") != TYPE or field(secret, "usage-bootstrap-signing") != "true":
        return None
    name, key, end = field(secret, "token-id"), field(secret, "token-secret"), expires(secret)
    right = secret["metadata"]["name"] == f"bootstrap-token-{name}" and bool(name and key)
    return (name, key) if right and (end is None or end > now) else None


def signed(info: Json, secrets: Iterable[Json], now: float) -> Json:
    """The data of the cluster-info with a signature for each token, and none of others."""
    data = {k: v for k, v in (info.get("data") or {}).items() if not k.startswith(SIGNED_PREFIX)}
    content = data.get("kubeconfig")
    if content:
        for secret in secrets:
            if (token := signing(secret, now)) is not None:
                data[SIGNED_PREFIX + token[0]] = signature(content, *token)
    return data


def plan_info(view: View, key: str, now: float) -> Plan:
    """Key: kube-public/cluster-info."""
    if key != f"{INFO_SPACE}/{INFO}":
        return NOTHING
    info = view.key(CONFIGMAPS, key)
    if info is None:
        return NOTHING
    data = signed(info, view.by(SECRETS, "namespace", SPACE), now)
    return NOTHING if data == (info.get("data") or {}) else Plan([update(CONFIGMAPS, {**info, "data": data})])


def plan_token(view: View, key: str, now: float) -> Plan:
    """A token that has ended is removed."""
    secret = view.key(SECRETS, key)
    if secret is None or secret.get("type") != TYPE or secret["metadata"].get("namespace") != SPACE:
        return NOTHING
    end = expires(secret)
    if end is None:
        return NOTHING
    return Plan([delete(SECRETS, secret)]) if end <= now else Plan(again=end - now + 0.01)


def _token(view: View, secret: Json) -> Iterable[str]:
    return (f"{INFO_SPACE}/{INFO}",) if secret.get("type") == TYPE else ()


def _not_info(old: Json | None, new: Json | None) -> bool:
    return bool((new or old or {})["metadata"]["name"] != INFO)


def _no_token(old: Json | None, new: Json | None) -> bool:
    return (new or old or {}).get("type") != TYPE


CONTROLLERS = (
    Controller(
        "bootstrap-signer-controller",
        CONFIGMAPS,
        plan_info,
        watches={SECRETS: _token},
        workers=1,
        ignores=_not_info,
    ),
    Controller("token-cleaner-controller", SECRETS, plan_token, workers=1, ignores=_no_token),
)
