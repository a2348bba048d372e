"""Records that others may have written: what has another form is refused, whatever it is."""

from typing import Any

import pytest

from harness.core.recorded import UNREADABLE, checked, whole_number
from harness.core.records import EpochMetrics, Split, StudySpec, TrialConfig
from harness.core.study_record import StudyContext, Targets
from tests.support.studies import CONTEXT, SPEC

SETTINGS, ABOUT = SPEC.frozen_settings(), CONTEXT.as_json()
SPLIT = {"name": "s", "drawn": True, "train": ["a"], "valid": ["b"], "test": ["c"], "excluded": []}
CONFIG: dict[str, Any] = {"model": "fcnn", "lr": 0.1, "epochs": 3, "seed": 0, "threads": 1, "precision": "fp32"}


def test_what_was_written_is_read_back() -> None:
    assert StudySpec.of(SPEC.name, SPEC.experiment, SETTINGS) == SPEC
    assert StudyContext.of(ABOUT) == CONTEXT
    assert Split.of(SPLIT).train == ("a",)
    assert TrialConfig.of(CONFIG).params == {"lr": 0.1}
    assert checked(EpochMetrics(1, 1, 0.5, 1, 0.1)).val_accuracy == 1  # JSON may write a float without its point


NOTHING: list[Any] = [None, 7, "text", [], [1], {}]


@pytest.mark.parametrize("content", [*NOTHING, *({**SPLIT, "train": part} for part in (5, [1], None))], ids=repr)
def test_another_split(content: Any) -> None:
    with pytest.raises(UNREADABLE):
        Split.of(content)


@pytest.mark.parametrize(
    "content", [*NOTHING, {**CONFIG, "epochs": "3"}, {**CONFIG, "epochs": True}, {**CONFIG, "lr": [1]}], ids=repr
)
def test_another_configuration(content: Any) -> None:
    with pytest.raises(UNREADABLE):
        TrialConfig.of(content)


@pytest.mark.parametrize(
    "change", [{"dataset": {}}, {"dataset": None}, {"identity": 5}, {"columns": 5}, {"columns": [5]}, {"more": 1}]
)
def test_another_context(change: dict[str, object]) -> None:
    with pytest.raises(UNREADABLE):
        StudyContext.of({**ABOUT, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"epochs": 2.5},
        {"precision": "fp8"},
        {"space": []},
        {"space": {"lr": {"low": "a", "high": 1}}},
        {"space": {"lr": {"low": 0, "high": 1, "when": {"a": [1], "b": [2]}}}},
        {"space": {"lr": [None]}},
        {"fixed": {"lr": {}}},
        {"columns": 5},
        {"more": 1},
    ],
    ids=repr,
)
def test_another_specification(change: dict[str, object]) -> None:
    with pytest.raises(UNREADABLE):
        StudySpec.of(SPEC.name, SPEC.experiment, {**SETTINGS, **change})


def test_the_message_names_the_field() -> None:
    with pytest.raises(TypeError, match="keep is 'all'"):
        checked(Targets(n_trials=1, attempts=1, keep="all"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("00012", 12),
        ("x", None),
        ("", None),
        ("-1", None),
        ("²", None),
        ("٣", None),
        ("9" * 10, None),
        (None, None),
    ],
)
def test_whole_numbers(text: str | None, number: int | None) -> None:
    assert whole_number(text) == number
