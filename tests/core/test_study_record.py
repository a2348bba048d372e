"""The targets of a study once another sweep of it begins."""

from dataclasses import replace

import pytest

from harness.core.study_record import Targets

FIRST = Targets(n_trials=10, attempts=3, keep=None)


def after(
    sweep: Targets,
    earlier: Targets | None = FIRST,
    *,
    finished: int = 10,
    is_alone: bool = True,
    keeps: bool = False,
) -> Targets:
    return sweep.after(earlier, finished=finished, is_alone=is_alone, keeps=keeps)


def test_the_first_sweep_decides() -> None:
    assert after(replace(FIRST, keep=2), None, finished=0) == replace(FIRST, keep=2)
    assert after(FIRST, None, finished=12).n_trials == 12  # a worker has finished trials before


def test_the_total_does_not_fall_below_what_is_there() -> None:
    assert after(replace(FIRST, n_trials=4)).n_trials == 10
    assert after(replace(FIRST, n_trials=4), finished=6).n_trials == 6
    assert after(replace(FIRST, n_trials=20)).n_trials == 20


def test_the_total_does_not_fall_while_another_sweep_works_for_it() -> None:
    assert after(replace(FIRST, n_trials=4), finished=2).n_trials == 4
    assert after(replace(FIRST, n_trials=4), finished=2, is_alone=False).n_trials == 10


@pytest.mark.parametrize(
    ("before", "given", "found"), [(None, 1, None), (1, None, None), (1, 3, 3), (3, 1, 3), (2, 2, 2)]
)
def test_the_more_generous_keep_counts(before: int | None, given: int | None, found: int | None) -> None:
    assert after(replace(FIRST, keep=given), replace(FIRST, keep=before), keeps=True).keep == found


@pytest.mark.parametrize("before", [None, 3])
def test_a_sweep_that_was_not_told_what_to_keep_changes_nothing(before: int | None) -> None:
    assert after(FIRST, replace(FIRST, keep=before)).keep == before


def test_the_attempts_are_those_of_the_last_sweep() -> None:
    assert after(replace(FIRST, attempts=1)).attempts == 1
