"""Temporary stand-ins while the schema part is not there; removed when it lands."""

from __future__ import annotations

from typing import Any

import orjson

from portside.api.status import ApiError, bad_request

Json = dict[str, Any]

try:
    from portside.api.schema import definition, parse_json, parse_yaml, schema_for
except ImportError:

    class _Schema:
        def decode(self, obj: Json) -> list[str]:
            return []

    def parse_json(raw: bytes) -> tuple[Any, list[str]]:
        try:
            return orjson.loads(raw), []
        except orjson.JSONDecodeError as error:
            raise bad_request(str(error)) from None

    def parse_yaml(raw: bytes) -> tuple[Any, list[str]]:
        import yaml

        return yaml.safe_load(raw), []

    def schema_for(kind: Any, **more: Any) -> Any:
        return _Schema()

    def definition(name: str) -> Any:
        return _Schema()


try:
    from portside.api.patch import json_patch, merge_patch, strategic_merge
except ImportError:

    def merge_patch(obj: Any, patch: Any) -> Any:
        if not isinstance(patch, dict):
            return patch
        out = dict(obj) if isinstance(obj, dict) else {}
        for key, value in patch.items():
            if value is None:
                out.pop(key, None)
            else:
                out[key] = merge_patch(out.get(key), value)
        return out

    def json_patch(obj: Any, ops: Any) -> Any:
        raise ApiError(500, "InternalError", "no JSON patch yet")

    def strategic_merge(obj: Any, patch: Any, schema: Any) -> Any:
        return merge_patch(obj, patch)


try:
    from portside.api import managed
except ImportError:

    class managed:  # type: ignore[no-redef]
        @staticmethod
        def after_update(old: Any, new: Any, **more: Any) -> None:
            return None

        @staticmethod
        def apply(live: Any, applied: Any, **more: Any) -> Any:
            return merge_patch(live or {}, applied)


__all__ = [
    "definition",
    "json_patch",
    "managed",
    "merge_patch",
    "parse_json",
    "parse_yaml",
    "schema_for",
    "strategic_merge",
]
