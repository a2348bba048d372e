"""Processes that share tasks: a death costs one task, a mistake shows, nothing is left behind."""

import os
import signal
from contextlib import closing

import pytest

from harness.workers.pool import Died, work_through

pytestmark = pytest.mark.usefixtures("own_fork_server")


def answer(task: int) -> str:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"answer {task}"


def own_process(task: int) -> int:
    return os.getpid()


def fail(task: int) -> str:
    raise ValueError(task)


def test_a_process_that_dies_costs_its_task_alone() -> None:
    before = dict(os.environ)
    results = dict(work_through(range(6), answer, 2))
    assert results.pop(3) == Died(signal.SIGKILL)
    assert results == {task: f"answer {task}" for task in (0, 1, 2, 4, 5)}
    assert dict(os.environ) == before


def test_the_last_task_may_kill_its_process() -> None:
    assert dict(work_through([3], answer, 4)) == {3: Died(signal.SIGKILL)}
    assert dict(work_through([], answer, 4)) == {}


def test_an_exception_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="met an error over 0"):
        list(work_through(range(1), fail, 1))


def test_whoever_stops_listening_leaves_no_process() -> None:
    with closing(work_through(range(100), own_process, 2)) as results:
        _, process = next(results)
    assert isinstance(process, int)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
