"""The published definitions of Kubernetes 1.37, shrunk to what the code needs and kept in a file for the next start.

Source: the OpenAPI definitions of the ``kubernetes-validate`` package. They leave out how a field is written when it is
empty, so ``gofields.json`` adds, for the fields where it is not what their schema suggests, the flags of the public Go
types (``e`` left out when empty, ``z`` left out when zero, ``p`` pointer) and the Go type that error texts name.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]
FORMAT = 5  # raise it when the shrunk form changes
EXTENSIONS = {
    "x-kubernetes-list-type": "lt",
    "x-kubernetes-list-map-keys": "lk",
    "x-kubernetes-map-type": "mt",
    "x-kubernetes-patch-merge-key": "mk",
    "x-kubernetes-patch-strategy": "ps",
}
DEFAULT_FLAGS = {"string": "e", "array": "e", "map": "e"}


def source_path() -> Path:
    """Where the installed package keeps its definitions."""
    import importlib.util

    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the kubernetes-validate package is missing: run pip install portside again")
    return Path(spec.origin).parent / "kubernetes-json-schema" / "v1.37.0-local" / "_definitions.json"


def cache_path(directory: str | None = None) -> Path:
    """The file of the shrunk form: below ``directory``, PORTSIDE_CACHE, XDG_CACHE_HOME or ~/.cache, in that order."""
    base = directory or os.environ.get("PORTSIDE_CACHE")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "portside")
    return Path(base) / f"schemas-{FORMAT}.bin"


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return str(next((v for v in value if v != "null"), ""))
    return str(value or "")


def _shrink(prop: Json) -> Json:
    out: Json = {}
    if "$ref" in prop:
        out["r"] = prop["$ref"].rsplit("/", 1)[1]
    else:
        out["t"] = _scalar(prop.get("type"))
        if prop.get("format"):
            out["f"] = prop["format"]
        if "items" in prop:
            out["i"] = _shrink(prop["items"])
        if isinstance(prop.get("additionalProperties"), dict):
            out["t"], out["v"] = "map", _shrink(prop["additionalProperties"])
    for long, short in EXTENSIONS.items():
        if long in prop and not isinstance(prop[long], dict):
            out[short] = prop[long]
    return out


def _flagged(out: Json, fact: str, required: bool) -> Json:
    flags, _, go_type = fact.partition(" ")
    if flags == "-":
        flags = "" if required else DEFAULT_FLAGS.get(out.get("t", ""), "ep")
    out["e"] = flags
    if go_type:
        out["g"] = go_type
    return out


def _build(source: Path) -> Json:
    """``{"defs": {name: shrunk}, "kinds": {"group/version/kind": name}}``."""
    definitions = orjson.loads(source.read_bytes())["$defs"]
    facts = orjson.loads(Path(__file__).with_name("gofields.json").read_bytes())
    defs: Json = {}
    kinds: dict[str, str] = {}
    for name, body in definitions.items():
        short = _shrink(body)
        required = body.get("required", [])
        known = facts.get(name, {})
        if "properties" in body:
            short["p"] = {
                f: _flagged(_shrink(p), known.get(f, "-"), f in required) for f, p in body["properties"].items()
            }
        if required:
            short["q"] = required
        defs[name] = short
        for gvk in body.get("x-kubernetes-group-version-kind", ()):
            kinds.setdefault(f"{gvk['group']}/{gvk['version']}/{gvk['kind']}", name)
    return {"defs": defs, "kinds": kinds}


@lru_cache(maxsize=1)
def load(directory: str | None = None) -> Json:
    """The shrunk definitions, from the cache file when it fits the installed package, else built and written there.

    A cache that can't be read or written is no error: building takes some 60 ms.
    """
    source = source_path()
    stat = source.stat()
    stamp = [FORMAT, stat.st_size, int(stat.st_mtime)]
    path = cache_path(directory)
    try:
        with open(path, "rb") as file:
            if marshal.load(file) == stamp:
                loaded: Json = marshal.load(file)
                return loaded
    except (OSError, ValueError, EOFError, TypeError):
        pass
    built = _build(source)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            marshal.dump(stamp, file)
            marshal.dump(built, file)
        os.replace(draft, path)
    return built


def raw_definition(name: str) -> Json:
    """One definition as published, with its descriptions: for OpenAPI and explain."""
    found: Json = all_definitions()[name]
    return found


def all_definitions() -> Json:
    """Every definition as published. Read anew on each call (20 ms, 8 MB): keep what you derive, not this."""
    loaded: Json = orjson.loads(source_path().read_bytes())["$defs"]
    return loaded
