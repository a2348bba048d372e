"""The fork server: a process that has imported the modules of workers, so that a worker starts in milliseconds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker, util

from harness.core.errors import SettingsError
from harness.workers.signals import STOP_SIGNALS

# A batch's activations take tens of megabytes. By default glibc returns such blocks to the kernel at each free.
KEEP_LARGE_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
# Where a training runs in a thread that is not the first: glibc gives such a thread memory of its own, in pieces
# that are too small for these blocks and go back to the kernel. This keeps all threads in the first one's memory.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD = dict.fromkeys(THREAD_VARIABLES, "1")
# By default Python looks for modules in the current folder first, so workers would run an optuna.py there.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
FIRST = "harness.workers.preloaded"
SOCKET_PATH_BYTES = 103  # the longest path of a socket: 103 bytes on macOS, 107 on Linux
SOCKET_NAME = "/pymp-xxxxxxxx/listener-xxxxxxxx"  # how multiprocessing names its folder and the server's socket
SHORT_FOLDERS = ("/tmp", "/var/tmp")  # where the path of a socket is short


@dataclass(frozen=True, slots=True)
class ForkServer:
    """The modules that the fork server imports and its environment variables; workers inherit both.

    A variable that the user has set overrides `defaults` but not `environment`.
    """

    preload: tuple[str, ...]
    environment: Mapping[str, str]
    defaults: Mapping[str, str]

    def start(self) -> None:
        """Start the fork server unless one runs. It imports its modules while this process continues.

        A process has only one fork server; a running one stays as it is. SIGINT, SIGTERM and SIGHUP are blocked in
        the server and its workers: only the parent handles Ctrl-C, and a worker unblocks the others when it can
        handle them (see `worker_main`).

        Raises SettingsError if there is no folder for the server's socket.
        """
        multiprocessing.get_context("forkserver").set_forkserver_preload([FIRST, *self.preload])
        atexit.unregister(_kill_server)
        atexit.register(_kill_server)
        unset = {name: value for name, value in self.defaults.items() if name not in os.environ}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            with (
                _variables({**unset, **self.environment, **absolute_module_path(), **SAFE_PATH}),
                _in_root_folder(),
            ):
                resource_tracker.ensure_running()  # itself a Python process; its start unblocks signals
                signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
                _make_socket_folder()
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_server() -> None:
    """Kill the fork server, which has no workers any more when this process ends.

    While it still imports its modules it would not notice that end for seconds, and whoever reads the command's
    output from a pipe would wait for it.
    """
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _make_socket_folder() -> None:
    """Make the folder of multiprocessing's sockets elsewhere than in TMPDIR, if their path would be too long."""
    usual = tempfile.gettempdir()
    room = SOCKET_PATH_BYTES - len(SOCKET_NAME)
    if len(os.fsencode(usual)) <= room:
        return  # multiprocessing makes it when the server starts
    for folder in SHORT_FOLDERS:
        try:
            tempfile.tempdir = folder
            util.get_temp_dir()  # multiprocessing remembers it, and removes it at the end
        except OSError:
            continue
        else:
            return
        finally:
            tempfile.tempdir = usual
    raise SettingsError(
        f"the path of the folder for temporary files is too long for a socket: {usual}",
        expected=f"at most {room} bytes, or a folder {' or '.join(SHORT_FOLDERS)} that can be written",
        hint="the same command with a shorter TMPDIR in the environment",
    )


def absolute_module_path() -> dict[str, str]:
    """Return PYTHONPATH with absolute folders, if it is set: servers run in another folder."""
    folders = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, folders.split(os.pathsep)))} if folders else {}


@contextmanager
def _in_root_folder() -> Iterator[None]:
    """Have `/` as the current folder: the server's imports fail if its folder is removed meanwhile.

    Each worker changes to the folder that its parent has when the worker starts.
    """
    here = os.open(".", os.O_RDONLY)
    os.chdir("/")
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables inside the block and restore them afterwards."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# For training: what a worker takes trials with, and what it trains them with (PyTorch).
TRAINING_SERVER = ForkServer(
    ("harness.sweep.worker", "harness.training.folds", "harness.models.both"),
    environment={},
    defaults=KEEP_LARGE_BLOCKS,
)
