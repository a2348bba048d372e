"""Reading a search space and fixed values from tables (TOML, a model's class) and from the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from harness.core.errors import SettingsError
from harness.core.space import Accepted, Choice, Condition, Distribution, Hyperparameter, Range, Value, known

RANGE_FORM: Final = "{ low = 1e-5, high = 1e-1, log = true } or a list of values"


def parse_space(table: Mapping[str, object], accepted: Accepted, where: str) -> dict[str, Distribution]:
    """Return the space of a table of ranges and lists (from TOML or from a model's class).

    Raises SettingsError for an unknown name and for an illegal value; the message begins with `where`.
    """
    return {name: _distribution(table[name], known(name, accepted, where), f"{where}{name}") for name in table}


def parse_fixed(table: Mapping[str, object], accepted: Accepted, where: str) -> dict[str, Value]:
    """Return the fixed values of a table. Raises SettingsError as `parse_space` does."""
    return {name: known(name, accepted, where).check(f"{where}{name}", value) for name, value in table.items()}


def parse_search_option(text: str, accepted: Accepted) -> tuple[str, Distribution]:
    """Return the name and distribution of a `--search` option.

    The forms are `NAME=LOW:HIGH`, `NAME=LOW:HIGH:log`, `NAME=LOW:HIGH:linear` and `NAME=A,B,C`.
    Raises SettingsError for any other text.
    """
    name, body = _name_and_body(text, "--search", "NAME=LOW:HIGH, NAME=LOW:HIGH:log, or NAME=A,B,C")
    hyperparameter, where = known(name, accepted, "--search: "), f"--search {name}"
    if ":" not in body:
        values: list[object] = [hyperparameter.parse(where, word.strip()) for word in body.split(",")]
        if len(values) == 1:
            raise SettingsError(
                f"{where} has one value, {body}: nothing to search",
                expected="LOW:HIGH, or several values A,B,C",
                hint=f"--set {name}={body}, to fix it",
            )
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
    """Return the name and value of a `--set` option, `NAME=VALUE`. Raises SettingsError for any other text."""
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
    if integer != (hyperparameter.kind is int) and (not integer or any(end != int(end) for end in ends)):
        raise SettingsError(f"{where} is {value!r}", expected="integer = true, with whole numbers as low and high")
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
