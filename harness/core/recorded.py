"""Checks of records that others may have written: foreign JSON that becomes a dataclass.

A dataclass does not check its fields. A record of a store may be cut short, edited, or made by another program, so
whatever reads one calls `checked` and catches UNREADABLE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# What it raises to build a record from foreign JSON that has not the form of that record.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

Record = TypeVar("Record", bound="DataclassInstance")


def checked(record: Record) -> Record:
    """Return a dataclass as it is; raise TypeError if a field has a value of another type than declared."""
    hints = _hints(type(record))
    for field in fields(record):
        value = getattr(record, field.name)
        if not fits(value, hints[field.name]):
            raise TypeError(f"{field.name} is {value!r:.60}")
    return record


@cache
def _hints(kind: type) -> dict[str, object]:
    return get_type_hints(kind)


def fits(value: object, hint: Any) -> bool:
    """Return whether a value has a declared type: a class, a union, a Literal, tuple[X, ...] or Mapping[X, Y]."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is not None:
        assert issubclass(origin, Mapping)
        return isinstance(value, Mapping) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is float:  # JSON writes a whole number without a point
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is not int or not isinstance(value, bool))


def whole_number(text: str | None) -> int | None:
    """Return the number that a text of up to nine digits is, None for any other text.

    `isdigit` is true for `²` too, which is no number to `int`, nor are thousands of digits.
    """
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
