"""The autoscaler's row: each metric as current/target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portside.api.tables_format import age, name

Json = Mapping[str, Any]
_UNKNOWN = "<unknown>"
_PART = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _metric(metric: Json, status: Json | None) -> str:
    part = _PART.get(metric.get("type", ""), "")
    spec, now = metric.get(part) or {}, ((status or {}).get(part) or {}).get("current") or {}
    target = spec.get("target") or {}
    average = target.get("averageValue")
    if part in ("resource", "containerResource"):
        if average is not None:
            return f"{spec.get('name')}: {now.get('averageValue', _UNKNOWN)}/{average}"
        used, wanted = now.get("averageUtilization"), target.get("averageUtilization")
        shown = _UNKNOWN if used is None else f"{used}%"
        return f"{spec.get('name')}: {shown}/{'<auto>' if wanted is None else f'{wanted}%'}"
    if part == "pods":
        return f"{now.get('averageValue', _UNKNOWN)}/{average}"
    if average is not None:
        return f"{now.get('averageValue', _UNKNOWN)}/{average} (avg)"
    return f"{now.get('value', _UNKNOWN)}/{target.get('value')}"


def row_autoscaler(obj: Json, now: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if "metrics" not in spec:
        from portside.api.conversion import hpa_v1_to_v2

        v2 = hpa_v1_to_v2(dict(obj))
        spec, status = v2.get("spec") or {}, v2.get("status") or {}
    metrics, current = spec.get("metrics") or [], status.get("currentMetrics") or []
    listed = [_metric(m, current[i] if i < len(current) else None) for i, m in enumerate(metrics)]
    text = ", ".join(listed[:2]) + (f" + {len(listed) - 2} more..." if len(listed) > 2 else "")
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        text or "<none>",
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(obj, now),
    ]


ROWS = {"HorizontalPodAutoscaler": row_autoscaler}
