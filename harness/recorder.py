"""Sends the journals of running trials to MLflow, in a thread of the parent process.

Reading a journal is cheap and happens often, so that whoever watches sees each epoch at once; sending is
gathered: a trial that is over goes out whole, a running one every few seconds. Everything sent carries its
own time, so sending it again after a crash changes nothing. Of several sweeps on one study, one at a time
sends, for all of them: two that did would make two runs for one trial. Of several machines, each sends the
journals of the trials that are its own.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError, TrackingError
from harness.files import FileLock
from harness.journal import Event, read_events
from harness.study import Study, reaching
from harness.tracking import TrialLog
from harness.worker import remove_journal

READ_SECONDS = 0.2
SEND_SECONDS = 5.0

Listener = Callable[[int, Event], None]


@dataclass(slots=True)
class _Tail:
    """How far a journal has been read, and what of it MLflow has not got yet."""

    number: int
    path: Path
    identity: int  # of the file under that path
    offset: int = 0
    run_id: str | None = None
    on_record: frozenset[int] = frozenset()  # epochs that the run had when this recorder found it
    pending: list[Event] = field(default_factory=list)
    waiting_since: float = 0.0
    not_before: float = 0.0


class Recorder:
    """Follows the journals of a study's work folder from `start` to `close`."""

    def __init__(self, trials: TrialLog, study: Study, listener: Listener = lambda *_: None) -> None:
        self._trials = trials
        self._study = study
        self._folder = study.work_folder
        self._listener = listener
        self._tails: dict[Path, _Tail] = {}
        self._began = time.time_ns() // 1_000_000
        self._sending = FileLock(self._folder / "recorder.lock")
        # Whoever sent before us, alive or dead, may have made runs for the trials we find.
        self._alone = self._sending.acquire(wait=False)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)
        self._pumping = threading.Lock()
        self.error: HarnessError | None = None

    def start(self) -> None:
        """Begin to follow the journals."""
        self._thread.start()

    def close(self, *, patience: float = 0.0) -> None:
        """Send what is left and stop, trying for `patience` seconds where MLflow does not take it.

        Raises TrackingError where it still does not; the journals then stay, and are sent by the next sweep of
        the study or by harness doctor.
        """
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        while not self._may_send() and self._left_to_another():
            time.sleep(READ_SECONDS)
        until = time.monotonic() + patience
        self.pump(flush=True)
        while self.error is not None and time.monotonic() < until:
            time.sleep(1.0)
            self.pump(flush=True)
        self._sending.release()
        if self.error is not None:
            raise self._unsent(self.error)

    def _unsent(self, error: HarnessError) -> TrackingError:
        numbers = sorted(tail.number for tail in self._tails.values() if tail.pending)
        points = sum(event["event"] == "epoch" for tail in self._tails.values() for event in tail.pending)
        return TrackingError(
            f"{error.found}\n  study {self._study.name!r}: {points} epochs of the trials "
            f"{', '.join(map(str, numbers))} are not in MLflow yet; they are safe in {self._folder}",
            legal=error.legal,
            run="harness doctor --fix (or the same command again), once MLflow takes them",
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send what there is, and send nothing more meanwhile."""
        self.pump(flush=True)
        with self._pumping:
            yield

    def _may_send(self) -> bool:
        return self._sending.held or self._sending.acquire(wait=False)

    def _left_to_another(self) -> bool:
        """Say whether a trial is over that the sweep which does the sending has not sent yet."""
        return any(
            events[-1]["event"] == "closed"
            for path in self._folder.glob("trial-*.jsonl")
            if (events := read_events(path)[0])
        )

    def _follow(self) -> None:
        while not self._closing.wait(READ_SECONDS):
            self.pump()

    def pump(self, *, flush: bool = False) -> None:
        """Read what is new in the journals, and send what is due (with `flush`, everything)."""
        with self._pumping:
            if flush:
                self.error = None
            for path in sorted(self._folder.glob("trial-*.jsonl")):
                tail = self._read(path)
                if tail is None:
                    continue
                ended = any(event["event"] in ("saved", "end", "closed") for event in tail.pending)
                waited = time.monotonic() - tail.waiting_since
                due = flush or ((ended or waited > SEND_SECONDS) and time.monotonic() > tail.not_before)
                if tail.pending and due and self._may_send():
                    try:
                        self._send(tail)
                    except HarnessError as error:
                        self.error = error
                        tail.not_before = time.monotonic() + SEND_SECONDS  # tried again in a while

    def _read(self, path: Path) -> _Tail | None:
        tail = self._tails.get(path)
        try:
            identity = path.stat().st_ino
        except FileNotFoundError:  # another sweep has just sent the last of it
            return None
        if tail is None or tail.identity != identity:  # a journal begun anew under the same name
            tail = self._tails[path] = _Tail(int(path.stem.removeprefix("trial-")), path, identity)
        events, tail.offset = read_events(path, tail.offset)
        for event in events:
            if event["time"] >= self._began:
                self._listener(tail.number, event)
        if events and not tail.pending:
            tail.waiting_since = time.monotonic()
        tail.pending += events
        return tail

    def _send(self, tail: _Tail) -> None:
        """Send the pending events; they stay pending until MLflow has taken every one of them."""
        folder = tail.path.with_suffix("")
        with reaching(self._study.storage_url):
            ours = self._study.is_ours_to_record(tail.number)
        if not ours:
            remove_journal(tail.path)  # another machine has gone on with the trial from what it found in MLflow
            del self._tails[tail.path]
            return
        if tail.run_id is None:
            start = tail.pending[0]
            # A trial that began before this recorder did may have its run already.
            search = start["resumed"] or start["time"] < self._began or not self._alone
            tail.run_id, tail.on_record = self._trials.run_of(start, search=search)
        news = [e for e in tail.pending if e["event"] != "epoch" or e["epoch"] not in tail.on_record]
        resume = folder if self._study.is_shared else None
        self._trials.send(tail.run_id, news, checkpoint=folder / "checkpoint", resume=resume)
        if any(event["event"] == "end" for event in tail.pending):
            # Not before: the worker may just have written it, and be about to say that the trial has ended.
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        closed = tail.pending[-1]["event"] == "closed"
        tail.pending = []
        if closed:
            remove_journal(tail.path)  # both stores know the end: the journal has done its work
            del self._tails[tail.path]
