"""What upstream declares on the types of resource.k8s.io: sizes, unique items, formats, unions."""

from __future__ import annotations

from portside.api import names
from portside.api.rules.declared import (
    LONGEST_DOMAIN,
    Rule,
    at_most,
    at_most_characters,
    caseless_subdomain,
    extended_resource,
    fields,
    fully_qualified,
    listed,
    mapped,
    needed,
    one_of,
    optional,
    pool_name,
    texts,
    union,
    uuid,
)

MOST_REQUESTS = MOST_CONSTRAINTS = MOST_CONFIGS = MOST_SELECTORS = 32
MOST_ALTERNATIVES = 8
MOST_RESERVED = 256
MOST_RESULTS = 32
MOST_CONDITIONS = 4
MOST_COUNTER_SETS = 8
MOST_CONSUMPTIONS = 2
MOST_TOLERATIONS = 16
EFFECTS = ("NoExecute", "NoSchedule", "None")
_ATTRIBUTE = ("int", "bool", "string", "version", "ints", "bools", "strings", "versions")

_driver = needed(texts(caseless_subdomain), at_most_characters(LONGEST_DOMAIN))
_names = listed(most=MOST_REQUESTS, key=())
_toleration = fields(
    ("key", optional(texts(names.qualified_name))),
    ("operator", needed(one_of("Equal", "Exists"))),
    ("effect", optional(one_of(*EFFECTS))),
)
_tolerations = listed(_toleration, most=MOST_TOLERATIONS)
_mode = optional(one_of("All", "ExactCount"))
_opaque = optional(fields(("driver", _driver)))
_selectors = listed(most=MOST_SELECTORS)
_exactly = optional(fields(("selectors", _selectors), ("allocationMode", _mode), ("tolerations", _tolerations)))
_alternative = fields(
    ("deviceClassName", needed(texts(names.is_subdomain))),
    ("selectors", _selectors),
    ("allocationMode", _mode),
    ("tolerations", _tolerations),
)
_alternatives = listed(_alternative, most=MOST_ALTERNATIVES, key=("name",), message="resource.v1.DeviceSubRequest")
_request = fields(("exactly", _exactly), ("firstAvailable", _alternatives))
_constraint = fields(
    ("requests", _names),
    ("matchAttribute", optional(fully_qualified)),
    ("distinctAttribute", optional(fully_qualified)),
)
_config = fields(("requests", _names), ("opaque", _opaque))
_devices = fields(
    ("requests", listed(_request, most=MOST_REQUESTS, key=("name",), message="resource.v1.DeviceRequest")),
    ("constraints", listed(_constraint, most=MOST_CONSTRAINTS)),
    ("config", listed(_config, most=MOST_CONFIGS)),
)
CLAIM_SPEC: Rule = fields(("devices", _devices))

_result = fields(
    ("driver", _driver),
    ("pool", needed(pool_name)),
    ("tolerations", _tolerations),
    ("bindingConditions", listed(most=MOST_CONDITIONS)),
    ("bindingFailureConditions", listed(most=MOST_CONDITIONS)),
    ("shareID", optional(texts(uuid))),
)
_allocated_config = fields(
    ("source", needed(one_of("FromClaim", "FromClass"))), ("requests", _names), ("opaque", _opaque)
)
_allocation = fields(
    (
        "devices",
        optional(
            fields(
                ("results", listed(_result, most=MOST_RESULTS)),
                ("config", listed(_allocated_config, most=2 * MOST_CONFIGS)),
            )
        ),
    )
)
_network = fields(
    ("interfaceName", optional(at_most(256))),
    ("ips", listed(most=16, key=())),
    ("hardwareAddress", optional(at_most(128))),
)
_device_status = fields(("shareID", optional(texts(uuid))), ("networkData", optional(_network)))
CLAIM_STATUS: Rule = fields(
    ("allocation", optional(_allocation)),
    (
        "reservedFor",
        listed(most=MOST_RESERVED, key=("uid",), message="resource.v1.ResourceClaimConsumerReference"),
    ),
    (
        "devices",
        listed(
            _device_status, key=("driver", "device", "pool", "shareID"), message="resource.v1.AllocatedDeviceStatus"
        ),
    ),
)

CLASS_SPEC: Rule = fields(
    ("selectors", _selectors),
    ("config", listed(fields(("opaque", _opaque)), most=MOST_CONFIGS)),
    ("extendedResourceName", optional(texts(extended_resource))),
)

TAINT: Rule = fields(("effect", needed(one_of(*EFFECTS))))
_counters = needed(mapped(names_=names.is_label))
_counter_set = fields(("name", needed(texts(names.is_label))), ("counters", _counters))
_consumption = fields(("counterSet", needed(texts(names.is_label))), ("counters", _counters))
_device = fields(
    ("attributes", optional(mapped(union(*_ATTRIBUTE)))),
    (
        "consumesCounters",
        listed(
            _consumption, most=MOST_CONSUMPTIONS, key=("counterSet",), message="resource.v1.DeviceCounterConsumption"
        ),
    ),
    ("taints", listed(TAINT)),
    ("bindingConditions", listed(most=MOST_CONDITIONS)),
    ("bindingFailureConditions", listed(most=MOST_CONDITIONS)),
)
SLICE_SPEC: Rule = fields(
    ("devices", listed(_device)),
    ("sharedCounters", listed(_counter_set, most=MOST_COUNTER_SETS, key=("name",), message="resource.v1.CounterSet")),
)
