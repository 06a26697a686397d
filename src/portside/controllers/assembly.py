"""The list of controllers that a control plane runs."""

from __future__ import annotations

from portside.controllers import (
    claimprotection,
    clusterroleaggregation,
    cronjob,
    daemonset,
    deployment,
    disruption,
    endpointmirror,
    endpoints,
    endpointslice,
    garbage,
    job,
    namespace,
    nodelifecycle,
    persistentvolume,
    persistentvolumeclaim,
    podgc,
    replicaset,
    replicationcontroller,
    resourcequota,
    rootca,
    serviceaccount,
    statefulset,
    tainteviction,
    ttlafterfinished,
    untracked,
    volumeprotection,
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
    daemonset.CONTROLLER,
    job.CONTROLLER,
    cronjob.CONTROLLER,
    untracked.CONTROLLER,
    ttlafterfinished.CONTROLLER,
    statefulset.CONTROLLER,
    disruption.CONTROLLER,
    claimprotection.CONTROLLER,
    persistentvolumeclaim.CONTROLLER,
    persistentvolume.CONTROLLER,
    volumeprotection.CONTROLLER,
    resourcequota.CONTROLLER,
    clusterroleaggregation.CONTROLLER,
)
LAST: tuple[Controller, ...] = (garbage.CONTROLLER,)  # asks for metadata only, so after those who want whole objects


def controllers(*, root_ca: str = "") -> list[Controller]:
    """``root_ca``: PEM; without it nothing is published."""
    publisher = [rootca.controller(root_ca)] if root_ca else []
    remembering = [nodelifecycle.controller(), tainteviction.controller(), podgc.controller()]
    return [*ALWAYS, *remembering, *publisher, *LAST]
