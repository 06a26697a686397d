"""Ranges of Service addresses, and the records of the addresses given out."""

from __future__ import annotations

from typing import Any

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers import ipaddress, servicecidr
from portside.controllers.plan import Op

Json = dict[str, Any]
NOW = 1_790_000_000.0


def test_the_condition_is_written_at_the_revision_it_was_read_at_so_that_nobody_elses_is_lost() -> None:
    odd = {"type": "Odd", "status": "True"}
    meta = {"name": "more", "uid": "u", "resourceVersion": "7", "finalizers": [servicecidr.FINALIZER]}
    cidr: Json = {"metadata": meta, "spec": {"cidrs": ["10.100.0.0/24"]}, "status": {"conditions": [odd]}}
    (step,) = servicecidr.plan(View.of({servicecidr.CIDRS: [cidr]}), "more", NOW).steps
    assert isinstance(step, Op) and step.body["metadata"]["resourceVersion"] == "7"
    assert [c["type"] for c in step.body["status"]["conditions"]] == ["Odd", "Ready"]


def test_the_record_of_an_address_that_its_service_gave_up_goes_within_a_second() -> None:
    parent = {"group": "", "resource": "services", "namespace": "ns", "name": "s"}
    labels = {ipaddress.MANAGED: ipaddress.MANAGER}
    meta = {"name": "10.96.0.7", "uid": "u", "labels": labels, "creationTimestamp": rfc3339(NOW)}
    record: Json = {"metadata": meta, "spec": {"parentRef": parent}}
    service: Json = {"metadata": {"namespace": "ns", "name": "s"}, "spec": {"type": "ExternalName"}}
    view = View.of({ipaddress.ADDRESSES: [record], ipaddress.SERVICES: [service]})
    young = ipaddress.plan_record(view, "10.96.0.7", NOW)
    assert young.steps == () and young.again is not None and young.again <= 1
    (step,) = ipaddress.plan_record(view, "10.96.0.7", NOW + 1).steps
    assert isinstance(step, Op) and step.verb == "delete"
