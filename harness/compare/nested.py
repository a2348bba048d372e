"""Nested comparison: in each outer split every study searches anew, and the repeat trains what that search chose.

A comparison without it holds one setting against another, found by one search each. This one holds the ways to
find them against each other: the searches vary with the splits. Each search is a study of its own with the
settings of the compared study, so that it is resumed, recorded and shared as every study is. It sees no test
part.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from harness.compare.contenders import chosen_config
from harness.compare.plan import ComparedStudy, ComparisonPlan
from harness.core.errors import Stopped, StudyError
from harness.core.names import derive_seed
from harness.core.records import TrialConfig
from harness.core.space import possible_crops
from harness.data import with_crop
from harness.sweep.confirm import confirm
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import SweepPlan, training_splits
from harness.sweep.settings import SweepSettings
from harness.sweep.uploader import Listener

# Shows one search: its plan, how many of its trials have finished, and the best accuracy so far.
Display = Callable[[SweepPlan, int, float | None], AbstractContextManager[Listener]]
AGAIN = "the same command again, which goes on with the searches"


def _unseen(*_: object) -> AbstractContextManager[Listener]:
    return nullcontext(lambda *_: None)


def search_nested(plan: ComparisonPlan, display: Display = _unseen) -> ComparisonPlan:
    """Run the searches that are missing, and return the plan with what each of them chose.

    Raises Stopped on a signal: the same command goes on. Raises what `run_sweep` raises, and StudyError if a
    search has no complete trial.
    """
    chosen: dict[str, list[TrialConfig]] = {study.spec.name: [] for study in plan.compared}
    for number in range(plan.settings.repeats):
        for study in plan.compared:
            chosen[study.spec.name].append(_search(plan, study, number, display))
    found = tuple(
        replace(candidate, chosen=tuple(chosen[candidate.study or ""])) if candidate.search else candidate
        for candidate in plan.candidates
    )
    return replace(plan, candidates=found)


def plan_search(plan: ComparisonPlan, study: ComparedStudy, number: int) -> SweepPlan:
    """Return the plan of the search of a study in the outer split of that number."""
    split, of = plan.splits[number], study.spec
    (search,) = {
        candidate.search for candidate in plan.candidates if candidate.study == of.name and candidate.search
    }
    spec = replace(
        of,
        name=f"{of.name}.nested-{search[:8]}-{number:02d}",
        experiment=f"{of.experiment}-nested",
        split_name=split.name,
        split_digest=split.digest,
        seed=derive_seed(of.seed, "nested", number),
        nested_in=of.name,
    )
    settings = SweepSettings(
        model=spec.model,
        trials=study.counts.finished,
        data=str(plan.tracks.folder),
        study=spec.name,
        experiment=spec.experiment,
        jobs=plan.settings.jobs,
        device=plan.settings.device,
        ray=plan.settings.ray,
        gpus_per_trial=plan.settings.gpus_per_trial,
        keep=1,  # what it chooses is trained again in the repeat
        confirm=study.confirms,
        refit=False,
        tracking_uri=plan.stores.tracking_uri,
        storage=plan.stores.storage,
    )
    crops = possible_crops(spec.space, spec.fixed)
    return SweepPlan(
        settings=settings,
        spec=spec,
        tracks=with_crop(plan.tracks, training_splits(plan.tracks, split, spec), crops),
        split=split,
        model=study.model,
        stores=plan.stores,
        devices=plan.devices,
    )


def _search(plan: ComparisonPlan, study: ComparedStudy, number: int, display: Display) -> TrialConfig:
    own = plan_search(plan, study, number)
    opened = open_study(own)
    best = opened.best()
    with display(own, opened.counts().finished, None if best is None else best.val_accuracy) as listener:
        summary = run_sweep(own, opened, listener)
        if own.confirms and summary.is_complete:
            summary = confirm(own, opened, summary)
    if summary.signal is not None:
        raise Stopped(f"interrupted in the search {own.spec.name}", signal=summary.signal, hint=AGAIN)
    if summary.best is None:
        raise StudyError(
            f"the search {own.spec.name} has no complete trial", hint=f"harness delete {own.spec.name} --yes"
        )
    return chosen_config(study, summary.best, plan.settings)
