"""Heartbeats: which process works on a run with status RUNNING, and whether this process is alive.

The parent run of a study or a comparison has one tag for each process that works on it. The tag identifies the
process and has the time of its last heartbeat. The runs of trials and repeats are judged by the tags of their
parent. Each of several sweeps on one study writes its own tag, so that none overwrites another's.
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
from harness.core.workspace import lasting_name, recorded_name
from harness.tracking.run_info import RunInfo
from harness.tracking.tags import ALIVE_PREFIX
from harness.tracking.tracker import Tracker

BEAT_SECONDS = 60.0  # one tag write a minute
RETRY_SECONDS = 5.0  # between two attempts while MLflow fails, so that a heartbeat comes soon after an outage
STOP_SECONDS = 2.0  # to wait for a heartbeat that is being written at the end
DEAD_AFTER_MINUTES = 15.0  # without a heartbeat; far above a usual outage and a usual error of a clock
# Without a start or an end of a run, where there are no heartbeats at all: an epoch may take hours.
NO_HEARTBEAT_MINUTES = 24 * 60.0
MACHINE_FILE = ".machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A work folder on a host. Its lock files show which of the processes that use it are alive."""

    host: str
    work_folder: str  # its id; empty if no process of this version has used the folder
    work_root: Path

    @classmethod
    def here(cls, work_root: Path, *, create: bool) -> Machine:
        """Return this host with the work folder `work_root`. `create`: give the folder an id if it has none.

        The id contains the file's inode, so that a copy of the folder counts as another machine.
        """
        path = work_root / MACHINE_FILE
        name = lasting_name(path) if create else recorded_name(path)
        return cls(
            host=socket.gethostname(),
            work_folder=f"{name[:12]}-{path.stat().st_ino}" if name else "",
            work_root=work_root,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """A process family (a sweep or a comparison with its workers) that works on a run.

    `lock` is the path, below the machine's work folder, of the lock file that is locked while the parent process
    is alive. `seen` is the time of the last heartbeat in seconds since 1970 (UTC).
    """

    family: str
    host: str
    pid: int
    work_folder: str
    lock: str
    seen: float

    @classmethod
    def of_this_process(cls, machine: Machine, family: str, lock: Path) -> Presence:
        """Return the presence of this process; `lock` is the lock file that it has locked."""
        return cls(
            family=family,
            host=machine.host,
            pid=os.getpid(),
            work_folder=machine.work_folder,
            lock=str(lock.relative_to(machine.work_root)),
            seen=time.time(),
        )

    def as_tags(self) -> dict[str, str]:
        """Return this presence as a tag of the run, with the time as text."""
        value = asdict(self)
        del value["family"]
        return {f"{ALIVE_PREFIX}{self.family}": json.dumps({**value, "seen": utc_text(self.seen)})}

    def is_held_by(self, machine: Machine) -> bool:
        """Return True if the lock files of `machine` show whether the process is alive."""
        return bool(machine.work_folder) and (self.host, self.work_folder) == (machine.host, machine.work_folder)


def utc_text(seconds: float) -> str:
    """Return a time (seconds since 1970) as in `2026-01-31T23:59:59Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_presences(run: RunInfo) -> list[Presence]:
    """Return the processes that the tags of a run name; a tag that cannot be read is ignored."""
    found = []
    for name, value in run.tags.items():
        if not name.startswith(ALIVE_PREFIX):
            continue
        try:
            fields = json.loads(value)
            fields["seen"] = datetime.strptime(fields["seen"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
            found.append(Presence(family=name.removeprefix(ALIVE_PREFIX), **fields))
        except (ValueError, TypeError, KeyError):
            continue  # the tag was edited: the run is judged as one without heartbeats
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Whether a process works on a run, judged from one machine.

    `state` is `here` (a process of this machine has locked its lock file), `elsewhere` (the last heartbeat is
    recent), `ended` (the process was on this machine, and its lock is free) or `silent` (no heartbeat for too
    long). `by` is the process with the last heartbeat, None for a run without heartbeats. `seen` is the time of
    its last heartbeat, or of the last start or end of a run without heartbeats, in seconds since 1970.
    """

    state: Literal["here", "elsewhere", "ended", "silent"]
    by: Presence | None
    seen: float
    limit_minutes: float

    @property
    def is_dead(self) -> bool:
        """Whether no process works on the run."""
        return self.state in ("ended", "silent")

    @property
    def who(self) -> str:
        """The process and its last heartbeat, for messages."""
        if self.by is None:
            return f"an unknown process (no heartbeat; the last time on record is {utc_text(self.seen)})"
        return f"process {self.by.pid} on {self.by.host} (last heartbeat {utc_text(self.seen)})"


def judge(
    parent: RunInfo,
    machine: Machine,
    dead_after: float = DEAD_AFTER_MINUTES,
    others: Iterable[RunInfo] = (),
    held: Path | None = None,
) -> Life:
    """Return whether a process works on the run of a study or a comparison; `others` are its child runs.

    `held` is a lock file that the caller has locked: no other process of this machine has it.

    A process of this machine is alive exactly while its lock file is locked. A process of another machine counts
    as alive until its last heartbeat is `dead_after` minutes old. A run without heartbeats (of version 0.1) counts
    as alive for a day, or for `dead_after` if that is longer, after the last start or end of it or of a child run.
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
        path = machine.work_root / presence.lock
        if path != held and FileLock(path).is_taken():
            return Life(state="here", by=presence, seen=presence.seen, limit_minutes=dead_after)
    if theirs and _is_recent(theirs[0].seen, dead_after):
        return Life(state="elsewhere", by=theirs[0], seen=theirs[0].seen, limit_minutes=dead_after)
    last = presences[0]
    return Life(state="silent" if theirs else "ended", by=last, seen=last.seen, limit_minutes=dead_after)


def _is_recent(seen: float, minutes: float) -> bool:
    return time.time() - seen < 60 * minutes


def forget(tracker: Tracker, run: RunInfo, presences: Iterable[Presence] | None = None) -> None:
    """Remove the tags of processes that no longer work on a run; by default those of all processes."""
    for presence in read_presences(run) if presences is None else presences:
        tracker.runs.remove_tag(run.run_id, f"{ALIVE_PREFIX}{presence.family}")


class Heartbeat:
    """A context in which a thread writes this process's heartbeat to a run, once a minute.

    On entry, tags of dead processes are removed; on exit, the tag of this process. The tag remains if MLflow fails
    then, or if a KeyboardInterrupt (a second Ctrl-C) ends the block, because the run may still be RUNNING: on this
    machine the lock file shows that the process has ended, elsewhere the age of the heartbeat.
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
        self.is_heard = True  # whether MLflow accepted the last heartbeat

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
            # All processes of a comparison use the same lock, which this process has now: the others have ended.
            lock = presence.lock
            return lock == self._presence.lock or not FileLock(self._machine.work_root / lock).is_taken()
        return not _is_recent(presence.seen, DEAD_AFTER_MINUTES)

    def _beat(self) -> None:
        while not self._ending.wait(self._every if self.is_heard else min(self._every, RETRY_SECONDS)):
            try:
                self._tracker.runs.log(self._run_id, tags=replace(self._presence, seen=time.time()).as_tags())
            except TrackingError:
                self.is_heard = False  # retried soon; the upload of results reports the outage
            else:
                self.is_heard = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(STOP_SECONDS)
        if not self.is_heard or self._thread.is_alive() or isinstance(error, (TrackingError, KeyboardInterrupt)):
            return
        try:
            self._tracker.runs.remove_tag(self._run_id, f"{ALIVE_PREFIX}{self._presence.family}")
        except TrackingError:
            self.is_heard = False
