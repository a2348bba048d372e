"""A pool of worker processes for a list of tasks. If a worker dies, only its current task is lost."""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from harness.workers.child import worker_main
from harness.workers.fork_server import ONE_THREAD, ForkServer
from harness.workers.supervisor import WorkerSupervisor

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Died:
    """The result of a task whose worker process died; `cause` says how."""

    cause: str

    def __str__(self) -> str:
        return f"its worker process died: {self.cause}"


def work_through(
    tasks: Sequence[Task], function: Callable[[Task], Result], jobs: int, *, preload: Sequence[str] = ()
) -> Generator[tuple[Task, Result | Died], None, None]:
    """Yield each task with its result, in the order of completion, from `jobs` worker processes.

    `function` must be importable by name; `preload` names further modules that it needs. If a worker is killed or
    runs out of memory, the result of its task is `Died` and a new worker replaces it. Each worker computes in one
    thread, so that sums are the same on every machine. Closing the generator kills the workers. If the parent
    dies, the workers finish their current tasks.

    Raises RuntimeError if `function` raised; its traceback is on stderr.
    """
    if not tasks:
        return
    pool = _Pool(tasks, function)
    server = ForkServer((__name__, function.__module__, *preload), environment=ONE_THREAD, defaults={})
    supervisor = WorkerSupervisor(_serve, [pool.connect] * min(jobs, len(tasks)), server)
    try:
        supervisor.begin()
        supervisor.wait_begun()
        pool.assign()
        while supervisor.step(pool.on_death, wake_on=pool.connections()):
            pool.receive()
            pool.assign()
            yield from pool.results()
        yield from pool.results()
    finally:
        supervisor.kill()
    if supervisor.fault is not None:
        raise RuntimeError(supervisor.fault)


@dataclass(frozen=True, slots=True)
class _Assignment(Generic[Task, Result]):
    """The argument of a worker process: its end of a pipe, and the function for the tasks from it."""

    connection: Connection
    function: Callable[[Task], Result]


class _Pool(Generic[Task, Result]):
    """The parent's side: waiting tasks, the pipe and the current task of each worker (by name), results."""

    def __init__(self, tasks: Sequence[Task], function: Callable[[Task], Result]) -> None:
        self._waiting = deque(tasks)
        self._function = function
        self._pipes: dict[str, Connection] = {}
        self._current: dict[str, Task] = {}
        self._results: deque[tuple[Task, Result | Died]] = deque()

    def connect(self, worker: str) -> _Assignment[Task, Result]:
        """Return the assignment of a new worker.

        The parent's copy of the worker's end of the pipe closes when the returned object is freed, after sending.
        """
        self._pipes[worker], theirs = multiprocessing.get_context("forkserver").Pipe()
        return _Assignment(theirs, self._function)

    def connections(self) -> list[Connection]:
        """Return the pipes of the workers that have a task."""
        return [self._pipes[worker] for worker in self._current]

    def assign(self) -> None:
        """Send a task to each idle worker. If no task is left, close its pipe, which ends the worker."""
        for worker in [worker for worker in self._pipes if worker not in self._current]:
            if not self._waiting:
                self._pipes.pop(worker).close()
                continue
            self._current[worker] = self._waiting.popleft()
            # A broken pipe means that the worker has just died: `on_death` will be called.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._pipes[worker].send(self._current[worker])

    def receive(self) -> None:
        """Receive the results that have arrived."""
        for worker in list(self._current):
            self._receive_from(worker)

    def _receive_from(self, worker: str) -> None:
        # `poll` is also True for a closed pipe: its worker is dead, and the supervisor will find the cause.
        with suppress(EOFError, ConnectionResetError):
            if self._pipes[worker].poll():
                result = self._pipes[worker].recv()
                self._results.append((self._current.pop(worker), result))

    def on_death(self, worker: str, cause: str) -> bool:
        """Receive the last result of a dead worker, or record `Died`; return True if it had a task."""
        had_task = worker in self._current
        if had_task:
            self._receive_from(worker)
        if worker in self._current:
            self._results.append((self._current.pop(worker), Died(cause)))
        if worker in self._pipes:
            self._pipes.pop(worker).close()
        return had_task

    def results(self) -> Iterator[tuple[Task, Result | Died]]:
        """Yield the received results, each once."""
        while self._results:
            yield self._results.popleft()


def _serve(assignment: _Assignment[Task, Result]) -> None:
    worker_main(lambda stopping: _answer(assignment, stopping))


def _answer(assignment: _Assignment[Task, Result], stopping: threading.Event) -> None:
    connection = assignment.connection
    while not stopping.is_set():
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):  # no task is left, or the parent is dead
            return
        try:
            result = assignment.function(task)
        except Exception as error:
            error.add_note(f"during task {task}")
            raise
        with suppress(ConnectionResetError, BrokenPipeError):  # the parent is dead
            connection.send(result)
