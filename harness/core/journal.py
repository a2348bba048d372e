"""The journal of a trial or of a repeat: its events, one a line, written by the worker that trains.

A line costs about ten microseconds, so training never waits for MLflow; lines survive the death of the process
that wrote them, and the parent process uploads them later.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.core.events import EpochDone, Event, from_line, to_line
from harness.core.files import FileLock


class Journal:
    """The writing end, held by the one process that runs the trial."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.events, sound = read_events(path)
        self._file = path.open("ab")
        # What a killed writer left half-written goes before anything is added behind it.
        self._file.truncate(sound)

    @property
    def last_epoch(self) -> int:
        """The last epoch on record, 0 before the first."""
        return max((event.metrics.epoch for event in self.events if isinstance(event, EpochDone)), default=0)

    def append(self, event: Event, *, sync: bool = False) -> None:
        """Add an event; with `sync` it is on the disk when this returns."""
        self._file.write(to_line(event))
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self.events.append(event)

    def close(self) -> None:
        """Close the file; the lines stay."""
        self._file.close()


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Return the whole events from byte `offset` on, and the offset behind the last of them.

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
    """Return where the journal of a trial lies; its checkpoints lie in the folder of the same name."""
    return work_folder / f"trial-{number:05d}.jsonl"


def comparison_folder(work_root: Path, identity: str) -> Path:
    """Return where the journals of a comparison's repeats lie; no study can have a name that begins with a dot."""
    return work_root / ".comparisons" / identity


def comparison_lock(work_root: Path, identity: str) -> FileLock:
    """Return the lock that the process at work on a comparison holds."""
    return FileLock(comparison_folder(work_root, identity).with_suffix(".lock"))


def remove_journal(path: Path) -> None:
    """Remove a journal and what lies in the folder of the same name."""
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    path.unlink(missing_ok=True)
