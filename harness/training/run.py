"""A training run from start to end, of a trial or of a comparison's repeat, with its journal and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from harness.core.errors import Diverged, Interrupted
from harness.core.events import EpochDone, EpochRepeated, Resumed, ResumeSaved
from harness.core.halving import Until
from harness.core.journal import EventLog
from harness.core.records import EpochMetrics, TrialConfig, TrialResult
from harness.data import PICTURE_SIZE, TrainingData
from harness.models.spec import ModelSpec
from harness.training.checkpoint import save_checkpoint
from harness.training.description import Architecture, Description, Origin
from harness.training.hyperparameters import network_params
from harness.training.loop import Fit, TrainingState, fit, start_training
from harness.training.resume import ResumePoint, load_resume, resume_bytes, save_resume

CHECKPOINT = "checkpoint"  # the folder of a training run's checkpoint, in the folder of the run
RESUME_SECONDS = 30.0  # minimum time between two resume points: short trials write none
RESUME_SHARE = 0.05  # of the time, at most, goes into resume points
DEATH_SECONDS = 3600.0  # between two deaths of a process, for which the time between resume points is chosen
FIRST_BYTES_A_SECOND = 200e6  # how fast a resume point is written, until one has been timed
LONG_EPOCH_SECONDS = 5.0  # a trial that is to stop does not finish an epoch that takes longer


def run_trial(
    config: TrialConfig,
    model: ModelSpec,
    data: TrainingData,
    device: torch.device,
    *,
    journal: EventLog,
    folder: Path,
    origin: Origin | None = None,
    report: Callable[[EpochMetrics], str | None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    until: Until | None = None,
    epochs: Fit = fit,
) -> TrialResult:
    """Train one configuration as `train` does, and save the weights of the best epoch in CHECKPOINT in `folder`.

    Their description has `origin`. A run that is interrupted, pauses or diverges leaves no checkpoint. After the
    last epoch there is nothing left to prune.
    """

    def judged(metrics: EpochMetrics) -> str | None:
        reason = report(metrics)
        return None if metrics.epoch == config.end else reason

    state, result = train(
        config,
        model,
        data,
        device,
        journal=journal,
        folder=folder,
        report=judged,
        stop=stop,
        until=until,
        epochs=epochs,
    )
    if result.state in ("complete", "pruned") and state.best is not None and state.best_weights is not None:
        architecture = Architecture(
            model=config.model,
            representation=model.representation,
            size=() if data.size == PICTURE_SIZE else data.size,
            impute=data.impute,
            is_music=data.is_music,
            words=(data.words.class_, data.words.item),
            id_column=data.words.id_column,
            columns=data.columns,
            genres=data.genres,
            hyperparameters=network_params(model, config),
            source_digest=model.source_digest,
            box=data.box,
            objective=str(model.objective),
        )
        description = Description(architecture=architecture, config=config, metrics=state.best, origin=origin)
        save_checkpoint(folder / CHECKPOINT, state.best_weights, description)
    return result


def train(
    config: TrialConfig,
    model: ModelSpec,
    data: TrainingData,
    device: torch.device,
    *,
    journal: EventLog,
    folder: Path,
    report: Callable[[EpochMetrics], str | None],
    stop: Callable[[], bool],
    until: Until | None = None,
    epochs: Fit = fit,
) -> tuple[TrainingState, TrialResult]:
    """Train one configuration, from the resume point in `folder` if there is one; return its state and result.

    Each epoch is appended to `journal`. If `report` returns a reason, the training is pruned. If `stop` returns
    True, it is interrupted and a resume point after the last epoch that ended in this process is left in `folder`.
    After the epoch `until`, if there are more, it is over for a given reason, or pauses with a resume point.
    A loss that is not finite gives a `diverged` result, and so does an objective that is finite in no epoch. All
    other exceptions are raised. `epochs` trains the epochs.
    """
    state = start_training(config, model, data, device)
    if load_resume(folder, state):
        journal.append(Resumed(epoch=state.epoch))
    saver = _ResumeSaver(state, folder, journal)
    try:
        stopped = until is not None and state.epoch >= until.after
        reason = None if stopped else _train(state, data, journal, saver, report, stop, until, epochs)
    except Diverged as divergence:
        return state, TrialResult(state="diverged", best=state.best, reason=str(divergence))
    except Interrupted as interruption:
        saver.save_kept()
        return state, TrialResult(state="interrupted", best=state.best, reason=str(interruption))
    if until is not None and reason is None and until.after <= state.epoch < config.end:
        if until.reason is None:
            saver.save_end()
            return state, until.paused(state.best)
        reason = until.reason
    value = None if state.best is None else state.objective.of(state.best)
    if value is not None and not math.isfinite(value):
        return state, TrialResult(state="diverged", best=None, reason=f"{state.objective.label} is {value}")
    return state, TrialResult(state="complete" if reason is None else "pruned", best=state.best, reason=reason)


def resume_interval(cost: float) -> float:
    """Return the seconds of training between two resume points that take `cost` seconds each.

    Resume points and the work that deaths undo then cost least together: sqrt(2 * cost * time between deaths), a
    first order optimum (Young 1974, "A first order approximation to the optimum checkpoint interval").
    """
    return max(RESUME_SECONDS, math.sqrt(2 * cost * DEATH_SECONDS), cost / RESUME_SHARE)


class _ResumeSaver:
    """Saves resume points during a training run, and one when the run is interrupted.

    Where epochs are short, an interrupted run finishes its epoch. Where they are long, training stops inside an
    epoch, so a copy of the state after the last epoch is kept.
    """

    def __init__(self, state: TrainingState, folder: Path, journal: EventLog) -> None:
        self._state, self._folder, self._journal = state, folder, journal
        self._saved_at = time.monotonic()
        self._cost = resume_bytes(state) / FIRST_BYTES_A_SECOND
        self._kept: ResumePoint | None = None
        self._begun = state.epoch
        self.has_short_epochs = False

    def after_epoch(self, seconds: float) -> None:
        """Take note of an epoch's duration and keep a copy of the state after a long epoch."""
        self.has_short_epochs = seconds < LONG_EPOCH_SECONDS
        self._kept = None if self.has_short_epochs else ResumePoint.of(self._state)

    def keep(self) -> None:
        """Keep a copy of the state, which is that at the end of an epoch."""
        self._kept = self._kept or ResumePoint.of(self._state)

    def save_if_due(self) -> None:
        """Save the state, which is that at the end of an epoch, if the last save is long enough ago."""
        began = time.monotonic()
        if began - self._saved_at > resume_interval(self._cost):
            self._save(self._kept or ResumePoint.of(self._state))
            self._saved_at = time.monotonic()
            self._cost = self._saved_at - began

    def save_kept(self) -> None:
        """Save the copy that was kept, if there is one."""
        if self._kept is not None:
            self._save(self._kept)

    def save_end(self) -> None:
        """Save the state, which is that at the end of an epoch, unless the run has begun there."""
        if self._state.epoch > self._begun:
            self._save(self._kept or ResumePoint.of(self._state))

    def _save(self, point: ResumePoint) -> None:
        save_resume(self._folder, point)
        self._journal.append(ResumeSaved(epoch=point.epoch), sync=True)


def _train(
    state: TrainingState,
    data: TrainingData,
    journal: EventLog,
    saver: _ResumeSaver,
    report: Callable[[EpochMetrics], str | None],
    stop: Callable[[], bool],
    until: Until | None,
    epochs: Fit,
) -> str | None:
    """Train to the last epoch, or `until`, and return None, or the reason with which `report` ends the training.

    Raises Diverged and Interrupted as `fit` does.
    """
    recorded = journal.last_epoch
    if stop():
        raise Interrupted("stopped before the next epoch")
    # Closed before the state is used: a training in a stack then has its tensors for itself again.
    with closing(epochs(state, data, stop=lambda: not saver.has_short_epochs and stop())) as trained:
        for metrics in trained:
            # An epoch that is trained again is in the journal already.
            event = EpochDone if metrics.epoch > recorded else EpochRepeated
            journal.append(event(metrics=metrics))
            reason = report(metrics)
            if reason is not None:
                return reason
            saver.after_epoch(metrics.seconds)
            if until is not None and metrics.epoch == until.after:
                return None
            if metrics.epoch < state.config.end:
                if stop():
                    saver.keep()
                    raise Interrupted(f"stopped after epoch {metrics.epoch}")
                saver.save_if_due()
    return None
