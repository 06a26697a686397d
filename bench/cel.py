"""Evaluations per second of typical expressions, what compiling costs, and what importing the language costs.

Run: ``.venv/bin/python bench/cel.py [SECONDS]`` (per line, 1 unless said).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

started = time.perf_counter()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

from portside.api import cel  # noqa: E402
from portside.api.cel import declared, types  # noqa: E402
from portside.api.cel.functions import library  # noqa: E402
from portside.api.rule_evaluation import validate_rules  # noqa: E402
from portside.api.schema_rules import compile_rules  # noqa: E402

library()
IMPORT = time.perf_counter() - started
MEMORY = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

SCHEMA = {
    "type": "object",
    "x-kubernetes-validations": [{"rule": "self.spec.min <= self.spec.max"}],
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "min": {"type": "integer"},
                "max": {"type": "integer"},
                "name": {"type": "string", "maxLength": 63, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
                "hosts": {
                    "type": "array",
                    "maxItems": 32,
                    "items": {"type": "string", "maxLength": 253},
                    "x-kubernetes-validations": [{"rule": "self.all(h, h.endsWith('.example.com'))"}],
                },
            },
        }
    },
}
OBJECT = {"spec": {"min": 1, "max": 5, "name": "a", "hosts": [f"h{i}.example.com" for i in range(5)]}}
POD = {"spec": {"containers": [{"image": "registry.example/a:1", "securityContext": {"privileged": False}}] * 3}}
TYPED = [
    ("compare two fields", "self.spec.min <= self.spec.max", OBJECT),
    ("a list of five", "self.spec.hosts.all(h, h.endsWith('.example.com'))", OBJECT),
    ("a pattern", "self.spec.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", OBJECT),
]
UNTYPED = [
    ("images of three containers", "self.spec.containers.all(c, c.image.startsWith('registry.example/'))", POD),
    ("optional fields", "!self.spec.containers.exists(c, c.?securityContext.?privileged.orValue(false))", POD),
    ("five numbers", "size(self.a) > 1 && self.l.all(x, x < 10)", {"a": "abc", "l": [1, 2, 3, 4, 5]}),
]


def rate(run: Callable[[], object], seconds: float) -> float:
    """Calls per second."""
    count, end = 0, time.perf_counter() + seconds
    begun = time.perf_counter()
    while time.perf_counter() < end:
        for _ in range(50):
            run()
        count += 50
    return count / (time.perf_counter() - begun)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print(f"import with all functions: {IMPORT * 1000:.0f} ms, {MEMORY / 1024:.1f} MB")
    declared_type = declared.from_schema(SCHEMA)
    assert declared_type is not None
    for table, type_ in ((TYPED, declared_type), (UNTYPED, types.DYN)):
        for name, text, value in table:
            program = cel.compile_expression(text, variables={"self": type_})
            made = rate(
                lambda text=text, type_=type_: cel.compile_expression(text, variables={"self": type_}), seconds / 2
            )
            ran = rate(lambda program=program, value=value: program.evaluate({"self": value}), seconds)
            print(f"{name:28} {ran:10,.0f} evaluations/s {made:8,.0f} compilations/s  cost {program.spent}")
    rules = compile_rules(SCHEMA)
    assert rules is not None
    print(
        f"{'all rules of an update':28} {rate(lambda: validate_rules(rules, OBJECT, OBJECT), seconds):10,.0f} objects/s"
    )


if __name__ == "__main__":
    main()
