"""Completion indexes of Jobs: their text form (``0-2,5``), and which index a pod has."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.protocol import Json

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"


def parse_indexes(text: str | None, completions: int | None = None) -> set[int]:
    """Indexes of a text; those beyond ``completions`` are left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            continue
        end = int(last) if dash else int(first)
        if completions is not None:
            end = min(end, completions - 1)
        found.update(range(int(first), end + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """Runs of three or more with a dash, others separated by commas, as upstream writes them."""
    ordered = sorted(indexes)
    runs: list[list[int]] = []
    for index in ordered:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    parts: list[str] = []
    for run in runs:
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts += [str(i) for i in run]
    return ",".join(parts)


def index_of(pod: Json) -> int | None:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdigit() else None


def failures_of(pod: Json) -> int:
    """How often the pod's index had failed before it."""
    return _number(pod, FAILURES)


def ignored_of(pod: Json) -> int:
    """How many failures of the pod's index its policy had left uncounted before it."""
    return _number(pod, IGNORED)


def _number(pod: Json, annotation: str) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(annotation, "0")
    return int(text) if text.isdigit() else 0
