"""Being a worker process: signals, the parent's death, and what the exit code says of an exception."""

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

import torch

from harness.core.errors import HarnessError
from harness.core.files import REFUSED_WRITES

ORPHAN_SECONDS = 10.0  # what a worker has to put its trial away once the process that started it is gone
OUT_OF_MEMORY = 75  # exit code (EX_TEMPFAIL) of a worker that ran out of memory: as if the system had killed it


def worker_main(work: Callable[[threading.Event], None]) -> None:
    """Do `work` as a worker process; the event it gets is set when it is asked to stop.

    Signals from the terminal are left to the parent; SIGTERM asks to stop, as does the parent's death.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_stop_with_parent, args=(asked,), daemon=True).start()
    try:
        work(asked)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last frame of the process: shown, and told by the exit code
        if is_out_of_memory(error):
            print(f"worker out of memory: {str(error).partition('.')[0]}", file=sys.stderr)
            sys.exit(OUT_OF_MEMORY)
        if is_machine_fault(error):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        traceback.print_exc()
        sys.exit(70)


def _stop_with_parent(asked: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    asked.set()
    time.sleep(ORPHAN_SECONDS)
    os._exit(1)  # whatever it is stuck in, nobody waits for it any more


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an exception means that there is no memory left, on the machine or on the GPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # PyTorch's word on a CPU


def is_machine_fault(error: Exception, also: tuple[type[Exception], ...] = ()) -> bool:
    """Return True if the error is environmental (disk, memory, a store) and not a bug; `also` adds kinds."""
    if isinstance(error, OSError):
        return error.errno in REFUSED_WRITES
    return isinstance(error, (HarnessError, *also)) or is_out_of_memory(error)
