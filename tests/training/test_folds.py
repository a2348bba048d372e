"""A trial with folds: the mean curve, the best epoch, what a stop and a pruner leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.attempts import last_new_epoch
from harness.core.events import EpochDone, FoldEnded, FoldEpochDone, TrialStarted
from harness.core.journal import Journal
from harness.core.records import EpochMetrics, TrialConfig, TrialResult
from harness.data import FEATURE_COLUMNS, Tracks, TrainingData, View, stratified_split, validation_folds
from harness.models.registry import MODELS
from harness.training.folds import Curve, best_of, fold_config, mean_curve, run_folds
from harness.training.loop import fit, start_training
from tests.support.trainings import numbers

CPU = torch.device("cpu")
CONFIG = TrialConfig(model="fcnn", params={"lr": 0.003, "batch_size": 32}, epochs=4, seed=5, threads=1)
FOLDS = 3

curves = st.integers(1, 6).flatmap(
    lambda epochs: st.lists(
        st.lists(
            st.builds(
                EpochMetrics,
                epoch=st.just(0),
                train_loss=st.floats(0, 5),
                val_loss=st.floats(0, 5),
                val_accuracy=st.floats(0, 1),
                seconds=st.floats(0, 5),
            ),
            min_size=epochs,
            max_size=epochs,
        ),
        min_size=1,
        max_size=5,
    )
)


@given(curves)
def test_the_mean_curve(found: list[list[EpochMetrics]]) -> None:
    numbered = [tuple(replace(m, epoch=n) for n, m in enumerate(curve, start=1)) for curve in found]
    mean = mean_curve(numbered)
    assert [epoch.metrics.epoch for epoch in mean] == list(range(1, len(found[0]) + 1))
    for epoch in mean:
        values = [curve[epoch.metrics.epoch - 1].val_accuracy or 0.0 for curve in numbered]
        assert epoch.folds == tuple(values)
        assert epoch.metrics.val_accuracy == pytest.approx(sum(values) / len(values))
        assert (epoch.std is None) == (len(values) == 1)
    best = best_of(mean)
    assert best is not None
    assert best.metrics.val_accuracy == max(epoch.metrics.val_accuracy or 0.0 for epoch in mean)


@pytest.fixture(scope="module")
def parts(demo_tracks: Tracks) -> list[TrainingData]:
    view = View(demo_tracks, "features", FEATURE_COLUMNS)
    splits = validation_folds(demo_tracks, stratified_split(demo_tracks, seed=0), FOLDS)
    return [view.training(split) for split in splits]


@pytest.fixture(scope="module")
def by_hand(parts: list[TrainingData]) -> list[Curve]:
    torch.set_num_threads(1)
    return [
        tuple(fit(start_training(fold_config(CONFIG, fold), MODELS["fcnn"], data, CPU), data))
        for fold, data in enumerate(parts, start=1)
    ]


def run(parts: list[TrainingData], folder: Path, **options: Callable[..., object]) -> tuple[TrialResult, Journal]:
    torch.set_num_threads(1)
    journal = Journal(folder / "trial.jsonl")
    try:
        found = run_folds(
            CONFIG,
            MODELS["fcnn"],
            lambda fold: parts[fold - 1],
            FOLDS,
            CPU,
            journal=journal,
            folder=folder / "trial",
            **options,  # type: ignore[arg-type]
        )
    finally:
        journal.close()
    return found, journal


def recorded(journal: Journal) -> list[EpochMetrics]:
    return numbers([event.metrics for event in journal.events if isinstance(event, EpochDone)])


def test_the_result_is_the_best_epoch_of_the_mean_of_trainings_by_hand(
    parts: list[TrainingData], by_hand: list[Curve], tmp_path: Path
) -> None:
    result, journal = run(parts, tmp_path)
    mean = mean_curve(by_hand)
    best = best_of(mean)
    assert best is not None
    assert result.best is not None
    assert result.state == "complete"
    assert replace(result.best, seconds=0.0) == replace(best.metrics, seconds=0.0)
    assert result.folds == best.folds
    assert recorded(journal) == numbers([epoch.metrics for epoch in mean])
    stds = [event.std for event in journal.events if isinstance(event, EpochDone)]
    assert stds == [epoch.std for epoch in mean]
    for fold, curve in enumerate(by_hand, start=1):
        found = [e.metrics for e in journal.events if isinstance(e, FoldEpochDone) and e.fold == fold]
        assert numbers(found) == numbers(list(curve))
    assert [event.fold for event in journal.events if isinstance(event, FoldEnded)] == [1, 2, 3]


@pytest.mark.parametrize("stopped_after", [0, 1, 4, 6, 9, 11])
def test_a_trial_that_is_stopped_ends_with_the_same_numbers(
    parts: list[TrainingData], by_hand: list[Curve], tmp_path: Path, stopped_after: int
) -> None:
    def stop() -> bool:
        lines = (tmp_path / "trial.jsonl").read_bytes().splitlines()
        return sum(b'"fold_epoch"' in line for line in lines) >= stopped_after

    first, _ = run(parts, tmp_path, stop=stop)
    assert first.state == "interrupted"
    result, journal = run(parts, tmp_path)
    best = best_of(mean_curve(by_hand))
    assert best is not None
    assert result.folds == best.folds
    assert recorded(journal) == numbers([epoch.metrics for epoch in mean_curve(by_hand)])
    epochs = [(e.fold, e.metrics.epoch) for e in journal.events if isinstance(e, FoldEpochDone)]
    assert epochs == [(fold, epoch) for fold in (1, 2, 3) for epoch in (1, 2, 3, 4)]


def test_a_trial_may_be_pruned_in_its_first_fold_and_after_a_fold(
    parts: list[TrainingData], by_hand: list[Curve], tmp_path: Path
) -> None:
    early, journal = run(
        parts, tmp_path / "early", report=lambda metrics: "too slow" if metrics.epoch == 2 else None
    )
    assert (early.state, early.reason, len(early.folds)) == ("pruned", "too slow", 1)
    assert recorded(journal) == numbers(list(by_hand[0][:2]))
    late, journal = run(parts, tmp_path / "late", report_fold=lambda fold, *_: "behind" if fold == 2 else None)
    assert (late.state, late.reason, len(late.folds)) == ("pruned", "behind", 2)
    assert recorded(journal) == numbers([epoch.metrics for epoch in mean_curve(by_hand[:2])])


def test_a_kill_before_the_question_whether_to_prune_changes_nothing(
    parts: list[TrainingData], tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        run(parts, tmp_path, report_fold=killed)
    asked: list[int] = []

    def report_fold(fold: int, *_: object) -> str | None:
        asked.append(fold)
        return "behind"

    result, _ = run(parts, tmp_path, report_fold=report_fold)
    assert (asked, result.state, len(result.folds)) == ([1], "pruned", 1)


def test_new_epochs_are_counted_through_the_folds() -> None:
    start = TrialStarted(trial=0, sweep="s", config=CONFIG, resumed=False, device="cpu", gpu=None, total=1)
    one = EpochMetrics(2, 1.0, 1.0, 0.5, 0.1)
    assert last_new_epoch([start]) == 0
    assert last_new_epoch([start, FoldEpochDone(fold=1, metrics=one)]) == 2
    assert last_new_epoch([start, FoldEpochDone(fold=3, metrics=one)]) == 2 * CONFIG.epochs + 2
    assert last_new_epoch([start, FoldEpochDone(fold=3, metrics=one), EpochDone(metrics=one)]) == 10
