"""How requests may share a device's capacity: a default, and either chosen amounts or a range with steps."""

from __future__ import annotations

from typing import Any

from portside.api import quantity
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, required, too_many

Json = dict[str, Any]
Errors = list[FieldError]
MOST_OPTIONS = 10


def policy(capacity: Any, given: Json, path: str) -> Errors:
    """A requestPolicy of a capacity of this size."""
    options, span, usual = given.get("validValues") or [], given.get("validRange"), given.get("default")
    if options and span is not None:
        text = 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time'
        return [forbidden_field(path, text)]
    if not options and span is None:
        return []
    which = "validValues" if options else "validRange"
    if usual is None:
        return [required(f"{path}.default", f"required when {which} is defined")]
    if options:
        return _options(usual, capacity, options, f"{path}.validValues")
    return _range(usual, capacity, span or {}, f"{path}.validRange")


def _options(usual: Any, capacity: Any, options: list[Any], path: str) -> Errors:
    errors: Errors = []
    shown = [quantity.canonical(o) for o in options]
    for i in range(1, len(options)):
        if quantity.compare(options[i - 1], options[i]) > 0:
            errors.append(invalid_value(f"{path}[{i}]", shown[i], "values must be sorted in ascending order"))
    if len(options) > MOST_OPTIONS:
        return [*errors, too_many(path, len(options), MOST_OPTIONS)]
    for i, option in enumerate(options):
        if quantity.compare(option, capacity) > 0:
            text = f"option is larger than capacity value: {quantity.canonical(capacity)}"
            errors.append(invalid_value(f"{path}[{i}]", shown[i], text))
    whole = [str(quantity.value(o)) for o in options]
    errors += [duplicate(f"{path}[{i}]", key) for i, key in enumerate(whole) if key in whole[:i]]
    if not any(quantity.equal(o, usual) for o in options):
        text = "default value is not valid according to the requestPolicy"
        errors.append(invalid_value(path, quantity.canonical(usual), text))
    return errors


def _range(usual: Any, capacity: Any, span: Json, path: str) -> Errors:
    least, most, step = span.get("min"), span.get("max"), span.get("step")
    if least is None:
        return [required(f"{path}.min", "required when validRange is defined")]
    shown = {k: quantity.canonical(v) for k, v in (("min", least), ("usual", usual), ("size", capacity))}
    errors: Errors = []
    if quantity.compare(least, capacity) > 0:
        text = f"min is larger than capacity value: {shown['size']}"
        errors.append(invalid_value(f"{path}.min", shown["min"], text))
    if quantity.compare(usual, least) < 0:
        errors.append(invalid_value(f"{path}.default", shown["usual"], f"default is less than min: {shown['min']}"))
    if most is not None:
        top = quantity.canonical(most)
        if quantity.compare(least, most) > 0:
            errors.append(invalid_value(f"{path}.max", shown["min"], f"min is larger than max: {top}"))
        if quantity.compare(most, capacity) > 0:
            text = f"max is larger than capacity value: {shown['size']}"
            errors.append(invalid_value(f"{path}.max", top, text))
        if quantity.compare(usual, most) > 0:
            errors.append(invalid_value(f"{path}.default", shown["usual"], f"default is more than max: {top}"))
    return errors if step is None else errors + _steps(usual, capacity, least, most, step, f"{path}.step")


def _steps(usual: Any, capacity: Any, least: Any, most: Any, step: Any, path: str) -> Errors:
    one = quantity.canonical(step)
    if quantity.parse(step) <= 0:
        return [invalid_value(path, one, "must be greater than zero")]
    errors: Errors = []
    if quantity.parse(least) + quantity.parse(step) > quantity.parse(capacity):
        added, size = quantity.total([str(least), str(step)]), quantity.canonical(capacity)
        errors.append(invalid_value(path, one, f"one step {added} is larger than capacity value: {size}"))
    for amount in (usual, most):
        if amount is not None and (quantity.parse(amount) - quantity.parse(least)) % quantity.parse(step):
            text = f"value is not a multiple of a given step ({one}) from ({quantity.canonical(least)})"
            errors.append(invalid_value(path, quantity.canonical(amount), text))
    return errors
