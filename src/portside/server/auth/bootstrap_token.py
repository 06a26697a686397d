"""Bootstrap tokens (``ID.SECRET``): Secrets of kube-system by which a machine that joins shows it may ask for a certificate."""

from __future__ import annotations

import base64
import hmac
import re
from datetime import datetime
from typing import Any

from portside.server.attributes import User

Json = dict[str, Any]
FORM = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})\Z")
TYPE = "bootstrap.kubernetes.io/token"
SPACE = "kube-system"
GROUP = "system:bootstrappers"
_GROUP_FORM = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\Z")


def secret_name(token: str) -> str:
    """The Secret a token would lie in; empty for a token of another form."""
    match = FORM.match(token)
    return f"bootstrap-token-{match[1]}" if match else ""


def identity(token: str, secret: Json | None, now: float) -> User | None:
    """Who a token is, by its Secret as it is now; None when it does not hold."""
    match = FORM.match(token)
    if match is None or secret is None or secret.get("type") != TYPE or secret["metadata"].get("deletionTimestamp"):
        return None
    data = {k: _text(v) for k, v in (secret.get("data") or {}).items()}
    if not hmac.compare_digest(data.get("token-secret", "").encode(), match[2].encode()):
        return None
    if data.get("token-id") != match[1] or data.get("usage-bootstrap-authentication") != "true":
        return None
    if not _lasts(data.get("expiration", ""), now):
        return None
    extra = [g for g in data.get("auth-extra-groups", "").split(",") if g]
    if any(not _GROUP_FORM.match(g) for g in extra):
        return None
    groups = dict.fromkeys([GROUP, *extra, "system:authenticated"])
    return User(f"system:bootstrap:{match[1]}", groups=tuple(groups))


def _lasts(end: str, now: float) -> bool:
    if not end:
        return True
    try:
        return datetime.fromisoformat(end).timestamp() > now
    except ValueError:
        return False


def _text(value: str) -> str:
    try:
        return base64.b64decode(value).decode()
    except ValueError:
        return ""
