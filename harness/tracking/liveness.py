"""Which process is at work on a run that is RUNNING, and whether it is alive.

The parent run of a study or a comparison has one tag for each process that is at work on it: who it is, and the
time of its last heartbeat. The trials and repeats under it are judged by these tags. Several sweeps on one study
write one tag each, so none overwrites another's.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from harness.core.errors import TrackingError
from harness.core.files import FileLock
from harness.core.workspace import lasting_name
from harness.tracking.run_info import RunInfo
from harness.tracking.tags import ALIVE_PREFIX
from harness.tracking.tracker import Tracker

BEAT_SECONDS = 60.0  # one tag write a minute
RETRY_SECONDS = 5.0  # between two tries while MLflow does not take it, so that it is heard soon after an outage
STOP_SECONDS = 2.0  # for a heartbeat that is being written when the work ends
DEAD_AFTER_MINUTES = 15.0  # without a heartbeat; far above any outage that a retry bridges and any clock's error
# Without a sign of life, for a run that has no heartbeat at all: its epochs may take hours.
NO_HEARTBEAT_MINUTES = 24 * 60.0
MACHINE_FILE = ".machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A work folder on a host: what can tell whether a process that works in it is alive, by its lock files."""

    host: str
    work_folder: str  # its id; empty where no process of this version has worked in the folder
    work_root: Path

    @classmethod
    def here(cls, work_root: Path, *, create: bool) -> Machine:
        """Return this host with the work folder `work_root`; with `create` the folder gets an id, if it has none.

        The id holds the file's inode: a copy of the folder is another machine.
        """
        path = work_root / MACHINE_FILE
        name = lasting_name(path) if create else FileLock(path).note()
        return cls(
            host=socket.gethostname(),
            work_folder=f"{name[:12]}-{path.stat().st_ino}" if name else "",
            work_root=work_root,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A process family (a sweep or a comparison with its workers) at work on a run.

    `lock` is the path, under the machine's work folder, of the lock file that the parent process holds while it
    lives; `seen` is the UTC time of the last heartbeat, in seconds since 1970.
    """

    family: str
    host: str
    pid: int
    work_folder: str
    lock: str
    seen: float

    @classmethod
    def of_this_process(cls, machine: Machine, family: str, lock: Path) -> Presence:
        """Return this process as the one at work; `lock` is the lock file that it holds."""
        return cls(
            family=family,
            host=machine.host,
            pid=os.getpid(),
            work_folder=machine.work_folder,
            lock=str(lock.relative_to(machine.work_root)),
            seen=time.time(),
        )

    def as_tags(self) -> dict[str, str]:
        """Return the tag of the run that says all this, with the time as text."""
        value = asdict(self)
        del value["family"]
        return {f"{ALIVE_PREFIX}{self.family}": json.dumps({**value, "seen": utc_text(self.seen)})}

    def is_held_by(self, machine: Machine) -> bool:
        """Return whether `machine` can tell from its lock files whether the process is alive."""
        return bool(machine.work_folder) and (self.host, self.work_folder) == (machine.host, machine.work_folder)


def utc_text(seconds: float) -> str:
    """Return a time (seconds since 1970) as in `2026-01-31T23:59:59Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_presences(run: RunInfo) -> list[Presence]:
    """Return the processes that a run names; a tag that cannot be read names none."""
    found = []
    for name, value in run.tags.items():
        if not name.startswith(ALIVE_PREFIX):
            continue
        try:
            fields = json.loads(value)
            fields["seen"] = datetime.strptime(fields["seen"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
            found.append(Presence(family=name.removeprefix(ALIVE_PREFIX), **fields))
        except (ValueError, TypeError, KeyError):
            continue  # somebody has edited it: the run is then judged as one without a heartbeat
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Whether a process is at work on a run, judged from one machine.

    `state` is `here` (a process of this machine holds its lock), `elsewhere` (the last sign of life is recent),
    `ended` (of this machine, and its lock is free) or `silent` (no sign of life for too long). `by` is the process
    that was heard last, None for a run without heartbeats; `seen` is when, in seconds since 1970.
    """

    state: Literal["here", "elsewhere", "ended", "silent"]
    by: Presence | None
    seen: float
    limit_minutes: float

    @property
    def is_dead(self) -> bool:
        """Whether no process is at work on the run."""
        return self.state in ("ended", "silent")

    @property
    def who(self) -> str:
        """The process and its last sign of life, for messages."""
        if self.by is None:
            return f"an unknown process (no heartbeat; the last time on record is {utc_text(self.seen)})"
        return f"process {self.by.pid} on {self.by.host} (last heartbeat {utc_text(self.seen)})"


def judge(
    parent: RunInfo, machine: Machine, dead_after: float = DEAD_AFTER_MINUTES, others: Iterable[RunInfo] = ()
) -> Life:
    """Return whether a process is at work on a study's or a comparison's run; `others` are the runs under it.

    A process of this machine is alive exactly while it holds its lock file. Any other counts as alive until its
    last heartbeat is `dead_after` minutes old. A run without heartbeats (of version 0.1) counts as alive for a
    day, or for `dead_after` if that is longer, after the last start or end of it or of a run under it.
    """
    presences = sorted(read_presences(parent), key=lambda presence: presence.seen, reverse=True)
    if not presences:
        seen = max(run.touched for run in (parent, *others))
        limit = max(dead_after, NO_HEARTBEAT_MINUTES)
        state: Literal["elsewhere", "silent"] = "elsewhere" if _is_recent(seen, limit) else "silent"
        return Life(state=state, by=None, seen=seen, limit_minutes=limit)
    ours = [presence for presence in presences if presence.is_held_by(machine)]
    theirs = [presence for presence in presences if not presence.is_held_by(machine)]
    for presence in ours:
        if FileLock(machine.work_root / presence.lock).is_taken():
            return Life(state="here", by=presence, seen=presence.seen, limit_minutes=dead_after)
    if theirs and _is_recent(theirs[0].seen, dead_after):
        return Life(state="elsewhere", by=theirs[0], seen=theirs[0].seen, limit_minutes=dead_after)
    last = presences[0]
    return Life(state="silent" if theirs else "ended", by=last, seen=last.seen, limit_minutes=dead_after)


def _is_recent(seen: float, minutes: float) -> bool:
    return time.time() - seen < 60 * minutes


def forget(tracker: Tracker, run: RunInfo, presences: Iterable[Presence] | None = None) -> None:
    """Remove the tags of processes that are not at work on a run any more; by default of all that it names."""
    for presence in read_presences(run) if presences is None else presences:
        tracker.runs.remove_tag(run.run_id, f"{ALIVE_PREFIX}{presence.family}")


class Heartbeat:
    """Writes, once a minute and from a thread, that this process is alive; as a context, for as long as it works.

    Entering removes the tags of earlier processes that are dead; leaving removes this process's own. Where MLflow
    does not take that, the tag stays: the lock file tells on this machine, the time elsewhere.
    """

    def __init__(
        self, tracker: Tracker, run_id: str, machine: Machine, presence: Presence, every: float = BEAT_SECONDS
    ) -> None:
        self._tracker = tracker
        self._run_id = run_id
        self._machine = machine
        self._presence = presence
        self._every = every
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.is_heard = True  # whether MLflow took the last one

    def __enter__(self) -> Heartbeat:
        parent = self._tracker.runs.get(self._run_id)
        dead = [
            presence
            for presence in read_presences(parent)
            if presence.family != self._presence.family and self._is_dead(presence)
        ]
        forget(self._tracker, parent, dead)
        self._thread.start()
        return self

    def _is_dead(self, presence: Presence) -> bool:
        if presence.is_held_by(self._machine):
            # The lock of a comparison is this process's own: whoever held it before has ended.
            lock = presence.lock
            return lock == self._presence.lock or not FileLock(self._machine.work_root / lock).is_taken()
        return not _is_recent(presence.seen, DEAD_AFTER_MINUTES)

    def _beat(self) -> None:
        while not self._ending.wait(self._every if self.is_heard else min(self._every, RETRY_SECONDS)):
            try:
                self._tracker.runs.log(self._run_id, tags=replace(self._presence, seen=time.time()).as_tags())
            except TrackingError:
                self.is_heard = False  # tried again soon; whoever sends results reports the outage
            else:
                self.is_heard = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(STOP_SECONDS)
        if not self.is_heard or self._thread.is_alive() or isinstance(error, TrackingError):
            return
        try:
            self._tracker.runs.remove_tag(self._run_id, f"{ALIVE_PREFIX}{self._presence.family}")
        except TrackingError:
            self.is_heard = False
