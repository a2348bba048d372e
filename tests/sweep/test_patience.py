"""Patience: when a search that gains nothing is over, and that its study then counts as complete."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.records import TrialResult
from harness.core.study_record import Budget, Stall
from harness.core.trial_rows import TrialRow
from harness.study import Study, list_studies, open_storage, reading_storage
from tests.support.commands import Harness, last_json
from tests.support.stores import Stores
from tests.support.studies import CONTEXT, SPEC, complete, take
from tests.support.sweeps import sweep

BEGIN = datetime(2026, 1, 1)


def rows(accuracies: list[float | None], folds: tuple[float, ...] = ()) -> list[TrialRow]:
    """Trials that ended one after another; None for one that was pruned."""
    return [
        TrialRow(
            number=number,
            state="PRUNED" if accuracy is None else "COMPLETE",
            params={},
            val_accuracy=accuracy,
            val_loss=None,
            best_epoch=None,
            started=BEGIN,
            ended=BEGIN + timedelta(seconds=number),
            reason=None,
            folds=folds,
        )
        for number, accuracy in enumerate(accuracies)
    ]


def budget(patience: int | None, tracks: int = 100) -> Budget:
    return Budget(40, 40, patience, tracks)


def test_a_search_stalls_when_the_last_trials_gain_no_more_than_the_standard_error() -> None:
    error = math.sqrt(0.5 * 0.5 / 100)  # 5 points
    found = Stall.of(rows([0.5, 0.4, 0.54]), budget(2))
    assert found is not None
    assert (found.trials, found.error) == (2, error)
    assert found.gain == pytest.approx(0.04)
    assert Stall.of(rows([0.5, 0.4, 0.56]), budget(2)) is None
    assert Stall.of(rows([0.5, 0.4, 0.56, 0.3]), budget(2)) is None  # the gain was made by one of the last two
    assert Stall.of(rows([0.5, 0.4, 0.56, 0.3, None]), budget(2)) is not None
    assert Stall.of(rows([0.5, 0.4]), budget(2)) is None  # nothing came before these two
    assert Stall.of(rows([None, None, 0.5, 0.5]), budget(2)) is None
    assert Stall.of(rows([0.5] * 9), budget(None)) is None


def test_with_folds_the_standard_error_is_that_over_the_folds() -> None:
    spread = (0.4, 0.5, 0.6)
    found = Stall.of(rows([0.5, 0.54], folds=spread), budget(1, tracks=1))
    assert found is not None
    assert found.error == pytest.approx(0.1 / math.sqrt(3))
    assert Stall.of(rows([0.5, 0.6], folds=spread), budget(1, tracks=1)) is None


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12), st.integers(1, 6), st.randoms())
def test_the_order_of_the_ends_decides(accuracies: list[float | None], patience: int, random: object) -> None:
    ordered = rows(accuracies)
    shuffled = list(ordered)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    found = Stall.of(ordered, budget(patience))
    assert Stall.of(shuffled, budget(patience)) == found
    if found is not None:
        assert 0 <= found.gain <= found.error
    running = replace(ordered[0], number=99, state="RUNNING", ended=None) if ordered else None
    assert Stall.of([*ordered, *([running] if running else [])], budget(patience)) == found


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_a_stalled_study_is_complete_and_goes_on_without_patience(inside: Harness) -> None:
    settings: dict[str, Any] = {"search": {"lr": [1e-9, 1e-8]}, "epochs": 1}
    summary = sweep(trials=20, patience=3, **settings)
    finished = summary.counts.finished
    assert 3 < finished < 20
    assert summary.stall is not None
    assert summary.is_complete
    stores = Stores.here()
    (parent,) = stores.runs("demo-fcnn", "study")
    assert (parent.info.status, parent.data.tags["study_state"]) == ("FINISHED", "complete")
    assert parent.data.tags["stopped"] == str(summary.stall)
    with reading_storage(stores.storage) as storage:
        (line,) = list_studies(storage)
        assert line.is_finished
    assert last_json(inside("doctor", "--json")) == []
    again = sweep(trials=20, patience=3, **settings)
    assert (again.counts.finished, again.stall) == (finished, summary.stall)
    more = sweep(trials=finished + 1, **settings)
    assert (more.counts.finished, more.stall) == (finished + 1, None)
    assert stores.runs("demo-fcnn", "study")[0].data.tags["stopped"] == ""


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_what_is_printed(inside: Harness) -> None:
    arguments = ["--model", "fcnn", "--data", "demo", "--set", "lr=1e-9", "--epochs", "1", "--trials", "20"]
    printed = inside("sweep", *arguments, "--patience", "2", "--jobs", "1", "--pruner", "none").stdout
    assert "stopped by --patience: the last 2 trials gained" in printed
    assert "left: the same command again" not in printed


def test_a_trial_that_waits_is_run_although_the_search_has_stalled(workspace: Path) -> None:
    study = Study.create(open_storage("sqlite:///mlruns/optuna.db"), SPEC, CONTEXT, workspace / "work")
    for _ in range(3):
        complete(take(study), 0.5)
    interrupted = take(study)
    interrupted.finish(TrialResult(state="interrupted", best=None))
    assert study.stall(budget(2)) is not None
    assert not study.is_over(budget(2))
    again = study.claim(budget(2))
    assert again is not None
    assert again.number == interrupted.number
    assert study.claim(budget(2)) is None
    complete(again, 0.5)
    assert study.is_over(budget(2))
