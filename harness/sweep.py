"""A sweep from the settings to the summary: data, split, stores, workers, the end of the study."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.crew import Crew
from harness.data import (
    Tracks,
    demo_data_folder,
    load_tracks,
    read_split,
    stratified_split,
    used_columns,
)
from harness.errors import DataError, StudyError
from harness.models import ModelSpec, model_spec
from harness.recorder import Listener, Recorder
from harness.records import Split, StudySpec, TrialCounts, TrialRow
from harness.report import write_study_report
from harness.settings import SweepSettings, check_name, resolve_stores
from harness.study import Study, open_storage
from harness.tracking import RunRecord, Tracker, TrialLog
from harness.worker import WorkerTask, close_journals, usable_cores

MINIMUM_ALLOWED_FAILURES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sweep is going to do, with everything that can be checked beforehand already checked."""

    settings: SweepSettings
    spec: StudySpec
    tracks: Tracks
    split: Split
    model: ModelSpec
    tracking_uri: str
    storage: str
    work_folder: Path

    @property
    def allowed_failures(self) -> int:
        """How many trials may fail before the sweep gives up."""
        return max(MINIMUM_ALLOWED_FAILURES, self.settings.trials)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySummary:
    """What came of a sweep: counts, the best trial with its run, and what stopped it early, if anything did."""

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

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        best = None
        if self.best is not None:
            best = {
                "run_id": self.best_run_id,
                "trial": self.best.number,
                "params": {"lr": self.best.lr, "batch_size": self.best.batch_size},
                "val_accuracy": self.best.val_accuracy,
                "epoch": self.best.best_epoch,
            }
        return {
            "study": self.spec.name,
            "model": self.spec.model,
            "experiment": self.spec.experiment,
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


def load_data(name: str) -> Tracks:
    """Read the data folder of that name; `demo` is the synthetic set, made on first use."""
    return load_tracks(demo_data_folder() if name == "demo" else Path(name))


def default_experiment(tracks: Tracks) -> str:
    """Return the experiment that a data set's runs go into: the synthetic set has one of its own."""
    return "demo" if tracks.synthetic else "gtzan"


def plan_sweep(settings: SweepSettings) -> Plan:
    """Read the data, make the split and fix the study's spec; nothing is written but the cache of pictures.

    Raises DataError and SettingsError for whatever is wrong with them.
    """
    model = model_spec(settings.model)
    tracks = load_data(settings.data)
    _check_half(tracks, model)
    if settings.split is None:
        split = stratified_split(tracks, seed=settings.split_seed)
    else:
        split = read_split(Path(settings.split), tracks)
    experiment = check_name("experiment", settings.experiment or default_experiment(tracks))
    tracking_uri, storage, work_root = resolve_stores(settings.tracking_uri, settings.storage)
    spec = StudySpec(
        name=check_name("study", settings.study or f"{experiment}-{model.name}"),
        experiment=experiment,
        model=model.name,
        data_digest=tracks.digest,
        split_name=split.name,
        split_digest=split.digest,
        columns=used_columns(tracks, settings.without) if model.representation == "features" else (),
        epochs=settings.epochs,
        seed=settings.seed,
        search=settings.search or model.search,
        sampler=settings.sampler,
        pruner=settings.pruner or ("none" if settings.sampler == "gp" else "median"),
        precision=settings.precision,
    )
    return Plan(
        settings=settings,
        spec=spec,
        tracks=tracks,
        split=split,
        model=model,
        tracking_uri=tracking_uri,
        storage=storage,
        work_folder=work_root / spec.name,
    )


def _check_half(tracks: Tracks, model: ModelSpec) -> None:
    half = tracks.features if model.representation == "features" else tracks.pictures
    if half is None:
        legal = {
            "features": "features_30_sec.csv",
            "pictures": "images_original/<genre>/<genre>NNNNN.png",
        }
        raise DataError(
            f"{tracks.folder} has no {model.representation}, which {model.name} is trained on",
            legal=legal[model.representation],
            run="harness data import PATH, or sweep the other model",
        )


def open_study(plan: Plan) -> Study:
    """Open the plan's study, made on first use, with whatever an earlier crash left behind put right.

    Raises StudyError where a study of that name has another fingerprint.
    """
    study = Study.create(open_storage(plan.storage), plan.spec, _context(plan), plan.work_folder)
    study.recover()
    close_journals(study)
    return study


def run_sweep(plan: Plan, study: Study, listener: Listener = lambda *_: None) -> StudySummary:
    """Run trials until the study holds the number asked for, and bring both stores to its end.

    Raises StudyError where the study cannot go on: too many failures, or a bug in a trial.
    """
    began = time.monotonic()
    settings, spec, tracks = plan.settings, plan.spec, plan.tracks
    tracker = Tracker(plan.tracking_uri)
    tags = {"study_state": "running", "trials_asked": str(settings.trials)}
    parent = tracker.begin_study(spec, tags, _description(plan), plan.split, _context(plan))
    name = f"{spec.experiment} (synthetic)" if tracks.synthetic else spec.experiment
    profile = {"tracks": len(tracks.ids), "genres": len(tracks.genres), "digest": tracks.digest}
    dataset = {"name": name, "folder": str(tracks.folder), "profile": profile}
    recorder = Recorder(TrialLog(tracker, spec, parent, dataset), plan.work_folder, listener)
    deadline = None if settings.timeout is None else time.time() + 60 * settings.timeout
    crew = Crew([_task(plan, deadline)] * _jobs(plan, study.counts()))
    recorder.start()
    crew.run()
    if crew.abandoned:
        raise KeyboardInterrupt
    recorder.close()

    counts = study.counts()
    short = counts.finished < settings.trials
    timed_out = deadline is not None and time.time() >= deadline
    if crew.signal is not None:
        status, state = "KILLED", "interrupted"
    elif crew.fault or (short and not timed_out):
        status, state = "FAILED", "failed"
    else:
        status, state = "FINISHED", "timed out" if short else "complete"
    best, runs = study.best(), {int(run.tags["trial"]): run for run in tracker.trial_runs(spec.name)}
    if status == "FINISHED":
        _log_report(plan, study, tracker, parent, runs)
        if settings.keep is not None:
            _keep_best(settings.keep, study, tracker, runs)
    best_run_id = None if best is None else runs[best.number].run_id
    tracker.end_study(parent, status, *_figures(counts, best, best_run_id, state))
    if status == "FAILED":
        raise _failure(plan, study, crew.fault)
    return StudySummary(
        spec=spec,
        counts=counts,
        asked=settings.trials,
        best=best,
        best_run_id=best_run_id,
        parent_run_id=parent,
        seconds=time.monotonic() - began,
        tracking_uri=plan.tracking_uri,
        synthetic=tracks.synthetic,
        signal=crew.signal,
    )


def _task(plan: Plan, deadline: float | None) -> WorkerTask:
    return WorkerTask(
        spec=plan.spec,
        storage=plan.storage,
        tracks=plan.tracks,
        split=plan.split,
        work_folder=plan.work_folder,
        total=plan.settings.trials,
        allowed_failures=plan.allowed_failures,
        device=plan.settings.device,
        deadline=deadline,
    )


def _jobs(plan: Plan, counts: TrialCounts) -> int:
    """Return how many workers to start: no more than there are trials left."""
    wanted = plan.settings.jobs or max(1, usable_cores() // plan.model.threads)
    return max(0, min(wanted, plan.settings.trials - counts.finished))


def _context(plan: Plan) -> dict[str, Any]:
    """Return what the study's record should know beyond its fingerprint."""
    return {
        "data": str(plan.tracks.folder),
        "synthetic": plan.tracks.synthetic,
        "experiment": plan.spec.experiment,
    }


def _description(plan: Plan) -> str:
    synthetic = "**Synthetic data** (made by `harness data demo`).\n\n" if plan.tracks.synthetic else ""
    return (
        f"{synthetic}Study of `{plan.spec.model}` on {len(plan.tracks.ids)} tracks, split: {plan.split.name} "
        f"({len(plan.split.train)} train, {len(plan.split.valid)} validation, {len(plan.split.test)} test). "
        "Trial 0 is the report's own setting (lr 0.001, batch size 32)."
    )


def _log_report(plan: Plan, study: Study, tracker: Tracker, parent: str, runs: dict[int, RunRecord]) -> None:
    """Store the study's pictures, its table of trials and its split in the parent run."""
    with tempfile.TemporaryDirectory() as name:
        run_ids = {number: run.run_id for number, run in runs.items()}
        title = f"{plan.spec.name}{' (synthetic data)' if plan.tracks.synthetic else ''}"
        write_study_report(Path(name), title, study.rows(), study.importances(), run_ids)
        tracker.log_files(parent, Path(name))


def _keep_best(keep: int, study: Study, tracker: Tracker, runs: dict[int, RunRecord]) -> None:
    complete = [row for row in study.rows() if row.state == "COMPLETE"]
    ranked = sorted(complete, key=lambda row: (-(row.val_accuracy or 0.0), row.number))
    kept = {row.number for row in ranked[:keep]}
    for number, run in runs.items():
        if number not in kept and run.tags.get("checkpoint") != "removed":
            tracker.remove_checkpoint(run.run_id)


def _figures(
    counts: TrialCounts, best: TrialRow | None, best_run_id: str | None, state: str
) -> tuple[dict[str, float], dict[str, str]]:
    metrics: dict[str, float] = {
        "trials_complete": counts.complete,
        "trials_pruned": counts.pruned,
        "trials_failed": counts.failed,
    }
    tags = {"study_state": state}
    if best is not None and best_run_id is not None:
        tags |= {
            "best_run_id": best_run_id,
            "best_trial": str(best.number),
            "best_lr": str(best.lr),
            "best_batch_size": str(best.batch_size),
        }
        figures = {
            "best_val_accuracy": best.val_accuracy,
            "best_val_loss": best.val_loss,
            "best_epoch": best.best_epoch,
            "best_lr": best.lr,
            "best_batch_size": best.batch_size,
        }
        metrics |= {name: float(value) for name, value in figures.items() if value is not None}
    return metrics, tags


def _failure(plan: Plan, study: Study, fault: str | None) -> StudyError:
    failed = [row for row in study.rows() if row.state == "FAIL"]
    reasons = "".join(
        f"\n  trial {row.number}: {(row.reason or 'no reason on record').strip()}" for row in failed[-3:]
    )
    if fault is not None:
        return StudyError(
            f"study {plan.spec.name!r} stopped: {fault}{reasons}",
            run="the same command again, once the cause is mended",
        )
    return StudyError(
        f"study {plan.spec.name!r} gave up after {len(failed)} failed trials; the last ones:{reasons}",
        legal=f"fewer than {plan.allowed_failures} failures",
        run="the same command with another [search] range and --study NEW",
    )
