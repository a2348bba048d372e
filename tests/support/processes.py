"""The processes of a command under test: who they are, killing them, waiting for something."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def family(parent: int) -> list[int]:
    """The processes that are a sweep's: whatever has its pid among its ancestors."""
    found, parents = [], {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(status.parent.name)] = int(fields[1])
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != parent:
            ancestor = parents[ancestor]
        if ancestor == parent and pid != parent:
            found.append(pid)
    return found


def kill_all(process: subprocess.Popen[Any]) -> None:
    """Kill a command and every process of it at once, as a power cut does."""
    for pid in [process.pid, *family(process.pid)]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def workers(work_folder: Path, parent: int) -> list[int]:
    """The processes that hold a trial's lock, found by their open files."""
    found = []
    for pid in family(parent):
        try:
            names = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if any(name.startswith(str(work_folder / "trial-")) and name.endswith(".lock") for name in names):
            found.append(pid)
    return found


def wait_for(what: Callable[[], bool]) -> None:
    """Wait until something is so; fail where it never is."""
    until = time.monotonic() + 120
    while not what():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.02)
