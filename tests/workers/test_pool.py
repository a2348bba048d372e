"""The pool: a death loses one task, an error is raised, no process is left."""

import os
import signal
from contextlib import closing

import pytest

from harness.workers.pool import Died, work_through

pytestmark = pytest.mark.usefixtures("own_fork_server")

KILLS, RUNS_OUT_OF_MEMORY = 3, 4


def answer(task: int) -> str:
    if task == KILLS:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == RUNS_OUT_OF_MEMORY:
        raise MemoryError
    return f"answer {task}"


def own_process(_task: int) -> int:
    return os.getpid()


def threads(_task: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def fail(task: int) -> str:
    raise ValueError(task)


def test_a_worker_that_dies_costs_only_its_task() -> None:
    before = dict(os.environ)
    results = dict(work_through(range(7), answer, 2))
    assert results.pop(KILLS) == Died("killed by SIGKILL")
    assert results.pop(RUNS_OUT_OF_MEMORY) == Died("out of memory")
    assert results == {task: f"answer {task}" for task in (0, 1, 2, 5, 6)}
    assert dict(os.environ) == before


def test_the_last_task_may_kill_its_worker() -> None:
    assert dict(work_through([KILLS], answer, 4)) == {KILLS: Died("killed by SIGKILL")}
    assert dict(work_through([], answer, 4)) == {}


def test_each_task_may_kill_its_worker() -> None:
    results = list(work_through([KILLS] * 8, answer, 2))
    assert results == [(KILLS, Died("killed by SIGKILL"))] * 8


def test_a_task_larger_than_a_pipe() -> None:
    tasks = [bytes([number]) * 3_000_000 for number in range(3)]
    results = list(work_through(tasks, len, 2))
    assert sorted(results) == [(task, 3_000_000) for task in tasks]


def test_workers_compute_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert dict(work_through([0], threads, 1)) == {0: "1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.usefixtures("new_fork_server")
def test_an_exception_in_a_task(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="a worker met an error: its traceback or its message is above"):
        list(work_through(range(1), fail, 1))
    error = capfd.readouterr().err
    assert "ValueError: 0" in error
    assert "during task 0" in error


def test_closing_the_results_leaves_no_worker() -> None:
    with closing(work_through(range(100), own_process, 2)) as results:
        _, process = next(results)
    assert isinstance(process, int)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
