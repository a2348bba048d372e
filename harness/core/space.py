"""Hyperparameters and the search space: what may be set or searched, and within which bounds.

A space maps names to distributions, a trial's parameters map names to values. Nothing here names a
hyperparameter: the training loop, the input and each network declare their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from harness.core.errors import SettingsError

Value = int | float | str
Params = Mapping[str, Value]
RANGE_FORM: Final = "{ low = 1e-5, high = 1e-1, log = true } or a list of values"


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds where the parameter `name` has one of `values`."""

    name: str
    values: tuple[Value, ...]

    def holds(self, params: Params) -> bool:
        """Return True if the condition holds for these parameters."""
        return params.get(self.name) in self.values

    def __str__(self) -> str:
        return f"{self.name} is {' or '.join(map(str, self.values))}"


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`, both included; `log` makes the scale logarithmic."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    when: Condition | None = None

    def contains(self, value: Value) -> bool:
        """Return True if the value lies in the range."""
        return not isinstance(value, str) and self.low <= value <= self.high

    def nearest(self, value: Value) -> Value:
        """Return the value, or the end of the range that is nearest to it."""
        if isinstance(value, str):
            raise TypeError(f"{value!r} is no number")
        found = min(max(value, self.low), self.high)
        return round(found) if self.integer else float(found)

    def at_edge(self, value: Value, share: float) -> bool:
        """Return True if the value lies within `share` of the range from one of its ends, on its own scale."""
        if isinstance(value, str) or self.high <= self.low:
            return False
        low, high, here = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return not low + share * (high - low) < here < high - share * (high - low)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A list of values that have no order."""

    values: tuple[Value, ...]
    when: Condition | None = None

    def contains(self, value: Value) -> bool:
        """Return True if the value is one of the list."""
        return value in self.values

    def nearest(self, value: Value) -> Value:
        """Return the value, or the nearest number of the list, or the first word of it."""
        numbers = [v for v in self.values if not isinstance(v, str)]
        if value in self.values or isinstance(value, str) or not numbers:
            return value if value in self.values else self.values[0]
        return min(numbers, key=lambda number: abs(number - value))

    def at_edge(self, value: Value, share: float) -> bool:
        """Return False: a list has no edge."""
        return False

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


Distribution = Range | Choice
Space = Mapping[str, Distribution]


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A setting that the training loop, the input or a network accepts, with its default and its bounds.

    `kind` is float, int or str. `choices` lists the legal words. `log` is the scale of a range that names none.
    `when` says under which condition the setting is used at all.
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
        """Return the value in the hyperparameter's own type.

        Raises SettingsError, beginning with `where`, for another type and for what is out of bounds.
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
        """Return the value that a word on the command line means; raises SettingsError as `check` does."""
        try:
            value: object = text if self.kind is str else float(text)
        except ValueError:
            value = text
        return self.check(where, value)

    def _in_bounds(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    @property
    def expected(self) -> str:
        """What the value may be, as a phrase for messages."""
        if self.kind is str:
            return ", ".join(self.choices) or "a word"
        bounds = {
            "above": self.above,
            "at least": self.at_least,
            "below": self.below,
            "at most": self.at_most,
        }
        words = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        return " ".join(["a whole number" if self.kind is int else "a number", " and ".join(words)]).rstrip()


Accepted = Mapping[str, Hyperparameter]


def known(name: str, accepted: Accepted, where: str) -> Hyperparameter:
    """Return the hyperparameter of that name; raises SettingsError, with the legal names, where there is none."""
    if name not in accepted:
        raise SettingsError(f"{where}there is no hyperparameter {name!r}", expected=", ".join(sorted(accepted)))
    return accepted[name]


def parse_space(table: Mapping[str, object], accepted: Accepted, where: str) -> dict[str, Distribution]:
    """Return the space that a table of ranges and lists means (from TOML, JSON or a class).

    Raises SettingsError, beginning with `where`, for an unknown name and for a value that is not legal.
    """
    return {name: _distribution(table[name], known(name, accepted, where), f"{where}{name}") for name in table}


def parse_fixed(table: Mapping[str, object], accepted: Accepted, where: str) -> dict[str, Value]:
    """Return the fixed values that a table names; raises SettingsError as `parse_space` does."""
    return {name: known(name, accepted, where).check(f"{where}{name}", value) for name, value in table.items()}


def parse_search_option(text: str, accepted: Accepted) -> tuple[str, Distribution]:
    """Return the name and distribution of `NAME=LOW:HIGH`, `NAME=LOW:HIGH:log` or `NAME=A,B,C`.

    Raises SettingsError for anything else.
    """
    name, body = _name_and_body(text, "--search", "NAME=LOW:HIGH, NAME=LOW:HIGH:log, or NAME=A,B,C")
    hyperparameter, where = known(name, accepted, "--search: "), f"--search {name}"
    if ":" not in body:
        values: list[object] = [hyperparameter.parse(where, word.strip()) for word in body.split(",")]
        return name, _distribution(values, hyperparameter, where)
    low, high, *scale = body.split(":")
    if len(scale) > 1 or (scale and scale[0] not in ("log", "linear")):
        raise SettingsError(f"{where} is {body!r}", expected="LOW:HIGH, LOW:HIGH:log or LOW:HIGH:linear")
    table: dict[str, object] = {
        "low": hyperparameter.parse(where, low),
        "high": hyperparameter.parse(where, high),
    }
    if scale:
        table["log"] = scale[0] == "log"
    return name, _distribution(table, hyperparameter, where)


def parse_set_option(text: str, accepted: Accepted) -> tuple[str, Value]:
    """Return the name and value of `NAME=VALUE`; raises SettingsError for anything else."""
    name, body = _name_and_body(text, "--set", "NAME=VALUE")
    return name, known(name, accepted, "--set: ").parse(f"--set {name}", body)


def _name_and_body(text: str, option: str, form: str) -> tuple[str, str]:
    name, separator, body = text.partition("=")
    if not separator or not name.strip() or not body.strip():
        raise SettingsError(f"{option} is {text!r}", expected=form)
    return name.strip(), body.strip()


def _distribution(value: object, hyperparameter: Hyperparameter, where: str) -> Distribution:
    if isinstance(value, list | tuple):
        return _choice(value, hyperparameter, where, None)
    if not isinstance(value, Mapping):
        raise SettingsError(f"{where} is {value!r}", expected=RANGE_FORM, hint="[set] or --set, to fix a value")
    table = dict(value)
    when = _condition(table.pop("when", None), where)
    if set(table) == {"values"} and isinstance(table["values"], list | tuple):
        return _choice(table["values"], hyperparameter, where, when)
    low, high = table.pop("low", None), table.pop("high", None)
    log, integer = table.pop("log", hyperparameter.log), table.pop("integer", hyperparameter.kind is int)
    if table or hyperparameter.kind is str or not isinstance(log, bool) or not isinstance(integer, bool):
        raise SettingsError(f"{where} is {value!r}", expected=RANGE_FORM)
    ends = [hyperparameter.check(f"{where}: {end}", number) for end, number in (("low", low), ("high", high))]
    if isinstance(ends[0], str) or isinstance(ends[1], str):  # pragma: no cover - checked above
        raise SettingsError(f"{where} is {value!r}", expected=RANGE_FORM)
    if ends[0] > ends[1] or (log and ends[0] <= 0):
        expected = "low above 0 on a logarithmic scale, and low <= high"
        raise SettingsError(f"{where} is {value!r}", expected=expected)
    return Range(ends[0], ends[1], log, integer, when)


def _choice(
    values: Iterable[object], hyperparameter: Hyperparameter, where: str, when: Condition | None
) -> Choice:
    found = tuple(hyperparameter.check(where, value) for value in values)
    if not found or len(set(found)) != len(found):
        raise SettingsError(f"{where} is {list(found)!r}", expected="a list of different values")
    return Choice(found, when)


def _condition(value: object, where: str) -> Condition | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(value) != 1:
        raise SettingsError(f"{where}: when is {value!r}", expected='when = { optimizer = "sgd" }')
    ((name, wanted),) = value.items()
    return Condition(str(name), tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,))


def resolve(space: Space, fixed: Params, accepted: Accepted) -> dict[str, Distribution]:
    """Return the space in an order in which each condition comes after what it depends on.

    A condition on a parameter that is not searched is decided here, by its fixed value or its default.

    Raises SettingsError where a parameter is both fixed and searched, where it would never be used, where a
    condition names an unknown parameter or itself, and where nothing is left to search.
    """
    found: dict[str, Distribution] = {}
    settled = {name: hyperparameter.default for name, hyperparameter in accepted.items()} | dict(fixed)
    for name, distribution in space.items():
        if name in fixed:
            raise SettingsError(f"{name} is both set and searched", expected="one of the two")
        when = distribution.when or accepted[name].when
        found[name] = replace(distribution, when=when if _is_open(when, name, space, settled, accepted) else None)
    for name in fixed:
        _is_open(accepted[name].when, name, space, settled, accepted)
    if not found:
        raise SettingsError("nothing is left to search", expected="a parameter in [search], or --search NAME=...")
    graph = {name: {d.when.name} if d.when else set() for name, d in found.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise SettingsError(f"conditions go round in a circle: {' -> '.join(error.args[1])}") from error
    return {name: found[name] for name in sorted(found, key=lambda name: order.index(name) if graph[name] else -1)}


def _is_open(when: Condition | None, name: str, space: Space, settled: Params, accepted: Accepted) -> bool:
    """Return True if a condition can only be decided trial by trial."""
    if when is None:
        return False
    subject = known(when.name, accepted, f"{name}: when: ")
    for value in when.values:
        subject.check(f"{name}: when: {when.name}", value)
    if when.name in space:
        return True
    if not when.holds(settled):
        raise SettingsError(
            f"{name} is used only where {when}, and {when.name} is {settled[when.name]}",
            hint=f"--set {when.name}={when.values[0]}, or leave {name} out",
        )
    return False


def possible_values(name: str, space: Space, fixed: Params) -> tuple[Value, ...]:
    """Return the values that a parameter of words can have in a trial, () where it keeps its default."""
    distribution = space.get(name)
    if isinstance(distribution, Choice):
        return distribution.values
    return (fixed[name],) if name in fixed else ()


def is_conditional(space: Space) -> bool:
    """Return True if some parameter is used in some trials only."""
    return any(distribution.when for distribution in space.values())


def active(space: Space, params: Params) -> list[str]:
    """Return the names of a resolved space that are used with these parameters."""
    found: dict[str, Value] = {}
    for name, distribution in space.items():
        if (distribution.when is None or distribution.when.holds(found)) and name in params:
            found[name] = params[name]
    return list(found)


def first_params(space: Space, accepted: Accepted) -> dict[str, Value]:
    """Return the defaults of a resolved space's parameters, each moved to the nearest value that the space has."""
    params: dict[str, Value] = {}
    for name, distribution in space.items():
        if distribution.when is None or distribution.when.holds(params):
            params[name] = distribution.nearest(accepted[name].default)
    return params


def edge_parameters(space: Space, params: Params, share: float) -> list[str]:
    """Return the names of the parameters whose values lie at an edge of their range."""
    return [name for name, value in params.items() if name in space and space[name].at_edge(value, share)]


def space_to_json(space: Space) -> dict[str, object]:
    """Return a space as a JSON-able mapping: a list for a plain Choice, else a table."""
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
    """Rebuild a space that `space_to_json` gave."""
    found: dict[str, Distribution] = {}
    for name, value in recorded.items():
        table: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"values": value}
        when = _condition(table.pop("when", None), name)
        found[name] = Choice(tuple(table["values"]), when) if "values" in table else Range(**table, when=when)
    return found


def describe(params: Params) -> str:
    """Return parameters as one line: `lr 0.001, batch_size 32`."""
    return ", ".join(f"{name} {show(value)}" for name, value in params.items())


def show(value: Value) -> str:
    """Return a value with three significant digits, or as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
