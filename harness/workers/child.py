"""The main function of a worker process: signals, death of the parent, exit code."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait

from harness.core.errors import HarnessError
from harness.core.files import REFUSED_WRITES
from harness.core.streams import say
from harness.workers.signals import STOP_SIGNALS, is_ignored

ORPHAN_SECONDS = 10.0  # grace period for a worker to stop after its parent process died
OUT_OF_MEMORY = 75  # exit code (EX_TEMPFAIL) of a worker that ran out of memory; it counts as killed
INTERRUPTED = 76  # exit code of a worker that SIGTERM or SIGHUP stopped; the supervisor may not have sent it
BUG = 70  # exit code (EX_SOFTWARE) of a worker that met an unexpected exception
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # PyTorch on a CPU, CUDA, cuBLAS and cuDNN


def worker_main(work: Callable[[threading.Event], None]) -> None:
    """Call `work` in a worker process with an event that is set when the worker should stop.

    SIGTERM, SIGHUP and the death of the parent set the event. SIGINT is ignored, because the parent handles
    Ctrl-C. An exception is printed to stderr and sets the exit code. After SIGTERM or SIGHUP the exit code is
    INTERRUPTED, even if `work` had nothing left to do.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stopping, terminated = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        terminated.set()
        stopping.set()

    signal.signal(signal.SIGTERM, on_signal)
    if not is_ignored(signal.SIGHUP):  # as nohup(1) does
        signal.signal(signal.SIGHUP, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # blocked since the start of the fork server
    threading.Thread(target=_stop_with_parent, args=(stopping,), daemon=True).start()
    try:
        work(stopping)
    except HarnessError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last frame of the process: printed, and reported by the exit code
        if is_out_of_memory(error):
            say(f"worker out of memory: {str(error).partition('.')[0]}")
            sys.exit(OUT_OF_MEMORY)
        if is_machine_fault(error):
            say(f"error: {error}")
            sys.exit(1)
        say(traceback.format_exc().rstrip())
        sys.exit(BUG)
    if terminated.is_set():
        sys.exit(INTERRUPTED)


def _stop_with_parent(stopping: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    stopping.set()
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)  # the worker may be stuck, and no other process would stop it


def is_out_of_memory(error: Exception) -> bool:
    """Return True if an exception means that the machine or the GPU is out of memory."""
    if not isinstance(error, RuntimeError):  # PyTorch's own errors are of this class
        return isinstance(error, MemoryError)
    if any(words in str(error) for words in NO_MEMORY):
        return True
    hidden = error.__context__  # where the capture of a CUDA graph fails, its end raises an error of its own
    return isinstance(hidden, RuntimeError) and is_out_of_memory(hidden)


def is_machine_fault(error: Exception, also: tuple[type[Exception], ...] = ()) -> bool:
    """Return True if the environment caused an error (disk, memory, a store), not a bug; `also` adds classes."""
    if isinstance(error, OSError):
        return error.errno in REFUSED_WRITES
    return isinstance(error, (HarnessError, *also)) or is_out_of_memory(error)
