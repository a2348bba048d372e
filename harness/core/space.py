"""Hyperparameters and the search space: their types, conditions and JSON form.

A space maps names to distributions. A trial's parameters map names to values. This module names no hyperparameter:
the training loop, the input and each network declare their own. `space_parsing.py` reads spaces from tables and
from the command line.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import SettingsError, meant
from harness.core.recorded import checked

Value = int | float | str
Params = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that is true when the parameter `name` has one of `values`."""

    name: str
    values: tuple[Value, ...]

    def holds(self, params: Params) -> bool:
        """Return True if the condition is true for these parameters."""
        return params.get(self.name) in self.values

    def __str__(self) -> str:
        return f"{self.name} is {' or '.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`, both included.

    `log` makes the scale logarithmic. `integer` allows whole numbers only. `when` is the condition under which the
    parameter is used, None for always.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False
    when: Condition | None = None

    def contains(self, value: Value) -> bool:
        """Return True if the value lies in the range."""
        return not isinstance(value, str) and self.low <= value <= self.high

    def nearest(self, value: Value) -> Value:
        """Return the value of the range that is nearest to `value`; raises TypeError for a text."""
        if isinstance(value, str):
            raise TypeError(f"{value!r} is not a number")
        found = min(max(value, self.low), self.high)
        return round(found) if self.integer else float(found)

    def at_edge(self, value: Value, share: float) -> bool:
        """Return True if the value is near an end of the range.

        Near means within `share` (a fraction) of the range's length, measured on a log scale if `log` is set.
        """
        if isinstance(value, str) or self.high <= self.low:
            return False
        low, high, here = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return not low + share * (high - low) < here < high - share * (high - low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A list of values without an order. `when` is as in `Range`."""

    values: tuple[Value, ...]
    when: Condition | None = None

    def contains(self, value: Value) -> bool:
        """Return True if the value is in the list."""
        return value in self.values

    def nearest(self, value: Value) -> Value:
        """Return the value if it is in the list, else the nearest number of the list, else the first entry."""
        numbers = [v for v in self.values if not isinstance(v, str)]
        if value in self.values or isinstance(value, str) or not numbers:
            return value if value in self.values else self.values[0]
        return min(numbers, key=lambda number: abs(number - value))

    def at_edge(self, value: Value, share: float) -> bool:
        """Return False: a list has no edges."""
        return False

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Distribution = Range | Choice
Space = Mapping[str, Distribution]


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A setting that the training loop, the input or a network accepts, with its default and its bounds.

    `kind` is float, int or str. `choices` lists the legal words of a str. `log` is the default scale of a range.
    `when` is the condition under which the setting is used, None for always.
    """

    kind: type[float] | type[int] | type[str]
    default: Value
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()
    log: bool = False
    when: Condition | None = None

    def check(self, where: str, value: object) -> Value:
        """Return the value, converted to the hyperparameter's type.

        Raises SettingsError if the value has another type or is out of bounds; the message begins with `where`.
        """
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.kind is str:
            if isinstance(value, str) and (not self.choices or value in self.choices):
                return value
        elif number and self._in_bounds(value):  # type: ignore[arg-type]
            if self.kind is float:
                return float(value)  # type: ignore[arg-type]
            if value == int(value):  # type: ignore[call-overload]
                return int(value)  # type: ignore[call-overload, no-any-return]
        raise SettingsError(f"{where} is {value!r}", expected=self.expected)

    def parse(self, where: str, text: str) -> Value:
        """Return the value that a text on the command line stands for. Raises SettingsError as `check` does."""
        try:
            value: object = text if self.kind is str else float(text)
        except ValueError:
            value = text
        return self.check(where, value)

    def _in_bounds(self, value: float) -> bool:
        return (
            abs(value) <= sys.float_info.max  # false for NaN and infinity, and fit for whole numbers of any size
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    @property
    def expected(self) -> str:
        """The legal values, as a phrase for messages."""
        if self.kind is str:
            return ", ".join(self.choices) or "a word"
        bounds = {"above": self.above, "at least": self.at_least, "below": self.below, "at most": self.at_most}
        words = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        return " ".join(["a whole number" if self.kind is int else "a number", " and ".join(words)]).rstrip()


Accepted = Mapping[str, Hyperparameter]


def known(name: str, accepted: Accepted, where: str) -> Hyperparameter:
    """Return the hyperparameter of that name.

    Raises SettingsError, with the legal names, if there is none; the message begins with `where`.
    """
    if name not in accepted:
        raise SettingsError(
            f"{where}there is no hyperparameter {name!r}",
            expected=", ".join(sorted(accepted)),
            hint=meant(name, accepted),
        )
    return accepted[name]


def possible_crops(space: Space, fixed: Params) -> tuple[Value, ...]:
    """Return the values that `crop` can have in a trial, () if it always has its default."""
    distribution = space.get("crop")
    if isinstance(distribution, Choice):
        return distribution.values
    return (fixed["crop"],) if "crop" in fixed else ()


def is_conditional(space: Space) -> bool:
    """Return True if the space has a parameter that only some trials use."""
    return any(distribution.when for distribution in space.values())


def first_params(space: Space, accepted: Accepted) -> dict[str, Value]:
    """Return the parameters of a study's first trial.

    Each parameter of the resolved space gets its default, or the value of the space that is nearest to it.
    """
    params: dict[str, Value] = {}
    for name, distribution in space.items():
        if distribution.when is None or distribution.when.holds(params):
            params[name] = distribution.nearest(accepted[name].default)
    return params


def edge_parameters(space: Space, params: Params, share: float) -> list[str]:
    """Return the names of the parameters whose values are near an end of their range (see `Range.at_edge`)."""
    return [name for name, value in params.items() if name in space and space[name].at_edge(value, share)]


def space_to_json(space: Space) -> dict[str, object]:
    """Return a space in its JSON form: a list for a Choice without a condition, else a table."""
    found: dict[str, object] = {}
    for name, distribution in space.items():
        match distribution:
            case Range(low=low, high=high, log=log, integer=integer):
                table: dict[str, object] = {"low": low, "high": high, "log": log, "integer": integer}
            case Choice(values=values):
                table = {"values": list(values)}
        if distribution.when is not None:
            table["when"] = {distribution.when.name: list(distribution.when.values)}
        found[name] = table["values"] if set(table) == {"values"} else table
    return found


def space_from_json(recorded: Mapping[str, Any]) -> dict[str, Distribution]:
    """Return the space of a JSON form that `space_to_json` made; raises one of UNREADABLE for any other."""
    found: dict[str, Distribution] = {}
    for name, value in recorded.items():
        table: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"values": value}
        when = _condition_from_json(table.pop("when", None))
        found[name] = checked(
            Choice(tuple(table["values"]), when) if "values" in table else Range(**table, when=when)
        )
    return found


def _condition_from_json(recorded: Mapping[str, list[Value]] | None) -> Condition | None:
    if recorded is None:
        return None
    ((name, values),) = recorded.items()
    return checked(Condition(name, tuple(values)))


def grid_of(space: Space) -> dict[str, list[Value]]:
    """Return the values of each parameter of a space of lists."""
    return {name: list(d.values) for name, d in space.items() if isinstance(d, Choice)}


def len_of_grid(space: Space) -> int:
    """Return the number of points of a space of lists."""
    return math.prod(len(values) for values in grid_of(space).values())


def describe(params: Params) -> str:
    """Return parameters as one line: `lr 0.001, batch_size 32`."""
    return ", ".join(f"{name} {show(value)}" for name, value in params.items())


def show(value: Value) -> str:
    """Return a value as text; a float gets three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
