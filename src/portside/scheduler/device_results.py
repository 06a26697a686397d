"""What a claim's status says of the devices that were chosen: results, settings, and the nodes they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any
from uuid import UUID

from portside.scheduler.device_search import Choice, Option, requests_of

Json = dict[str, Any]


def allocation(claim: Json, chosen: Sequence[Choice], classes: Mapping[str, Json], node: str, rng: Random) -> Json:
    """``status.allocation`` for a claim that gets its devices on ``node``. ``rng`` names shares."""
    devices: Json = {"results": [_result(c, rng) for c in chosen]}
    if config := _config(claim, {c.option.base: c.option for c in chosen}, classes):
        devices["config"] = config
    made: Json = {"devices": devices}
    if (selector := _nodes(chosen, node)) is not None:
        made["nodeSelector"] = selector
    return made


def _result(choice: Choice, rng: Random) -> Json:
    device, wanted = choice.device, choice.option.wanted
    driver, pool, name = device.id
    result: Json = {"request": choice.option.name, "driver": driver, "pool": pool, "device": name}
    if wanted.get("adminAccess"):
        result["adminAccess"] = True
    if wanted.get("tolerations"):
        result["tolerations"] = wanted["tolerations"]
    for field in ("bindingConditions", "bindingFailureConditions"):
        if device.body.get(field):
            result[field] = device.body[field]
    if choice.used is not None:
        result["shareID"] = str(UUID(int=rng.getrandbits(128), version=4))
        if choice.used:
            result["consumedCapacity"] = dict(sorted(choice.used.items()))
    return result


def _config(claim: Json, taken: Mapping[str, Option], classes: Mapping[str, Json]) -> list[Json]:
    """Settings of the classes, each class once, then the claim's own for what was taken; settings for all requests name
    none."""
    found: list[Json] = []
    of_class: dict[str, list[Json]] = {}
    for request in requests_of(claim):
        if (option := taken.get(request["name"])) is None:
            continue
        name = option.wanted.get("deviceClassName", "")
        if name in of_class:
            for entry in of_class[name]:
                entry["requests"].append(option.name)
            continue
        spec = (classes.get(name) or {}).get("spec") or {}
        of_class[name] = [{"source": "FromClass", "requests": [option.name], **c} for c in spec.get("config") or ()]
        found += of_class[name]
    names = {option.name for option in taken.values()} | set(taken)
    for given in (claim["spec"].get("devices") or {}).get("config") or ():
        if not given.get("requests") or names & set(given["requests"]):
            found.append({"source": "FromClaim", **given})
    for entry in found:
        listed = entry.get("requests") or ()
        if listed and all(_named(r, taken, listed) for r in requests_of(claim)):
            entry.pop("requests")
    return found


def _named(request: Json, taken: Mapping[str, Option], listed: Sequence[str]) -> bool:
    option = taken.get(request["name"])
    return request["name"] in listed or (option is not None and option.name in listed)


def _nodes(chosen: Sequence[Choice], node: str) -> Json | None:
    """One node when a device is local to it or binds to it, else what all their selectors ask for; None for every node."""
    term: dict[str, list[Json]] = {"matchFields": [], "matchExpressions": []}
    for device in (c.device for c in chosen):
        if device.place.get("nodeName") or device.body.get("bindsToNode"):
            field = {"key": "metadata.name", "operator": "In", "values": [node]}
            return {"nodeSelectorTerms": [{"matchFields": [field]}]}
        for given in (device.place.get("nodeSelector") or {}).get("nodeSelectorTerms") or ():
            for part, held in term.items():
                held += [r for r in given.get(part) or () if _asks(r) not in map(_asks, held)]
    if not any(term.values()):
        return None
    return {"nodeSelectorTerms": [{part: held for part, held in term.items() if held}]}


def _asks(requirement: Json) -> tuple[str, str, frozenset[str]]:
    return requirement["key"], requirement["operator"], frozenset(requirement.get("values") or ())
