"""A trial from start to end, and the process that runs one after another.

A worker talks to Optuna (which trial, go on or not) and to its trial's journal; it neither waits for MLflow nor
imports it, but to fetch the resume checkpoint of a trial that another machine began. Whoever started the worker
sends the journals on (see recorder.py).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from harness.checkpoint import (
    Architecture,
    ResumePoint,
    clear_resume,
    load_resume,
    save_checkpoint,
    save_resume,
)
from harness.data import Tracks, TrainingData, training_data
from harness.errors import Diverged, HarnessError, Interrupted, TrackingError
from harness.files import REFUSED_WRITES
from harness.journal import Journal
from harness.journals import journal_path, remove_journal
from harness.models import ModelSpec, model_spec
from harness.records import EpochMetrics, Split, StudySpec, TrialConfig, TrialResult, derive_seed
from harness.study import STORAGE_ERRORS, Claim, Holder, Study, open_storage, reaching
from harness.training import choose_device, fit, start_training

RESUME_SECONDS = 30.0  # of training between two resume checkpoints: short trials write none
LONG_EPOCH_SECONDS = 5.0  # an epoch that takes longer is not waited for when a trial is to stop
FETCH_SECONDS = 5.0  # between two tries to reach a tracking server that is down
WAIT_SECONDS = 0.25  # between two looks at whether other workers have finished the last trials
ORPHAN_SECONDS = 10.0  # what a worker has to put its trial away once the process that started it is gone
OUT_OF_MEMORY = 75  # exit code (EX_TEMPFAIL) of a worker that ran out of memory: as if the system had killed it


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """All that a worker process needs, sent to it when it starts.

    `deadline` is in seconds since 1970: no trial is begun after it.
    """

    spec: StudySpec
    storage: str
    tracking_uri: str
    tracks: Tracks
    split: Split
    work_folder: Path
    total: int
    allowed_failures: int
    device: str
    holder: Holder
    deadline: float | None = None


def trial_config(spec: StudySpec, model: ModelSpec, number: int, lr: float, batch_size: int) -> TrialConfig:
    """Return the configuration of a study's trial: its seed follows from the study's seed and its number."""
    return TrialConfig(
        model=spec.model,
        lr=lr,
        batch_size=batch_size,
        epochs=spec.epochs,
        seed=derive_seed(spec.seed, "trial", number),
        threads=min(model.threads, usable_cores()),
        precision=spec.precision,
    )


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_trial(
    config: TrialConfig,
    data: TrainingData,
    device: torch.device,
    *,
    journal: Journal,
    folder: Path,
    about: dict[str, Any],
    keep_going: Callable[[EpochMetrics], bool] = lambda _: True,
    stop: Callable[[], bool] = lambda: False,
) -> TrialResult:
    """Train one configuration, from its resume checkpoint where `folder` has one, and write down how it went.

    Each epoch goes to `journal`; the best epoch's weights go to `folder/checkpoint`, with `about` in their
    description. `keep_going` ends the trial as pruned; `stop` interrupts it, leaving in `folder` the state of
    its last whole epoch. A loss that is not finite makes the result `diverged`; other exceptions rise.
    """
    model = model_spec(config.model)
    state = start_training(config, model, data, device)
    if load_resume(folder, state):
        journal.append("resumed", epoch=state.epoch)
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
            event = "epoch" if metrics.epoch > recorded else "again"
            journal.append(event, **asdict(metrics))
            if not keep_going(metrics):
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
            model=config.model, representation=model.representation, columns=data.columns, genres=data.genres
        )
        about = {"config": config.as_dict(), "metrics": asdict(result.best), **about}
        save_checkpoint(folder / "checkpoint", architecture, state.best_weights, about)
    return result


def _save(folder: Path, point: ResumePoint, journal: Journal) -> None:
    save_resume(folder, point)
    journal.append("saved", sync=True, epoch=point.epoch)


class Worker:
    """Runs trials of one study, one at a time, until there is none left to take or it is told to stop."""

    def __init__(self, task: WorkerTask) -> None:
        self.task = task
        self.stopping = threading.Event()
        self.model = model_spec(task.spec.model)
        torch.set_num_threads(min(self.model.threads, usable_cores()))
        self.device = choose_device(task.device)
        self.data = training_data(task.tracks, task.split, self.model.representation, task.spec.columns).to(
            self.device
        )
        self.study = Study.open(open_storage(task.storage), task.spec.name, task.work_folder, task.holder)

    def run(self) -> None:
        """Take trials and run them."""
        task = self.task
        while not self.stopping.is_set() and (task.deadline is None or time.time() < task.deadline):
            claim = self.study.claim(total=task.total, allowed_failures=task.allowed_failures)
            if claim is not None:
                self.run_claim(claim)
            elif self.study.is_over(total=task.total, allowed_failures=task.allowed_failures):
                return
            else:  # the last trials are others': should one of those workers die, its trial is taken up here
                self.stopping.wait(WAIT_SECONDS)

    def run_claim(self, claim: Claim) -> None:
        """Run a claimed trial, and tell the journal and then the study how it ended.

        The journal comes first: a worker killed in between leaves an end on record, which the next one to
        take the trial only has to pass on.
        """
        spec = self.task.spec
        path = journal_path(self.task.work_folder, claim.number)
        if claim.moved or not claim.resumed:
            # Another machine has had the trial since, and its record is the one that counts; or nobody has, and
            # what lies here is of an earlier study of that name.
            remove_journal(path)
        if claim.resumed and self.study.is_shared and not path.exists() and not self._fetch_resume(claim):
            claim.leave()
            return
        journal = Journal(path)
        last = journal.events[-1] if journal.events else None
        if last is not None and last["event"] == "end" and last["state"] != "interrupted":
            best = None if last["best"] is None else EpochMetrics(**last["best"])
            result = TrialResult(state=last["state"], best=best, reason=last["reason"])
            self._finish(claim, journal, result)
            return
        config = trial_config(spec, self.model, claim.number, claim.lr, claim.batch_size)
        journal.append(
            "start",
            trial=claim.number,
            crew=self.task.holder.crew,
            config=config.as_dict(),
            resumed=claim.resumed,
            device=str(self.device),
            total=self.task.total,
        )
        about = {
            "study": spec.name,
            "trial": claim.number,
            "data_digest": spec.data_digest,
            "split_digest": spec.split_digest,
            "synthetic": self.task.tracks.synthetic,
        }
        try:
            result = run_trial(
                config,
                self.data,
                self.device,
                journal=journal,
                folder=path.with_suffix(""),
                about=about,
                keep_going=claim.keep_going,
                stop=lambda: self.stopping.is_set() or claim.is_lost,
            )
        except Exception as error:
            if _is_the_machines_fault(error):
                claim.leave()  # its sweep gives it back
                raise
            # A bug, not an outcome: it is put on record and then rises, which stops the sweep.
            result = TrialResult(state="failed", best=None, reason=traceback.format_exc(limit=-8))
            self._end(claim, journal, result)
            raise
        self._end(claim, journal, result)

    def _fetch_resume(self, claim: Claim) -> bool:
        """Bring the resume checkpoint that another machine has put into the record, if there is one.

        A tracking server that is down is waited for: without its record hours of training would be lost.
        Return False where the worker is told to stop meanwhile, or loses the trial.
        """
        from harness.tracking import Tracker  # takes three seconds, and only a trial that has moved needs it

        folder = journal_path(self.task.work_folder, claim.number).with_suffix("")
        while not (self.stopping.is_set() or claim.is_lost):
            try:
                Tracker(self.task.tracking_uri).fetch_resume(self.task.spec.name, claim.number, folder)
            except TrackingError:
                self.stopping.wait(FETCH_SECONDS)
            else:
                return True
        return False

    def _end(self, claim: Claim, journal: Journal, result: TrialResult) -> None:
        if claim.is_lost:
            claim.abandon()
            journal.close()
            return
        best = None if result.best is None else asdict(result.best)
        journal.append("end", sync=True, state=result.state, best=best, reason=result.reason)
        if result.state != "interrupted":
            clear_resume(journal_path(self.task.work_folder, claim.number).with_suffix(""))  # not before
        self._finish(claim, journal, result)

    def _finish(self, claim: Claim, journal: Journal, result: TrialResult) -> None:
        if result.state == "interrupted" and self.study.is_shared:
            claim.leave()  # given back by the sweep, once the record has all that another machine needs
        elif claim.finish(result) and result.state != "interrupted":
            journal.append("closed")
        journal.close()


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an exception means that there is no memory left, on the machine or on the GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # PyTorch's word on a CPU


def _is_the_machines_fault(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in REFUSED_WRITES
    return isinstance(error, (HarnessError, *STORAGE_ERRORS)) or is_out_of_memory(error)


def work(task: WorkerTask) -> None:
    """Be a worker process: signals from the terminal are left to the parent, SIGTERM asks to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        with reaching(task.storage):
            worker = Worker(task)
            worker.stopping = asked
            threading.Thread(target=_stop_with_parent, args=(asked,), daemon=True).start()
            worker.run()
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last frame of the process: shown, and told by the exit code
        if is_out_of_memory(error):
            print(f"worker out of memory: {str(error).partition('.')[0]}", file=sys.stderr)
            sys.exit(OUT_OF_MEMORY)
        if _is_the_machines_fault(error):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        traceback.print_exc()
        sys.exit(70)


def _stop_with_parent(asked: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    asked.set()
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)  # whatever it is stuck in, nobody waits for it any more
