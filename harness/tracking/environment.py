"""What code ran, with what, on what: what a run's record needs so that the run can be repeated."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors", "optuna", "mlflow")
GIT_SECONDS = 10


@functools.cache
def code_version() -> tuple[str, bool] | None:
    """Return the commit that the package's own files are at, and whether they differ from it.

    None where the package does not lie in a git repository that tracks it (it was installed, say).
    """
    folder = Path(__file__).parent
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")  # not some other repository around it
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return commit, bool(_git(folder, "status", "--porcelain", "--", ".").strip())
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout


@functools.cache
def environment() -> dict[str, str]:
    """Return the versions and the machine that numbers depend on, by name."""
    found = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    found["processor"] = _processor()
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    """Return the model of the processor: libraries choose their kernels, and so the last digits, by it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
