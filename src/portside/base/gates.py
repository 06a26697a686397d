"""Feature gates: parts of the API that upstream has switched off by default in this version, under upstream's names.

They are read once, from the environment of the process: the table of kinds and all that derives from it are made when
they are loaded. `portside up --feature-gates` sets it for a cluster's processes.
"""

from __future__ import annotations

import os

VARIABLE = "PORTSIDE_FEATURE_GATES"
WORKLOADS = "GenericWorkload"  # scheduling.k8s.io/v1beta1: PodGroup, Workload; spec.schedulingGroup of pods
KNOWN = (WORKLOADS,)


class GateError(ValueError):
    """Gates that can't be understood: says which and what there is."""


def parse(text: str) -> frozenset[str]:
    """The gates that ``Name=true,Other=false`` switches on. Raises GateError."""
    on = set()
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        if name not in KNOWN:
            raise GateError(f'there is no feature gate "{name}"; there is {", ".join(KNOWN)}')
        if value.lower() not in ("true", "false"):
            raise GateError(f'{name} is "{value}"; it can be true or false')
        if value.lower() == "true":
            on.add(name)
    return frozenset(on)


ENABLED = parse(os.environ.get(VARIABLE, ""))


def enabled(name: str) -> bool:
    """Whether a gate is on in this process."""
    return name in ENABLED
