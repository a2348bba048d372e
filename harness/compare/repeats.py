"""The repeats of a comparison: each trains one candidate on one split, then opens the test part once.

They run where trials run (see workers/link.py). Each has its own journal, so that a kill loses at most the epochs
since the last resume point. A lock file, not a study, says which worker runs a repeat.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from harness.compare.networks import adopt
from harness.compare.training import RepeatOrder, RepeatTask
from harness.core.attempts import ATTEMPTS, Deaths, last_new_epoch
from harness.core.candidate import Candidate
from harness.core.events import Event, RepeatEnded, RepeatStarted, SubsetTrained, has_ended
from harness.core.files import FileLock
from harness.core.journal import Journal, read_events
from harness.core.names import digest_of
from harness.training.run import CHECKPOINT
from harness.workers.child import worker_main
from harness.workers.link import Here, Link, Place, PlaceLost

WAIT_SECONDS = 0.25  # between two looks at whether other workers have finished the last repeats

RepeatPlace = Place[RepeatOrder, RepeatEnded]


def repeat_path(folder: Path, candidate: Candidate, number: int) -> Path:
    """Return the path of a repeat's journal; it does not depend on the order of the candidates."""
    return folder / f"repeat-{digest_of(candidate.identity())[:12]}-{number:03d}.jsonl"


def read_repeat(path: Path) -> tuple[list[Event], RepeatEnded] | None:
    """Return the events of a repeat and its end; None if the repeat has not ended."""
    events, _ = read_events(path)
    last = events[-1] if events else None
    return (events, last) if isinstance(last, RepeatEnded) and has_ended(events) else None


def trainings_in(path: Path, keys: Collection[str]) -> int:
    """Return how many of the trainings of a repeat's traits its journal has."""
    events, _ = read_events(path)
    return sum(isinstance(event, SubsetTrained) and event.subset in keys for event in events)


class RepeatDeaths:
    """Counts the worker deaths of each repeat, by the same rule as for a study's trials (see `Deaths`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deaths: dict[Path, Deaths] = {}  # by the repeat's journal

    def add(self, worker: str, cause: str) -> tuple[bool, str | None]:
        """Add a worker's death. Return whether it ran a repeat, and the reason if this repeat is given up."""
        locks = (path for path in self._folder.glob("repeat-*.lock") if FileLock(path).note() == worker)
        path = next((lock.with_suffix(".jsonl") for lock in locks), None)
        if path is None:
            return False, None
        events, _ = read_events(path)
        deaths = self._deaths[path] = self._deaths.get(path, Deaths()).add(last_new_epoch(events))
        if deaths.count < ATTEMPTS:
            return True, None
        start = next((event for event in events if isinstance(event, RepeatStarted)), None)
        name = path.stem if start is None else f"repeat {start.repeat} of {start.candidate}"
        return True, f"{name}: {deaths.reason(cause)}"


def work_on_repeats(task: RepeatTask) -> None:
    """Run a worker process of a comparison."""
    worker_main(lambda stopping: do_repeats(task, stopping))


def do_repeats(task: RepeatTask, stopping: threading.Event, place: RepeatPlace | None = None) -> None:
    """Run repeats at a place, by default in this process, until all have ended or `stopping` is set.

    A repeat that another worker runs is waited for: if that worker dies, it is run here.
    """
    place = place or Here(task.trainer(task.device, task.threads))
    left = [RepeatOrder(index, number) for index, number in task.todo]
    while left and not stopping.is_set():
        before = len(left)
        left = [order for order in left if stopping.is_set() or not _is_done(task, order, place, stopping)]
        if left and len(left) == before:
            stopping.wait(WAIT_SECONDS)


def _is_done(task: RepeatTask, order: RepeatOrder, place: RepeatPlace, stopping: threading.Event) -> bool:
    """Run a repeat unless it has ended or another worker runs it; return whether it has ended."""
    path = repeat_path(task.folder, task.candidates[order.candidate], order.number)
    lock = FileLock(path.with_suffix(".lock"))
    if not lock.acquire(wait=False):
        return False
    lock.annotate(task.worker)
    journal = Journal(path)
    try:
        if not has_ended(journal.events):
            _run(task, order, place, journal, path.with_suffix(""), stopping)
        ended = has_ended(journal.events)
    except PlaceLost:
        lock.release(remove=True)
        raise
    except Exception:
        lock.release()  # its file names the worker, so that its death is counted
        raise
    finally:
        journal.close()
    lock.release(remove=True)
    return ended


def _run(
    task: RepeatTask,
    order: RepeatOrder,
    place: RepeatPlace,
    journal: Journal,
    folder: Path,
    stopping: threading.Event,
) -> None:
    candidate, config, where = task.candidates[order.candidate], task.config(order), place.where
    split = task.splits[order.number]
    journal.append(
        RepeatStarted(
            candidate=candidate.name,
            repeat=order.number,
            seed=task.seed(order),
            config=config,
            split=split.name,
            split_digest=split.digest,
            device=where.device if config is not None else "cpu",
            threads=where.threads,
            node=where.node,
            ray=where.ray,
        )
    )
    if candidate.members > 1:
        single = repeat_path(task.folder, candidate.first_member(), order.number)
        if (repeat := read_repeat(single)) is not None:
            adopt(journal, folder, repeat[0], single.with_suffix("") / CHECKPOINT)
    end = place.run(order, Link(journal, folder, stopping.is_set))
    journal.append(end, sync=True)
    if end.result.state != "interrupted" and not _is_member(candidate, task.candidates):
        shutil.rmtree(folder, ignore_errors=True)


def _is_member(candidate: Candidate, others: Sequence[Candidate]) -> bool:
    """Whether an ensemble among the candidates takes over what this one has trained, if it comes later."""
    return any(other.members > 1 and other.first_member().identity() == candidate.identity() for other in others)
