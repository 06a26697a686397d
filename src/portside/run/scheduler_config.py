"""The scheduler's configuration: ``scheduler.yaml`` in the cluster's folder, a KubeSchedulerConfiguration as upstream reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portside.base.errors import PortsideError

NAME = "scheduler.yaml"


def scheduler_profiles(home: Path) -> dict[str, Any]:
    """``profiles``, ``backoff`` and ``extenders`` for the scheduler; empty without a file. Raises PortsideError for a file that can't be used."""
    path = home / NAME
    if not path.exists():
        return {}
    import yaml

    from portside.scheduler.configuration import configuration
    from portside.scheduler.extender_http import tls_context
    from portside.scheduler.profile import ConfigError

    todo = f"mend {path}, or take it away"
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PortsideError(f"{path} can't be read", why=str(error), todo=todo) from error
    if not isinstance(config, dict):
        raise PortsideError(f"{path} is not a KubeSchedulerConfiguration", why="it holds no mapping", todo=todo)
    try:
        made = configuration(config)
        for extender in made.extenders:
            tls_context(extender)  # certificates that can't be read are told now, not when the first pod waits
        return {"profiles": made.profiles, "backoff": made.backoff, "extenders": made.extenders}
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise PortsideError(f"{path} is not accepted", why=str(error), todo=todo) from error
