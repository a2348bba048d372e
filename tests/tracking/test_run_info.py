"""A run whose tags others have written: each property has a value or says what is wrong with the run."""

from typing import Any

import pytest

from harness.core.errors import TrackingError
from harness.tracking import RunInfo, RunStatus, own_run
from harness.tracking.runs import by_number
from harness.tracking.tags import OPENED_PREFIX, Tag


def run(run_id: str = "r", **tags: str) -> RunInfo:
    return RunInfo(run_id=run_id, status=RunStatus.FINISHED, params={}, metrics={"best_val_loss": 0.5}, tags=tags)


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("trial_number", {"trial": "x"}),
        ("trial_number", {"trial": "-1"}),
        ("trial_number", {"trial": "9" * 5000}),
        ("repeat", {"repeat": ""}),
        ("config", {"config": "{"}),
        ("config", {"config": "[" * 100_000}),
        ("config", {"config": '{"model": 5}'}),
    ],
)
def test_a_tag_that_was_changed(name: str, tags: dict[str, str]) -> None:
    with pytest.raises(TrackingError, match=r"run r \(\w+\) has the tag") as error:
        getattr(run(**tags), name)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("name", ["trial_number", "repeat", "config", "model", "data_digest", "parent_id"])
def test_a_tag_that_is_missing(name: str) -> None:
    with pytest.raises(TrackingError, match="has no tag"):
        getattr(run(), name)


def test_a_metric_that_is_missing() -> None:
    assert run().metric("best_val_loss") == 0.5
    with pytest.raises(TrackingError, match="no metric 'train_seconds'"):
        run().metric("train_seconds")


@pytest.mark.parametrize("text", ["many", "", "-3", "1.5", "9" * 5000])
def test_openings_that_are_no_number(text: str) -> None:
    assert run(**{Tag.TEST_OPENINGS: text}).test_openings == 0
    assert run(**{Tag.TEST_OPENINGS: text, f"{OPENED_PREFIX}a": "now", f"{OPENED_PREFIX}b": ""}).test_openings == 2
    assert run(**{Tag.TEST_OPENINGS: "3"}).test_openings == 3


@pytest.mark.parametrize("text", ["", "[]", "5", "{"])
def test_an_environment_that_cannot_be_read_is_none(text: str) -> None:
    assert run(environment=text).environment == {}


def test_runs_without_a_number_are_passed_over() -> None:
    tags: list[dict[str, Any]] = [{"trial": "10"}, {"trial": "x"}, {}, {"trial": "2"}]
    assert [found.trial_number for found in by_number(run(**each) for each in tags)] == [2, 10]
    assert run(kind="repeat", candidate="fcnn", repeat="1").is_numbered
    assert not run(kind="repeat", repeat="1").is_numbered
    assert not run(kind="repeat", candidate="fcnn", trial="1").is_numbered


def test_the_run_of_a_study_among_others_of_its_name() -> None:
    own, other, none = run("own", study_identity="i"), run("other", study_identity="o"), run("none")
    assert own_run([none, other, own], "i") is own
    assert own_run([other, none], "i") is none
    assert own_run([other], "i") is None
