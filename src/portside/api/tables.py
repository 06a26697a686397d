"""Printer columns: the Table of every kind, as ``kubectl get`` shows it. Columns are data; each kind has one row function.

A column is written ``Name[:type][/format][@priority]``; type is string when left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from portside.api.kinds import Kind
from portside.api.tables_column import Column
from portside.api.tables_format import Now, epoch

Json = Mapping[str, Any]
Row = Callable[[Json, float], list[Any]]


# group/kind -> (module of the row function, columns). The function is ``row_`` + the kind in lower case, or the name given.
_WORKLOAD = "Containers@1 Images@1"
_HPA = "Name Reference Targets MinPods MaxPods Replicas Age"
_BINDING = "Name Role Age Users@1 Groups@1 ServiceAccounts@1"
_WEBHOOKS = "Name Webhooks:integer Age"
_EVENT = "Last_Seen Type Reason Object Subobject@1 Source@1 Message First_Seen@1 Count@1 Name@1"
_DEFAULT = "Name Created_At:date"
_AGE = "Name Age"
TABLES: dict[tuple[str, str], tuple[str, str]] = {
    ("", "Pod"): ("pods", "Name Ready Status Restarts Age IP@1 Node@1 Nominated_Node@1 Readiness_Gates@1"),
    ("", "PodTemplate"): ("workloads", "Name Containers Images Pod_Labels"),
    ("", "ReplicationController"): (
        "workloads",
        f"Name Desired:integer Current:integer Ready:integer Age {_WORKLOAD} Selector@1",
    ),
    ("apps", "ReplicaSet"): (
        "workloads",
        f"Name Desired:integer Current:integer Ready:integer Age {_WORKLOAD} Selector@1",
    ),
    ("apps", "DaemonSet"): (
        "workloads",
        "Name Desired:integer Current:integer Ready:integer Up-to-date:integer Available:integer Node_Selector Age "
        f"{_WORKLOAD} Selector@1",
    ),
    ("apps", "Deployment"): ("workloads", f"Name Ready Up-to-date Available Age {_WORKLOAD} Selector@1"),
    ("apps", "StatefulSet"): ("workloads", f"Name Ready Age {_WORKLOAD}"),
    ("apps", "ControllerRevision"): ("workloads", "Name Controller Revision Age"),
    ("batch", "Job"): ("workloads", f"Name Status Completions Duration Age {_WORKLOAD} Selector@1"),
    ("batch", "CronJob"): (
        "workloads",
        f"Name Schedule Timezone Suspend:boolean Active:integer Last_Schedule Age {_WORKLOAD} Selector@1",
    ),
    ("autoscaling", "Scale"): ("workloads", "Name/ Desired:integer Available:integer Age"),
    ("autoscaling", "HorizontalPodAutoscaler"): ("autoscaling", _HPA),
    ("policy", "PodDisruptionBudget"): (
        "workloads",
        "Name Min_Available Max_Unavailable Allowed_Disruptions:integer Age",
    ),
    ("", "Service"): ("core", "Name Type Cluster-IP External-IP Port(s) Age Selector@1"),
    ("", "Endpoints"): ("core", "Name Endpoints Age"),
    ("", "Node"): (
        "core",
        "Name Status Roles Age Version Internal-IP@1 External-IP@1 OS-Image@1 Kernel-Version@1 Container-Runtime@1",
    ),
    ("", "Event"): ("core", _EVENT),
    ("events.k8s.io", "Event"): ("core", _EVENT),
    ("", "Namespace"): ("core", "Name Status Age"),
    ("", "Secret"): ("core", "Name Type Data Age"),
    ("", "ServiceAccount"): ("core", _AGE),
    ("", "ConfigMap"): ("core", "Name Data Age"),
    ("", "PersistentVolume"): (
        "core",
        "Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age VolumeMode@1",
    ),
    ("", "PersistentVolumeClaim"): (
        "core",
        "Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age VolumeMode@1",
    ),
    ("", "ComponentStatus"): ("core", "Name Status Message Error"),
    ("", "ResourceQuota"): ("core", "Name Request Limit Age"),
    ("networking.k8s.io", "Ingress"): ("groups", "Name Class Hosts Address Ports Age"),
    ("networking.k8s.io", "IngressClass"): ("groups", "Name Controller Parameters Age"),
    ("networking.k8s.io", "NetworkPolicy"): ("groups", "Name Pod-Selector Age"),
    ("networking.k8s.io", "IPAddress"): ("groups", "Name ParentRef"),
    ("networking.k8s.io", "ServiceCIDR"): ("groups", "Name CIDRs Age"),
    ("discovery.k8s.io", "EndpointSlice"): ("groups", "Name AddressType Ports Endpoints Age"),
    ("rbac.authorization.k8s.io", "RoleBinding"): ("groups", _BINDING),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): ("groups", _BINDING),
    ("certificates.k8s.io", "CertificateSigningRequest"): (
        "groups",
        "Name Age SignerName Requestor RequestedDuration Condition",
    ),
    ("certificates.k8s.io", "ClusterTrustBundle"): ("groups", "Name SignerName"),
    ("certificates.k8s.io", "PodCertificateRequest"): (
        "groups",
        "Name PodName ServiceAccountName NodeName SignerName State UnverifiedUserAnnotations",
    ),
    ("coordination.k8s.io", "Lease"): ("groups", "Name Holder Age"),
    ("storage.k8s.io", "StorageClass"): (
        "groups",
        "Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
    ),
    ("storage.k8s.io", "VolumeAttributesClass"): ("groups", "Name DriverName Age"),
    ("storage.k8s.io", "VolumeAttachment"): ("groups", "Name Attacher=name PV Node Attached:boolean Age"),
    ("storage.k8s.io", "CSIDriver"): (
        "groups",
        "Name AttachRequired:boolean PodInfoOnMount:boolean StorageCapacity:boolean TokenRequests "
        "RequiresRepublish:boolean Modes Age",
    ),
    ("storage.k8s.io", "CSINode"): ("groups", "Name Drivers:integer Age"),
    ("scheduling.k8s.io", "PriorityClass"): (
        "groups",
        "Name Value:integer Global-Default:boolean Age PreemptionPolicy",
    ),
    ("node.k8s.io", "RuntimeClass"): ("groups", "Name Handler Age"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"): (
        "groups",
        "Name PriorityLevel MatchingPrecedence DistinguisherMethod Age MissingPL",
    ),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"): (
        "groups",
        "Name Type NominalConcurrencyShares Queues HandSize QueueLengthLimit Age",
    ),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): ("groups", _WEBHOOKS),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): ("groups", _WEBHOOKS),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): (
        "groups",
        "Name Validations:integer ParamKind Age",
    ),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): ("groups", "Name Mutations:integer ParamKind Age"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): ("groups", "Name PolicyName ParamRef Age"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): ("groups", "Name PolicyName ParamRef Age"),
    ("resource.k8s.io", "DeviceClass"): ("groups", _AGE),
    ("resource.k8s.io", "ResourceClaim"): ("groups", "Name State Age"),
    ("resource.k8s.io", "ResourceClaimTemplate"): ("groups", _AGE),
    ("resource.k8s.io", "ResourceSlice"): ("groups", "Name Node Driver Pool Age"),
    ("resource.k8s.io", "DeviceTaintRule"): ("groups", "Name Key Value Effect TimeAdded Age"),
    ("storagemigration.k8s.io", "StorageVersionMigration"): ("groups", "Name/ Resource Status"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): (
        "groups",
        "Name Scope Versions Created_At:date Group@1 Kind@1 ShortNames@1 Established:boolean@1",
    ),
    ("apiregistration.k8s.io", "APIService"): ("groups", "Name Service Available Age"),
}


def _column(text: str) -> Column:
    text, _, priority = text.partition("@")
    text, _, type_ = text.partition(":")
    text, _, form = text.partition("=")
    name, slash, _ = text.partition("/")
    name = name.replace("_", " ")
    form = form or ("name" if name == "Name" and not slash else "")
    return Column(name, type_ or "string", form, int(priority or 0))


@cache
def columns_of(group: str, kind: str) -> tuple[Column, ...]:
    """The columns of a kind; Name and Created At for kinds without a printer of their own."""
    return tuple(_column(c) for c in TABLES.get((group, kind), ("", _DEFAULT))[1].split())


@cache
def row_of(group: str, kind: str) -> Row:
    """The function that makes a row's cells of an object; its second argument is the time in seconds since 1970."""
    module, text = TABLES.get((group, kind), ("", _DEFAULT))
    if not module:
        return lambda obj, now: [obj["metadata"].get("name", ""), obj["metadata"].get("creationTimestamp")]
    rows: Mapping[str, Row] = import_module(f"portside.api.tables_{module}").ROWS
    if text == _AGE:
        return rows["_age"]
    return rows[kind]


def columns(kind: Kind) -> list[Column]:
    """The columns of ``kind``."""
    if kind.custom:
        from portside.api import tables_custom

        return list(tables_custom.columns(kind))  # type: ignore[arg-type]
    return list(columns_of(kind.group, kind.kind))


def cells(kind: Kind, obj: Json, now: Now) -> list[Any]:
    """The cells of ``obj``; ``now`` as seconds since 1970, a datetime or an RFC 3339 time."""
    moment = now if isinstance(now, float) else epoch(now)
    if kind.custom:
        from portside.api import tables_custom

        return tables_custom.cells(kind, obj, moment)  # type: ignore[arg-type]
    return row_of(kind.group, kind.kind)(obj, moment)


def conditions(kind: Any, obj: Json) -> list[dict[str, str]]:
    """Row conditions: a finished pod's row says that it is Completed, so that kubectl can leave it out."""
    if kind.group == "" and kind.kind == "Pod":
        phase = (obj.get("status") or {}).get("phase")
        text = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}.get(phase or "")
        if text:
            return [{"type": "Completed", "status": "True", "reason": str(phase), "message": text}]
    return []


__all__ = ["TABLES", "Column", "Now", "cells", "columns", "columns_of", "conditions", "row_of"]
