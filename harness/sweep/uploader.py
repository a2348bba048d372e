"""Sends the journals of running trials to MLflow, in a thread of the parent process.

Reading a journal is cheap and happens often, so that the display shows each epoch at once. Sending is
batched: the journal of an ended trial is sent at once, that of a running trial every few seconds. Every event has
its own time, so sending it again after a crash changes nothing. Each sweep sends the journals of its own trials
and those of dead sweeps; each machine sends the journals of the trials that it owns.
"""

from __future__ import annotations

import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import HarnessError, TrackingError
from harness.core.events import (
    Acknowledged,
    Ended,
    EpochDone,
    Event,
    FoldEnded,
    FoldEpochDone,
    ResumeSaved,
    TrialStarted,
    has_ended,
)
from harness.core.files import FileLock
from harness.core.journal import find_journals, read_events, remove_journal
from harness.study import Study, reaching
from harness.tracking import TrialLog, request_timeout

READ_SECONDS = 0.2
SEND_SECONDS = 5.0
HANG_SECONDS = 1.0  # a request that fails only after this time had no answer
HURRY_SECONDS = 4.0  # for a request to the tracking server, once the sweep is stopping

URGENT = (ResumeSaved, FoldEnded, Ended, Acknowledged)  # events that are sent at once

Listener = Callable[[int, Event], None]


@dataclass(slots=True)
class _Tail:
    """How far a journal has been read, and the events that are not in MLflow yet."""

    number: int
    path: Path
    identity: tuple[int, int]  # of the file under that path: its inode, and what its first line says
    offset: int = 0
    sweep: str = ""  # the sweep that runs the trial, by the last start on record
    run_id: str | None = None
    looked: bool = False  # whether a run was requested before: it may exist although the answer was lost
    on_record: frozenset[tuple[int, int]] = frozenset()  # (fold, epoch) that the run had when it was found
    handed_over: bool = False  # whether any machine may go on with the trial once MLflow has everything
    pending: list[Event] = field(default_factory=list)
    waiting_since: float = 0.0
    not_before: float = 0.0


class JournalUploader:
    """Follows the journals of a study's work folder from `start` to `close`.

    The listener is told each event of this sweep, and those of others that come after this object is made.
    `error` is why MLflow did not take an upload that is still to be tried again, `listener_error` what the
    listener raised; both are None otherwise.
    """

    def __init__(self, trials: TrialLog, study: Study, listener: Listener = lambda *_: None) -> None:
        self._trials = trials
        self._study = study
        self._folder = study.work_folder
        self._listener: Listener | None = listener
        self._begun = False
        self._tails: dict[int, _Tail] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="uploader", daemon=True)
        self._pumping = threading.Lock()
        self.error: HarnessError | None = None
        self.listener_error: Exception | SystemExit | None = None
        self._hangs = False  # whether the last failure took long: the server does not answer
        for number, path in find_journals(self._folder).items():
            self._read(number, path)  # what was there before is not told, but of workers that have begun already
        self._begun = True

    def start(self) -> None:
        """Begin to follow the journals."""
        self._thread.start()

    def __enter__(self) -> JournalUploader:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()  # after an error too; what is not sent stays in the journals

    def close(self, *, patience: float = 0.0, hurry: bool = False) -> None:
        """Send what is left and stop, trying for `patience` seconds where MLflow does not take it.

        With `hurry` a server that does not answer is given up within seconds.

        Raises TrackingError where it still does not; the journals then stay, and are sent by the next sweep of
        the study or by harness doctor.
        """
        self._closing.set()
        with request_timeout(HURRY_SECONDS) if hurry else nullcontext():
            self._send_rest(patience, HURRY_SECONDS if hurry else None)

    def _send_rest(self, patience: float, join_seconds: float | None) -> None:
        if self._thread.ident is not None:
            self._thread.join(join_seconds)
        if self._thread.is_alive():
            raise self._unsent(TrackingError("MLflow does not answer"))
        until = time.monotonic() + patience
        self.pump(flush=True)
        while self.error is not None and time.monotonic() < until:
            time.sleep(1.0)
            self.pump(flush=True)
        if self.error is not None:
            raise self._unsent(self.error)

    def _unsent(self, error: HarnessError) -> TrackingError:
        tails = [tail for tail in self._tails.values() if tail.pending and self._is_ours(tail)]
        numbers = ", ".join(str(number) for number in sorted(tail.number for tail in tails))
        points = sum(isinstance(event, EpochDone | FoldEpochDone) for tail in tails for event in tail.pending)
        return TrackingError(
            f"{error.found}\n  study {self._study.name!r}: {points} epochs of the trials {numbers} "
            f"are not in MLflow yet; they are safe in {self._folder}",
            expected=error.expected,
            hint="harness doctor --fix (or the same command again), once MLflow takes them",
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send what there is, and send nothing more meanwhile."""
        self.pump(flush=True)
        with self._pumping:
            yield

    def _follow(self) -> None:
        while not self._closing.wait(READ_SECONDS):
            self.pump()

    def pump(self, *, flush: bool = False) -> None:
        """Read what is new in the journals, and send what is due (with `flush`, everything)."""
        with self._pumping:
            if flush:
                self.error = None
            journals = find_journals(self._folder)
            for gone in set(self._tails) - set(journals):  # another sweep has sent it to its end
                del self._tails[gone]
            for number, path in journals.items():
                tail = self._read(number, path)
                if tail is None:
                    continue
                if not tail.pending:
                    if tail.handed_over:
                        self._requeue(tail)
                    continue
                urgent = any(isinstance(event, URGENT) for event in tail.pending)
                waited = time.monotonic() - tail.waiting_since
                due = flush or ((urgent or waited > SEND_SECONDS) and time.monotonic() > tail.not_before)
                if due and not self._hangs and self._is_ours(tail):
                    self._try_to_send(tail)
            self._hangs = False
            if not flush:
                self.error = None

    def _is_ours(self, tail: _Tail) -> bool:
        """Return whether this sweep sends the journal: it is its own, or its sweep is dead."""
        return tail.sweep == self._study.worker_id.sweep or not self._study.is_sweep_alive(tail.sweep)

    def _try_to_send(self, tail: _Tail) -> None:
        started = time.monotonic()
        try:
            self._send(tail)
        except HarnessError as error:
            self.error = error
            # The next journal would wait for the same server; a refusal at once may be of this journal alone.
            self._hangs = time.monotonic() - started > HANG_SECONDS
            tail.not_before = time.monotonic() + SEND_SECONDS  # tried again in a while

    def _read(self, number: int, path: Path) -> _Tail | None:
        try:
            identity = (path.stat().st_ino, zlib.crc32(_first_line(path)))
        except FileNotFoundError:
            return None
        tail = self._tails.get(number)
        if tail is None or tail.identity != identity:  # a journal begun anew under the same name
            tail = self._tails[number] = _Tail(number, path, identity)
        events, offset = read_events(path, tail.offset)
        if events and not tail.pending:
            tail.waiting_since = time.monotonic()
        tail.pending += events
        tail.offset = offset
        for event in events:
            if isinstance(event, TrialStarted):
                tail.sweep, tail.handed_over = event.sweep, False
            elif isinstance(event, Ended) and self._study.is_shared:
                tail.handed_over = not event.result.is_over
            if self._begun or tail.sweep == self._study.worker_id.sweep:
                self._tell(tail.number, event)
        return tail

    def _tell(self, number: int, event: Event) -> None:
        """Tell the listener of an event. One that fails is told nothing more: the record must not suffer."""
        if self._listener is None:
            return
        try:
            self._listener(number, event)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - kept, and named at the end of the sweep
            self._listener, self.listener_error = None, error

    def _requeue(self, tail: _Tail) -> None:
        """Let any machine go on with a trial that was handed over: MLflow has its resume point."""
        try:
            with reaching(self._study.storage_url):
                tail.handed_over = not self._study.requeue_sent(tail.number)
        except HarnessError as error:
            self.error = error  # tried again with the next pump

    def _send(self, tail: _Tail) -> None:
        """Send the pending events; they stay pending until MLflow has taken every one of them."""
        folder = tail.path.with_suffix("")
        with reaching(self._study.storage_url):
            ours = self._study.owns_upload(tail.number)
        if not ours:
            remove_journal(tail.path)  # another machine has gone on with the trial from what it found in MLflow
            del self._tails[tail.number]
            return
        if tail.run_id is None:
            tail.run_id, tail.on_record = self._find_run(tail)
        news = [event for event in tail.pending if _epoch_of(event) not in tail.on_record]
        resume = folder if self._study.is_shared else None
        self._trials.send(tail.run_id, news, checkpoint=folder / "checkpoint", resume=resume)
        if has_ended(tail.pending):
            # An interrupted trial may run again by now, and its worker may have written a newer checkpoint.
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        closed = isinstance(tail.pending[-1], Acknowledged)
        tail.pending = []
        if closed:
            remove_journal(tail.path)  # both stores have the end: the journal is no longer needed
            del self._tails[tail.number]

    def _find_run(self, tail: _Tail) -> tuple[str, frozenset[tuple[int, int]]]:
        """Return the trial's run, made where it has none, and the epochs that it has on record.

        Unless the trial is certainly new, MLflow is searched: an earlier attempt may have made the run, or a dead
        sweep, or a sweep that sends the same dead sweep's journals, or a request whose answer was lost.
        """
        first, ours = tail.pending[0], self._study.worker_id.sweep
        begun_here = isinstance(first, TrialStarted) and first.sweep == ours and not first.resumed
        new = begun_here and self._study.is_alone() and not tail.looked
        tail.looked = True
        with FileLock(self._folder / "runs.lock"):
            return self._trials.run_of(tail.number, first.time, search=not new)


def _epoch_of(event: Event) -> tuple[int, int] | None:
    """Return the fold (0 for none) and the epoch that an event reports, None if it reports no epoch."""
    match event:
        case EpochDone(metrics=metrics):
            return 0, metrics.epoch
        case FoldEpochDone(fold=fold, metrics=metrics):
            return fold, metrics.epoch
    return None


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline()
