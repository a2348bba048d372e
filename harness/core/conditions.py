"""Conditions of a search space: which are decided beforehand, which in each trial, and which make no sense."""

from __future__ import annotations

from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from harness.core.errors import SettingsError
from harness.core.space import (
    Accepted,
    Choice,
    Condition,
    Distribution,
    Hyperparameter,
    Params,
    Range,
    Space,
    known,
)


def resolve(space: Space, fixed: Params, accepted: Accepted) -> dict[str, Distribution]:
    """Return the space, sorted so that a conditional parameter comes after the parameter of its condition.

    A condition on a parameter that is not searched is decided here, by that parameter's fixed value or default.

    Raises SettingsError if a parameter is both fixed and searched, if a parameter would never be used, if a
    condition names an unknown parameter, if conditions form a cycle, and if the space is empty.
    """
    found: dict[str, Distribution] = {}
    settled = {name: hyperparameter.default for name, hyperparameter in accepted.items()} | dict(fixed)
    for name, distribution in space.items():
        if name in fixed:
            raise SettingsError(f"{name} is both set and searched", expected="one of the two")
        when = _condition_of(name, distribution, accepted[name])
        found[name] = replace(distribution, when=when if _is_open(when, name, space, settled, accepted) else None)
    for name in fixed:
        _is_open(accepted[name].when, name, space, settled, accepted)
    if not found:
        raise SettingsError("nothing is left to search", expected="a parameter in [search], or --search NAME=...")
    graph = {name: {d.when.name} if d.when else set() for name, d in found.items()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise SettingsError(f"the conditions form a cycle: {' -> '.join(error.args[1])}") from error
    return {name: found[name] for name in sorted(found, key=lambda name: order.index(name) if graph[name] else -1)}


def _is_open(when: Condition | None, name: str, space: Space, settled: Params, accepted: Accepted) -> bool:
    """Return True if the condition of parameter `name` must be decided in each trial.

    Raises SettingsError if the condition is never true.
    """
    if when is None:
        return False
    subject = known(when.name, accepted, f"{name}: when: ")
    for value in when.values:
        subject.check(f"{name}: when: {when.name}", value)
    match space.get(when.name):
        case None:
            has: object = settled[when.name]
            holds = [when.holds(settled)]
        case Choice(values=values) as has:
            holds = [value in when.values for value in values]
        case Range(integer=True) as has:
            holds = [any(has.contains(value) for value in when.values), False]
        case Range() as has:
            raise SettingsError(
                f"{name} is used only where {when}, and {when.name} is searched in a range of numbers",
                expected=f"a list of values for {when.name}",
            )
    if not any(holds):
        raise SettingsError(
            f"{name} is used only where {when}, and {when.name} is {has}",
            hint=f"--set {when.name}={when.values[0]}, or leave {name} out",
        )
    return not all(holds)


def _condition_of(name: str, distribution: Distribution, hyperparameter: Hyperparameter) -> Condition | None:
    """Return the condition that the user gave, which must lie within the one that the parameter declares."""
    given, declared = distribution.when, hyperparameter.when
    if given is None or declared is None:
        return given or declared
    if given.name != declared.name or not set(given.values) <= set(declared.values):
        raise SettingsError(
            f"{name} is used only where {declared}, and its `when` says {given}", expected=str(declared)
        )
    return given
