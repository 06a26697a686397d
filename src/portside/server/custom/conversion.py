"""Conversion between versions of a custom resource: by changing apiVersion alone, or by asking a webhook.

A webhook gets all objects of one request at once (ConversionReview v1 or v1beta1, whichever the definition names first).
It may change anything but metadata, of which it may change labels and annotations. What it answers is checked here, and
every refusal is a 500 that names the definition.
"""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from portside.api.meta import validate_annotations, validate_labels
from portside.api.status import ApiError
from portside.server.webhooks.client import CallFailure, WebhookClient

Json = dict[str, Any]
REVIEWS = ("v1", "v1beta1")
TIMEOUT_SECONDS = 30.0
ANSWER_BYTES = 64 << 20
AGENT = "kube-apiserver-crd-conversion"


class Converter:
    """``hook`` is the webhook's clientConfig, None when conversion is no more than another apiVersion."""

    def __init__(self, spec: Json, client: WebhookClient) -> None:
        conversion = spec.get("conversion") or {}
        self.name = f"{spec['group']}/{spec['names']['kind']}"
        self.hook: Json | None = None
        self._client = client
        self.review = "v1"
        if conversion.get("strategy") == "Webhook":
            webhook = conversion.get("webhook") or {}
            self.hook = webhook.get("clientConfig") or {}
            known = [v for v in webhook.get("conversionReviewVersions") or () if v in REVIEWS]
            self.review = known[0] if known else "v1"
        self._kind = spec["names"]["kind"]
        self._group = spec["group"]

    async def convert(self, objects: list[Json], api_version: str) -> list[Json]:
        """The objects in ``api_version``; those that are in it already come back as they are. Raises ApiError 500."""
        if self.hook is None:
            for obj in objects:
                obj["apiVersion"] = api_version
            return objects
        asked = [obj for obj in objects if obj["apiVersion"] != api_version]
        if not asked:
            return objects
        answered = iter(await self._ask(asked, api_version))
        return [obj if obj["apiVersion"] == api_version else next(answered) for obj in objects]

    async def _ask(self, objects: list[Json], api_version: str) -> list[Json]:
        assert self.hook is not None
        uid = str(uuid.uuid4())
        version = f"apiextensions.k8s.io/{self.review}"
        request = {"uid": uid, "desiredAPIVersion": api_version, "objects": objects}
        body = orjson.dumps({"kind": "ConversionReview", "apiVersion": version, "request": request, "response": None})
        what = f"{objects[0]['apiVersion']}, Kind={self._kind}"
        try:
            raw = await self._client.post(self.hook, body, seconds=TIMEOUT_SECONDS, agent=AGENT, limit=ANSWER_BYTES)
            review = orjson.loads(raw)
        except (CallFailure, orjson.JSONDecodeError) as error:
            raise _failed(f"conversion webhook for {what} failed: {error}") from None
        if not isinstance(review, dict):
            raise _failed(f"conversion webhook for {what} failed: the answer is not an object")
        converted = self._answered(review, version, uid, what)
        if len(converted) != len(objects):
            raise _failed(f"conversion webhook for {what} returned {len(converted)} objects, expected {len(objects)}")
        return [
            self._checked(before, after, api_version, what) for before, after in zip(objects, converted, strict=True)
        ]

    def _answered(self, review: Json, version: str, uid: str, what: str) -> list[Any]:
        """The objects of an answer. Raises ApiError."""
        response, why = review.get("response"), ""
        result = (response.get("result") or {}) if isinstance(response, dict) else {}
        said = f"{review.get('apiVersion', '')}, Kind={review.get('kind', '')}"
        if said != f"{version}, Kind=ConversionReview":
            why = f"expected webhook response of {version}, Kind=ConversionReview, got {said}"
        elif not isinstance(response, dict):
            why = "no response provided"
        elif response.get("uid") != uid:
            why = f'expected response.uid="{uid}", got "{response.get("uid", "")}"'
        elif result.get("status") != "Success":
            why = result.get("message") or f"response.result.status was '{result.get('status', '')}', not 'Success'"
        else:
            return list(response.get("convertedObjects") or [])
        raise _failed(f"conversion webhook for {what} failed: {why}")

    def _checked(self, before: Json, after: Any, api_version: str, what: str) -> Json:
        """The converted object with the metadata it may have. Raises ApiError."""
        where = f"conversion webhook for {what} returned invalid object at index 0:"
        if not isinstance(after, dict):
            raise _failed(f"{where} not an object")
        if after.get("apiVersion") != api_version:
            said = f"invalid groupVersion (expected {api_version}, received {after.get('apiVersion', '')})"
            raise _failed(f"{where} {said}")
        if after.get("kind") != before.get("kind"):
            said = f"invalid kind (expected {before.get('kind')}, received {after.get('kind', '')})"
            raise _failed(f"{where} {said}")
        old, new = before["metadata"], after.get("metadata")
        if not isinstance(new, dict):
            raise _failed(
                f"conversion webhook for {what} returned invalid metadata: missing metadata in converted object"
            )
        for field, name in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
            one, other = old.get(field) or "", new.get(field) or ""
            if one != other:
                said = f"must have the same {name}: {one} != {other}"
                raise _failed(f"conversion webhook for {what} returned invalid object: {said}")
        kept = {k: v for k, v in old.items() if k not in ("labels", "annotations")}
        for field in ("labels", "annotations"):
            found = new.get(field)
            if found and not (isinstance(found, dict) and all(isinstance(v, str) for v in found.values())):
                raise _failed(
                    f"conversion webhook for {what} returned invalid metadata: metadata.{field} is no map of texts"
                )
            if found:
                kept[field] = found
        errors = validate_labels(kept.get("labels"), "metadata.labels")
        errors += validate_annotations(kept.get("annotations"), "metadata.annotations")
        if errors:
            told = "; ".join(map(str, errors))
            raise _failed(f"conversion webhook for {what} returned invalid metadata: {told}")
        return after | {"metadata": kept}


def _failed(text: str) -> ApiError:
    return ApiError(500, "", text)
