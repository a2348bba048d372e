"""Schedules the repeats of a comparison over worker processes, and sends each to MLflow when it ends."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.compare.plan import ComparisonPlan
from harness.compare.repeats import (
    RepeatDeaths,
    do_repeats,
    read_repeat,
    repeat_path,
    trainings_in,
    work_on_repeats,
)
from harness.compare.training import RepeatTask
from harness.core.candidate import Candidate
from harness.core.errors import Stopped, StudyError, TrackingError
from harness.tracking import ComparisonLog
from harness.workers.cpus import default_jobs
from harness.workers.supervisor import Workers, WorkerSupervisor

Listener = Callable[[str, int, int, int], None]  # candidate, number of the repeat, repeats in MLflow, all repeats
Watch = Callable[[int, int], None]  # trainings of traits that are done, and all of them
WATCH_SECONDS = 2.0  # between two looks into the journals
RETRY_SECONDS = 5.0  # from an error of the tracking server to the next attempt to send
PATIENCE_SECONDS = 30.0  # to wait at the end for a tracking server that is down
AGAIN = "the same command again, which runs the repeats that are left"


class RepeatScheduler:
    """Runs the repeats of a comparison that are not in MLflow yet, and sends each to MLflow when it ends."""

    def __init__(
        self,
        plan: ComparisonPlan,
        log: ComparisonLog,
        folder: Path,
        listener: Listener,
        watch: Watch,
    ) -> None:
        self._plan = plan
        self._log = log
        self._folder = folder
        self._listener = listener
        self._watch = watch
        self._next_watch = 0.0
        self._finished = set(log.finished())
        repeats = [
            (index, number) for number in range(plan.settings.repeats) for index in range(len(plan.candidates))
        ]
        # The single networks first: ensembles take them over.
        self._all = sorted(repeats, key=lambda repeat: plan.candidates[repeat[0]].members > 1)
        self._not_before = 0.0
        self._error: TrackingError | None = None
        self._deaths = RepeatDeaths(folder)

    @property
    def _unfinished(self) -> list[tuple[int, int]]:
        return [(i, n) for i, n in self._all if (self._plan.candidates[i].name, n) not in self._finished]

    def run(self) -> None:
        """Run and record every repeat that is missing.

        Raises Stopped on a signal, StudyError if a repeat cannot be trained, TrackingError if MLflow did not
        accept every repeat.
        """
        self.send()  # repeats that an earlier process finished and did not send
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for index, number in self._unfinished:
            groups.setdefault(threads_and_jobs(self._plan, self._plan.candidates[index]), []).append(
                (index, number)
            )
        for (threads, jobs), todo in sorted(groups.items()):
            self._run_group(threads, min(jobs, len(todo)), todo)
        until = time.monotonic() + PATIENCE_SECONDS
        while self._unfinished and time.monotonic() < until:
            time.sleep(min(1.0, RETRY_SECONDS))
            self.send()
        if self._error is not None:
            raise self._error

    def _run_group(self, threads: int, jobs: int, todo: Sequence[tuple[int, int]]) -> None:
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
            merges=self._plan.merges,
            game=self._plan.game,
        )
        supervisor = self._workers(task, jobs)

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
            left = len(self._unfinished)
            raise Stopped(
                f"interrupted; {len(self._all) - left} of {len(self._all)} repeats are in MLflow",
                signal=supervisor.signal,
                hint=AGAIN,
            )
        if supervisor.fault is not None:
            raise StudyError(
                f"the comparison stopped: {supervisor.fault}",
                hint="the same command again, once the cause is fixed",
            )
        self._check_ended(todo)

    def _workers(self, task: RepeatTask, jobs: int) -> Workers:
        """Return the workers of a group: processes of this machine, or places on a Ray cluster."""
        settings = self._plan.settings
        if settings.ray is None:
            devices = itertools.cycle(self._plan.devices)
            tasks = [replace(task, device=next(devices)).for_worker for _ in range(jobs)]
            return WorkerSupervisor(work_on_repeats, tasks)
        from harness.workers.cluster import Cluster  # imports Ray, which takes a second
        from harness.workers.ray_workers import RayWorkers

        networks = [study.model for study in self._plan.compared]
        trains = any(task.candidates[index].config is not None for index, _ in task.todo)
        sources = {model.name: model.source for model in networks if model.source is not None}
        cluster = Cluster(settings.ray)
        return RayWorkers(
            cluster,
            task.elsewhere(sources),
            lambda name, place, stopping: do_repeats(task.for_worker(name), stopping, place),
            most=min(settings.jobs or len(task.todo), len(task.todo)),
            share=cluster.share_of(
                task.threads,
                settings.gpus_per_trial if trains else 0.0,
                max((model.jobs_per_gpu for model in networks), default=1),
                settings.device if trains else "cpu",
            ),
        )

    def _check_ended(self, todo: Sequence[tuple[int, int]]) -> None:
        """Raise StudyError if a repeat has not ended: no worker is left to run it."""
        journals = {repeat_path(self._folder, self._plan.candidates[index], number) for index, number in todo}
        left = sum(read_repeat(path) is None for path in journals)
        if left:
            raise StudyError(
                f"{left} of {len(journals)} repeats have not ended, and no worker is left to run them", hint=AGAIN
            )

    def send(self) -> None:
        """Send the repeats that have ended to MLflow; after an error wait RETRY_SECONDS before the next try.

        Raises TrackingError if MLflow's database was removed or replaced.
        """
        self._count_trainings()
        self._log.tracker.runs.check_database()
        if time.monotonic() < self._not_before:
            return
        self._error = None
        for index, number in self._unfinished:
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
            # The journal stays until the comparison ends: workers read from it that this repeat is done.
            self._finished.add((candidate.name, number))
            self._listener(candidate.name, number, len(self._all) - len(self._unfinished), len(self._all))

    def _count_trainings(self) -> None:
        """Tell the watch how many trainings of the traits are done, at most each WATCH_SECONDS."""
        game, now = self._plan.game, time.monotonic()
        if game is None or now < self._next_watch:
            return
        self._next_watch = now + WATCH_SECONDS
        keys = set(game.trainings())
        done = (len(self._all) - len(self._unfinished)) * len(keys)
        for index, number in self._unfinished:
            done += trainings_in(repeat_path(self._folder, self._plan.candidates[index], number), keys)
        self._watch(done, len(self._all) * len(keys))


def threads_and_jobs(plan: ComparisonPlan, candidate: Candidate) -> tuple[int, int]:
    """Return how many threads a repeat of a candidate trains on, and how many repeats run at once."""
    wanted = plan.settings.jobs
    if candidate.config is None:
        return 1, wanted or default_jobs(1, 0, ())
    study = next(each for each in plan.compared if each.spec.name == candidate.study)
    threads = candidate.config.threads
    return threads, wanted or default_jobs(threads, study.model.jobs_per_gpu, plan.devices)
