"""Flow schemas: their condition about the level they name, and that the mandatory ones come back."""

from __future__ import annotations

from typing import Any

from portside.client.cache import View
from portside.controllers.flowschema import LEVELS, SCHEMAS, plan, plan_level
from portside.controllers.plan import Op

Json = dict[str, Any]
NOW = 1_790_000_000.0


def schema(**status: Any) -> Json:
    return {"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "l"}}, "status": status}


def told(*levels: str, have: Json | None = None) -> Json | None:
    """The condition that is written, None when nothing is."""
    held = schema(conditions=[have]) if have else schema()
    view = View.of({SCHEMAS: [held], LEVELS: [{"metadata": {"name": n}} for n in levels]})
    for step in plan(view, "s", NOW).steps:
        assert isinstance(step, Op) and step.subresource == "status" and step.patch_type == "apply"
        found: Json = step.body["status"]["conditions"][0]
        return found
    return None


def test_a_schema_says_whether_its_level_is_there() -> None:
    text = 'This FlowSchema references the PriorityLevelConfiguration object named "l"'
    there, gone = told("l"), told()
    assert there is not None and gone is not None
    assert (there["status"], there["reason"], there["message"]) == ("False", "Found", f"{text} and it exists")
    assert (gone["status"], gone["reason"], gone["message"]) == (
        "True",
        "NotFound",
        f"{text} but there is no such object",
    )
    assert told("l", have=there) is None
    changed = told(have=there | {"lastTransitionTime": "2020-01-01T00:00:00Z"})
    assert changed is not None and changed["lastTransitionTime"] > "2026"


def test_only_what_is_mandatory_comes_back() -> None:
    empty = View.of({SCHEMAS: [], LEVELS: []})
    for make, name in ((plan, "exempt"), (plan, "catch-all"), (plan_level, "exempt"), (plan_level, "catch-all")):
        (step,) = make(empty, name, NOW).steps
        assert isinstance(step, Op) and step.verb == "create" and step.body["metadata"]["name"] == name
    assert plan(empty, "mine", NOW).steps == () and plan_level(empty, "workload-low", NOW).steps == ()
