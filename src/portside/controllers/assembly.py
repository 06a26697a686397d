"""The list of controllers that a control plane runs."""

from __future__ import annotations

from portside.base import gates
from portside.base.clock import SYSTEM, Clock
from portside.base.signing import Sign
from portside.controllers import (
    attachdetach,
    attributesclassprotection,
    bootstraptoken,
    claimprotection,
    clusterdns,
    clusterroleaggregation,
    cronjob,
    csrapproving,
    csrcleaner,
    csrsigning,
    daemonset,
    deployment,
    devicetainteviction,
    disruption,
    endpointmirror,
    endpoints,
    endpointslice,
    ephemeralvolume,
    flowschema,
    garbage,
    horizontalpodautoscaler,
    identitylease,
    ipaddress,
    job,
    legacytoken,
    loadbalancer,
    localpath,
    namespace,
    nodeipam,
    nodelifecycle,
    persistentvolume,
    persistentvolumeclaim,
    podgc,
    podgroupprotection,
    policytypecheck,
    replicaset,
    replicationcontroller,
    resourceclaim,
    resourcequota,
    rootca,
    serviceaccount,
    serviceaccounttoken,
    servicecidr,
    servingapproval,
    staledisruption,
    statefulset,
    storageversionmigration,
    tainteviction,
    trustbundle,
    ttlafterfinished,
    untracked,
    volumeexpand,
    volumeprotection,
)
from portside.controllers.harness import Controller
from portside.controllers.serviceaccounttoken import Mint

ALWAYS: tuple[Controller, ...] = (
    deployment.CONTROLLER,
    replicaset.CONTROLLER,
    replicationcontroller.CONTROLLER,
    endpointmirror.CONTROLLER,
    serviceaccount.CONTROLLER,
    namespace.CONTROLLER,
    cronjob.CONTROLLER,
    untracked.CONTROLLER,
    ttlafterfinished.CONTROLLER,
    statefulset.CONTROLLER,
    staledisruption.CONTROLLER,
    claimprotection.CONTROLLER,
    persistentvolumeclaim.CONTROLLER,
    persistentvolume.CONTROLLER,
    volumeprotection.CONTROLLER,
    volumeexpand.CONTROLLER,
    attributesclassprotection.CONTROLLER,
    ephemeralvolume.CONTROLLER,
    *localpath.CONTROLLERS,
    servicecidr.CONTROLLER,
    *ipaddress.CONTROLLERS,
    *resourceclaim.CONTROLLERS,
    podgc.THINNING,
    storageversionmigration.CONTROLLER,
    clusterroleaggregation.CONTROLLER,
    policytypecheck.CONTROLLER,
    *flowschema.CONTROLLERS,
    clusterdns.CONTROLLER,
    loadbalancer.CONTROLLER,
    csrapproving.CONTROLLER,
    servingapproval.CONTROLLER,
    *csrcleaner.CONTROLLERS,
    *bootstraptoken.CONTROLLERS,
    *legacytoken.CONTROLLERS,
)
REMEMBERING = (  # made anew for each run, as they remember what they saw
    attachdetach.controller,
    daemonset.controller,
    disruption.controller,
    job.controller,
    endpointslice.controller,
    endpoints.controller,
    tainteviction.controller,
    podgc.controller,
    horizontalpodautoscaler.controller,
    resourcequota.controller,
)
GATED: dict[str, tuple[Controller, ...]] = {gates.WORKLOADS: (podgroupprotection.CONTROLLER,)}
LAST: tuple[Controller, ...] = (garbage.CONTROLLER,)  # asks for metadata only, so after those who want whole objects


def controllers(
    *,
    root_ca: str = "",
    sign: Sign | None = None,
    mint: Mint | None = None,
    cluster_cidr: str = "",
    node_mask: int = nodeipam.MASK,
    service_cidr: str = "",
    host: str = "",
    clock: Clock = SYSTEM,
) -> list[Controller]:
    """``root_ca``: PEM; without it nothing is published. ``sign``: the authority; without it nothing is signed. ``mint``
    makes tokens for Secrets. ``cluster_cidr``: the range of all pods; without it nodes are given no part, else one of
    prefix length ``node_mask`` that has nothing of ``service_cidr``. ``host``: what the API server's lease is
    made for; without it there is none."""
    publisher = [rootca.controller(root_ca), trustbundle.controller(root_ca)] if root_ca else []
    if host:
        publisher.append(identitylease.controller(host))
    if sign is not None:
        publisher.append(csrsigning.controller(sign))
    if mint is not None:
        publisher.append(serviceaccounttoken.controller(root_ca, mint))
    if cluster_cidr:
        publisher.append(nodeipam.controller(cluster_cidr, node_mask, (service_cidr,) if service_cidr else ()))
    remembering = [nodelifecycle.controller(clock), *(made() for made in REMEMBERING)]
    remembering += devicetainteviction.controllers()
    gated = [c for gate, held in GATED.items() if gates.enabled(gate) for c in held]
    return [*ALWAYS, *gated, *remembering, *publisher, *LAST]
