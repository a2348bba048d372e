"""What `harness sweep --dry-run` prints: the study, its search space, and how its trials are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.files import sqlite_path
from harness.core.space import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.space import Distribution
    from harness.study import Study
    from harness.sweep.plan import SweepPlan


def preview(plan: SweepPlan) -> str:
    """Return what a sweep would do, as lines. Nothing is written.

    Raises StudyError if the study exists and was made with other settings.
    """
    return "\n".join(_lines(plan))


def _lines(plan: SweepPlan) -> Iterator[str]:
    spec, settings, tracks = plan.spec, plan.settings, plan.tracks
    columns = f", {len(spec.columns)} feature columns" if spec.columns else ""
    yield f"study   {spec.name}, experiment {spec.experiment}{columns}: {_state(plan)}"
    for name, distribution in spec.space.items():
        yield f"search  {name}: {_shown(distribution)}"
    if spec.fixed:
        yield f"fixed   {describe(spec.fixed)}"
    folds = f" on {spec.folds} folds" if spec.folds > 1 else ""
    jobs = "auto" if settings.jobs is None else settings.jobs
    yield (
        f"trials  {settings.trials} of at most {spec.epochs} epochs{folds}, sampler {spec.sampler}, "
        f"pruner {spec.pruner}; jobs {jobs} on {', '.join(plan.devices)}, {spec.precision}"
    )
    if not spec.covers_all:
        yield f"first   {describe(plan.first_params)}"
    if plan.confirms:
        yield f"then    the {plan.confirms} best trials again, on fresh folds"
    if plan.refits:
        yield f"then    the best setting on {len(plan.split.train) + len(plan.split.valid)} {tracks.words.items}"
    yield "nothing was begun: without --dry-run the same command begins it"


def _shown(distribution: Distribution) -> str:
    return f"{distribution}" + ("" if distribution.when is None else f", if {distribution.when}")


def _state(plan: SweepPlan) -> str:
    """Return how far the study is."""
    found = _existing(plan)
    if found is None:
        return "new"
    return f"{found.counts().finished} of {plan.settings.trials} trials have finished"


def _existing(plan: SweepPlan) -> Study | None:
    from harness.study import Study, list_studies, open_storage, reading_database
    from harness.study.continuing import check_same_settings

    database = sqlite_path(plan.stores.storage)
    if database is not None and not database.exists():
        return None
    with reading_database(plan.stores.storage) as opened:
        if plan.spec.name not in {study.name for study in list_studies(opened)}:
            return None
    found = Study.open(open_storage(plan.stores.storage, create=False), plan.spec.name, plan.work_folder)
    made_in = {"experiment": found.context.experiment}
    check_same_settings(plan.spec, {**made_in, **found.spec.frozen_settings()})
    return found
