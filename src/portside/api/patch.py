"""The three patches of the API: the one door to patch_json, patch_merge and patch_strategic."""

from __future__ import annotations

from portside.api.patch_json import json_patch
from portside.api.patch_merge import merge_patch
from portside.api.patch_strategic import strategic_merge

__all__ = ["json_patch", "merge_patch", "strategic_merge"]
