"""Names that are new, and digests and seeds that are the same on every machine."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, the same on every machine (64 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**32) that depends on `seed` and the names only."""
    return int(digest_of([seed, *names])[:8], 16)


@dataclass(frozen=True, slots=True)
class WorkerId:
    """The id of a worker process, with the id of the sweep that it belongs to; empty texts for none."""

    sweep: str = ""
    worker: str = ""


def new_name() -> str:
    """Return a new unique name (32 hex digits)."""
    return uuid.uuid4().hex


def is_name(text: str) -> bool:
    """Return True if `new_name` may have made the text."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
