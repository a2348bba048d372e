"""A training run from start to end, written down in a journal as it goes: a trial's, or a comparison's repeat."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from harness.core.errors import Diverged, Interrupted
from harness.core.events import EpochDone, EpochRepeated, Resumed, ResumeSaved
from harness.core.journal import Journal
from harness.core.records import EpochMetrics, StudySpec, TrialConfig, TrialResult, derive_seed
from harness.core.space import Params
from harness.data import TrainingData
from harness.models.registry import model_spec
from harness.models.spec import ModelSpec
from harness.training.checkpoint import Architecture, Description, Origin, save_checkpoint
from harness.training.loop import fit, network_params, start_training
from harness.training.resume import ResumePoint, load_resume, save_resume
from harness.workers.cpus import usable_cores

RESUME_SECONDS = 30.0  # of training between two resume checkpoints: short trials write none
LONG_EPOCH_SECONDS = 5.0  # an epoch that takes longer is not waited for when a trial is to stop


def trial_config(spec: StudySpec, model: ModelSpec, number: int, params: Params) -> TrialConfig:
    """Return the configuration of a study's trial: its seed follows from the study's seed and its number."""
    return TrialConfig(
        model=spec.model,
        params={**spec.fixed, **params},
        epochs=spec.epochs,
        seed=derive_seed(spec.seed, "trial", number),
        threads=min(model.threads, usable_cores()),
        precision=spec.precision,
    )


def run_trial(
    config: TrialConfig,
    data: TrainingData,
    device: torch.device,
    *,
    journal: Journal,
    folder: Path,
    origin: Origin | None = None,
    report: Callable[[EpochMetrics], bool] = lambda _: True,
    stop: Callable[[], bool] = lambda: False,
) -> TrialResult:
    """Train one configuration, from its resume checkpoint where `folder` has one, and write down how it went.

    Each epoch goes to `journal`; the best epoch's weights go to `folder/checkpoint`, with `origin` in their
    description. `report` ends the trial as pruned; `stop` interrupts it, leaving in `folder` the state of
    its last whole epoch. A loss that is not finite makes the result `diverged`; other exceptions rise.
    """
    model = model_spec(config.model)
    state = start_training(config, model, data, device)
    if load_resume(folder, state):
        journal.append(Resumed(epoch=state.epoch))
    recorded, saved, held = journal.last_epoch, time.monotonic(), None
    short_epochs = False

    def stop_between_batches() -> bool:
        return not short_epochs and stop()

    result = None
    try:
        if stop():
            raise Interrupted("stopped before the next epoch")
        for metrics in fit(state, data, stop=stop_between_batches):
            # An epoch trained again has its points on record already.
            event = EpochDone if metrics.epoch > recorded else EpochRepeated
            journal.append(event(metrics=metrics))
            if not report(metrics):
                result = TrialResult(state="pruned", best=state.best)
                break
            short_epochs = metrics.seconds < LONG_EPOCH_SECONDS
            held = None if short_epochs else ResumePoint.of(state)
            if metrics.epoch == config.epochs:
                continue
            if stop():
                held = held or ResumePoint.of(state)
                raise Interrupted(f"stopped after epoch {metrics.epoch}")
            if time.monotonic() - saved > RESUME_SECONDS:
                _save(folder, held or ResumePoint.of(state), journal)
                saved = time.monotonic()
    except Diverged as divergence:
        result = TrialResult(state="diverged", best=state.best, reason=str(divergence))
    except Interrupted as interruption:
        if held is not None:
            _save(folder, held, journal)
        return TrialResult(state="interrupted", best=state.best, reason=str(interruption))
    result = result or TrialResult(state="complete", best=state.best)
    if result.state != "diverged" and result.best is not None and state.best_weights is not None:
        architecture = Architecture(
            model=config.model,
            representation=model.representation,
            columns=data.columns,
            genres=data.genres,
            hyperparameters=network_params(model, config),
            source_digest=model.source_digest,
            box=data.box,
        )
        description = Description(architecture=architecture, config=config, metrics=result.best, origin=origin)
        save_checkpoint(folder / "checkpoint", state.best_weights, description)
    return result


def _save(folder: Path, point: ResumePoint, journal: Journal) -> None:
    save_resume(folder, point)
    journal.append(ResumeSaved(epoch=point.epoch), sync=True)
