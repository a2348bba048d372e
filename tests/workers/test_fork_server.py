"""The fork server: its module path, and what its workers inherit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing, signal, sys
from harness.workers.fork_server import ForkServer

def show():
    import os
    print("PRELOADED", "decoy" in sys.modules, os.environ.get("GIVEN"), os.environ.get("UNSET"), os.environ["SET"])
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    print("BLOCKED", {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} <= blocked)

if __name__ == "__main__":
    ForkServer(("decoy",), environment={"GIVEN": "1"}, defaults={"SET": "default", "UNSET": "default"}).start()
    process = multiprocessing.get_context("forkserver").Process(target=show)
    process.start()
    process.join()
    print("PARENT BLOCKED", bool(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    import os
    print("PARENT", os.environ.get("GIVEN"), os.environ.get("UNSET"), os.environ.get("PYTHONSAFEPATH"))
"""


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path) -> None:
    """A file of the user, such as an optuna.py beside the data, must not run instead of the library."""
    folder, program = tmp_path / "current", tmp_path / "program"
    folder.mkdir()
    program.mkdir()
    for name in ("decoy", "multiprocessing", "signal"):  # the others are what Python's own helper processes import
        (folder / f"{name}.py").write_text("open('ran', 'w')\nraise SystemExit('the decoy ran')")
    (program / "main.py").write_text(SCRIPT)
    process = subprocess.run(
        [sys.executable, str(program / "main.py")],
        cwd=folder,
        env={**os.environ, "SET": "by the user"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "the decoy ran" not in process.stderr
    assert not (folder / "ran").exists()
    lines = process.stdout.splitlines()
    assert lines == [
        "PRELOADED False 1 default by the user",
        "BLOCKED True",
        "PARENT BLOCKED False",
        "PARENT None None None",
    ]


@pytest.mark.long
def test_importing_changes_no_variable_and_no_logger() -> None:
    code = """
import logging, os
import optuna, torch  # what they do at import is theirs
levels = optuna.logging.get_verbosity(), logging.getLogger("alembic").level
variables = dict(os.environ)
import harness.study.storage, harness.study.study
import harness.workers.pool, harness.workers.signals, harness.workers.supervisor
assert dict(os.environ) == variables
assert (optuna.logging.get_verbosity(), logging.getLogger("alembic").level) == levels
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_server_runs_in_no_folder_of_the_users_and_its_workers_in_the_parents(tmp_path: Path) -> None:
    code = """
import multiprocessing, os
from multiprocessing import forkserver
from harness.workers.fork_server import ForkServer

def show():
    print("WORKER", os.getcwd())

if __name__ == "__main__":
    ForkServer((), environment={}, defaults={}).start()
    print("PARENT", os.getcwd())
    print("SERVER", os.readlink(f"/proc/{forkserver._forkserver._forkserver_pid}/cwd"), flush=True)
    process = multiprocessing.get_context("forkserver").Process(target=show)
    process.start()
    process.join()
"""
    (tmp_path / "main.py").write_text(code)
    process = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [f"PARENT {tmp_path}", "SERVER /", f"WORKER {tmp_path}"]


def start_under(
    folder: Path, temporary: Path, short: str = "fork_server.SHORT_FOLDERS"
) -> subprocess.CompletedProcess[str]:
    """Run one worker with a folder for temporary files; `short` are the folders that may stand in for it."""
    code = f"""
import multiprocessing, sys, tempfile
from harness.core.errors import HarnessError
from harness.workers import fork_server

def show():
    print("WORKER", tempfile.gettempdir(), flush=True)

if __name__ == "__main__":
    fork_server.SHORT_FOLDERS = {short}
    try:
        fork_server.ForkServer((), environment={{}}, defaults={{}}).start()
    except HarnessError as error:
        sys.exit(str(error))
    process = multiprocessing.get_context("forkserver").Process(target=show)
    process.start()
    process.join()
    print("PARENT", tempfile.gettempdir())
"""
    temporary.mkdir(parents=True)
    (folder / "main.py").write_text(code)
    return subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def long_folder(tmp_path: Path) -> Path:
    """A folder whose path has at least 99 bytes: too many for the path of a socket in it."""
    return tmp_path / ("t" * max(1, 98 - len(str(tmp_path))))


def test_a_long_folder_for_temporary_files(tmp_path: Path) -> None:
    temporary = long_folder(tmp_path)
    done = start_under(tmp_path, temporary)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"WORKER {temporary}", f"PARENT {temporary}"]  # for all but the socket
    assert not list(temporary.iterdir())


def test_no_folder_is_short_enough(tmp_path: Path) -> None:
    done = start_under(tmp_path, long_folder(tmp_path), short="('/nowhere/at/all',)")
    assert done.returncode == 1
    assert "is too long for a socket" in done.stderr
    assert "try: the same command with a shorter TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr
