"""The search space: reading, checks, conditions, JSON form."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.conditions import resolve
from harness.core.errors import SettingsError
from harness.core.space import (
    Choice,
    Condition,
    Distribution,
    Hyperparameter,
    Range,
    Value,
    describe,
    edge_parameters,
    first_params,
    space_from_json,
    space_to_json,
)
from harness.core.space_parsing import parse_fixed, parse_search_option, parse_set_option, parse_space

SGD = Condition("optimizer", ("sgd",))
ACCEPTED = {
    "lr": Hyperparameter(float, 1e-3, above=0, log=True),
    "batch_size": Hyperparameter(int, 32, at_least=2),
    "optimizer": Hyperparameter(str, "adam", choices=("adam", "sgd")),
    "momentum": Hyperparameter(float, 0.9, at_least=0, below=1, when=SGD),
    "dropout": Hyperparameter(float, 0.0, at_least=0, below=1),
}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"lr": {"low": 1e-4, "high": 1e-2}}, {"lr": Range(1e-4, 1e-2, log=True)}),
        ({"lr": {"low": 1e-4, "high": 1e-2, "log": False}}, {"lr": Range(1e-4, 1e-2)}),
        ({"batch_size": {"low": 8, "high": 64}}, {"batch_size": Range(8, 64, integer=True)}),
        ({"batch_size": [16, 32]}, {"batch_size": Choice((16, 32))}),
        ({"dropout": [0, 0.5]}, {"dropout": Choice((0.0, 0.5))}),
        (
            {"momentum": {"low": 0.5, "high": 0.9, "when": {"optimizer": "sgd"}}},
            {"momentum": Range(0.5, 0.9, when=SGD)},
        ),
        (
            {"momentum": {"values": [0.5, 0.9], "when": {"optimizer": ["sgd"]}}},
            {"momentum": Choice((0.5, 0.9), SGD)},
        ),
    ],
)
def test_table_becomes_distributions(table: dict[str, object], expected: dict[str, Distribution]) -> None:
    assert parse_space(table, ACCEPTED, "") == expected


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"depth": [1, 2]}, ["depth", "batch_size, dropout, lr, momentum, optimizer"]),
        ({"lr": {"low": 1, "hi": 2}}, ["hi", "low ="]),
        ({"lr": {"low": 2.0, "high": 1.0}}, ["2.0", "low <= high"]),
        ({"lr": {"low": 0.0, "high": 1.0}}, ["0.0", "above 0"]),
        ({"dropout": {"low": 0.0, "high": 0.5, "log": True}}, ["above 0 on a logarithmic scale"]),
        ({"dropout": {"low": 0.0, "high": 1.0}}, ["high", "below 1"]),
        ({"lr": {"low": 0.1, "high": math.nan}}, ["nan"]),
        ({"lr": {"low": 0.1, "high": True}}, ["True"]),
        ({"lr": 3}, ["3", "[set]"]),
        ({"batch_size": [1]}, ["1", "at least 2"]),
        ({"batch_size": [16.5]}, ["16.5", "whole number"]),
        ({"batch_size": [16, 16]}, ["[16, 16]", "different"]),
        ({"batch_size": []}, ["[]"]),
        ({"optimizer": ["adam", "lion"]}, ["lion", "adam, sgd"]),
        ({"optimizer": {"low": 1, "high": 2}}, ["optimizer"]),
        ({"momentum": {"low": 0.1, "high": 0.2, "when": "sgd"}}, ["when", "optimizer"]),
        ({"batch_size": {"low": 16, "high": 64, "integer": False}}, ["integer"]),
        ({"lr": {"low": 1e-5, "high": 0.1, "integer": True}}, ["integer"]),
        ({"dropout": [10**400]}, ["below 1"]),
    ],
)
def test_wrong_table_is_refused_with_what_is_expected(table: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        parse_space(table, ACCEPTED, "here: ")
    assert str(error.value).startswith("here: ")
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dropout=0:0.6", ("dropout", Range(0.0, 0.6))),
        ("lr=1e-4:1", ("lr", Range(1e-4, 1.0, log=True))),
        ("lr=1e-4:1:linear", ("lr", Range(1e-4, 1.0))),
        ("dropout=0.1:0.6:log", ("dropout", Range(0.1, 0.6, log=True))),
        ("batch_size=8:64", ("batch_size", Range(8, 64, integer=True))),
        ("batch_size = 8, 16", ("batch_size", Choice((8, 16)))),
        ("optimizer=adam,sgd", ("optimizer", Choice(("adam", "sgd")))),
    ],
)
def test_search_option(text: str, expected: tuple[str, Distribution]) -> None:
    assert parse_search_option(text, ACCEPTED) == expected


@pytest.mark.parametrize(
    "text",
    ["dropout", "dropout=", "=1:2", "dropout=0:0.6:cubic", "dropout=0:0.6:log:log", "dropout=a:b", "depth=1:2"],
)
def test_wrong_search_option_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--search"):
        parse_search_option(text, ACCEPTED)


def test_set_option() -> None:
    assert parse_set_option("optimizer=sgd", ACCEPTED) == ("optimizer", "sgd")
    assert parse_set_option("batch_size=64", ACCEPTED) == ("batch_size", 64)
    for text in ("optimizer=lion", "batch_size=1", "depth=3", "lr"):
        with pytest.raises(SettingsError, match="--set"):
            parse_set_option(text, ACCEPTED)
    with pytest.raises(SettingsError, match="dropout is True"):
        parse_fixed({"dropout": True}, ACCEPTED, "[set] ")


def test_condition_comes_from_the_hyperparameter_and_is_decided_where_it_can_be() -> None:
    momentum = Range(0.5, 0.9)
    searched: dict[str, Distribution] = {"momentum": momentum, "optimizer": Choice(("adam", "sgd"))}
    space = resolve(searched, {}, ACCEPTED)
    assert list(space) == ["optimizer", "momentum"]  # after the parameter of its condition
    assert space["momentum"].when == SGD
    assert resolve({"momentum": momentum}, {"optimizer": "sgd"}, ACCEPTED)["momentum"].when is None
    with pytest.raises(SettingsError, match="momentum is used only where optimizer is sgd, and optimizer is adam"):
        resolve({"momentum": momentum}, {}, ACCEPTED)
    with pytest.raises(SettingsError, match="momentum is used only where optimizer is sgd"):
        resolve({"lr": Range(0.1, 1)}, {"momentum": 0.9}, ACCEPTED)


@pytest.mark.parametrize(
    ("space", "fixed", "match"),
    [
        ({"lr": Range(0.1, 1)}, {"lr": 0.1}, "both set and searched"),
        ({}, {"lr": 0.1}, "nothing is left to search"),
        ({"lr": Range(0.1, 1, when=Condition("depth", (1,)))}, {}, "no hyperparameter 'depth'"),
        ({"optimizer": Choice(("sgd",)), "lr": Range(0.1, 1, when=Condition("optimizer", ("lion",)))}, {}, "lion"),
        (
            {
                "lr": Choice((0.1, 1.0), Condition("dropout", (0.5,))),
                "dropout": Choice((0.5, 0.2), Condition("lr", (0.1,))),
            },
            {},
            "form a cycle",
        ),
    ],
)
def test_space_that_makes_no_sense_is_refused(
    space: dict[str, Distribution], fixed: dict[str, Value], match: str
) -> None:
    with pytest.raises(SettingsError, match=match):
        resolve(space, fixed, ACCEPTED)


@pytest.mark.parametrize(
    ("space", "match"),
    [
        ({"momentum": Range(0.5, 0.9), "optimizer": Choice(("adam",))}, "optimizer is adam"),
        (
            {"momentum": Range(0.5, 0.9, when=Condition("batch_size", (16,))), "batch_size": Choice((16, 32))},
            "used only where optimizer is sgd, and its `when` says batch_size is 16",
        ),
        (
            {"dropout": Range(0, 0.5, when=Condition("lr", (0.1,))), "lr": Range(0.01, 0.1)},
            "a list of values for lr",
        ),
    ],
)
def test_condition_that_can_never_hold_is_refused(space: dict[str, Distribution], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        resolve(space, {}, ACCEPTED)


def test_condition_that_always_holds_is_dropped() -> None:
    space = resolve({"momentum": Range(0.5, 0.9), "optimizer": Choice(("sgd",))}, {}, ACCEPTED)
    assert space["momentum"].when is None


def test_first_trial_is_the_defaults_or_what_is_nearest() -> None:
    space: dict[str, Distribution] = {
        "lr": Range(0.01, 0.1),
        "batch_size": Choice((16, 64)),
        "dropout": Range(0.1, 0.5),
    }
    assert first_params(resolve(space, {}, ACCEPTED), ACCEPTED) == {"lr": 0.01, "batch_size": 16, "dropout": 0.1}
    default: dict[str, Distribution] = {"lr": Range(1e-5, 0.1, log=True), "batch_size": Choice((16, 32))}
    assert first_params(default, ACCEPTED) == {"lr": 1e-3, "batch_size": 32}
    conditional = resolve({"optimizer": Choice(("adam", "sgd")), "momentum": Range(0.5, 0.8)}, {}, ACCEPTED)
    assert first_params(conditional, ACCEPTED) == {"optimizer": "adam"}


def test_edges_are_those_of_the_parameters_own_scale() -> None:
    space: dict[str, Distribution] = {
        "lr": Range(1e-5, 1e-1, log=True),
        "dropout": Range(0, 0.5),
        "batch_size": Choice((16, 32)),
    }
    middle: dict[str, Value] = {"lr": 1e-3, "dropout": 0.25, "batch_size": 16}
    assert edge_parameters(space, middle, 0.025) == []
    assert edge_parameters(space, {**middle, "lr": 1.1e-5, "dropout": 0.499}, 0.025) == ["lr", "dropout"]
    assert edge_parameters({"lr": Range(0.1, 0.1)}, {"lr": 0.1}, 0.025) == []


def test_description_has_three_digits() -> None:
    assert (
        describe({"lr": 0.00123456, "batch_size": 32, "optimizer": "sgd"})
        == "lr 0.00123, batch_size 32, optimizer sgd"
    )


bounds = st.floats(1e-6, 1e6).map(lambda x: float(f"{x:.6g}"))
conditions = st.none() | st.just(Condition("a", ("x", 1, 0.5)))
ranges = st.builds(
    lambda a, b, log, integer, when: Range(min(a, b), max(a, b), log, integer, when),
    bounds,
    bounds,
    st.booleans(),
    st.booleans(),
    conditions,
)
values = st.lists(st.integers(-5, 5) | st.sampled_from(["x", "y", "z"]), min_size=1, unique_by=repr)
choices = st.builds(lambda v, when: Choice(tuple(v), when), values, conditions)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), ranges | choices))
def test_space_survives_json(space: dict[str, Distribution]) -> None:
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


@given(ranges, st.floats(-1e7, 1e7))
def test_nearest_value_lies_in_the_range(distribution: Range, value: float) -> None:
    nearest = distribution.nearest(value)
    assert isinstance(nearest, int) == distribution.integer
    if not distribution.integer:
        assert distribution.contains(nearest)
    if distribution.contains(value) and not distribution.integer:
        assert nearest == value
