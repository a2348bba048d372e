"""The type of JSON objects that the harness writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

# An argument of `json.dumps`: its values are objects, lists, texts, numbers, booleans or None.
JsonObject: TypeAlias = Mapping[str, object]
