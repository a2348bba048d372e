"""The fork server: a process that has imported what workers need, so that a worker starts in milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker

# Activations of a batch are tens of megabytes: glibc would return each to the kernel and fault it in again.
KEEP_LARGE_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD = dict.fromkeys(THREAD_VARIABLES, "1")
# Without it Python looks for modules in the current folder first: any optuna.py there would run in the workers.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}


@dataclass(frozen=True, slots=True)
class ForkServer:
    """What the fork server imports and which environment variables it has; its workers inherit both.

    A variable of `defaults` yields to one that the user has set, a variable of `environment` does not.
    """

    preload: tuple[str, ...]
    environment: Mapping[str, str]
    defaults: Mapping[str, str]

    def start(self) -> None:
        """Start the fork server unless one runs; it does its imports while this process goes on.

        A process has one fork server: one that runs already stays as it is. SIGINT and SIGTERM are blocked in
        the server and in its workers: Ctrl-C is for the parent alone to answer, and a worker unblocks SIGTERM
        as soon as it can answer it (see `worker_main`).
        """
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(self.preload))
        resource_tracker.ensure_running()  # it unblocks the signals that are about to be blocked
        unset = {name: value for name, value in self.defaults.items() if name not in os.environ}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            with _variables({**unset, **self.environment, **SAFE_PATH}):
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and set them back afterwards."""
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


# For workers that train: torch._dynamo is what the first optimiser of a process imports, which takes two seconds.
TRAINING_SERVER = ForkServer(("harness.sweep.worker", "torch._dynamo"), environment={}, defaults=KEEP_LARGE_BLOCKS)
