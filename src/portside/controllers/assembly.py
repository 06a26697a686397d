"""The list of controllers that a control plane runs."""

from __future__ import annotations

from portside.controllers import (
    deployment,
    endpointmirror,
    endpoints,
    endpointslice,
    garbage,
    namespace,
    replicaset,
    replicationcontroller,
    rootca,
    serviceaccount,
)
from portside.controllers.harness import Controller

ALWAYS: tuple[Controller, ...] = (
    deployment.CONTROLLER,
    replicaset.CONTROLLER,
    replicationcontroller.CONTROLLER,
    endpointslice.CONTROLLER,
    endpoints.CONTROLLER,
    endpointmirror.CONTROLLER,
    serviceaccount.CONTROLLER,
    namespace.CONTROLLER,
)
LAST: tuple[Controller, ...] = (garbage.CONTROLLER,)  # asks for metadata only, so after those who want whole objects


def controllers(*, root_ca: str = "") -> list[Controller]:
    """``root_ca``: PEM; without it nothing is published."""
    publisher = [rootca.controller(root_ca)] if root_ca else []
    return [*ALWAYS, *publisher, *LAST]
