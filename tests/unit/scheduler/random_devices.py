"""Random devices from a seed: pools of every kind, taints, shared counters, shares of capacity, and claims for them."""

from __future__ import annotations

from random import Random
from typing import Any

Json = dict[str, Any]
Objects = dict[str, dict[str, Json]]
GPUS, ZONE = "gpu.example.com", "topology.kubernetes.io/zone"
EFFECTS = ("NoSchedule", "NoExecute", "None")
POLICIES: tuple[Json, ...] = (
    {},
    {"requestPolicy": {"default": "2"}},
    {"requestPolicy": {"default": "1", "validValues": ["1", "2", "4"]}},
    {"requestPolicy": {"default": "2", "validRange": {"min": "2", "step": "2"}}},
    {"requestPolicy": {"default": "500m", "validRange": {"min": "500m", "step": "500m", "max": "3"}}},
)


def objects(rng: Random, nodes: list[Json]) -> Objects:
    """Slices, taint rules, two classes, and claims (r0 …)."""
    found: Objects = {"resourceslices": {}, "resourceclaims": {}, "devicetaintrules": {}, "deviceclasses": {}}
    for name, expression in (("gpu", f"device.driver == '{GPUS}'"), ("model-a", _model("a"))):
        spec: Json = {"selectors": [{"cel": {"expression": expression}}]}
        if rng.random() < 0.3:
            spec["config"] = [{"opaque": {"driver": GPUS, "parameters": {"class": name}}}]
        found["deviceclasses"][name] = {"metadata": {"name": name}, "spec": spec}
    pools = [n["metadata"]["name"] for n in nodes if rng.random() < 0.7] + ["shared"] * (rng.random() < 0.4)
    for pool in pools:
        for piece in _pool(rng, pool, nodes):
            found["resourceslices"][piece["metadata"]["name"]] = piece
    for i in range(rng.choice([0, 0, 1, 2])):
        selector = {"driver": GPUS, "pool": rng.choice(pools or ["none"]), "device": f"g{rng.randint(0, 3)}"}
        chosen = {k: v for k, v in selector.items() if rng.random() < 0.7}
        spec = {"deviceSelector": chosen, "taint": {"key": "rule", "effect": rng.choice(EFFECTS)}}
        found["devicetaintrules"][f"t{i}"] = {"metadata": {"name": f"t{i}"}, "spec": spec}
    for i in range(rng.randint(1, 8)):
        meta = {"name": f"r{i}", "namespace": rng.choice(["d", "e"]), "uid": f"r{i}"}
        found["resourceclaims"][f"{meta['namespace']}/r{i}"] = {"metadata": meta, "spec": {"devices": _wishes(rng)}}
    return found


def _model(name: str) -> str:
    return f'device.attributes["{GPUS}"].model == "{name}"'


def _pool(rng: Random, name: str, nodes: list[Json]) -> list[Json]:
    """One to three slices, sometimes with one too few, or with an outdated one left over."""
    count = rng.choice([1, 1, 2])
    counted = rng.random() < 0.3
    pool = {"name": name, "generation": 2, "resourceSliceCount": count + counted}
    where = _where(rng, name)
    made = []
    for i in range(count):
        devices = [_device(rng, f"g{i}{j}" if i else f"g{j}", counted) for j in range(rng.randint(1, 3))]
        if where.get("perDeviceNodeSelection"):
            for one in devices:
                one |= rng.choice([{"allNodes": True}, {"nodeName": rng.choice(nodes)["metadata"]["name"]}, _zone(rng)])
        made.append(_slice(f"{name}-{rng.randint(0, 9)}{i}", pool, devices=devices, **where))
    if counted:
        shared = [{"name": "card", "counters": {"memory": {"value": rng.choice(["4", "8"])}}}]
        made.append(_slice(f"{name}-c", pool, sharedCounters=shared, **where))
    if rng.random() < 0.08:
        made.pop()
    if rng.random() < 0.1:
        old = pool | {"generation": 1}
        made.append(
            _slice(f"{name}-o", old, devices=[{"name": "old", "attributes": {"model": {"string": "a"}}}], **where)
        )
    return made


def _slice(name: str, pool: Json, **spec: Any) -> Json:
    return {"metadata": {"name": name, "resourceVersion": "1"}, "spec": {"driver": GPUS, "pool": pool, **spec}}


def _where(rng: Random, pool: str) -> Json:
    if pool != "shared":
        return {"nodeName": pool}
    return rng.choice([{"allNodes": True}, _zone(rng), {"perDeviceNodeSelection": True}])


def _zone(rng: Random) -> Json:
    wanted = {"key": ZONE, "operator": "In", "values": [rng.choice(["1", "2"])]}
    return {"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}}


def _device(rng: Random, name: str, counted: bool) -> Json:
    made: Json = {"name": name, "attributes": {"model": {"string": rng.choice(["a", "b"])}}}
    if rng.random() < 0.8:
        made["attributes"][f"{GPUS}/slot"] = {"int": rng.randint(0, 2)}
    if rng.random() < 0.15:
        made["taints"] = [{"key": "bad", "effect": rng.choice(EFFECTS)}]
    if counted and rng.random() < 0.7:
        used = {"counterSet": "card", "counters": {"memory": {"value": rng.choice(["2", "4"])}}}
        made["consumesCounters"] = [used]
    shared = rng.random() < 0.3
    if shared:
        made["allowMultipleAllocations"] = True
    if rng.random() < (0.8 if shared else 0.2):
        made["capacity"] = {"memory": {"value": rng.choice(["4", "6"]), **(rng.choice(POLICIES) if shared else {})}}
    if rng.random() < 0.05:
        made |= {"bindingConditions": ["ready"], "bindsToNode": True}
    return made


def _wishes(rng: Random) -> Json:
    made: Json = {"requests": [_request(rng, i) for i in range(rng.choice([1, 1, 2, 2, 3]))]}
    if rng.random() < 0.4:
        how = rng.choice(["matchAttribute", "matchAttribute", "distinctAttribute"])
        constraint: Json = {how: f"{GPUS}/{rng.choice(['model', 'slot'])}"}
        if rng.random() < 0.3:
            constraint["requests"] = [rng.choice([r["name"] for r in made["requests"]])]
        made["constraints"] = [constraint]
    if rng.random() < 0.2:
        made["config"] = [{"opaque": {"driver": GPUS, "parameters": {"mine": True}}}]
        if rng.random() < 0.5:
            made["config"][0]["requests"] = ["q0"]
    return made


def _request(rng: Random, number: int) -> Json:
    if rng.random() < 0.7:
        wanted = _wanted(rng)
        if rng.random() < 0.1:
            wanted["adminAccess"] = True
        return {"name": f"q{number}", "exactly": wanted}
    return {"name": f"q{number}", "firstAvailable": [_wanted(rng) | {"name": f"o{i}"} for i in range(2)]}


def _wanted(rng: Random) -> Json:
    made: Json = {"deviceClassName": rng.choice(["gpu", "gpu", "model-a"])}
    if rng.random() < 0.4:
        made["selectors"] = [{"cel": {"expression": _model(rng.choice(["a", "b"]))}}]
    if rng.random() < 0.3:
        keys = rng.choice([{}, {"key": "bad"}, {"key": "rule", "effect": "NoExecute"}])
        made["tolerations"] = [{"operator": "Exists", **keys}]
    if rng.random() < 0.3:
        made["capacity"] = {"requests": {"memory": rng.choice(["250m", "1", "1500m", "3", "4", "5"])}}
    if rng.random() < 0.12:
        return made | {"allocationMode": "All"}
    return made | {"allocationMode": "ExactCount", "count": rng.choice([1, 1, 1, 2])}
