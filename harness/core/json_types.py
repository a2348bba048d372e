"""The type of JSON objects that the harness writes, and their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

# An argument of `json.dumps`: its values are objects, lists, texts, numbers, booleans or None.
JsonObject: TypeAlias = Mapping[str, object]


def finite(value: object) -> object:
    """Return a JSON-able value with None in place of NaN and the infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
