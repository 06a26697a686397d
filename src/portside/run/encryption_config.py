"""The file that says what is encrypted at rest: upstream's EncryptionConfiguration, read and checked; and its first form.

Providers: aesgcm, aescbc, secretbox and identity. ``kms`` is refused.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from portside.base.errors import PortsideError
from portside.store.ciphers import AesCbc, AesGcm, Cipher, SecretBox
from portside.store.seal import PLAIN, Rule, Seal, Slot

Json = dict[str, Any]
API_VERSION, KIND = "apiserver.config.k8s.io/v1", "EncryptionConfiguration"
CIPHERS: dict[str, type[AesGcm] | type[AesCbc] | type[SecretBox]] = {
    "aesgcm": AesGcm,
    "aescbc": AesCbc,
    "secretbox": SecretBox,
}
MOST_BYTES = 1 << 20
NAME_LENGTH = 64
HEADER = """\
# What Portside encrypts in its store, and with which keys: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
# The first key of a kind writes, any key reads. Changes take effect within seconds, without a restart.
# Keep a copy of this file beside every backup of the store: without its keys the Secrets in it are lost.
# A new key: portside secrets rotate
"""
Fail = Callable[[str, str], PortsideError]


def read_file(path: Path) -> tuple[bytes, Seal]:
    """The file's bytes and what it asks for. Raises PortsideError, FileNotFoundError."""
    todo = f"give it back to its owner alone: chmod 600 {path}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise PortsideError(f"{path} can't be read", why=problem.strerror or str(problem)) from problem
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o077 or not stat.S_ISREG(status.st_mode):
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise PortsideError(f"{path} is open to other users", why=f"it holds keys, its mode is {mode}", todo=todo)
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise PortsideError(f"{path} is too large", why=f"at most {MOST_BYTES >> 20} MiB are read")
    return raw, parse(raw, str(path))


def parse(raw: bytes, where: str) -> Seal:
    """The seal a file asks for. Raises PortsideError that names the field, and never shows a key."""

    def fail(field: str, why: str) -> PortsideError:
        return PortsideError(
            f"{where}: {field}" if field else where, why=why, todo=f"mend it; see {KIND} of {API_VERSION}"
        )

    try:
        found = yaml.safe_load(raw)
    except yaml.YAMLError as problem:
        line = getattr(getattr(problem, "problem_mark", None), "line", -1) + 1
        raise fail("", f"it is no YAML (line {line})") from None
    if not isinstance(found, dict) or found.get("kind") != KIND or found.get("apiVersion") != API_VERSION:
        raise fail("", f"it is no {KIND} of {API_VERSION}")
    entries = found.get("resources")
    if not isinstance(entries, list) or not entries:
        raise fail("resources", "required: at least one resource must be specified")
    return Seal([_rule(entry, f"resources[{i}]", fail) for i, entry in enumerate(entries)], raw)


def _rule(entry: Any, at: str, fail: Fail) -> Rule:
    names = entry.get("resources") if isinstance(entry, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise fail(f"{at}.resources", "required: a list of resources, such as secrets")
    providers = entry.get("providers")
    if not isinstance(providers, list) or not providers:
        raise fail(f"{at}.providers", "required: at least one provider must be specified")
    slots: list[Slot] = []
    for i, provider in enumerate(providers):
        place = f"{at}.providers[{i}]"
        if not isinstance(provider, dict) or len(provider) != 1:
            raise fail(place, "exactly one provider must be set in each element")
        (kind, settings), *_ = provider.items()
        slots += _slots(str(kind), settings, f"{place}.{kind}", fail)
    prefixes = tuple(_prefix(name, f"{at}.resources", fail) for name in names)
    return Rule(prefixes, tuple(slots))


def _slots(kind: str, settings: Any, at: str, fail: Fail) -> list[Slot]:
    if kind == "identity":
        return [PLAIN]
    if kind not in CIPHERS:
        raise fail(at, f"this provider is not supported; use one of {', '.join(CIPHERS)}, identity")
    keys = settings.get("keys") if isinstance(settings, dict) else None
    if not isinstance(keys, list) or not keys:
        raise fail(f"{at}.keys", "required: at least one key must be specified")
    slots = [_slot(kind, key, f"{at}.keys[{i}]", fail) for i, key in enumerate(keys)]
    if len({slot.name for slot in slots}) < len(slots):
        raise fail(f"{at}.keys", "two keys have the same name")
    return slots


def _slot(kind: str, key: Any, at: str, fail: Fail) -> Slot:
    name = key.get("name") if isinstance(key, dict) else None
    if not isinstance(name, str) or not name or ":" in name or len(name.encode()) > NAME_LENGTH:
        raise fail(f"{at}.name", f"required: a text of at most {NAME_LENGTH} bytes without a colon")
    lengths = CIPHERS[kind].lengths
    try:
        secret = base64.b64decode(str(key.get("secret") or ""), validate=True)
    except (binascii.Error, ValueError):
        raise fail(f"{at}.secret", "secret must be base64 encoded") from None
    if len(secret) not in lengths:
        wanted = " ".join(map(str, lengths))
        raise fail(
            f"{at}.secret", f"secret is not of the expected length, got {len(secret)}, expected one of [{wanted}]"
        )
    cipher: Cipher = CIPHERS[kind](secret)
    return Slot(name.encode(), cipher)


def _prefix(name: str, at: str, fail: Fail) -> str:
    """Where the store keeps a resource: ``secrets``, ``deployments.apps``, ``*.apps``, ``*.`` (the core group), ``*.*``."""
    plural, dot, group = name.partition(".")
    if "/" in name or (plural == "*" and not dot) or not plural:
        raise fail(at, f"{name} is no resource: write plural.group, *.group, or *.* for all")
    if name == "*.*":
        return "/"
    return f"/{group or 'core'}/" if plural == "*" else f"/{group or 'core'}/{plural}/"


def new_key(name: str) -> Json:
    return {"name": name, "secret": base64.b64encode(secrets.token_bytes(32)).decode()}


def first_form() -> str:
    """The file of a cluster that has none: Secrets, by one key; what was written before is read as it is."""
    providers = [{"secretbox": {"keys": [new_key("key1")]}}, {"identity": {}}]
    return written([{"resources": ["secrets"], "providers": providers}])


def written(entries: list[Json]) -> str:
    """The file's text for its list of resources."""
    whole = {"apiVersion": API_VERSION, "kind": KIND, "resources": entries}
    return HEADER + yaml.safe_dump(whole, sort_keys=False)
