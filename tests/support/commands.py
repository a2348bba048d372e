"""The `harness` command in the tests: its command line, its output, processes that run other code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Harness = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: str) -> list[str]:
    """The command line of a `harness` command under this interpreter."""
    return [sys.executable, "-m", "harness.cli", *arguments]


def last_json(process: subprocess.CompletedProcess[str]) -> Any:
    """What a command with `--json` printed."""
    return json.loads(process.stdout)


def python(code: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a program in a process of its own, and return what it printed."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


# A sweep of the demo set without pruning, so that each trial trains all of its epochs.
SWEEP = ("sweep", "--data", "demo", "--pruner", "none")


def start_sweep(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start such a sweep as a process; `communicate` returns both of its streams as one."""
    return subprocess.Popen(
        command(*SWEEP, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
