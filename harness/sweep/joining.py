"""Plans the work of a machine that joins a study which a sweep elsewhere has begun."""

from __future__ import annotations

from typing import Any

from harness.core.errors import StudyError
from harness.core.records import StudySpec
from harness.core.space import possible_crops
from harness.core.study_record import Targets
from harness.core.workspace import Stores, check_name
from harness.data import with_crop
from harness.data.open import load_recorded_data, recorded_folder
from harness.models.registry import recorded_model
from harness.study import Study, open_storage, reaching
from harness.sweep.plan import SweepPlan, training_splits
from harness.sweep.settings import SweepSettings
from harness.tracking import Tracker
from harness.training.devices import devices_of


def join_study(
    name: str,
    stores: Stores,
    *,
    data: str | None,
    jobs: int | None,
    device: str,
    timeout: float | None,
    trust_code: bool = False,
) -> SweepPlan:
    """Return the plan of a worker that joins a study.

    `jobs`, `device` and `timeout` (minutes) are the worker's own; all other settings are those of the study.
    `trust_code`: see `require_trust`.
    Raises StudyError if there is no such study, or no sweep of it has begun. Raises DataError if the data here
    differ from the data of the study, and SettingsError if the file of its model does.
    """
    with reaching(stores.storage):
        opened = open_storage(stores.storage, create=False)
        study = Study.open(opened, name, stores.work_folder(check_name("study", name)))
        spec, context, targets = study.spec, study.context, study.targets
    if targets is None:
        raise StudyError(f"no sweep of study {name!r} has begun", hint=f"harness sweep --study {name} first")
    tracker = Tracker(stores.tracking_uri, create=False)
    run = tracker.studies.require_run(name, context.identity)
    wanted = data or recorded_folder(context)
    tracks = load_recorded_data(context, spec.data_digest, data)
    split = tracker.studies.split(run.run_id)
    crops = possible_crops(spec.space, spec.fixed)
    recorded = _recorded_settings(spec, targets, stores)
    own = SweepSettings(**recorded, data=wanted, jobs=jobs, device=device, timeout=timeout)
    return SweepPlan(
        settings=own,
        spec=spec,
        tracks=with_crop(tracks, training_splits(tracks, split, spec), crops),
        split=split,
        model=recorded_model(spec.model, spec.source_digest, f"study {name!r}", trust_code=trust_code),
        stores=stores,
        devices=devices_of(own.device),
        joins=True,
    )


def _recorded_settings(spec: StudySpec, targets: Targets, stores: Stores) -> dict[str, Any]:
    """Return the settings of a study's last sweep, as far as a worker needs them."""
    return {
        "model": spec.model,
        "trials": targets.n_trials,
        "attempts": targets.attempts,
        "keep": targets.keep,
        "patience": targets.patience,
        "study": spec.name,
        "experiment": spec.experiment,
        "tracking_uri": stores.tracking_uri,
        "storage": stores.storage,
        "refit": False,  # the sweep refits, and confirms
        "confirm": 0,
    }
