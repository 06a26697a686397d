"""What is right for devices, said slowly: every node alone, every choice of devices tried, the rules checked on the whole.

Nothing here shares code with the scheduler but the reading of quantities. Objects are plain JSON.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from tests.unit.scheduler import oracle
from tests.unit.scheduler.oracle import labels

from portside.api.quantity import parse

Json = dict[str, Any]
Objects = dict[str, dict[str, Json]]
Id = tuple[str, str, str]
Given = tuple[Json, str, str, Json, Json]  # claim, request, name in the result, what is asked, device


def number(text: str) -> Fraction:
    return Fraction(parse(text))


# Which devices a node has


def placed_on(where: Json, node: Json) -> bool:
    if where.get("nodeName") or where.get("allNodes"):
        return bool(where.get("allNodes")) or where["nodeName"] == node["metadata"]["name"]
    terms = (where.get("nodeSelector") or {}).get("nodeSelectorTerms") or ()
    return any(all(oracle.expression(e, labels(node)) for e in t["matchExpressions"]) for t in terms)


def here(spec: Json, node: Json) -> bool:
    if spec.get("perDeviceNodeSelection"):
        return any(placed_on(d, node) for d in spec.get("devices") or ())
    return placed_on(spec, node)


def pools(node: Json, objects: Objects) -> Iterator[tuple[bool, list[Json], list[Json]]]:
    """(whether all its slices are there, those that the node reaches, all) of every pool of which the node reaches the
    newest generation that it reaches at all, unless all of a newer one is elsewhere."""
    specs = [s["spec"] for s in objects["resourceslices"].values()]
    for driver, name in sorted({(s["driver"], s["pool"]["name"]) for s in specs}):
        every = [s for s in specs if (s["driver"], s["pool"]["name"]) == (driver, name)]
        mine = [s for s in every if here(s, node)]
        if not mine:
            continue
        newest = max(s["pool"]["generation"] for s in mine)
        mine = [s for s in mine if s["pool"]["generation"] == newest]
        all_of_it = [s for s in every if s["pool"]["generation"] == newest]
        count = mine[0]["pool"]["resourceSliceCount"]
        if len(mine) != count and any(s["pool"]["generation"] > newest for s in every):
            continue
        yield count in (len(mine), len(all_of_it)), mine, all_of_it


def device_id(spec: Json, device: Json) -> Id:
    return spec["driver"], spec["pool"]["name"], device["name"]


class Node:
    """One node's devices, and all devices of its pools."""

    def __init__(self, node: Json, objects: Objects) -> None:
        self.objects = objects
        self.broken = False
        self.devices: dict[Id, Json] = {}
        self.relatives: dict[Id, Json] = {}
        self.counters: dict[tuple[str, str], Fraction] = {}
        for whole, mine, every in pools(node, objects):
            self.broken |= not whole
            if not whole:
                continue
            for spec in every:
                for shared in spec.get("sharedCounters") or ():
                    for name, counter in shared["counters"].items():
                        self.counters[f"{spec['pool']['name']}/{shared['name']}", name] = number(counter["value"])
                self.relatives |= {device_id(spec, d): d for d in spec.get("devices") or ()}
            for spec in mine:
                alone = spec.get("perDeviceNodeSelection")
                found = [d for d in spec.get("devices") or () if not alone or placed_on(d, node)]
                self.devices |= {device_id(spec, d): d for d in found}

    def taints(self, id_: Id) -> list[Json]:
        found = list(self.devices[id_].get("taints") or ())
        for rule in self.objects["devicetaintrules"].values():
            wanted = rule["spec"]["deviceSelector"]
            if all(wanted.get(f, v) == v for f, v in zip(("driver", "pool", "device"), id_, strict=True)):
                found.append(rule["spec"]["taint"])
        return [t for t in found if t["effect"] != "None"]

    def selected(self, id_: Id, wanted: Json) -> bool:
        """Class and selectors of random claims ask for a model, or for the driver that all have."""
        model = self.devices[id_]["attributes"]["model"]["string"]
        texts = [s["cel"]["expression"] for s in wanted.get("selectors") or ()]
        found = self.objects["deviceclasses"][wanted["deviceClassName"]]
        texts += [s["cel"]["expression"] for s in found["spec"]["selectors"]]
        return all(f'== "{model}"' in t or "device.driver" in t for t in texts)


# Amounts


def amount(asked: str | None, capacity: Json) -> Fraction | None:
    """What a request uses of a capacity, None when the device's policy forbids it."""
    policy = capacity.get("requestPolicy") or {}
    if asked is None:
        return number(policy.get("default") or capacity["value"])
    wanted = number(asked)
    if "validValues" in policy:
        return min((v for v in map(number, policy["validValues"]) if v >= wanted), default=None)
    if "validRange" in policy:
        within = policy["validRange"]
        value = number(within["min"])
        while value < wanted:
            value += number(within["step"])
        return None if "max" in within and value > number(within["max"]) else value
    return wanted


def uses(device: Json, wanted: Json) -> dict[str, Fraction] | None:
    asked = (wanted.get("capacity") or {}).get("requests") or {}
    held = device.get("capacity") or {}
    found = {name: amount(asked.get(name), capacity) for name, capacity in held.items()}
    if set(asked) - set(held) or any(v is None or v > number(held[n]["value"]) for n, v in found.items()):
        return None
    return {n: v for n, v in found.items() if v is not None}


# Whether a choice is right


def right(node: Node, chosen: list[tuple[Id, Given]], held: list[Json]) -> bool:
    """``held``: results of all allocations that were made before."""
    taken = [(_id(r), r) for r in held if not r.get("adminAccess")]
    whole = {i for i, r in taken if "shareID" not in r}
    for at, (id_, (claim, _, _, wanted, device)) in enumerate(chosen):
        before = [(i, g) for i, g in chosen[:at] if i == id_]
        if not device.get("allowMultipleAllocations"):
            if wanted.get("adminAccess"):
                if any(g[0] is claim for _, g in before):
                    return False
            elif before:
                return False
        if not wanted.get("adminAccess") and id_ in whole:
            return False
        borne = wanted.get("tolerations") or ()
        if not all(any(_bears(t, taint) for t in borne) for taint in node.taints(id_)):
            return False
    return _capacities(node, chosen, taken) and _counters(node, chosen, {i for i, _ in taken}) and _constraints(chosen)


def _id(result: Json) -> Id:
    return result["driver"], result["pool"], result["device"]


def _bears(toleration: Json, taint: Json) -> bool:
    return toleration.get("effect", taint["effect"]) == taint["effect"] and toleration.get("key") in (
        None,
        taint["key"],
    )


def _capacities(node: Node, chosen: list[tuple[Id, Given]], taken: list[tuple[Id, Json]]) -> bool:
    total: dict[tuple[Id, str], Fraction] = {}
    for id_, (_, _, _, wanted, device) in chosen:
        mine = uses(device, wanted)
        if mine is None:
            return False
        for name, value in mine.items() if device.get("allowMultipleAllocations") else ():
            total[id_, name] = total.get((id_, name), Fraction(0)) + value
    for id_, result in taken:
        for name, text in (result.get("consumedCapacity") or {}).items():
            if (id_, name) in total:
                total[id_, name] += number(text)
    return all(v <= number(node.devices[i]["capacity"][n]["value"]) for (i, n), v in total.items())


def _counters(node: Node, chosen: list[tuple[Id, Given]], taken: set[Id]) -> bool:
    """A whole device counts as often as it is given (access for administration too), a shared one once."""
    left = dict(node.counters)
    asked = False
    for id_ in taken & set(node.relatives):
        _charge(left, id_, node.relatives[id_])
    seen = set(taken)
    for id_, given in chosen:
        shared = given[4].get("allowMultipleAllocations")
        if given[4].get("consumesCounters") and not (shared and id_ in seen):
            asked = True
            _charge(left, id_, given[4])
        if shared:
            seen.add(id_)
    return not asked or all(v >= 0 for v in left.values())


def _charge(left: dict[tuple[str, str], Fraction], id_: Id, device: Json) -> None:
    for used in device.get("consumesCounters") or ():
        for name, counter in used["counters"].items():
            left[f"{id_[1]}/{used['counterSet']}", name] -= number(counter["value"])


def _constraints(chosen: list[tuple[Id, Given]]) -> bool:
    for claim in {id(g[0]): g[0] for _, g in chosen}.values():
        for constraint in claim["spec"]["devices"].get("constraints") or ():
            listed = constraint.get("requests")
            name = constraint.get("matchAttribute") or constraint["distinctAttribute"]
            short = name.rpartition("/")[2]
            mine = [g for _, g in chosen if g[0] is claim and (not listed or g[1] in listed or g[2] in listed)]
            values = [str(g[4]["attributes"].get(name) or g[4]["attributes"].get(short)) for g in mine]
            different = len(set(values))
            if "None" in values or different not in (0, 1 if "matchAttribute" in constraint else len(values)):
                return False
    return True


# All choices


def fit(pod: Json, node: Json, objects: Objects, held: list[Json]) -> bool:
    """Whether some choice of devices of this node answers every request of every claim of the pod."""
    claims = [
        objects["resourceclaims"][f"{pod['metadata']['namespace']}/{c['resourceClaimName']}"]
        for c in pod["spec"].get("resourceClaims") or ()
    ]
    found = Node(node, objects)
    needs = [(c, r) for c in claims for r in c["spec"]["devices"]["requests"]]
    every = [w for _, r in needs for _, w in ways(r)]
    if found.broken and any(w.get("allocationMode") == "All" for w in every):
        return False
    return _tried(found, needs, [], held)


def ways(request: Json) -> list[tuple[str, Json]]:
    if "exactly" in request:
        return [(request["name"], request["exactly"])]
    return [(f"{request['name']}/{o['name']}", o) for o in request["firstAvailable"]]


def _tried(node: Node, needs: list[tuple[Json, Json]], chosen: list[tuple[Id, Given]], held: list[Json]) -> bool:
    if not needs:
        return True
    (claim, request), rest = needs[0], needs[1:]
    for name, wanted in ways(request):
        fitting = [i for i in node.devices if node.selected(i, wanted)]
        if wanted.get("allocationMode") == "All":
            able = [i for i in fitting if uses(node.devices[i], wanted) is not None]
            picks: Iterable[Any] = [able] if able else []
        else:
            picks = itertools.combinations(fitting, wanted.get("count") or 1)
        for pick in picks:
            more = [(i, (claim, request["name"], name, wanted, node.devices[i])) for i in pick]
            if right(node, chosen + more, held) and _tried(node, rest, chosen + more, held):
                return True
    return False
