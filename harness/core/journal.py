"""A trial's local journal: what happened, line by line, written where it happened and sent to MLflow later.

Appending a line costs microseconds, so training never waits for the record; the lines survive the death of
the process that wrote them. Each line is `<crc32> <json>`: a line cut short by a kill, or damaged, is told
from a whole one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.files import FileLock

Event = dict[str, Any]


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
        """The last epoch on record, 0 before the first: an epoch trained again is not recorded again."""
        return max((event["epoch"] for event in self.events if event["event"] == "epoch"), default=0)

    def append(self, event: str, *, sync: bool = False, **fields: Any) -> None:
        """Add an event with the time in ms since 1970; with `sync` it is on the disk when this returns."""
        record = {"event": event, "time": time.time_ns() // 1_000_000, **fields}
        body = json.dumps(record, separators=(",", ":")).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(body), body))
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self.events.append(record)

    def close(self) -> None:
        """Close the file; the lines stay."""
        self._file.close()


def has_ended(events: Sequence[Event]) -> bool:
    """Say whether the training run that these events tell of is over; one that was interrupted is not."""
    last = events[-1] if events else {"event": "nothing"}
    return bool(last["event"] == "closed" or (last["event"] == "end" and last["state"] != "interrupted"))


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Return the whole events from byte `offset` on, and the offset behind the last of them.

    Reading stops at a line that is cut short or damaged. A missing file has no events.
    """
    events: list[Event] = []
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return events, offset
    with file:
        file.seek(offset)
        for line in file:
            checksum, _, body = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
                break
            events.append(json.loads(body))
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
