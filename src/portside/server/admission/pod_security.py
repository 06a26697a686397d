"""PodSecurity: pods are held to the level their namespace's labels set; pod templates are only warned about."""

from __future__ import annotations

from typing import Any

from portside.server.admission.review import Review

Json = dict[str, Any]
PREFIX = "pod-security.kubernetes.io/"
MODES = ("enforce", "audit", "warn")
_STRICTNESS = {"privileged": 0, "baseline": 1, "restricted": 2}
# Beyond this many pods the warning about existing ones is left unfinished, as upstream does.
MOST_PODS = 3000


def levels(namespace: Json) -> dict[str, tuple[str, str]]:
    """mode -> (level, version) of a namespace; modes without a label are privileged at latest."""
    labels = namespace["metadata"].get("labels") or {}
    return {
        mode: (labels.get(PREFIX + mode) or "privileged", labels.get(f"{PREFIX}{mode}-version") or "latest")
        for mode in MODES
    }


def template_of(obj: Json, resource: str) -> tuple[Json, Json] | None:
    """The (metadata, spec) of the pods that an object makes."""
    if resource == "pods":
        return obj["metadata"], obj["spec"]
    if resource == "podtemplates":
        template = obj.get("template") or {}
    elif resource == "cronjobs":
        template = (((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
    else:
        template = (obj.get("spec") or {}).get("template") or {}
    spec = template.get("spec")
    return (template.get("metadata") or {}, spec) if spec else None


def validate(review: Review) -> None:
    """Raises ApiError 403 for a pod below the enforced level; warns below the warned one, and notes for the audit log."""
    namespace = review.server.live.of("namespaces").get(review.namespace)
    labels = (namespace or {}).get("metadata", {}).get("labels") or {}
    if namespace is None or not any(key.startswith(PREFIX) for key in labels):
        return
    resource = review.attributes.resource
    if resource == "pods" and review.operation == "UPDATE" and not _significant(review.obj, review.old or {}):
        return
    found = template_of(review.obj, resource)
    if found is None:
        return
    wanted = levels(namespace)
    if resource == "pods":
        review.note(f"{PREFIX}enforce-policy", ":".join(wanted["enforce"]))
    if why := _violations(*wanted["audit"], *found):
        review.note(f"{PREFIX}audit-violations", f"would violate PodSecurity {_named(wanted['audit'])}: {why}")
    if resource == "pods" and (why := _violations(*wanted["enforce"], *found)):
        raise review.refuse(f"violates PodSecurity {_named(wanted['enforce'])}: {why}")
    if why := _violations(*wanted["warn"], *found):
        review.warnings.append(f"would violate PodSecurity {_named(wanted['warn'])}: {why}")


def _named(level: tuple[str, str]) -> str:
    return f'"{level[0]}:{level[1]}"'


def _violations(level: str, version: str, meta: Json, spec: Json) -> str:
    if level not in ("baseline", "restricted"):
        return ""
    from portside.api.rules.pod_security_standards import evaluate

    return ", ".join(
        f"{reason} ({detail})" if detail else reason for reason, detail in evaluate(level, version, meta, spec)
    )


def _significant(new: Json, old: Json) -> bool:
    """Whether an update can change a verdict: upstream looks at images, ephemeral containers and AppArmor notes."""
    fields = ("containers", "initContainers", "ephemeralContainers")
    if any(new["spec"].get(field) != old.get("spec", {}).get(field) for field in fields):
        return True
    return _notes(new) != _notes(old)


def _notes(pod: Json) -> Json:
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    return {key: value for key, value in annotations.items() if "apparmor" in key or "seccomp" in key}


def namespace(review: Review) -> None:
    """A namespace's labels: refused when malformed; a stricter level warns about pods that would break it."""
    from portside.api.field import invalid_value
    from portside.api.status import invalid

    labels = review.obj["metadata"].get("labels") or {}
    errors = []
    for mode in MODES:
        path = f"metadata.labels[{PREFIX}{mode}"
        level = labels.get(PREFIX + mode)
        if level is not None and level not in ("privileged", "baseline", "restricted"):
            errors.append(invalid_value(f"{path}]", level, "must be one of privileged, baseline, restricted"))
        version = labels.get(f"{PREFIX}{mode}-version")
        if version is not None and not _version(version):
            errors.append(invalid_value(f"{path}-version]", version, 'must be "latest" or "v1.x"'))
    if review.operation == "CREATE":
        if errors:
            raise invalid("Namespace", review.name, errors)
        return
    new, old = levels(review.obj), levels(review.old or {"metadata": {}})
    if errors:
        if new != old:
            raise invalid("Namespace", review.name, errors)
        return
    (level, version), (was, was_version) = new["enforce"], old["enforce"]
    if level == "privileged" or (version == was_version and _STRICTNESS[level] <= _STRICTNESS.get(was, 0)):
        return
    _warn_existing(review, new["enforce"])


def _warn_existing(review: Review, wanted: tuple[str, str]) -> None:
    from portside.api.rules.pod_security_standards import evaluate

    pods: dict[str, list[str]] = {}
    for index, pod in enumerate(review.server.live.of("pods").items(review.name)):
        if index >= MOST_PODS:
            break
        reasons = ", ".join(reason for reason, _ in evaluate(*wanted, pod["metadata"], pod["spec"]))
        if reasons:
            pods.setdefault(reasons, []).append(pod["metadata"]["name"])
    if not pods:
        return
    review.warnings.append(
        f'existing pods in namespace "{review.name}" violate the new PodSecurity enforce level {_named(wanted)}'
    )
    listed = []
    for reasons, names in pods.items():
        names.sort()
        others = len(names) - 1
        tail = f" (and {others} other pod{'s' if others > 1 else ''})" if others else ""
        listed.append(f"{names[0]}{tail}: {reasons}")
    review.warnings.extend(sorted(listed))


def _version(text: str) -> bool:
    return text == "latest" or (text.startswith("v1.") and text[3:].isdigit() and (text == "v1.0" or text[3] != "0"))
