"""The journal of a training run: a file of events, one per line, written by the worker.

Writing a line takes about ten microseconds, so training never waits for MLflow. The lines survive the death of
the worker. The parent process uploads them later.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from harness.core.errors import StudyError
from harness.core.events import EpochDone, Event, TrialStarted, from_line, to_line
from harness.core.files import FileLock
from harness.core.recorded import whole_number


class EventLog(Protocol):
    """Where a training run writes its events: a journal, or the part of it that belongs to a fold."""

    @property
    def last_epoch(self) -> int:
        """The last epoch that is written, 0 before the first."""

    def append(self, event: Event, *, sync: bool = False) -> None:
        """Append an event; with `sync` it is on disk when the method returns."""


class RunLog(EventLog, Protocol):
    """The log of a whole trial or repeat, with the events of earlier attempts."""

    @property
    def events(self) -> Sequence[Event]:
        """All events so far."""


class KnownEvents:
    """The events of a trial or a repeat so far, in memory."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = list(events)

    @property
    def events(self) -> Sequence[Event]:
        """All events so far."""
        return self._events

    @property
    def last_epoch(self) -> int:
        """The last epoch among the events, 0 before the first."""
        return max((event.metrics.epoch for event in self._events if isinstance(event, EpochDone)), default=0)


class Journal(KnownEvents):
    """A journal opened for writing, by the one process that has the trial or the repeat.

    That is its worker, or after the worker's death the process that ends the trial.

    `events` are all events in the file, those of earlier attempts included.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        events, sound = read_events(path)
        super().__init__(events)
        self._file = path.open("ab")
        # A killed writer may have left half a line: remove it before new lines follow.
        self._file.truncate(sound)

    def append(self, event: Event, *, sync: bool = False) -> None:
        """Append an event; with `sync` it is on disk when the method returns."""
        self._file.write(to_line(event))
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self._events.append(event)

    def close(self) -> None:
        """Close the file; the lines stay."""
        self._file.close()


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Return the events from byte `offset` on, and the offset after the last of them.

    Reading stops at a damaged line. A missing file has no events.
    """
    events: list[Event] = []
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return events, offset
    with file:
        file.seek(offset)
        for line in file:
            event = from_line(line)
            if event is None:
                break
            events.append(event)
            offset += len(line)
    return events, offset


def journal_path(work_folder: Path, number: int) -> Path:
    """Return the path of a trial's journal. The folder of the same name has its checkpoint and resume point."""
    return work_folder / f"trial-{number:05d}.jsonl"


def find_journals(work_folder: Path) -> dict[int, Path]:
    """Return the journals of a study on this machine, by the number of their trial, sorted by number.

    Other files of the folder are left out (see `odd_files`).
    """
    found = {}
    for path in work_folder.glob("trial-*.jsonl"):
        number = whole_number(path.stem.removeprefix("trial-"))
        if number is not None and path == journal_path(work_folder, number) and path.is_file():
            found[number] = path
    return dict(sorted(found.items()))


def running_on(work_folder: Path) -> dict[int, str]:
    """Return the nodes on which trials run that another machine trains for this one, by the trial's number."""
    found = {}
    for lock in sorted(work_folder.glob("trial-*.lock")):
        events, _ = read_events(lock.with_suffix(".jsonl"))
        started = [event for event in events if isinstance(event, TrialStarted)]
        if started and started[-1].node is not None and FileLock(lock).is_taken():
            found[started[-1].trial] = started[-1].node
    return found


def check_journals(work_folder: Path, n_trials: int) -> None:
    """Raise StudyError if something else than a file is in the place of the journal of one of the first trials."""
    for path in sorted(work_folder.glob("trial-*.jsonl")):
        number = whole_number(path.stem.removeprefix("trial-"))
        is_one = number is not None and number < n_trials and path == journal_path(work_folder, number)
        if is_one and not path.is_file():
            raise StudyError(
                f"{path} has the name of a trial's journal, and is not a file",
                expected="journals that are files",
                hint="the same command again, once it is moved away",
            )


def odd_files(work_folder: Path) -> list[Path]:
    """Return the files of a study's work folder that end as journals do, but have not the name of one."""
    journals = set(find_journals(work_folder).values())
    return sorted(path for path in work_folder.glob("*.jsonl") if path not in journals)


def is_comparison(identity: str) -> bool:
    """Return whether a text is the identity of a comparison, as `ComparisonPlan.identity` makes them."""
    return re.fullmatch("[0-9a-f]{16}", identity) is not None


def comparison_folder(work_root: Path, identity: str) -> Path:
    """Return the folder of a comparison's journals.

    It cannot collide with the folder of a study, because the name of a study cannot begin with a dot.

    Raises ValueError for what is no identity of a comparison: a tag may name a place outside of the folder.
    """
    if not is_comparison(identity):
        raise ValueError(f"{identity!r:.80} is no comparison")
    return work_root / ".comparisons" / identity


def comparison_lock(work_root: Path, identity: str) -> FileLock:
    """Return the lock of the process that runs a comparison."""
    return FileLock(comparison_folder(work_root, identity).with_suffix(".lock"))


def remove_journal(path: Path) -> None:
    """Remove a journal and the folder of the same name."""
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    path.unlink(missing_ok=True)
