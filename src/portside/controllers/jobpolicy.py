"""Pod failure policies and success policies of Jobs: what a finished pod means for its job."""

from __future__ import annotations

from dataclasses import dataclass

from portside.client.protocol import Json
from portside.controllers.jobindex import parse_indexes


@dataclass(frozen=True, slots=True)
class Verdict:
    """``action``: FailJob, FailIndex, Ignore, Count; ``message`` says which rule."""

    action: str
    message: str = ""


COUNTED = Verdict("Count")


def _statuses(pod: Json) -> list[Json]:
    status = pod.get("status") or {}
    return [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]


def _exit_code(pod: Json, rule: Json) -> tuple[str, int] | None:
    """The container whose exit code meets the requirement, with the code. Code 0 never counts as a failure."""
    wanted = rule.get("containerName")
    values = rule.get("values") or ()
    for found in _statuses(pod):
        ended = (found.get("state") or {}).get("terminated")
        if ended is None or (wanted and found.get("name") != wanted) or ended.get("exitCode", 0) == 0:
            continue
        code = int(ended["exitCode"])
        if (code in values) == (rule.get("operator") == "In"):
            return str(found.get("name", "")), code
    return None


def judge(policy: Json | None, pod: Json) -> Verdict:
    """The first rule that matches a failed pod."""
    place = f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule["action"]
        text = ""
        if rule.get("onExitCodes"):
            found = _exit_code(pod, rule["onExitCodes"])
            if found is not None:
                text = f"Container {found[0]} for pod {place} failed with exit code {found[1]}"
        else:
            for wanted in rule.get("onPodConditions") or ():
                for have in (pod.get("status") or {}).get("conditions") or ():
                    if have.get("type") == wanted["type"] and have.get("status") == wanted.get("status", "True"):
                        text = f"Pod {place} has condition {wanted['type']}"
                        break
        if text:
            return Verdict(action, f"{text} matching {action} rule at index {number}")
    return COUNTED


def success_rule(policy: Json | None, succeeded: set[int]) -> str | None:
    """The message of the first success rule that the succeeded indexes fulfil."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        wanted = parse_indexes(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None
        have = succeeded if wanted is None else succeeded & wanted
        count = rule.get("succeededCount")
        if (count is not None and len(have) >= count) or (count is None and wanted is not None and have == wanted):
            return f"Matched rules at index {number}"
    return None
