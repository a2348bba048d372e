"""Sends the journals of running trials to MLflow, in a thread of the parent process.

Reading a journal is cheap and happens often, so that whoever watches sees each epoch at once; sending is
gathered: a trial that is over goes out whole, a running one every few seconds. Everything sent carries its
own time, so sending it again after a crash changes nothing. Of several sweeps on one study, one at a time
sends, for all of them: two that did would make two runs for one trial.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import TrackingError
from harness.files import FileLock
from harness.journal import Event, read_events
from harness.tracking import TrialLog

READ_SECONDS = 0.2
SEND_SECONDS = 5.0

Listener = Callable[[int, Event], None]


@dataclass(slots=True)
class _Tail:
    """How far a journal has been read, and what of it MLflow has not got yet."""

    number: int
    path: Path
    offset: int = 0
    run_id: str | None = None
    pending: list[Event] = field(default_factory=list)
    waiting_since: float = 0.0


class Recorder:
    """Follows the journals of a study's work folder from `start` to `close`."""

    def __init__(self, trials: TrialLog, work_folder: Path, listener: Listener = lambda *_: None) -> None:
        self._trials = trials
        self._folder = work_folder
        self._listener = listener
        self._tails: dict[Path, _Tail] = {}
        self._began = time.time_ns() // 1_000_000
        self._sending = FileLock(work_folder / "recorder.lock")
        # Whoever sent before us, alive or dead, may have made runs for the trials we find.
        self._alone = self._sending.acquire(wait=False)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)
        self.error: TrackingError | None = None

    def start(self) -> None:
        """Begin to follow the journals."""
        self._thread.start()

    def close(self) -> None:
        """Send what is left and stop.

        Raises TrackingError where MLflow does not take it; the journals then stay and are sent by the next
        sweep of the study.
        """
        self._closing.set()
        self._thread.join()
        while not self._may_send() and self._left_to_another():
            time.sleep(READ_SECONDS)
        self.error = None
        self.pump(flush=True)
        self._sending.release()
        if self.error is not None:
            raise self.error

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
        for path in sorted(self._folder.glob("trial-*.jsonl")):
            number = int(path.stem.removeprefix("trial-"))
            tail = self._tails.setdefault(path, _Tail(number, path))
            events, tail.offset = read_events(path, tail.offset)
            for event in events:
                if event["time"] >= self._began:
                    self._listener(number, event)
            if events and not tail.pending:
                tail.waiting_since = time.monotonic()
            tail.pending += events
            ended = any(event["event"] in ("end", "closed") for event in tail.pending)
            due = flush or ended or time.monotonic() - tail.waiting_since > SEND_SECONDS
            if tail.pending and due and self._may_send():
                try:
                    self._send(tail)
                except TrackingError as error:
                    self.error = error
                    tail.waiting_since = time.monotonic()  # tried again in a while

    def _send(self, tail: _Tail) -> None:
        """Send the pending events; they stay pending until MLflow has taken every one of them."""
        checkpoint = tail.path.with_suffix("") / "checkpoint"
        start = tail.pending[0]
        if tail.run_id is None:
            # A trial that began before this recorder did may have its run already.
            search = start["resumed"] or start["time"] < self._began or not self._alone
            tail.run_id = self._trials.run_of(start, search=search)
        self._trials.send(tail.run_id, tail.pending, checkpoint)
        shutil.rmtree(checkpoint, ignore_errors=True)
        closed = tail.pending[-1]["event"] == "closed"
        tail.pending = []
        if closed:
            # Both stores know the end: the journal has done its work.
            shutil.rmtree(tail.path.with_suffix(""), ignore_errors=True)
            tail.path.unlink()
            del self._tails[tail.path]
