"""A trial with several folds: one training run for each, and the mean of their curves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import torch

from harness.core.events import EpochDone, EpochRepeated, Event, FoldEnded, FoldEpochDone
from harness.core.files import replacing
from harness.core.halving import Until
from harness.core.journal import RunLog
from harness.core.names import derive_seed
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import EpochMetrics, TrialConfig, TrialResult
from harness.core.workspace import FOLDS_FILE, clear_resume
from harness.data import TrainingData
from harness.models.spec import ModelSpec
from harness.training.loop import Fit, fit
from harness.training.resume import without_place
from harness.training.run import train

Curve = tuple[EpochMetrics, ...]


@dataclass(frozen=True, slots=True)
class MeanEpoch:
    """An epoch of the mean curve: the means of the metrics, and the validation accuracy of each fold.

    `folds` is empty for trainings without a validation part.
    """

    metrics: EpochMetrics
    folds: tuple[float, ...]

    @property
    def std(self) -> float | None:
        """Standard deviation of the validation accuracy over the folds, None for fewer than two."""
        return stdev(self.folds) if len(self.folds) > 1 else None


def mean_curve(curves: Sequence[Curve]) -> list[MeanEpoch]:
    """Return the mean of the curves of folds, as long as the shortest. The seconds are summed.

    The figures of the GPU are those of the last fold.
    """
    return [
        MeanEpoch(
            EpochMetrics(
                epoch=epochs[0].epoch,
                train_loss=fmean(metrics.train_loss for metrics in epochs),
                val_loss=_mean([metrics.val_loss for metrics in epochs]),
                val_accuracy=_mean([metrics.val_accuracy for metrics in epochs]),
                seconds=sum(metrics.seconds for metrics in epochs),
                own={name: fmean(metrics.own[name] for metrics in epochs) for name in epochs[0].own},
                gpu=epochs[-1].gpu,
            ),
            tuple(m.val_accuracy for m in epochs if m.val_accuracy is not None),
        )
        for epochs in zip(*curves, strict=False)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def best_of(curve: Sequence[MeanEpoch]) -> MeanEpoch | None:
    """Return the best epoch of a mean curve, None if it has no epoch."""
    best: MeanEpoch | None = None
    for epoch in curve:
        if best is None or epoch.metrics.better_than(best.metrics):
            best = epoch
    return best


def fold_config(config: TrialConfig, fold: int) -> TrialConfig:
    """Return the configuration of one fold of a trial: each fold has a seed of its own."""
    return replace(config, seed=derive_seed(config.seed, "fold", fold))


@dataclass(frozen=True, slots=True)
class FoldJournal:
    """The journal of a trial, as one of its folds writes to it."""

    journal: RunLog
    fold: int

    @property
    def last_epoch(self) -> int:
        """The last epoch of this fold in the journal, 0 before the first."""
        epochs = (
            event.metrics.epoch
            for event in self.journal.events
            if isinstance(event, FoldEpochDone) and event.fold == self.fold
        )
        return max(epochs, default=0)

    def append(self, event: Event, *, sync: bool = False) -> None:
        """Append an event of this fold."""
        if isinstance(event, EpochDone):
            event = FoldEpochDone(fold=self.fold, metrics=event.metrics, time=event.time)
        if not isinstance(event, EpochRepeated):  # the resume point says which epoch the training goes on from
            self.journal.append(event, sync=sync)


def run_folds(
    config: TrialConfig,
    model: ModelSpec,
    data: Callable[[int], TrainingData],
    folds: int,
    device: torch.device,
    *,
    journal: RunLog,
    folder: Path,
    report: Callable[[EpochMetrics], str | None] = lambda _: None,
    report_fold: Callable[[int, Curve, float], str | None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
    until: Until | None = None,
    epochs: Fit = fit,
) -> TrialResult:
    """Train one configuration on each fold, and return the result of the mean curve.

    `data` returns the data of a fold, from 1. `report` is called for each epoch of the first fold, `report_fold`
    after each fold but the last with its number, its curve and the best value of the mean curve so far; each may
    return the reason to prune the trial. The mean curve is appended to the journal when the last fold has ended.
    No weights are kept: the folds only measure the configuration. A killed trial continues at the fold in which it
    was. After `until` so many folds it is over for a given reason, or pauses. `epochs` trains the epochs.
    """
    curves = _read_curves(folder, config)
    reason: str | None = None
    while len(curves) < folds:
        if curves:  # also after a kill: the attempt before may have died before it asked
            best = best_of(mean_curve(curves))
            assert best is not None
            if until is not None and len(curves) >= until.after:
                if until.reason is None:
                    return until.paused(best.metrics)
                reason = until.reason
                break
            reason = report_fold(len(curves), curves[-1], best.metrics.val_accuracy or 0.0)
            if reason is not None:
                break
        fold = len(curves) + 1
        part = FoldJournal(journal, fold)
        state, result = train(
            fold_config(config, fold),
            model,
            data(fold),
            device,
            journal=part,
            folder=folder,
            report=report if fold == 1 else lambda _: None,
            stop=stop,
            epochs=epochs,
        )
        if result.state == "interrupted":
            return replace(result, best=None)
        if result.state == "diverged":
            return replace(result, best=None, reason=f"fold {fold}: {result.reason}")
        curves.append(state.curve)
        if result.state == "pruned":
            reason = result.reason
            break
        _write_curves(folder, config, curves)
        journal.append(FoldEnded(fold=fold), sync=True)
        clear_resume(folder, folds=False)
    return _result_of(curves, reason, journal)


def _result_of(curves: Sequence[Curve], reason: str | None, journal: RunLog) -> TrialResult:
    """Append the mean curve of the folds to the journal, and return the result; a `reason`: it was pruned."""
    mean = mean_curve(curves)
    recorded = journal.last_epoch
    for epoch in mean:
        if epoch.metrics.epoch > recorded:
            journal.append(EpochDone(metrics=epoch.metrics, std=epoch.std))
    best = best_of(mean)
    assert best is not None
    return TrialResult(
        state="complete" if reason is None else "pruned", best=best.metrics, reason=reason, folds=best.folds
    )


def _read_curves(folder: Path, config: TrialConfig) -> list[Curve]:
    """Return the curves of the folds that an earlier attempt has trained to their end.

    A file that is damaged, or of another configuration, is ignored: the folds are then trained again, to the same
    numbers.
    """
    try:
        found = json.loads((folder / FOLDS_FILE).read_text(encoding="utf-8"))
        if without_place(found["config"]) != without_place(config.as_dict()):
            return []
        return [tuple(checked(EpochMetrics(**metrics)) for metrics in curve) for curve in found["curves"]]
    except (OSError, *UNREADABLE):
        return []


def _write_curves(folder: Path, config: TrialConfig, curves: Sequence[Curve]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"config": config.as_dict(), "curves": [[asdict(metrics) for metrics in curve] for curve in curves]}
    with replacing(folder / FOLDS_FILE) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
