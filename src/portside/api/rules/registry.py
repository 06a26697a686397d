"""What a kind adds to the generic engine: defaults, preparation, validation, warnings, subresources, flags.

``rules_for`` imports a kind's module on first use; a module offers ``RULES: dict[(version, kind), Rules]``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from portside.api import meta, names
from portside.api.field import FieldError
from portside.api.kinds import BY_KIND, Kind

Json = dict[str, Any]
Errors = list[FieldError]


def _allowed(verb: str, subresource: str, namespace: str, name: str) -> str:
    return ""


@dataclass(slots=True)
class Context:
    """The request's facts that rules may read. ``now`` is RFC 3339 in whole seconds; ``warnings`` are told whatever
    becomes of the request; ``space`` finds the object of the namespace, None when it is not there; ``verb`` is the API's;
    ``node`` is that of a service account's token, "" without one; ``refused`` says why the user may not (verb,
    subresource, namespace, name) of the same resource, "" when that is allowed."""

    now: str = ""
    user: str = ""
    dry_run: bool = False
    namespace: str = ""
    subresource: str = ""
    warnings: list[str] = field(default_factory=list)
    space: Callable[[], Json | None] = dict
    verb: str = ""
    node: str = ""
    refused: Callable[[str, str, str, str], str] = _allowed


def unstamped(obj: Json, now: str) -> None:
    return None


def _nothing(obj: Json) -> None:
    return None


def _keep(obj: Json, ctx: Context) -> None:
    return None


def _keep_update(obj: Json, old: Json, ctx: Context) -> None:
    return None


def _no_errors(obj: Json, ctx: Context) -> Errors:
    return []


def _no_update_errors(obj: Json, old: Json, ctx: Context) -> Errors:
    return []


def _no_warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return []


@dataclass(slots=True)
class SubRules:
    """Rules of a subresource's writes. ``prepare_update`` brings back from ``old`` whatever may not change here."""

    prepare_update: Callable[[Json, Json, Context], None] = _keep_update
    validate_update: Callable[[Json, Json, Context], Errors] = _no_update_errors
    warnings: Callable[[Json, Json | None, Context], list[str]] = _no_warnings


def keep_all_but_status(obj: Json, old: Json, ctx: Context) -> None:
    """A status write changes status and, as upstream allows, labels and annotations; every other field is the old one."""
    for key in [k for k in obj if k not in ("apiVersion", "kind", "metadata", "status")]:
        if key not in old:
            del obj[key]
    for key, value in old.items():
        if key not in ("metadata", "status"):
            obj[key] = value
    meta.keep_identity(obj, old)


STATUS_ONLY = SubRules(prepare_update=keep_all_but_status)


@dataclass(slots=True)
class Rules:
    """Everything kind-specific. The defaults fit a kind with plain data and no status.

    default: fills absent fields, in place; runs after decoding, before admission, and on the stored form's readers.
    stamp: the defaults that are the time, RFC 3339, in place; whoever writes the object owns them as all defaults.
    prepare_create / prepare_update: drops what clients may not set, keeps status, ... in place.
    validate: all errors but metadata's; validate_update: all errors but metadata's immutables.
    generation: the server owns metadata.generation: 1 on create, raised when anything but metadata and status changes;
        with counts_annotations by annotations too.
    """

    kind: Kind
    default: Callable[[Json], None] = _nothing
    stamp: Callable[[Json, str], None] = unstamped
    prepare_create: Callable[[Json, Context], None] = _keep
    prepare_update: Callable[[Json, Json, Context], None] = _keep_update
    validate: Callable[[Json, Context], Errors] = _no_errors
    validate_update: Callable[[Json, Json, Context], Errors] = _no_update_errors
    warnings: Callable[[Json, Json | None, Context], list[str]] = _no_warnings
    canonicalize: Callable[[Json], None] = _nothing
    name: Callable[[str, bool], list[str]] = names.dns_subdomain
    subresources: dict[str, SubRules] = field(default_factory=dict)
    create_on_update: bool = False
    unconditional_update: bool = True
    generation: bool = False
    counts_annotations: bool = False
    status: bool = False
    returns_object_on_delete: bool = False
    graceful: bool = False
    meta_first: bool = True
    any_finalizer: bool = False
    """Whether finalizers without a domain are welcome, as they are outside of the core kinds."""

    def before_create(self, obj: Json, ctx: Context) -> Errors:
        """Prepares ``obj`` (defaults applied, name given) for storing and tells what is wrong with it."""
        if self.status:
            obj.pop("status", None)
        self.prepare_create(obj, ctx)
        if self.generation:
            obj["metadata"]["generation"] = 1
        own = self.validate(obj, ctx)
        of_meta = self._of_meta(meta.validate(obj, self.kind.namespaced, self.name))
        errors = of_meta + own if self.meta_first else own + of_meta
        if not errors:
            self.canonicalize(obj)
        return errors

    def _of_meta(self, errors: Errors) -> Errors:
        return [e for e in errors if not e.field.startswith("metadata.finalizers[")] if self.any_finalizer else errors

    def before_update(self, obj: Json, old: Json, ctx: Context) -> Errors:
        """Prepares a replacement of ``old`` and tells what is wrong; an error of metadata comes once."""
        meta.keep_generation(obj, old)
        if self.status:
            if "status" in old:
                obj["status"] = old["status"]
            else:
                obj.pop("status", None)
        self.prepare_update(obj, old, ctx)
        if self.generation and (
            meta.content_changed(obj, old) or (self.counts_annotations and meta.annotations_changed(obj, old))
        ):
            obj["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1
        meta.keep_identity(obj, old)
        errors = self._of_meta(meta.validate_update(obj, old))
        errors += [e for e in self.validate_update(obj, old, ctx) if e not in errors]
        if not errors:
            self.canonicalize(obj)
        return errors

    def before_sub_update(self, sub: str, obj: Json, old: Json, ctx: Context) -> Errors:
        """As ``before_update`` for a subresource that writes the main object (status, resize, ...)."""
        rules = self.subresources.get(sub, STATUS_ONLY)
        meta.keep_generation(obj, old)
        rules.prepare_update(obj, old, ctx)
        meta.keep_identity(obj, old)
        errors = self._of_meta(meta.validate_update(obj, old))
        return errors + [e for e in rules.validate_update(obj, old, ctx) if e not in errors]


# Which module of this package has a kind's rules: by (group, kind), else by group.
_BY_KIND: dict[tuple[str, str], str] = {
    ("", "Pod"): "pod",
    ("", "PodTemplate"): "podtemplate",
    ("", "ReplicationController"): "replicationcontroller",
    ("apps", "Deployment"): "deployment",
    ("apps", "ReplicaSet"): "replicaset",
    ("apps", "DaemonSet"): "daemonset",
    ("apps", "StatefulSet"): "statefulset",
    ("apps", "ControllerRevision"): "controllerrevision",
    ("batch", "Job"): "job",
    ("batch", "CronJob"): "cronjob",
    ("scheduling.k8s.io", "PodGroup"): "podgroup",
    ("scheduling.k8s.io", "Workload"): "podgroup",
}
_BY_GROUP: dict[str, str] = {
    "": "core",
    "apiregistration.k8s.io": "apiregistration",
    "events.k8s.io": "events",
    "authentication.k8s.io": "authentication",
    "authorization.k8s.io": "authorization",
    "autoscaling": "autoscaling",
    "certificates.k8s.io": "certificates",
    "networking.k8s.io": "networking",
    "policy": "policy",
    "rbac.authorization.k8s.io": "rbac",
    "storage.k8s.io": "storage",
    "admissionregistration.k8s.io": "admissionregistration",
    "apiextensions.k8s.io": "apiextensions",
    "scheduling.k8s.io": "scheduling",
    "coordination.k8s.io": "coordination",
    "node.k8s.io": "node",
    "discovery.k8s.io": "discovery",
    "resource.k8s.io": "resource",
    "flowcontrol.apiserver.k8s.io": "flowcontrol",
    "storagemigration.k8s.io": "storagemigration",
}
_loaded: dict[tuple[str, str, str], Rules] = {}


def rules_for(group: str, version: str, kind: str) -> Rules:
    """The rules of a built-in kind; plain ones for a kind whose module says nothing. KeyError for an unknown kind."""
    key = (group, version, kind)
    found = _loaded.get(key)
    if found is None:
        found = _loaded[key] = _load(key)
    return found


def _load(key: tuple[str, str, str]) -> Rules:
    group, version, kind = key
    entry = BY_KIND[key]
    module = _BY_KIND.get((group, kind)) or _BY_GROUP.get(group)
    if module:
        name = f"{__package__}.{module}"
        try:
            table: dict[tuple[str, str], Rules] = importlib.import_module(name).RULES
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            table = {}
        if (version, kind) in table:
            return table[version, kind]
    return Rules(entry)
