"""The supervisor of worker processes: it starts them, replaces killed ones, stops them and waits for them."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from types import ModuleType
from typing import Generic, Protocol, TypeVar

from harness.core.names import new_name
from harness.workers.child import INTERRUPTED, OUT_OF_MEMORY
from harness.workers.fork_server import TRAINING_SERVER, ForkServer
from harness.workers.signals import answered_by, signal_name

STOP_SECONDS = 60.0  # grace period for workers to stop before they are killed
KILL_SECONDS = 5.0  # timeout for the end of a killed process: one that waits for a device may stay
STEP_SECONDS = 0.5
IDLE_DEATHS = 3  # stop after so many deaths in a row of idle workers: no trial is the cause
IDLE_SECONDS = 60.0  # the death of a worker that lived longer does not count as idle: it has done work
STOPPED_BY_SIGTERM = "stopped by SIGTERM"  # the cause of death of a worker that ended in good order
FORK_SERVER_DIED = 255  # multiprocessing's exit code for the children of a dead fork server
FORK_SERVER_KILLED = "the process that starts the workers (Python's fork server) was killed"
WORKER_ERROR = "a worker met an error: its traceback or its message is above"

T = TypeVar("T")
OnDeath = Callable[[str, str], bool]  # a worker's name and the cause of death -> whether it was working on a task


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the main module while a process is started.

    multiprocessing would run the main script again in each worker, and a script that calls `harness.sweep` at its
    top level would begin another sweep there. A worker needs nothing of it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Workers(Protocol):
    """The workers of one command, as it sees them: processes of this machine, or places on a Ray cluster.

    `signal` is the number of the signal that stopped them, `fault` the fault that did; both are None otherwise.
    """

    signal: int | None
    fault: str | None

    def begin(self) -> None:
        """Begin to start the workers; `run` does what is left of it."""

    def abandon(self) -> None:
        """Stop the workers in good order, before `run`, and wait for their end."""

    def run(self, on_death: OnDeath, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start the workers and wait until all have ended; call `meanwhile` about twice a second."""

    def stop(self, fault: str | None = None) -> None:
        """Stop the workers in good order; `fault` is the reason, None for no fault."""

    def handle_signals(self) -> AbstractContextManager[None]:
        """Handle signals inside the block: the first stops the workers, a second SIGINT kills them."""


class Stoppable:
    """What workers of any kind do on a signal."""

    def __init__(self) -> None:
        self._stopped_at: float | None = None
        self._idle_deaths = 0
        self.signal: int | None = None
        self.fault: str | None = None

    def stop(self, fault: str | None = None) -> None:
        """Stop the workers in good order; `fault` is the reason, None for no fault."""
        self.fault = self.fault or fault
        self._stopped_at = self._stopped_at or time.monotonic()
        self._send_stop()

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handle signals inside the block: the first SIGINT, SIGTERM or SIGHUP stops the workers.

        A second SIGINT kills them and raises KeyboardInterrupt.
        """

        def on_signal(number: int) -> None:
            if self.signal is not None and number == signal.SIGINT:
                self._send_kill()
                raise KeyboardInterrupt
            self.signal = self.signal or number
            self.stop()

        with answered_by(on_signal):
            yield

    @property
    def _is_overdue(self) -> bool:
        """Whether the workers were told to stop and have had the time for it."""
        return self._stopped_at is not None and time.monotonic() - self._stopped_at > STOP_SECONDS

    def _count_death(self, cause: str, *, idle: bool) -> None:
        """Stop all workers if several in a row died with no task at hand: no task is the cause."""
        self._idle_deaths = self._idle_deaths + 1 if idle else 0
        if self._idle_deaths >= IDLE_DEATHS:
            died = f"{self._idle_deaths} workers in a row ended soon after their start, with no task at hand"
            self.stop(fault=f"{died}, the last one {cause}")

    def _send_stop(self) -> None:
        raise NotImplementedError

    def _send_kill(self) -> None:
        raise NotImplementedError


class WorkerSupervisor(Stoppable, Generic[T]):
    """The worker processes of one command, from start to end. Each calls `work` with its own task.

    `tasks` has one function for each worker. It gets the name of the worker process and returns the task; it is
    called again for the worker that replaces a dead one. `signal` and `fault`: see `Workers`.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        tasks: Sequence[Callable[[str], T]],
        server: ForkServer = TRAINING_SERVER,
    ) -> None:
        super().__init__()
        self._work = work
        self._tasks = tasks
        self._server = server
        self._workers: dict[ForkServerProcess, Callable[[str], T]] = {}
        self._started_at: dict[str, float] = {}  # by the worker's name
        self._beginning: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self, on_death: OnDeath, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start the workers and wait until all have ended; call `meanwhile` about twice a second.

        See `step` for `on_death`. No worker is left afterwards: an exception stops them in good order, a
        KeyboardInterrupt kills them.
        """
        try:
            self.begin()
            self.wait_begun()
            while self.step(on_death):
                meanwhile()
        except Exception:
            self.stop()
            while self.step(on_death):
                pass
            raise
        finally:
            self.kill()

    def begin(self) -> None:
        """Start one worker for each task, in a thread, which waits for the fork server to import its modules.

        No worker is started after a signal. A second call does nothing.
        """
        if self._beginning is not None:
            return
        self._server.start()  # here: it blocks signals meanwhile, which the thread that handles them has to do
        self._beginning = threading.Thread(target=self._begin, name="first workers", daemon=True)
        self._beginning.start()

    def _begin(self) -> None:
        try:
            for task in self._tasks:
                if self._stopped_at is None:
                    self._start(task)
        except BaseException as error:  # noqa: BLE001 - raised where the workers are waited for
            self._error = error

    def wait_begun(self) -> None:
        """Wait until the first workers have started; raises what their start raised."""
        assert self._beginning is not None
        self._beginning.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Stop the workers in good order, before `run`, and wait for their end."""
        self.stop()
        if self._beginning is not None:
            self._beginning.join()
        self._send_stop()
        while self.step(lambda *_: False):
            pass
        self.kill()

    def step(self, on_death: OnDeath, wake_on: Sequence[Connection] = ()) -> bool:
        """Wait at most half a second for a worker's end or for data on `wake_on`; return True if workers are left.

        If a worker is killed, runs out of memory, or is stopped by a SIGTERM that is not from here, `on_death` is
        called with its name and the cause, and a new worker replaces it. If a worker ends with an error, or if
        several idle workers die in a row, `fault` is set and all workers are stopped.
        """
        wait([*(process.sentinel for process in self._workers), *wake_on], timeout=STEP_SECONDS)
        for process in [process for process in self._workers if not process.is_alive()]:
            self._handle_end(process, self._workers.pop(process), on_death)
        if self._is_overdue:
            self._send_kill()
        return bool(self._workers)

    def kill(self) -> None:
        """Kill the remaining workers and wait for their end."""
        self._send_kill()
        until = time.monotonic() + KILL_SECONDS
        for process in self._workers:
            process.join(max(0.0, until - time.monotonic()))
        self._workers.clear()

    def _start(self, task: Callable[[str], T]) -> None:
        name = new_name()
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=self._work, args=(task(name),), name=name, daemon=True)
        with _no_main_module():
            process.start()
        self._workers[process] = task
        self._started_at[name] = time.monotonic()
        if self._stopped_at is not None:  # a signal has arrived meanwhile
            process.terminate()

    def _handle_end(self, process: ForkServerProcess, task: Callable[[str], T], on_death: OnDeath) -> None:
        code = process.exitcode or 0
        if code == 0 or self._stopped_at is not None:
            return
        cause = cause_of_death(code)
        if cause is None:
            lost = code == FORK_SERVER_DIED
            self.stop(fault=FORK_SERVER_KILLED if lost else WORKER_ERROR)
            return
        lived = time.monotonic() - self._started_at[process.name]
        had_task = on_death(process.name, cause)
        self._count_death(cause, idle=not had_task and lived <= IDLE_SECONDS)
        if self._stopped_at is None:  # stopped neither above nor by `on_death`
            self._start(task)

    def _send_stop(self) -> None:
        for process in list(self._workers):
            process.terminate()

    def _send_kill(self) -> None:
        for process in list(self._workers):
            process.kill()


def cause_of_death(exit_code: int) -> str | None:
    """Return how a process died, None if it was not killed or interrupted and did not run out of memory."""
    if exit_code == OUT_OF_MEMORY:
        return "out of memory"
    if exit_code == INTERRUPTED:
        return STOPPED_BY_SIGTERM
    return f"killed by {signal_name(-exit_code)}" if exit_code < 0 else None
