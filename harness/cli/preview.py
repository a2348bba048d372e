"""What `harness sweep --dry-run` prints: the study, its search space, and how its trials are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.files import sqlite_path
from harness.core.space import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.core.space import Distribution
    from harness.sweep.plan import SweepPlan


def preview(plan: SweepPlan) -> str:
    """Return what a sweep would do, as lines. Nothing is written.

    What only the beginning of a sweep finds out is left out: a server that does not answer, a study of that name
    in MLflow.

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
    place = ", ".join(plan.devices) if settings.ray is None else f"the Ray cluster {settings.ray}"
    jobs = "auto" if settings.jobs is None else settings.jobs
    yield (
        f"trials  {settings.trials} of at most {spec.epochs} epochs{folds}, sampler {spec.sampler}, "
        f"pruner {spec.pruner}; jobs {jobs} on {place}, {spec.precision}"
    )
    if not spec.covers_all:
        yield f"first   {describe(plan.first_params)}"
    if plan.confirms:
        yield f"then    the {plan.confirms} best trials again, on fresh folds"
    if plan.refits:
        networks = f", {settings.ensemble} networks" if settings.ensemble > 1 else ""
        items = len(plan.split.train) + len(plan.split.valid)
        yield f"then    the best setting on {items} {tracks.words.items}{networks}"
    yield "nothing was begun: without --dry-run the same command begins it"


def _shown(distribution: Distribution) -> str:
    return f"{distribution}" + ("" if distribution.when is None else f", if {distribution.when}")


def _state(plan: SweepPlan) -> str:
    """Return how far the study is.

    Raises StudyError if it was made with other settings.
    """
    from harness.study import find_record, list_studies, reading_storage
    from harness.study.attributes import StudyFault
    from harness.study.continuing import check_continues

    database, name = sqlite_path(plan.stores.storage), plan.spec.name
    if database is not None and not database.exists():
        return "new"
    with reading_storage(plan.stores.storage) as opened:
        found = next((study for study in list_studies(opened) if study.name == name), None)
        if found is None or found.fault is StudyFault.INTERRUPTED:
            return "new"
        if found.fault is not None:
            raise found.fault.error(name)
        record = find_record(opened, name)
        assert record is not None
        check_continues(plan.spec, record, plan.known)
    return f"{found.counts.finished} of {plan.settings.trials} trials have finished"
