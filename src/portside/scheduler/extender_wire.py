"""What is said between the scheduler and an extender: the types of ``k8s.io/kube-scheduler/extender/v1`` as JSON.

Their fields have Go's names; answers are read as Go reads them, without regard to upper and lower case. Pure.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json import JSONDecodeError, JSONDecoder
from typing import Any

import orjson

Json = dict[str, Any]
MAX_PRIORITY = 10  # an extender's best score; ours is 100
MAX_NODE_SCORE = 100
LONG = ("nodes", "items")  # what of an answer is long
_DECODER = JSONDecoder()


class ExtenderFailure(Exception):
    """An extender gave no usable answer, or one that says what went wrong. The text reaches users."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """What an extender made of a list of nodes: those left, and why others are not; ``final``: no eviction helps there."""

    names: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    final: Mapping[str, str] = field(default_factory=dict)


def bare(obj: Json) -> Json:
    """An object as upstream's informers hold it, which is what its extenders get."""
    meta = obj["metadata"]
    if "managedFields" in meta:
        meta = {k: v for k, v in meta.items() if k != "managedFields"}
    return {"metadata": meta, **{k: v for k, v in obj.items() if k not in ("metadata", "apiVersion", "kind")}}


def asking_names(pod: Json, names: Sequence[str]) -> bytes:
    """ExtenderArgs for an extender that knows the nodes."""
    return orjson.dumps({"Pod": bare(pod), "Nodes": None, "NodeNames": names})


def asking_nodes(pod: Json, nodes: Iterable[bytes]) -> bytes:
    """ExtenderArgs with the nodes, each already encoded."""
    return b'{"Pod":%b,"Nodes":{"metadata":{},"items":[%b]},"NodeNames":null}' % (
        orjson.dumps(bare(pod)),
        b",".join(nodes),
    )


def asking_victims(pod: Json, victims: Mapping[str, tuple[Sequence[Json], int]], *, whole: bool) -> bytes:
    """ExtenderPreemptionArgs: per node the victims, and how many budgets they break. ``whole``: the pods, else their uids."""
    listed = {
        node: {
            "Pods": [bare(p) if whole else {"UID": p["metadata"]["uid"]} for p in pods],
            "NumPDBViolations": broken,
        }
        for node, (pods, broken) in victims.items()
    }
    return orjson.dumps(
        {
            "Pod": bare(pod),
            "NodeNameToVictims": listed if whole else None,
            "NodeNameToMetaVictims": None if whole else listed,
        }
    )


def binding(name: str, namespace: str, uid: str, node: str) -> bytes:
    """ExtenderBindingArgs."""
    return orjson.dumps({"PodName": name, "PodNamespace": namespace, "PodUID": uid, "Node": node})


def decoded(body: bytes) -> Any:
    """The first JSON value of an answer; what follows it does not matter, as in upstream. Raises ExtenderFailure."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    text = body.decode("utf-8", "replace").lstrip()
    if not text:
        raise ExtenderFailure("EOF")
    try:
        return _DECODER.raw_decode(text)[0]
    except (JSONDecodeError, RecursionError) as problem:
        raise _garbage(problem, text) from None


def steps(body: bytes) -> Generator[None, None, Any]:
    """``decoded`` of a long answer, with a pause after each node of its list, so that nobody has to wait for all of them; of
    the nodes only their names are kept. Raises ExtenderFailure."""
    text = body.decode("utf-8", "replace").lstrip()
    try:
        if not text.startswith("{"):
            return _DECODER.raw_decode(text)[0]
        return (yield from _object(text, 0, LONG))[0]
    except (JSONDecodeError, RecursionError) as problem:
        raise _garbage(problem, text) from None


def _object(text: str, at: int, long: tuple[str, ...]) -> Generator[None, None, tuple[Json, int]]:
    """An object that begins at ``at``, and where it ends. The list below the names ``long`` is read node by node."""
    found: Json = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        if found:
            at = _expect(text, at, ",")
        key, at = _DECODER.raw_decode(text, at)
        at = _expect(text, at, ":")
        opens = text[at : at + 1]
        if str(key).lower() != long[0]:
            found[key], at = _DECODER.raw_decode(text, at)
        elif long[1:] and opens == "{":
            found[key], at = yield from _object(text, at, long[1:])
        elif not long[1:] and opens == "[":
            found[key], at = yield from _nodes(text, at)
        else:
            found[key], at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
    return found, at + 1


def _nodes(text: str, at: int) -> Generator[None, None, tuple[list[Json], int]]:
    found: list[Json] = []
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        if found:
            at = _expect(text, at, ",")
        node, at = _DECODER.raw_decode(text, at)
        found.append(
            {"metadata": {"name": _text(_struct(_struct(node, "Node").get("metadata"), "ObjectMeta"), "name")}}
        )
        at = _skip(text, at)
        yield
    return found, at + 1


def _skip(text: str, at: int) -> int:
    """Past white space."""
    while text[at : at + 1] in (" ", "\n", "\r", "\t"):
        at += 1
    return at


def _expect(text: str, at: int, mark: str) -> int:
    at = _skip(text, at)
    if text[at : at + 1] != mark:
        raise JSONDecodeError(f"Expecting {mark}", text, at)
    return _skip(text, at + 1)


def _garbage(problem: JSONDecodeError | RecursionError, text: str) -> ExtenderFailure:
    if isinstance(problem, RecursionError):
        return ExtenderFailure("exceeded max depth")
    if problem.pos >= len(text):
        return ExtenderFailure("unexpected EOF")
    what = "looking for beginning of value" if not problem.pos else f"in the answer after {problem.pos} characters"
    return ExtenderFailure(f"invalid character '{text[problem.pos]}' {what}")


def read_filtered(said: Any, asked: Sequence[str], url: str, *, by_name: bool) -> Filtered:
    """An ExtenderFilterResult. Without any list of nodes none is left. Raises ExtenderFailure."""
    answer = _struct(said, "ExtenderFilterResult")
    if error := _text(answer, "Error"):
        raise ExtenderFailure(error)
    names, nodes = answer.get("nodenames"), answer.get("nodes")
    left: list[str] = []
    if by_name and names is not None:
        left = [_as(n, str, "NodeNames") for n in _as(names, list, "NodeNames")]
    elif nodes is not None:
        items = _struct(nodes, "NodeList").get("items")
        for node in _as(items or [], list, "Nodes.items"):
            left.append(_text(_struct(_struct(node, "Node").get("metadata") or {}, "ObjectMeta"), "name"))
    known = frozenset(asked)
    if unknown := [n for n in left if n not in known]:
        raise ExtenderFailure(
            f'extender "{url}" claims a filtered node "{unknown[0]}" which is not found in the input node list'
        )
    final = _reasons(answer, "FailedAndUnresolvableNodes")
    failed = {n: why for n, why in _reasons(answer, "FailedNodes").items() if n not in final}
    return Filtered(tuple(dict.fromkeys(left)), failed, final)


def read_scores(said: Any, weight: int) -> Iterator[tuple[str, int]]:
    """A HostPriorityList: nodes with what they are worth on our scale. Raises ExtenderFailure."""
    for entry in _as([] if said is None else said, list, "HostPriorityList"):
        one = _struct(entry, "HostPriority")
        score = _as(0 if one.get("score") is None else one["score"], int, "HostPriority.Score")
        yield _text(one, "Host"), score * weight * (MAX_NODE_SCORE // MAX_PRIORITY)


def read_victims(said: Any) -> dict[str, tuple[list[str], int]]:
    """An ExtenderPreemptionResult: per node the uids of the victims, and how many budgets they break. Raises
    ExtenderFailure."""
    listed = _struct(said, "ExtenderPreemptionResult").get("nodenametometavictims") or {}
    found = {}
    for node, entry in _as(listed, dict, "NodeNameToMetaVictims").items():
        one = _struct(entry, "MetaVictims")
        pods = _as(one.get("pods") or [], list, "MetaVictims.Pods")
        uids = [_text(_struct(pod, "MetaPod"), "UID") for pod in pods]
        found[node] = uids, _as(one.get("numpdbviolations") or 0, int, "MetaVictims.NumPDBViolations")
    return found


def read_bound(said: Any) -> None:
    """An ExtenderBindingResult. Raises ExtenderFailure when it says so."""
    if error := _text(_struct(said, "ExtenderBindingResult"), "Error"):
        raise ExtenderFailure(error)


def _struct(said: Any, name: str) -> Json:
    """The fields of a struct by their names in lower case; null leaves it empty."""
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise ExtenderFailure(f"json: cannot unmarshal {_kind(said)} into Go value of type v1.{name}")
    return {key.lower(): value for key, value in said.items()}


def _text(answer: Json, name: str) -> str:
    value = answer.get(name.lower())
    return "" if value is None else str(_as(value, str, name))


def _reasons(answer: Json, name: str) -> dict[str, str]:
    listed = answer.get(name.lower())
    found = _as({} if listed is None else listed, dict, name)
    return {node: "" if why is None else _as(why, str, name) for node, why in found.items()}


def _as(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise ExtenderFailure(f"json: cannot unmarshal {_kind(value)} into Go struct field {name}")
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
    return kinds.get(type(value), "number")
