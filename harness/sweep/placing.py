"""Chooses where the trainings of a sweep run: in processes of this machine, or in actors of a Ray cluster."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from harness.core.records import TrialResult
from harness.core.study_record import trials_left
from harness.core.trial_rows import TrialCounts
from harness.study import Study
from harness.sweep.plan import SweepPlan, training_splits
from harness.sweep.worker import WorkerTask, work, work_at
from harness.training.trainer import TrialMaterial, TrialOrder
from harness.workers.cpus import default_jobs, usable_cores
from harness.workers.link import Place
from harness.workers.supervisor import Workers, WorkerSupervisor


def make_workers(plan: SweepPlan, study: Study) -> Workers:
    """Return the workers of a sweep. Connects to the Ray cluster, if there is one to be used.

    Raises SettingsError if the cluster is not there.
    """
    if plan.settings.ray is None:
        return WorkerSupervisor(work, worker_tasks(plan, study))
    from harness.workers.cluster import Cluster  # imports Ray, which takes a second
    from harness.workers.ray_workers import RayWorkers

    cluster = Cluster(plan.settings.ray)
    task = _task(plan, study)

    def work_there(name: str, place: Place[TrialOrder, TrialResult], stopping: threading.Event) -> None:
        work_at(task.for_worker(name), stopping, place)

    def is_over() -> bool:
        is_late = plan.deadline is not None and time.monotonic() >= plan.deadline
        return is_late or study.is_complete(plan.settings.trials)

    left = trials_left(plan.spec, study.counts(), plan.settings.trials)
    return RayWorkers(
        cluster,
        task.material.elsewhere(plan.model.source),
        work_there,
        most=min(plan.settings.jobs or left, left),
        share=cluster.share_of(
            task.threads, plan.settings.gpus_per_trial, plan.model.jobs_per_gpu, plan.settings.device
        ),
        is_over=is_over,
    )


def worker_tasks(plan: SweepPlan, study: Study) -> list[Callable[[str], WorkerTask]]:
    """Return one function for each worker process, from the worker's name to its task; a stack is one process.

    A task contains no track of the test part.
    """
    task, stack = _task(plan, study), plan.settings.stack
    devices, jobs = itertools.cycle(plan.devices), _jobs(plan, study.counts())
    if stack is None:
        return [replace(task, device=next(devices)).for_worker for _ in range(jobs)]
    return [
        replace(task, device=next(devices), stack=stack, at_once=min(stack, jobs - begun)).for_worker
        for begun in range(0, jobs, stack)
    ]


def _task(plan: SweepPlan, study: Study) -> WorkerTask:
    return WorkerTask(
        material=TrialMaterial(
            spec=plan.spec,
            view=plan.view.select(plan.split.train + plan.split.valid),
            splits=tuple(s.without_test() for s in training_splits(plan.tracks, plan.split, plan.spec)),
        ),
        stores=plan.stores,
        budget=plan.budget,
        device=plan.devices[0],
        threads=plan.model.threads_of(_at_once(plan), usable_cores()),
        worker_id=study.worker_id,
        deadline=plan.deadline,
    )


def _jobs(plan: SweepPlan, counts: TrialCounts) -> int:
    """Return how many workers to start: no more than there are trials left."""
    return min(_at_once(plan), trials_left(plan.spec, counts, plan.settings.trials))


def _at_once(plan: SweepPlan) -> int:
    """Return how many trials run at once. Of a study that goes on they are as many: its numbers depend on it."""
    settings, auto = plan.settings, default_jobs(plan.model.threads, plan.model.jobs_per_gpu, plan.devices)
    if settings.stack is not None:
        auto = settings.stack * len(plan.devices)
    wanted = settings.jobs or (auto if settings.ray is None else settings.trials)
    return min(wanted, settings.trials)
