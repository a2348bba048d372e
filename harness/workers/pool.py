"""Processes that work through a list of tasks, one task at a time each, and outlive neither parent nor mishap."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# One thread a process: the processes are the parallelism, and the sums come out the same on every machine.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Died:
    """Stands for the result of a task whose process was killed, and by which signal."""

    signal: int

    def __str__(self) -> str:
        return f"the process that worked on it was killed by signal {self.signal}"


@dataclass(slots=True)
class _Worker(Generic[Task]):
    process: ForkServerProcess
    connection: Connection
    task: Task


def work_through(
    tasks: Sequence[Task], function: Callable[[Task], Result], jobs: int, *, preload: Sequence[str] = ()
) -> Generator[tuple[Task, Result | Died], None, None]:
    """Yield each task with its result, as they are done, from `jobs` processes.

    `function` is importable by name; `preload` names what it imports besides, once for all processes, which are
    forked from a fork server. A process that is killed gives its task the result Died, and another one takes its
    place. Whoever stops listening ends the processes at once; when the parent dies, however it dies, they finish
    the task in hand. Ctrl-C is the parent's alone to answer.

    Raises RuntimeError where `function` raised; its traceback is on stderr.
    """
    if not tasks:
        return
    _start_fork_server([function.__module__, *preload])
    waiting = deque(tasks)
    workers: list[_Worker[Task]] = []
    try:
        for _ in range(min(jobs, len(waiting))):
            workers.append(_start(function, waiting.popleft()))
        while workers:
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                task, result = worker.task, _receive(worker)
                if not waiting:
                    _dismiss(worker)
                    workers.remove(worker)
                elif isinstance(result, Died):
                    workers[workers.index(worker)] = _start(function, waiting.popleft())
                else:
                    _give(worker, waiting.popleft())
                yield task, result
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _dismiss(worker)


def _start_fork_server(modules: list[str]) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(modules)
    resource_tracker.ensure_running()  # it unblocks the signal that is about to be blocked
    # Blocked in the server and in all that is forked from it: Ctrl-C is the parent's alone to answer.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    environment = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        forkserver.ensure_running()
    finally:
        for name, value in environment.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(function: Callable[[Task], Result], task: Task) -> _Worker[Task]:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, function), daemon=True)
    process.start()
    theirs.close()
    worker = _Worker(process, ours, task)
    _give(worker, task)
    return worker


def _give(worker: _Worker[Task], task: Task) -> None:
    worker.task = task
    # The pipe of a process that has just died is broken: `_receive` finds that out, and says how.
    with suppress(BrokenPipeError):
        worker.connection.send(task)


def _receive(worker: _Worker[Task]) -> Any:
    try:
        return worker.connection.recv()
    except (EOFError, ConnectionResetError):
        _dismiss(worker)
        code = worker.process.exitcode or 0
        if code > 0:
            raise RuntimeError(f"a process met an error over {worker.task}; its traceback is above") from None
        return Died(-code)


def _dismiss(worker: _Worker[Task]) -> None:
    worker.connection.close()
    worker.process.join()


def _serve(connection: Connection, function: Callable[[Task], Result]) -> None:
    # Either end of the pipe's failure means that the parent is gone: there is nobody left to work for.
    with suppress(EOFError, ConnectionResetError, BrokenPipeError):
        while True:
            connection.send(function(connection.recv()))
