"""The refit of a study: its best setting, trained on the train and validation part together.

A tuned network gives up its validation tracks while it is tuned. The refit gives them back: it trains for as many
epochs as the best trial needed, with the same schedule, and validates on nothing. It is a study of its own with
one trial, so that it is resumed and recorded as every trial is.
"""

from __future__ import annotations

from dataclasses import replace

from harness.core.names import derive_seed
from harness.core.records import TrialRow
from harness.data import with_crop
from harness.study import Study
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import SweepPlan, part_settings, refit_name
from harness.sweep.summary import StudySummary
from harness.sweep.uploader import Listener
from harness.tracking import Tracker


def plan_refit(plan: SweepPlan, best: TrialRow) -> SweepPlan:
    """Return the plan of the refit of a study's best trial."""
    assert best.best_epoch is not None
    spec = replace(
        plan.spec,
        name=refit_name(plan.spec.name, best.number),
        seed=derive_seed(plan.spec.seed, "refit"),
        space={},
        fixed={**plan.spec.fixed, **best.params},
        sampler="random",
        pruner="none",
        folds=1,
        last_epoch=best.best_epoch,
        refit_of=plan.spec.name,
    )
    settings = part_settings(plan.settings, spec.name, trials=1)
    # The crop of pictures is fitted on the train part, which is a larger one here.
    tracks = with_crop(plan.tracks, [plan.split.merged()], [spec.fixed.get("crop", "none")])
    return replace(plan, settings=settings, spec=spec, tracks=tracks, joins=False)


def refit(plan: SweepPlan, study: Study, listener: Listener = lambda *_: None) -> StudySummary | None:
    """Train the best setting of a study anew, and record the run in the study's; return the refit's summary.

    A refit of the same trial is not repeated. Return None if the study has no complete trial.

    Raises what `run_sweep` raises.
    """
    best = study.best()
    if best is None:
        return None
    refitted = plan_refit(plan, best)
    summary = run_sweep(refitted, open_study(refitted), listener)
    if summary.best_run_id is not None:
        Tracker(plan.stores.tracking_uri).studies.note_refit(
            plan.spec.name, study.context.identity, summary.parent_run_id, summary.best_run_id, best.number
        )
    return summary
