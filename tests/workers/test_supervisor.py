"""The supervisor with real worker processes that end, fail, die and hang."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pytest

from harness.workers import child
from harness.workers import supervisor as module
from harness.workers.child import worker_main
from harness.workers.fork_server import ForkServer
from harness.workers.supervisor import WORKER_ERROR, WorkerSupervisor
from tests.support.processes import wait_for

pytestmark = pytest.mark.usefixtures("own_fork_server")

hangs_up = pytest.mark.skipif(
    signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="these tests run under nohup"
)
SERVER = ForkServer(("harness.workers.child",), environment={}, defaults={})
Act = tuple[Path, str, str]  # the folder, the worker's name, what it does


def supervise(folder: Path, *acts: str) -> WorkerSupervisor[Act]:
    """Return a supervisor with one worker for each act; a worker writes its pid to a file of its name."""
    return WorkerSupervisor(perform, [partial(make_act, folder, act) for act in acts], SERVER)


def make_act(folder: Path, act: str, worker: str) -> Act:
    return folder, worker, act


def perform(task: Act) -> None:
    folder, worker, act = task

    def work(stopping: threading.Event) -> None:
        is_first = not any(folder.iterdir())
        (folder / worker).write_text(str(os.getpid()))
        if act == "wait":
            stopping.wait()
            (folder / f"{worker}.stopped").touch()
        elif act == "hang":
            child.ORPHAN_SECONDS = 1.0
            time.sleep(600)
        elif act == "fail":
            raise ValueError("a bug")
        elif act == "die" or (act == "die once" and is_first):
            os.kill(os.getpid(), signal.SIGKILL)
        elif act in ("terminate once", "hang up once") and is_first:
            os.kill(os.getpid(), signal.SIGTERM if act == "terminate once" else signal.SIGHUP)
            stopping.wait()
        elif act == "run out of memory once" and is_first:
            raise MemoryError

    worker_main(work)


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.iterdir() if "." not in path.name]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second: it went between the opening and the reading
        return False


def once(folder: Path, workers: int, *actions: Callable[[], None]) -> Callable[[], None]:
    """Return a `meanwhile` that does one action per call, once the given number of workers has started."""
    left = list(actions)

    def meanwhile() -> None:
        if left and len([pid for pid in folder.iterdir() if pid.read_text() or "." in pid.name]) >= workers:
            left.pop(0)()

    return meanwhile


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of the workers' files. No worker may be alive after a test."""
    folder = tmp_path / "workers"
    folder.mkdir()
    yield folder
    assert [pid for pid in pids(folder) if is_running(pid)] == []


class Deaths(list[tuple[str, str]]):
    """Records deaths; `had_work` is the value that it returns to the supervisor."""

    def __init__(self, had_work: bool = True) -> None:
        self._had_work = had_work

    def __call__(self, worker: str, cause: str) -> bool:
        self.append((worker, cause))
        return self._had_work


def test_workers_that_end_by_themselves(folder: Path) -> None:
    deaths = Deaths()
    supervisor = supervise(folder, "end", "end", "end")
    supervisor.run(deaths)
    assert len(set(pids(folder))) == 3
    assert (deaths, supervisor.fault, supervisor.signal) == ([], None, None)


@pytest.mark.parametrize(
    ("act", "cause"),
    [
        ("die once", "killed by SIGKILL"),
        ("run out of memory once", "out of memory"),
        ("terminate once", "stopped by SIGTERM"),
        pytest.param("hang up once", "stopped by SIGTERM", marks=hangs_up),
    ],
)
def test_a_worker_that_dies_is_replaced(folder: Path, act: str, cause: str) -> None:
    deaths = Deaths()
    supervisor = supervise(folder, act)
    supervisor.run(deaths)
    ((dead, found),) = deaths
    assert found == cause
    assert (folder / dead).exists()
    assert len(pids(folder)) == 2
    assert supervisor.fault is None


@pytest.mark.usefixtures("new_fork_server")
def test_an_error_stops_all_workers(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    deaths = Deaths()
    supervisor = supervise(folder, "wait", "fail")
    supervisor.run(deaths)
    assert (supervisor.fault, deaths) == (WORKER_ERROR, [])
    assert "ValueError: a bug" in capfd.readouterr().err


def test_workers_that_die_before_they_have_work_are_not_replaced_for_ever(folder: Path) -> None:
    deaths = Deaths(had_work=False)
    supervisor = supervise(folder, "die")
    supervisor.run(deaths)
    expected = (
        "3 workers in a row ended soon after their start, with no task at hand, the last one killed by SIGKILL"
    )
    assert (supervisor.fault, len(deaths)) == (expected, 3)


def test_a_death_at_work_starts_the_count_of_idle_deaths_again(folder: Path) -> None:
    answers = [False, False, True, False, False, False]
    supervisor = supervise(folder, "die")
    supervisor.run(lambda *_: answers.pop(0))
    assert answers == []
    assert supervisor.fault is not None


def test_who_hears_of_a_death_can_stop_all(folder: Path) -> None:
    supervisor = supervise(folder, "wait", "die")

    def on_death(_worker: str, cause: str) -> bool:
        supervisor.stop(fault=f"given up: {cause}")
        return True

    supervisor.run(on_death)
    assert supervisor.fault == "given up: killed by SIGKILL"
    assert len(pids(folder)) == 2  # no replacement


def test_an_exception_stops_the_workers_in_good_order(folder: Path) -> None:
    def fail() -> None:
        raise OSError("no store")

    with pytest.raises(OSError, match="no store"):
        supervise(folder, "wait").run(Deaths(), once(folder, 1, fail))
    assert len(list(folder.glob("*.stopped"))) == 1


def test_stop_kills_a_worker_that_does_not_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 1.0)
    supervisor = supervise(folder, "hang", "wait")
    began = time.monotonic()
    supervisor.run(Deaths(), once(folder, 2, supervisor.stop))
    assert 1.0 < time.monotonic() - began < 30.0
    assert len(list(folder.glob("*.stopped"))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=hangs_up)])
def test_a_signal_stops_the_workers_in_good_order(folder: Path, number: signal.Signals) -> None:
    def send_twice() -> None:  # at once, as timeout(1) does: that is one signal
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    supervisor = supervise(folder, "wait", "wait")
    with supervisor.handle_signals():
        supervisor.run(Deaths(), once(folder, 2, send_twice))
    assert (supervisor.signal, supervisor.fault) == (number, None)
    assert len(list(folder.glob("*.stopped"))) == 2
    assert signal.getsignal(number) == before


def test_nohup_is_respected(folder: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with supervise(folder).handle_signals():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("new_fork_server")
def test_the_death_of_the_fork_server_is_named(folder: Path) -> None:
    supervisor = supervise(folder, "wait", "wait")

    def kill_the_server() -> None:
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]

    deaths = Deaths()
    supervisor.run(deaths, once(folder, 2, kill_the_server))
    assert supervisor.fault == "the process that starts the workers (Python's fork server) was killed"
    assert deaths == []
    for pid in pids(folder):
        os.kill(pid, signal.SIGTERM)  # they end when this process does; no test may leave one behind
    wait_for(lambda: not any(is_running(pid) for pid in pids(folder)))


def test_a_second_ctrl_c_kills_the_workers(folder: Path) -> None:
    supervisor = supervise(folder, "hang", "hang")

    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.6)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), supervisor.handle_signals():
        supervisor.run(Deaths(), once(folder, 2, press, press))
    assert supervisor.signal == signal.SIGINT
    assert time.monotonic() - began < module.STOP_SECONDS / 2


def test_a_signal_before_the_workers_start_starts_none(folder: Path) -> None:
    supervisor = supervise(folder, "wait")
    with supervisor.handle_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        supervisor.run(Deaths())
    assert supervisor.signal == signal.SIGTERM
    assert pids(folder) == []


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.workers.test_supervisor import Deaths, supervise

if __name__ == "__main__":
    supervise(Path(sys.argv[2]), "wait", "hang").run(Deaths())
"""


def test_the_death_of_the_parent_ends_the_workers(folder: Path, tmp_path: Path) -> None:
    """A worker that can stops in good order; a worker that hangs ends after ORPHAN_SECONDS."""
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", str(Path(__file__).parents[2]), str(folder)]
    )
    wait_for(lambda: len([pid for pid in folder.iterdir() if pid.read_text()]) == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: len(list(folder.glob("*.stopped"))) == 1)
    wait_for(lambda: not any(is_running(pid) for pid in pids(folder)))
