"""Writes docs/reference/causes.md from the table of causes; tests/unit/why compares it.

.venv/bin/python scripts/causes_page.py
"""

from __future__ import annotations

from pathlib import Path

from portside.why.causes import CAUSES
from portside.why.finding import Grade, Role
from portside.why.scheduling import FILTERS

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/causes.md"
GRADES = {
    Grade.CLUSTER: "cluster",
    Grade.FAULT: "fault",
    Grade.WAITS: "waits",
    Grade.NOTE: "note",
}
HEAD = """# What portside why knows

Written from the table by `scripts/causes_page.py`. How to ask: [find out why](../how-to/find-out-why.md).

A cause of grade *cluster* is told first, then *fault*, *waits* (it may end by itself) and *note* (somebody's wish). A *link* is
told as a consequence when something the object depends on explains it; a *symptom* never explains anything, and is told as a
consequence or as what is known.

| cause | asked of | grade | what it means |
| --- | --- | --- | --- |
"""
FILTER_HEAD = """
## What the scheduler says

`unschedulable` takes the scheduler's own words apart, one line a filter:

| the scheduler's words | what to do |
| --- | --- |
"""


def page() -> str:
    rows = []
    for cause in CAUSES:
        kinds = "everything" if cause.kinds == ("*",) else "custom resources" if cause.kinds == ("*.*",) else ""
        role = "" if cause.role is Role.ROOT else f", {cause.role.value}"
        rows.append(
            f"| `{cause.name}` | {kinds or ', '.join(cause.kinds)} | {GRADES[cause.grade]}{role} | {cause.means} |\n"
        )
    filters = [f"| {f.words} | {f.todo} |\n" for f in FILTERS]
    return HEAD + "".join(rows) + FILTER_HEAD + "".join(filters)


if __name__ == "__main__":
    PAGE.write_text(page())
