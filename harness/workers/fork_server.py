"""The fork server: a process that has imported the modules of workers, so that a worker starts in milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker

# A batch's activations take tens of megabytes. By default glibc returns such blocks to the kernel at each free.
KEEP_LARGE_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD = dict.fromkeys(THREAD_VARIABLES, "1")
# By default Python looks for modules in the current folder first, so workers would run an optuna.py there.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


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

        A process has only one fork server; a running one stays as it is. SIGINT and SIGTERM are blocked in the
        server and its workers: only the parent handles Ctrl-C, and a worker unblocks SIGTERM when it can handle it
        (see `worker_main`).
        """
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(self.preload))
        resource_tracker.ensure_running()  # its start unblocks the signals that are blocked below
        unset = {name: value for name, value in self.defaults.items() if name not in os.environ}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            with _variables({**unset, **self.environment, **_module_path(), **SAFE_PATH}), _in_root_folder():
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _module_path() -> dict[str, str]:
    """Return PYTHONPATH with absolute folders, if it is set: the server runs in another folder."""
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


# For training. The first optimiser of a process imports torch._dynamo, which takes two seconds.
TRAINING_SERVER = ForkServer(("harness.sweep.worker", "torch._dynamo"), environment={}, defaults=KEEP_LARGE_BLOCKS)
