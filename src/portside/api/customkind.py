"""CustomKind: one served version of a custom resource as a row of the table of kinds, made from its definition."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from portside.api.kinds import GPU, Kind, Sub

Json = dict[str, Any]
VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
TERMINATING_VERBS = ("delete", "deletecollection", "get", "list", "watch")
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that keeps a definition until its instances are gone."""
SCALE = Sub("scale", "Scale", GPU, "autoscaling", "v1")
_VERSION = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?\Z")


@dataclass(frozen=True, slots=True)
class CustomKind(Kind):
    """``selectable`` are the paths that field selectors may name, without leading dots; ``scale`` the three paths of
    the scale subresource; ``warning`` what every request to a deprecated version is told; ``uid`` and ``generation`` are
    those of the definition, which makes rows of different states different."""

    one: str = ""
    many: str = ""
    storage: bool = False
    terminating: bool = False
    selectable: tuple[str, ...] = ()
    scale: tuple[str, str, str] | None = None
    columns: tuple[tuple[str, str, str, str, int, str], ...] | None = None
    warning: str = ""
    uid: str = ""
    generation: int = 0

    @property
    def singular(self) -> str:
        return self.one

    @property
    def list_kind(self) -> str:
        return self.many

    @property
    def custom(self) -> bool:
        return True


def condition(crd: Json, type_: str) -> bool:
    """Whether a condition of the definition is True."""
    found = (c for c in (crd.get("status") or {}).get("conditions") or () if c.get("type") == type_)
    return any(c.get("status") == "True" for c in found)


def version_order(name: str) -> tuple[int, int, int, str]:
    """Sorts versions as clients prefer them: stable before beta before alpha, newer first, other names last."""
    found = _VERSION.match(name)
    if not found:
        return (3, 0, 0, name)
    rank = {None: 0, "beta": 1, "alpha": 2}[found[2]]
    return (rank, -int(found[1]), -int(found[3] or 0), name)


def _columns(version: Json) -> tuple[tuple[str, str, str, str, int, str], ...] | None:
    """name, type, format, description, priority, path; None for the default column."""
    told = version.get("additionalPrinterColumns")
    if not told:
        return None
    return tuple(
        (
            c["name"],
            c["type"],
            c.get("format", ""),
            c.get("description", ""),
            int(c.get("priority") or 0),
            c["jsonPath"],
        )
        for c in told
    )


def _warning(crd: Json, version: Json, kind: str) -> str:
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning") is not None:
        return str(version["deprecationWarning"])
    group = crd["spec"]["group"]
    text = f"{group}/{version['name']} {kind} is deprecated"
    better = _replacement(crd["spec"]["versions"], version["name"])
    return f"{text}; use {group}/{better} {kind}" if better else text


def _replacement(versions: list[Json], name: str) -> str:
    """The served version that is not deprecated and preferred to ``name``."""
    fit = [v["name"] for v in versions if v.get("served") and not v.get("deprecated")]
    best = min(fit, key=version_order, default="")
    return best if best and version_order(best) < version_order(name) else ""


def kinds_of(crd: Json) -> list[CustomKind]:
    """The rows of a definition: one per served version, preferred first; none until its names are accepted."""
    if not condition(crd, "NamesAccepted") and not condition(crd, "Established"):
        return []
    spec, accepted = crd["spec"], (crd.get("status") or {}).get("acceptedNames") or {}
    terminating = condition(crd, "Terminating")
    made = []
    for version in sorted(spec["versions"], key=lambda v: version_order(v["name"])):
        if not version.get("served"):
            continue
        wanted = version.get("subresources") or {}
        subs = (Sub("status", accepted.get("kind", ""), GPU),) if wanted.get("status") is not None else ()
        scale = wanted.get("scale")
        if scale is not None:
            subs = (*subs, SCALE)
        kind = accepted.get("kind") or spec["names"]["kind"]
        made.append(
            CustomKind(
                spec["group"],
                version["name"],
                kind,
                spec["names"]["plural"],
                spec.get("scope") == "Namespaced",
                tuple(accepted.get("shortNames") or ()),
                tuple(accepted.get("categories") or ()),
                TERMINATING_VERBS if terminating else VERBS,
                subs,
                one=accepted.get("singular") or kind.lower(),
                many=accepted.get("listKind") or f"{kind}List",
                storage=bool(version.get("storage")),
                terminating=terminating,
                selectable=tuple(f["jsonPath"].removeprefix(".") for f in version.get("selectableFields") or ()),
                scale=None if scale is None else _scale_paths(scale),
                columns=_columns(version),
                warning=_warning(crd, version, kind),
                uid=crd["metadata"].get("uid", ""),
                generation=int(crd["metadata"].get("generation") or 0),
            )
        )
    return made


def _scale_paths(scale: Json) -> tuple[str, str, str]:
    return scale.get("specReplicasPath", ""), scale.get("statusReplicasPath", ""), scale.get("labelSelectorPath") or ""


def in_preference(kinds: Iterable[CustomKind]) -> list[CustomKind]:
    """Rows of several definitions as discovery lists them: by group, versions preferred first."""
    return sorted(kinds, key=lambda k: (k.group, version_order(k.version), k.plural))
