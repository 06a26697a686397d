"""Who asks, and for what: the request attributes that authorization and admission decide on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity. ``extra`` holds further facts (node name, credential id) by key."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


class Attributes(NamedTuple):
    """One request as RBAC sees it. ``verb`` is the API verb for resources (``deletecollection``), the HTTP method in
    lower case for other paths; ``subresource`` and ``name`` are "" when absent; ``path`` is the URL path; the selectors are the query's raw texts (lists, watches, collections)."""

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    is_resource: bool = True
    field_selector: str = ""
    label_selector: str = ""
