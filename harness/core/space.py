"""The search space as it is written down: in a settings file, or beside a model from a file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from harness.core.errors import SettingsError


def parse_search(table: dict[str, Any], where: str, default: SearchSpace) -> SearchSpace:
    """Return the space that a table of `lr` and `batch_size` means; what it does not name is the default's.

    Raises SettingsError, beginning with `where`, for a key or a value that does not exist.
    """
    refuse_unknown(table, ["lr", "batch_size"], where)
    space = default
    if "lr" in table:
        lr = table["lr"]
        expected = "lr = { low = 1e-5, high = 1e-1, log = true } with 0 < low <= high"
        if not isinstance(lr, dict):
            raise SettingsError(f"{where}lr is {lr!r}", expected=expected)
        refuse_unknown(lr, ["low", "high", "log"], f"{where}lr: ")
        low, high, log = lr.get("low"), lr.get("high"), lr.get("log", True)
        if not (_is_number(low) and _is_number(high) and isinstance(log, bool) and 0 < low <= high < math.inf):
            raise SettingsError(f"{where}lr is {lr!r}", expected=expected)
        space = replace(space, lr=FloatRange(low=float(low), high=float(high), log=log))
    if "batch_size" in table:
        sizes = table["batch_size"]
        whole = isinstance(sizes, list) and all(type(size) is int and size >= 2 for size in sizes)
        if not whole or not sizes or len(set(sizes)) != len(sizes):
            raise SettingsError(
                f"{where}batch_size is {sizes!r}",
                expected="a list of different whole numbers from 2, as [16, 32]",
            )
        space = replace(space, batch_size=tuple(sizes))
    return space


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def refuse_unknown(table: dict[str, Any], expected: Iterable[str], where: str) -> None:
    """Raise SettingsError for a key that is not expected."""
    for name in table:
        if name not in expected:
            raise SettingsError(f"{where}there is no setting {name!r}", expected=", ".join(expected))


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRange:
    """An interval to search, both ends included; on a logarithmic scale where `log`."""

    low: float
    high: float
    log: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """What a study may choose from: a range of learning rates and a list of batch sizes."""

    lr: FloatRange
    batch_size: tuple[int, ...]
