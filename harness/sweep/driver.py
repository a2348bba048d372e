"""A sweep from its plan to the summary: stores, workers, the end of the study."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.errors import StudyError, TrackingError, mask_password
from harness.core.files import sqlite_path
from harness.core.records import Split, StudySpec, TrialCounts, TrialRow, WorkerId, new_name
from harness.core.space import describe
from harness.core.workspace import check_name, work_folder_of
from harness.data.open import load_recorded_data, recorded_folder
from harness.models.registry import model_spec
from harness.study import Study, open_storage, reaching
from harness.sweep.plan import SweepPlan
from harness.sweep.reconcile import Record
from harness.sweep.recovery import bury, close_journals
from harness.sweep.settings import SweepSettings
from harness.sweep.uploader import Listener
from harness.sweep.worker import WorkerTask, work
from harness.tracking import SPLIT_FILE, Heartbeat, Machine, Presence, Tracker, fix_artifact_paths, translated
from harness.training.devices import devices_of
from harness.workers.cpus import default_jobs
from harness.workers.supervisor import WorkerSupervisor

PATIENCE_SECONDS = 10.0  # that a tracking server which is down at the end of a sweep has to come back


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """What came of a sweep: counts, the best trial with its run, and what stopped it early, if anything did.

    `signal` is the number of the signal that interrupted it; `unsent` says what MLflow did not take then.
    """

    spec: StudySpec
    counts: TrialCounts
    asked: int
    best: TrialRow | None
    best_run_id: str | None
    parent_run_id: str
    seconds: float
    tracking_uri: str
    synthetic: bool
    signal: int | None = None
    unsent: TrackingError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        best = None
        if self.best is not None:
            best = {
                "run_id": self.best_run_id,
                "trial": self.best.number,
                "params": dict(self.best.params),
                "val_accuracy": self.best.val_accuracy,
                "epoch": self.best.best_epoch,
            }
        return {
            "study": self.spec.name,
            "model": self.spec.model,
            "experiment": self.spec.experiment,
            "fixed": dict(self.spec.fixed),
            "trials": {
                "complete": self.counts.complete,
                "pruned": self.counts.pruned,
                "failed": self.counts.failed,
            },
            "best": best,
            "parent_run_id": self.parent_run_id,
            "seconds": round(self.seconds, 3),
            "tracking_uri": self.tracking_uri,
        }


def open_study(plan: SweepPlan) -> Study:
    """Open the plan's study, made on first use, with whatever an earlier crash left behind put right.

    Raises StudyError where a study of that name has other settings or another experiment.
    """
    with reaching(plan.storage):
        study = Study.create(
            open_storage(plan.storage),
            plan.spec,
            _context(plan),
            plan.work_folder,
            WorkerId(sweep=new_name()),
            plan.first_params,
        )
        study.recover()
        close_journals(study)
        if not plan.joins:
            settings = plan.settings
            study.set_targets({"trials": settings.trials, "attempts": settings.attempts, "keep": settings.keep})
    return study


def run_sweep(plan: SweepPlan, study: Study, listener: Listener = lambda *_: None) -> StudySummary:
    """Run trials until the study holds the number asked for, and bring both stores to its end.

    Raises StudyError where the study cannot go on: too many failures, or a bug in a trial; TrackingError where
    MLflow has not taken all of it.
    """
    began = time.monotonic()
    deadline = None if plan.settings.timeout is None else time.time() + 60 * plan.settings.timeout
    sweep = WorkerSupervisor(work, _tasks(plan, study, deadline))
    with sweep.handle_signals(), reaching(plan.storage), study.registered(), ExitStack() as stack:
        machine = Machine.here(plan.work_root, create=True)
        presence = Presence.of_this_process(machine, study.worker_id.sweep, study.sweep_lock_path)
        record = _begin_record(plan, study, presence)
        heartbeat = stack.enter_context(Heartbeat(record.tracker, record.parent, machine, presence))
        uploader = record.uploader(listener)
        uploader.start()

        def on_death(worker: str, cause: str) -> int | None:
            with uploader.paused():
                return bury(study, worker, cause, plan.settings.attempts)

        sweep.run(on_death)
        if sweep.signal is None:
            with uploader.paused():
                close_journals(study)  # what is left here of trials that other machines have taken over
        unsent, status, best_run_id = None, "KILLED", None
        try:
            if sweep.signal is not None:
                uploader.close(hurry=True)
            else:
                uploader.close(patience=PATIENCE_SECONDS)
        except TrackingError as error:
            if sweep.signal is None:
                raise
            unsent = error  # said along with the interruption, which the exit code tells
            heartbeat.is_heard = False  # nor is MLflow asked to take the end of the heartbeat
        finally:
            study.recover()  # what the workers were told to put away: by now the record has it
        if unsent is None:
            record.end_orphaned_runs()
            timed_out = deadline is not None and time.time() >= deadline
            status, state = _outcome(sweep, study.counts().finished < plan.settings.trials, timed_out)
            best_run_id = record.conclude(status, state)
    if status == "FAILED":
        raise _failure(plan, study, sweep.fault)
    return StudySummary(
        spec=plan.spec,
        counts=study.counts(),
        asked=plan.settings.trials,
        best=study.best(),
        best_run_id=best_run_id,
        parent_run_id=record.parent,
        seconds=time.monotonic() - began,
        tracking_uri=mask_password(plan.tracking_uri),
        synthetic=plan.tracks.synthetic,
        signal=sweep.signal,
        unsent=unsent,
    )


def join_study(
    name: str, *, storage: str, tracking_uri: str, work_root: Path, data: str | None, settings: dict[str, Any]
) -> SweepPlan:
    """Return the plan of a worker that joins a study: everything but its own `settings` is the study's.

    Raises StudyError where there is no such study, DataError where the data here are not those it was made on.
    """
    with reaching(storage):
        opened = open_storage(storage, create=False)
        folder = work_folder_of(work_root, storage, check_name("study", name))
        study = Study.open(opened, name, folder)
        spec, context, asked = study.study_spec(), study.context, study.asked
    if "trials" not in asked:
        raise StudyError(f"no sweep of study {name!r} has begun", hint=f"harness sweep --study {name} first")
    tracker = Tracker(tracking_uri, create=False)
    run = tracker.study_run(name)
    if run is None:
        raise StudyError(
            f"MLflow at {mask_password(tracking_uri)} has no run of study {name!r}",
            expected="the --tracking-uri that harness sweep was given",
            hint="the same command with it",
        )
    wanted = data or recorded_folder(context)
    tracks = load_recorded_data(wanted, spec.data_digest)
    own = SweepSettings(
        model=spec.model,
        trials=asked["trials"],
        attempts=asked["attempts"],
        keep=asked["keep"],
        data=wanted,
        study=name,
        experiment=spec.experiment,
        tracking_uri=tracking_uri,
        storage=storage,
        **settings,
    )
    return SweepPlan(
        settings=own,
        spec=spec,
        tracks=tracks,
        split=Split.of(tracker.read_json(run.run_id, SPLIT_FILE)),
        model=model_spec(spec.model),
        tracking_uri=tracking_uri,
        storage=storage,
        work_root=work_root,
        work_folder=folder,
        devices=devices_of(own.device),
        joins=True,
    )


def _begin_record(plan: SweepPlan, study: Study, presence: Presence) -> Record:
    """Open the study's record: one run for the study, however many machines begin at once."""
    database = sqlite_path(plan.tracking_uri)
    if database is not None:
        with translated(f"mending the paths in {database}"):
            fix_artifact_paths(database)
    tracker = Tracker(plan.tracking_uri)
    tags = {"study_state": "running", "trials_asked": str(plan.settings.trials), **presence.tags()}
    with study.lock():
        parent = tracker.begin_study(plan.spec, tags, _description(plan), plan.split, study.context)
    record = Record(study, tracker, parent)
    record.end_orphaned_runs()
    return record


def _outcome(sweep: WorkerSupervisor[WorkerTask], short: bool, timed_out: bool) -> tuple[str, str]:
    """Return the status of the study's run and the finer word for it."""
    if sweep.signal is not None:
        return "KILLED", "interrupted"
    if sweep.fault or (short and not timed_out):
        return "FAILED", "failed"
    return "FINISHED", "timed out" if short else "complete"


def _tasks(plan: SweepPlan, study: Study, deadline: float | None) -> list[WorkerTask]:
    task = WorkerTask(
        spec=plan.spec,
        storage=plan.storage,
        tracking_uri=plan.tracking_uri,
        tracks=plan.tracks,
        split=plan.split,
        work_folder=plan.work_folder,
        total=plan.settings.trials,
        allowed_failures=plan.allowed_failures,
        device=plan.devices[0],
        worker_id=study.worker_id,
        deadline=deadline,
    )
    devices = itertools.cycle(plan.devices)
    return [replace(task, device=next(devices)) for _ in range(_jobs(plan, study.counts()))]


def _jobs(plan: SweepPlan, counts: TrialCounts) -> int:
    """Return how many workers to start: no more than there are trials left."""
    auto = default_jobs(plan.model.threads, plan.model.jobs_per_gpu, plan.devices)
    return max(0, min(plan.settings.jobs or auto, plan.settings.trials - counts.finished))


def _dataset(plan: SweepPlan) -> dict[str, Any]:
    tracks, name = plan.tracks, plan.spec.experiment
    return {
        "name": f"{name} (synthetic)" if tracks.synthetic else name,
        "folder": str(tracks.folder),
        "profile": {"tracks": len(tracks.ids), "genres": len(tracks.genres), "digest": tracks.digest},
    }


def _context(plan: SweepPlan) -> dict[str, Any]:
    """Return what the study's record should know beyond its settings."""
    return {
        "data": str(plan.tracks.folder),
        "synthetic": plan.tracks.synthetic,
        "experiment": plan.spec.experiment,
        "identity": new_name(),  # tells this study from an earlier one of the same name
        "dataset": _dataset(plan),
        # A model from a file: its code as it was, since the file may change.
        **({} if plan.model.source_digest is None else {"model_source": _source(plan)}),
    }


def _source(plan: SweepPlan) -> str:
    return Path(plan.spec.model.rpartition(":")[0]).read_text()


def _description(plan: SweepPlan) -> str:
    synthetic = "**Synthetic data** (made by `harness data demo`).\n\n" if plan.tracks.synthetic else ""
    return (
        f"{synthetic}Study of `{plan.spec.model}` on {len(plan.tracks.ids)} tracks, split: {plan.split.name} "
        f"({len(plan.split.train)} train, {len(plan.split.valid)} validation, {len(plan.split.test)} test). "
        "Trial 0 is the report's own setting, or what of the search space is nearest to it: "
        f"{describe(plan.first_params)}."
    )


def _failure(plan: SweepPlan, study: Study, fault: str | None) -> StudyError:
    failed = [row for row in study.rows() if row.state == "FAIL"]
    reasons = "".join(
        f"\n  trial {row.number}: {(row.reason or 'no reason on record').strip()}" for row in failed[-3:]
    )
    if fault is not None:
        return StudyError(
            f"study {plan.spec.name!r} stopped: {fault}{reasons}",
            hint="the same command again, once the cause is mended",
        )
    return StudyError(
        f"study {plan.spec.name!r} gave up after {len(failed)} failed trials; the last ones:{reasons}",
        expected=f"fewer than {plan.allowed_failures} failures",
        hint="the same command with another [search] range and --study NEW",
    )
