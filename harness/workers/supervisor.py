"""The worker processes of a sweep: started from a warm fork server, told to stop, waited for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar, cast

from harness.core.errors import Stopped
from harness.core.records import WorkerId, new_name
from harness.workers.child import OUT_OF_MEMORY

STOP_SECONDS = 60.0  # what workers have to put their trials away before they are killed
# A signal that comes again so soon is the same one: timeout(1), for one, sends it to a process and to its group.
TWICE_SECONDS = 0.5
IDLE_DEATHS = 3  # workers in a row that died with nothing in hand: there is no trial to blame and give up
# Activations of a batch are tens of megabytes: glibc would return each to the kernel and fault it in again.
KEEP_LARGE_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


def start_fork_server() -> None:
    """Start the process that workers are forked from; it imports PyTorch while this one goes on.

    It and its children are out of reach of the terminal's Ctrl-C, which only the parent answers.
    """
    for name, value in KEEP_LARGE_BLOCKS.items():
        os.environ.setdefault(name, value)
    # torch._dynamo is what the first optimiser of a process imports, at two seconds a process.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["harness.sweep.worker", "torch._dynamo"])
    resource_tracker.ensure_running()  # it unblocks the signals that are about to be blocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Task(Protocol):
    """What a worker process is given to do; each gets a worker_id with a name of its own."""

    @property
    def worker_id(self) -> WorkerId:
        """Who the worker is."""


T = TypeVar("T", bound=Task)


class WorkerSupervisor(Generic[T]):
    """Workers on one piece of work, from their start to their end; each does `work` on its task, a dataclass.

    `signal` is the number of the signal that stopped it (or None), `fault` what broke a worker (or None). While
    `handle_signals`, the first SIGINT or SIGTERM lets the workers put their trials away; a second SIGINT
    kills them and raises KeyboardInterrupt.
    """

    def __init__(self, work: Callable[[T], None], tasks: Sequence[T]) -> None:
        self._work = work
        self._tasks = list(tasks)
        self._workers: dict[ForkServerProcess, T] = {}
        self._stopped_at: float | None = None
        self._idle_deaths = 0
        self.signal: int | None = None
        self.fault: str | None = None

    def run(
        self,
        on_death: Callable[[str, str], int | None] = lambda *_: None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Start one worker for each task and wait for the last of them to end.

        A worker that is killed or runs out of memory is replaced, once `on_death` (called with its name and the
        cause) has seen to its trial; it returns the trial's number, or None where the worker had none in hand.
        `meanwhile` is called about twice a second.
        """
        for task in self._tasks if self._stopped_at is None else []:
            self._start(task)
        while self._workers:
            wait([worker.sentinel for worker in self._workers], timeout=0.5)
            meanwhile()
            for worker in [worker for worker in self._workers if not worker.is_alive()]:
                self._ended(worker, self._workers.pop(worker), on_death)
            if self._stopped_at is not None and time.monotonic() - self._stopped_at > STOP_SECONDS:
                self._kill()

    def _start(self, task: T) -> None:
        task = replace(cast(Any, task), worker_id=WorkerId(task.worker_id.sweep, new_name()))
        context = multiprocessing.get_context("forkserver")
        worker = context.Process(target=self._work, args=(task,), daemon=True)
        worker.start()
        self._workers[worker] = task
        if self._stopped_at is not None:  # a signal came meanwhile
            worker.terminate()

    def _ended(self, worker: ForkServerProcess, task: T, on_death: Callable[[str, str], int | None]) -> None:
        code = worker.exitcode or 0
        if code == 0 or self._stopped_at is not None:
            return
        if code > 0 and code != OUT_OF_MEMORY:
            self.fault = "a worker met an error"
            self.stop()
            return
        cause = "out of memory" if code == OUT_OF_MEMORY else f"killed by {_signal_name(-code)}"
        in_hand = on_death(task.worker_id.worker, cause)
        self._idle_deaths = self._idle_deaths + 1 if in_hand is None else 0
        if self._idle_deaths > IDLE_DEATHS:
            self.fault = f"{self._idle_deaths} workers in a row died before they had a trial, the last one {cause}"
            self.stop()
        else:
            self._start(task)

    def stop(self) -> None:
        """Ask the workers to put their trials away and end."""
        self._stopped_at = self._stopped_at or time.monotonic()
        for worker in self._workers:
            worker.terminate()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Answer SIGINT and SIGTERM in here, and leave them to whoever answered them before afterwards."""

        def on_signal(number: int, _frame: FrameType | None) -> None:
            if self.signal is not None and number == signal.SIGINT:
                self._kill()
                raise KeyboardInterrupt
            self.signal = self.signal or number
            self.stop()

        with _answered_by(on_signal):
            yield


@contextmanager
def interruptible(found: str, run: str) -> Iterator[None]:
    """Raise Stopped(found, run) on SIGINT and SIGTERM: for what can be left at any point and done again."""
    answered = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        answered.append(number)
        raise KeyboardInterrupt  # no Exception: a library that it meets would make one of its own out of it

    with _answered_by(on_signal):
        try:
            yield
        except KeyboardInterrupt:
            if not answered:
                raise
            raise Stopped(found, signal=answered[0], hint=run) from None


@contextmanager
def _answered_by(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    last: dict[int, float] = {}

    def answer(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        is_new = now - last.get(number, -TWICE_SECONDS) >= TWICE_SECONDS
        last[number] = now
        if is_new:
            on_signal(number, frame)

    before = {number: signal.signal(number, answer) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
