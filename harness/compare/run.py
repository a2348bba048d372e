"""A comparison from its plan to what it found: repeats in worker processes, each recorded as it ends."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.compare.page import write_files
from harness.compare.plan import ComparisonPlan
from harness.compare.repeats import (
    RepeatDeaths,
    RepeatTask,
    candidate_view,
    read_repeat,
    repeat_path,
    work_on_repeats,
)
from harness.compare.result import Comparison, Outcome
from harness.compare.verdict import ResamplingScheme
from harness.core.errors import CheckpointError, Stopped, StudyError, TrackingError
from harness.core.journal import comparison_folder, comparison_lock
from harness.core.records import Candidate, new_name
from harness.tracking import (
    ComparisonLog,
    Heartbeat,
    Machine,
    OwnResult,
    Presence,
    RunInfo,
    Tracker,
    read_ledger,
)
from harness.training.checkpoint import load_checkpoint
from harness.training.loop import evaluate
from harness.workers.cpus import default_jobs
from harness.workers.signals import interruptible
from harness.workers.supervisor import WorkerSupervisor

Listener = Callable[[str, int, int, int], None]  # candidate, number of the repeat, repeats on record, all repeats
RETRY_SECONDS = 5.0  # between two tries to send to a tracking server that did not take it
PATIENCE_SECONDS = 30.0  # that a tracking server which is down at the end has to come back
AGAIN = "the same command again, which goes on from here"


def run_comparison(plan: ComparisonPlan, listener: Listener = lambda *_: None) -> Comparison:
    """Do the repeats that are not on record yet, and sum up.

    Raises Stopped on a signal (what is done is on record, the same command goes on), StudyError where workers
    cannot go on, TrackingError where MLflow has not taken all of it.
    """
    folder = comparison_folder(plan.stores.work_root, plan.identity)
    lock = comparison_lock(plan.stores.work_root, plan.identity)
    if not lock.acquire(wait=False):
        raise StudyError(
            f"another process is at work on this comparison ({plan.name})", hint="wait for it, or stop it first"
        )
    try:
        with interruptible("interrupted; the repeats that have ended are on record", AGAIN):
            comparison = _record_comparison(plan, folder, lock.path, listener)
        shutil.rmtree(folder, ignore_errors=True)
        return comparison
    finally:
        lock.release(remove=True)


def _record_comparison(plan: ComparisonPlan, folder: Path, lock: Path, listener: Listener) -> Comparison:
    tracker = Tracker(plan.stores.tracking_uri)
    log = ComparisonLog(tracker, plan.experiment, plan.identity, plan.compared[0].spec.data_digest)
    machine = Machine.here(plan.stores.work_root, create=True)
    presence = Presence.of_this_process(machine, new_name(), lock)
    log.begin(plan.name, _description(plan), _params(plan), presence.as_tags())
    with Heartbeat(tracker, log.parent, machine, presence):
        return _repeat_and_sum_up(plan, tracker, log, folder, listener)


def _repeat_and_sum_up(
    plan: ComparisonPlan, tracker: Tracker, log: ComparisonLog, folder: Path, listener: Listener
) -> Comparison:
    try:
        _Repeats(plan, log, folder, listener).run()
        own, parameters = _measure_own_split(plan, tracker, log)
        comparison = _sum_up(plan, tracker, log, own, parameters)
        with tempfile.TemporaryDirectory() as name:
            write_files(comparison, Path(name))
            log.conclude(
                Path(name),
                _figures(comparison),
                note=_note(comparison, _description(plan)),
                verdict=comparison.verdict,
                warnings="\n".join(comparison.warnings),
                repeats=len(comparison.splits),
            )
    except BaseException as error:
        try:
            log.interrupt()
        except TrackingError as unsent:  # harness doctor ends the run; what stopped the command is told first
            error.add_note(str(unsent))
        raise
    return comparison


class _Repeats:
    """The repeats of a comparison, from those on record to all of them."""

    def __init__(self, plan: ComparisonPlan, log: ComparisonLog, folder: Path, listener: Listener) -> None:
        self._plan = plan
        self._log = log
        self._folder = folder
        self._listener = listener
        self._finished = set(log.finished())
        self._all = [
            (index, number) for number in range(plan.settings.repeats) for index in range(len(plan.candidates))
        ]
        self._not_before = 0.0
        self._error: TrackingError | None = None
        self._deaths = RepeatDeaths(folder)

    @property
    def _todo(self) -> list[tuple[int, int]]:
        return [(i, n) for i, n in self._all if (self._plan.candidates[i].name, n) not in self._finished]

    def run(self) -> None:
        self.send()  # what an earlier, killed process has left
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for index, number in self._todo:
            groups.setdefault(self._weight(self._plan.candidates[index]), []).append((index, number))
        for (threads, jobs), todo in sorted(groups.items()):
            self._run_group(threads, min(jobs, len(todo)), todo)
        until = time.monotonic() + PATIENCE_SECONDS
        while self._todo and time.monotonic() < until:
            time.sleep(min(1.0, RETRY_SECONDS))
            self.send()
        if self._error is not None:
            raise self._error

    def _weight(self, candidate: Candidate) -> tuple[int, int]:
        """Return the threads that a repeat of a candidate trains on, and how many run at once."""
        wanted = self._plan.settings.jobs
        if candidate.config is None:
            return 1, wanted or default_jobs(1, 0, ())
        study = next(e for e in self._plan.compared if e.spec.name == candidate.study)
        threads = candidate.config.threads
        return threads, wanted or default_jobs(threads, study.model.jobs_per_gpu, self._plan.devices)

    def _run_group(self, threads: int, jobs: int, todo: Sequence[tuple[int, int]]) -> None:
        devices = itertools.cycle(self._plan.devices)
        splits = [self._plan.splits[number] for _, number in todo]
        tracks = self._plan.tracks.select({track for s in splits for track in s.train + s.valid + s.test})
        task = RepeatTask(
            candidates=self._plan.candidates,
            splits=self._plan.splits,
            todo=tuple(todo),
            tracks=tracks,
            folder=self._folder,
            device=self._plan.devices[0],
            threads=threads,
        )
        tasks = [replace(task, device=next(devices)).for_worker for _ in range(jobs)]
        supervisor = WorkerSupervisor(work_on_repeats, tasks)

        def on_death(worker: str, cause: str) -> bool:
            had_repeat, reason = self._deaths.add(worker, cause)
            if reason is not None:
                supervisor.stop(fault=reason)
            return had_repeat

        with supervisor.handle_signals():
            supervisor.run(on_death, self.send)
        self._not_before = 0.0
        self.send()
        if supervisor.signal is not None:
            left = len(self._todo)
            raise Stopped(
                f"interrupted; {len(self._all) - left} of {len(self._all)} repeats are on record",
                signal=supervisor.signal,
                hint=AGAIN,
            )
        if supervisor.fault is not None:
            raise StudyError(
                f"the comparison stopped: {supervisor.fault}", hint="the same command again, once it is mended"
            )

    def send(self) -> None:
        """Put the repeats on record that are over."""
        if time.monotonic() < self._not_before:
            return
        self._error = None
        for index, number in self._todo:
            candidate, split = self._plan.candidates[index], self._plan.splits[number]
            repeat = read_repeat(repeat_path(self._folder, candidate, number))
            if repeat is None:
                continue
            events, end = repeat
            score = float(np.mean(self._plan.labels_of(split.test) == np.array(end.test)))
            try:
                self._log.record(candidate, events, end, score)
            except TrackingError as error:
                self._error, self._not_before = error, time.monotonic() + RETRY_SECONDS
                return
            # The journal stays until the end: to a worker that comes by, it says that this repeat is done.
            self._finished.add((candidate.name, number))
            self._listener(candidate.name, number, len(self._all) - len(self._todo), len(self._all))


def _measure_own_split(
    plan: ComparisonPlan, tracker: Tracker, log: ComparisonLog
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Return what each study's best checkpoint predicts on the studies' own test part, and its number of weights.

    The part is opened once for a checkpoint: what was measured before is read from the record.
    """
    known = log.own_split()
    found: dict[str, OwnResult] = {}
    for candidate in plan.candidates:
        if candidate.study is None or candidate.config is None:
            continue
        run = tracker.studies.best_trial_run(candidate.study)
        measured = known.get(candidate.name)
        if measured is None or measured.run_id != run.run_id:
            if run.checkpoint_removed:
                raise CheckpointError(f"the checkpoint of run {run.run_id} was removed by --keep")
            with tempfile.TemporaryDirectory() as name:
                folder = tracker.artifacts.download_checkpoint(run.run_id, Path(name))
                classifier, _ = load_checkpoint(folder)
            tracker.runs.count_test_opening(run.run_id)
            part = candidate_view(plan.tracks, candidate).open_test(plan.split)
            predicted = evaluate(classifier, part, candidate.config.precision).argmax(1)
            weights = sum(parameter.numel() for parameter in classifier.network.parameters())
            measured = OwnResult(run_id=run.run_id, test=tuple(predicted.tolist()), parameters=weights)
        found[candidate.name] = measured
    if found != known:
        log.keep_own_split(found)
    predictions = {name: np.array(measured.test) for name, measured in found.items()}
    return predictions, {name: measured.parameters for name, measured in found.items()}


def _sum_up(
    plan: ComparisonPlan,
    tracker: Tracker,
    log: ComparisonLog,
    own: dict[str, np.ndarray],
    parameters: dict[str, int],
) -> Comparison:
    finished = log.finished()
    outcomes = {}
    for candidate in plan.candidates:
        runs = [finished[candidate.name, number] for number in range(plan.settings.repeats)]
        outcomes[candidate.name] = tuple(
            _outcome(tracker, log, run, curves=candidate.study is not None) for run in runs
        )
    diverged = {name: sum(o.state == "diverged" for o in repeats) for name, repeats in outcomes.items()}
    failures = tuple(
        f"{count} repeat(s) of {name} diverged: counted as guessing the most frequent genre"
        for name, count in diverged.items()
        if count
    )
    spec = plan.compared[0].spec
    return Comparison(
        name=plan.name,
        run_id=log.parent,
        experiment=plan.experiment,
        data=plan.tracks.folder.name,
        synthetic=plan.tracks.synthetic,
        genres=plan.tracks.genres,
        split=plan.split,
        splits=plan.splits,
        scheme=ResamplingScheme(
            redrawn=plan.split.drawn,
            train=float(np.mean([len(split.train) for split in plan.splits])),
            valid=float(np.mean([len(split.valid) for split in plan.splits])),
            test=float(np.mean([len(split.test) for split in plan.splits])),
        ),
        candidates=plan.candidates,
        outcomes=outcomes,
        labels=dict(zip(plan.tracks.ids, plan.tracks.labels.tolist(), strict=True)),
        own={name: guesses == plan.labels_of(plan.split.test) for name, guesses in own.items()},
        trial_values={
            candidate.name: tuple(
                (row.number, row.val_accuracy, row.state) for row in study.rows if row.val_accuracy is not None
            )
            for candidate, study in zip(plan.candidates, plan.compared, strict=False)
        },
        warnings=(*plan.warnings, *failures),
        ledger=read_ledger(tracker, spec.data_digest, spec.split_digest),
        parameters=parameters,
    )


def _outcome(tracker: Tracker, log: ComparisonLog, run: RunInfo, *, curves: bool) -> Outcome:
    predicted = log.predictions(run.run_id)
    return Outcome(
        run_id=run.run_id,
        state=run.trial_state or "",
        seconds=run.metrics["train_seconds"],
        curves=_curves(tracker, run.run_id) if curves else {},
        valid=np.array(predicted.valid),
        test=np.array(predicted.test),
    )


def _curves(tracker: Tracker, run_id: str) -> dict[str, list[float]]:
    epochs = tracker.runs.epochs(run_id).values()
    return {name: [figures[name] for figures in epochs] for name in ("train_loss", "val_loss", "val_accuracy")}


def _figures(comparison: Comparison) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for row in comparison.rows:
        name = row.name.replace(" ", "_")
        metrics |= {f"test_accuracy_{name}": row.test.mean, f"val_accuracy_{name}": row.val.mean}
    return metrics


def _note(comparison: Comparison, description: str) -> str:
    # The UI shows a run's note in full, tags cut short.
    sentences = "".join(f"- {line}\n" for line in comparison.verdict.split("; "))
    return f"{description}\n\n{sentences}"


def _params(plan: ComparisonPlan) -> dict[str, str]:
    studies = [study.spec.name for study in plan.compared]
    drawn = "splits and seeds" if plan.split.drawn else "seeds"
    return {"studies": ", ".join(studies), "drawn": drawn, "split": plan.split.name}


def _description(plan: ComparisonPlan) -> str:
    synthetic = "**Synthetic data** (made by `harness data demo`).\n\n" if plan.tracks.synthetic else ""
    studies = ", ".join(f"`{study.spec.name}`" for study in plan.compared)
    return (
        f"{synthetic}Comparison of the best configurations of {studies}. Open `report.html` among the artifacts."
    )
