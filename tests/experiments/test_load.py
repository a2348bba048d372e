"""The load script runs, at a size at which its figures mean nothing, and finds every trial run once."""

import json
import subprocess
import sys

import pytest

from tests.support import EXPERIMENTS

pytestmark = pytest.mark.process

SCRIPT = EXPERIMENTS / "load.py"


def test_a_small_load() -> None:
    arguments = ["--workers", "4", "--trials", "24", "--seconds", "0.01"]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    load = json.loads(done.stdout)
    assert (load["trials"], load["run_twice"], load["exact"]) == (24, 0, True)
