"""Mutating and validating webhooks: who is asked, in which order, and what follows from answers and failures.

Mutating ones are called one after the other, each with what the one before made of the object; validating ones all at once.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson

from portside.api.patch_json import MAXIMUM_OPERATIONS, PatchFailure, apply_operations
from portside.api.status import ApiError, bad_request, forbidden, internal
from portside.server.admission import webhook_review as wire
from portside.server.admission.dynamic import GROUP, Hook
from portside.server.admission.match_conditions import Cannot
from portside.server.admission.review import Review
from portside.server.admission.subject import Gvr, Subject
from portside.server.webhooks.client import CallFailure

Json = dict[str, Any]
PLUGIN = "webhooks"
# Prefixes of audit annotations, by what they tell.
MUTATION, PATCH, VALIDATION = (f"{what}webhook.admission.k8s.io/" for what in ("mutation.", "patch.", "validation."))
# A webhook may neither change nor keep anybody from mending what decides on admission.
EXEMPT = frozenset(
    ("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "mutatingadmissionpolicies",
     "validatingadmissionpolicies", "mutatingadmissionpolicybindings", "validatingadmissionpolicybindings")
)  # fmt: skip


class _Failed(Exception):
    """The call itself failed: the failure policy decides."""


async def mutate(review: Review) -> None:
    """All mutating webhooks that the request concerns. Raises ApiError."""
    rounds = review.rounds
    if rounds is None or _exempt(review):
        return
    subject = Subject(review)
    half = review.server.dynamic.mutating
    own = rounds.begin(PLUGIN, review.obj)
    for index, hook in enumerate(half.hooks):
        gvr = await _concerned(hook, subject)
        if gvr is None or rounds.skips(own, hook.key):
            continue
        place = f"{MUTATION}round_{int(rounds.second)}_index_{index}"
        try:
            changed = await _mutate_by(hook, subject, gvr, place)
        except _Failed as failure:
            if not hook.ignores:
                raise internal(str(failure)) from None
            review.note(f"failed-open.{place}", hook.name)
            changed = False
        rounds.called(own, hook.key, changed=changed, repeatable=hook.repeatable)
    rounds.end(PLUGIN, review.obj)


async def validate(review: Review) -> None:
    """All validating webhooks that the request concerns, at once. Raises the ApiError of the first that refuses."""
    if _exempt(review):
        return
    subject = Subject(review)
    found = []
    for index, hook in enumerate(review.server.dynamic.validating.hooks):
        gvr = await _concerned(hook, subject)
        if gvr is not None:
            found.append((index, hook, gvr))
    if not found:
        return
    refusals: list[ApiError] = []

    async def one(index: int, hook: Hook, gvr: Gvr) -> None:
        try:
            answer = await _call(hook, subject, gvr, mutating=False)
            if not answer.allowed:
                refusals.append(wire.refusal(hook.name, answer.status))
        except _Failed as failure:
            if not hook.ignores:
                refusals.append(internal(str(failure)))
            else:
                review.note(f"failed-open.{VALIDATION}round_0_index_{index}", hook.name)
        except ApiError as error:
            refusals.append(error)

    if len(found) == 1:
        await one(*found[0])
    else:
        await asyncio.gather(*(one(*each) for each in found))
    if refusals:
        raise refusals[0]


def _exempt(review: Review) -> bool:
    return review.attributes.group == GROUP and review.attributes.resource in EXEMPT


async def _concerned(hook: Hook, subject: Subject) -> Gvr | None:
    """The resource as which the webhook is asked about the request, None when it is not. Raises 403 and 404."""
    gvr = hook.match.find(subject)
    if gvr is None or not hook.conditions:
        return gvr
    try:
        return gvr if await hook.conditions.hold(subject, gvr) else None
    except Cannot as problem:
        raise forbidden(subject.resource.resource, subject.name, str(problem), subject.resource.group) from None


async def _call(hook: Hook, subject: Subject, gvr: Gvr, *, mutating: bool) -> wire.Answer:
    """One call. Raises _Failed, and ApiError 400 for a dry run that the webhook does not bear."""
    review = subject.review
    if review.dry_run and not hook.dry_run_ok:
        raise bad_request(f'admission webhook "{hook.name}" does not support dry run')
    failed = f'failed calling webhook "{hook.name}": '
    if not hook.version:
        raise _Failed(
            f"{failed}could not create admission objects: webhook does not accept known AdmissionReview versions"
        )
    uid = str(uuid.uuid4())
    obj, old = await subject.shown(gvr)
    body = wire.ask(hook.version, uid, subject.request_json(gvr), obj, old, review.dry_run, subject.options())
    try:
        raw = await review.server.webhooks.post(hook.client, body, seconds=hook.seconds)
    except CallFailure as failure:
        raise _Failed(f"{failed}failed to call webhook: {failure}") from None
    try:
        answer = wire.read(raw, hook.version, uid, mutating=mutating)
    except wire.BadAnswer as problem:
        raise _Failed(f"{failed}received invalid webhook response: {problem}") from None
    review.warnings.extend(answer.warnings)
    for key, value in answer.annotations.items():
        review.note(f"{hook.name}/{key}", value)
    return answer


async def _mutate_by(hook: Hook, subject: Subject, gvr: Gvr, place: str) -> bool:
    """Ask one webhook and take its patch; whether the object changed. ``place`` names the call in the audit log. Raises ApiError
    when it refuses, _Failed."""
    answer = await _call(hook, subject, gvr, mutating=True)
    if not answer.allowed:
        raise wire.refusal(hook.name, answer.status)
    try:
        patch = wire.operations(answer.patch)
    except wire.BadPatch as problem:
        text = f'failed calling webhook "{hook.name}": received undecodable patch in webhook response: {problem}'
        raise _Failed(text) from None
    changed = await _take(hook, subject, gvr, patch) if patch else False
    which = {"configuration": hook.configuration, "webhook": hook.name}
    subject.review.note(place, orjson.dumps(which | {"mutated": changed}).decode())
    if changed:
        noted = which | {"patch": patch, "patchType": "JSONPatch"}
        subject.review.note(f"{PATCH}{place.removeprefix(MUTATION)}", orjson.dumps(noted).decode())
    return changed


async def _take(hook: Hook, subject: Subject, gvr: Gvr, patch: list[Any]) -> bool:
    """Apply a webhook's patch to the object; whether that changed it. Raises ApiError."""
    obj, _ = await subject.shown(gvr)
    if obj is None:
        raise internal(
            f'admission webhook "{hook.name}" attempted to modify the object, which is not supported for this operation'
        )
    if len(patch) > MAXIMUM_OPERATIONS:
        raise internal(f"the allowed maximum operations in a JSON patch is {MAXIMUM_OPERATIONS}")
    try:
        made = apply_operations(obj, patch)
    except PatchFailure as problem:
        raise internal(str(problem)) from None
    try:
        return await subject.take(made, gvr)
    except ApiError as error:
        raise internal(error.message) from None
