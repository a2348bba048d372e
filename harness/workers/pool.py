"""A list of tasks done by worker processes, one task at a time each; a death costs only the task in hand."""

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
    """Stands for the result of a task whose worker process died; `cause` says how."""

    cause: str

    def __str__(self) -> str:
        return f"the process that worked on it died: {self.cause}"


def work_through(
    tasks: Sequence[Task], function: Callable[[Task], Result], jobs: int, *, preload: Sequence[str] = ()
) -> Generator[tuple[Task, Result | Died], None, None]:
    """Yield each task with its result, in the order in which they are done, from `jobs` worker processes.

    `function` is importable by name; `preload` names further modules that it needs. A task whose worker is killed
    or runs out of memory has the result Died, and another worker takes its place. Each worker computes in one
    thread: the processes are the parallelism, and sums come out the same on every machine. Closing the generator
    kills the workers; when the parent dies, they finish the task in hand.

    Raises RuntimeError where `function` raised; its traceback is on stderr.
    """
    if not tasks:
        return
    pool = _Pool(tasks, function)
    server = ForkServer((__name__, function.__module__, *preload), environment=ONE_THREAD, defaults={})
    supervisor = WorkerSupervisor(_serve, [pool.connect] * min(jobs, len(tasks)), server)
    try:
        supervisor.start()
        pool.hand_out()
        while supervisor.step(pool.on_death, wake_on=pool.connections()):
            pool.receive()
            pool.hand_out()
            yield from pool.results()
        yield from pool.results()
    finally:
        supervisor.kill()
    if supervisor.fault is not None:
        raise RuntimeError(f"{supervisor.fault}; stderr has its traceback")


@dataclass(frozen=True, slots=True)
class _Assignment(Generic[Task, Result]):
    """What a worker process gets when it starts: its end of a pipe, and what to do with what comes through it."""

    connection: Connection
    function: Callable[[Task], Result]


class _Pool(Generic[Task, Result]):
    """The parent's side: the tasks that wait, the pipe to each worker by its name, and the results."""

    def __init__(self, tasks: Sequence[Task], function: Callable[[Task], Result]) -> None:
        self._waiting = deque(tasks)
        self._function = function
        self._pipes: dict[str, Connection] = {}
        self._in_hand: dict[str, Task] = {}
        self._results: deque[tuple[Task, Result | Died]] = deque()

    def connect(self, worker: str) -> _Assignment[Task, Result]:
        """Return what a new worker needs; our copy of its end is closed with the object, once it is sent."""
        self._pipes[worker], theirs = multiprocessing.get_context("forkserver").Pipe()
        return _Assignment(theirs, self._function)

    def connections(self) -> list[Connection]:
        """Return the pipes through which results may come."""
        return [self._pipes[worker] for worker in self._in_hand]

    def hand_out(self) -> None:
        """Give a task to each worker that has none; where none is left, the closed pipe ends the worker."""
        for worker in [worker for worker in self._pipes if worker not in self._in_hand]:
            if not self._waiting:
                self._pipes.pop(worker).close()
                continue
            self._in_hand[worker] = self._waiting.popleft()
            # The pipe of a worker that has just died is broken: `on_death` will be called.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._pipes[worker].send(self._in_hand[worker])

    def receive(self) -> None:
        """Take the results that have come."""
        for worker in list(self._in_hand):
            self._receive_from(worker)

    def _receive_from(self, worker: str) -> None:
        # A closed pipe, too, has "something to read": its worker is dead, and the supervisor will find out how.
        with suppress(EOFError, ConnectionResetError):
            if self._pipes[worker].poll():
                result = self._pipes[worker].recv()
                self._results.append((self._in_hand.pop(worker), result))

    def on_death(self, worker: str, cause: str) -> bool:
        """Take the last result of a dead worker, or record that its task has none."""
        had_task = worker in self._in_hand
        if had_task:
            self._receive_from(worker)
        if worker in self._in_hand:
            self._results.append((self._in_hand.pop(worker), Died(cause)))
        if worker in self._pipes:
            self._pipes.pop(worker).close()
        return had_task

    def results(self) -> Iterator[tuple[Task, Result | Died]]:
        """Yield the results that nobody has got yet."""
        while self._results:
            yield self._results.popleft()


def _serve(assignment: _Assignment[Task, Result]) -> None:
    worker_main(lambda stopping: _answer(assignment, stopping))


def _answer(assignment: _Assignment[Task, Result], stopping: threading.Event) -> None:
    connection = assignment.connection
    while not stopping.is_set():
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):  # no task is left, or the parent is gone
            return
        try:
            result = assignment.function(task)
        except Exception as error:
            error.add_note(f"while it worked on {task}")
            raise
        with suppress(ConnectionResetError, BrokenPipeError):  # the parent is gone: there is nobody to tell
            connection.send(result)
