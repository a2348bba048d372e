"""The refit of a study: its best setting, trained on the train and validation part together.

A tuned network gives up its validation tracks while it is tuned. The refit gives them back: it trains for as many
epochs as the best trial needed, with the same schedule, and validates on nothing. It is a study of its own with
one trial, so that it is resumed and recorded as every trial is.

For an ensemble it has several trials, which differ in their seeds; the first is the single network. The ensemble
is stored with the run of the refit's study. It averages refits, and not the networks of the folds: each of those
has seen fewer tracks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from harness.core.errors import CheckpointError
from harness.core.names import derive_seed
from harness.core.trial_rows import TrialRow
from harness.data import with_crop
from harness.study import Study
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import SweepPlan, part_settings, refit_name
from harness.sweep.summary import StudySummary
from harness.sweep.uploader import Listener
from harness.tracking import RunInfo, Tracker
from harness.training.description import Description, read_description

if TYPE_CHECKING:
    from torch import Tensor


def plan_refit(plan: SweepPlan, best: TrialRow) -> SweepPlan:
    """Return the plan of the refit of a study's best trial."""
    assert best.best_epoch is not None
    spec = replace(
        plan.spec,
        name=refit_name(plan.spec.name, best.number, best.best_epoch),
        seed=derive_seed(plan.spec.seed, "refit"),
        space={},
        fixed={**plan.spec.fixed, **best.params},
        sampler="random",
        pruner="none",
        folds=1,
        last_epoch=best.best_epoch,
        refit_of=plan.spec.name,
    )
    settings = part_settings(plan.settings, spec.name, trials=plan.settings.ensemble)
    # The crop of pictures is fitted on the train part, which is a larger one here.
    tracks = with_crop(plan.tracks, [plan.split.merged()], [spec.fixed.get("crop", "none")])
    return replace(plan, settings=settings, spec=spec, tracks=tracks, known=None, joins=False)


def refit(plan: SweepPlan, study: Study, listener: Listener = lambda *_: None) -> StudySummary | None:
    """Train the best setting of a study anew, and record the run in the study's; return the refit's summary.

    A refit of the same trial for as many epochs is not repeated. Return None if the study has no complete trial.

    Raises what `run_sweep` raises.
    """
    best = study.best()
    if best is None:
        return None
    refitted = plan_refit(plan, best)
    summary = run_sweep(refitted, open_study(refitted), listener)
    tracker = Tracker(plan.stores.tracking_uri)
    runs = [run for run in tracker.studies.trial_runs(summary.parent_run_id) if run.trial_state == "complete"]
    if summary.trials_left or not runs:  # interrupted, or the time is up
        summary = replace(summary, best_run_id=None)
    else:  # the first, not the one with the lowest train loss: nothing is chosen here
        summary = replace(summary, best_run_id=runs[0].run_id)
        tracker.parts.note_refit(
            plan.spec.name, study.context.identity, summary.parent_run_id, runs[0].run_id, best.number
        )
        if plan.settings.ensemble > 1:
            members = runs[: plan.settings.ensemble]
            _store_ensemble(tracker, summary.parent_run_id, members)
            summary = replace(summary, members=len(members))
    return summary


def _checked_description(folder: Path, run: RunInfo, others: Sequence[Description]) -> Description:
    """Return the description of a member; raise CheckpointError if it does not fit its run and the others."""
    found = read_description(folder)
    same = [(each.architecture, each.origin and replace(each.origin, trial=None)) for each in (found, *others[:1])]
    if found.origin is None or found.origin.trial != run.trial_number or same[0] != same[-1]:
        raise CheckpointError(
            f"the checkpoint of run {run.run_id} is not that of its trial",
            expected=f"the checkpoint of trial {run.trial_number} of study {run.study!r}",
            hint=f"harness delete {run.study} --yes, and the same command again",
        )
    return found


def _store_ensemble(tracker: Tracker, refit: str, runs: Sequence[RunInfo]) -> None:
    """Store the networks of these runs as one checkpoint with the run of the refit's study, unless it is there."""
    if tracker.runs.get(refit).members == len(runs):
        return
    from safetensors.torch import load_file  # here: only an ensemble needs PyTorch

    from harness.models.classifier import ensemble_weights
    from harness.training.checkpoint import checked_weights, save_checkpoint

    with tempfile.TemporaryDirectory() as name:
        weights: list[dict[str, Tensor]] = []
        descriptions: list[Description] = []
        for run in runs:
            folder = tracker.artifacts.download_checkpoint(run.run_id, Path(name) / run.run_id)
            descriptions.append(_checked_description(folder, run, descriptions))
            weights.append(load_file(checked_weights(folder, descriptions[-1])))
        first, metrics = descriptions[0], [found.metrics for found in descriptions]
        assert first.origin is not None
        whole = replace(
            first,
            architecture=replace(first.architecture, members=len(runs)),
            origin=replace(first.origin, trial=None),
            metrics=replace(
                first.metrics,
                train_loss=fmean(found.train_loss for found in metrics),
                seconds=sum(found.seconds for found in metrics),
            ),
        )
        save_checkpoint(Path(name) / "ensemble", ensemble_weights(weights), whole)
        tracker.parts.keep_ensemble(refit, Path(name) / "ensemble", len(runs))
