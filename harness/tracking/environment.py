"""The code version, the library versions and the machine of a run, recorded so that it can be reproduced."""

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
    """Return the git commit of this package's files, and True if they differ from it.

    None if no git repository tracks the package, as after an installation from a wheel.
    """
    folder = Path(__file__).parent
    try:
        _git(
            folder, "ls-files", "--error-unmatch", "__init__.py"
        )  # fails if a repository around the package does not track it
        commit = _git(folder, "rev-parse", "HEAD").strip()
        return commit, bool(_git(folder, "status", "--porcelain", "--", ".").strip())
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS).stdout.decode(
        errors="replace"
    )


@functools.cache
def environment() -> dict[str, str]:
    """Return the versions and the machine properties that results depend on, by name."""
    found = {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    found["processor"] = _processor()
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    """Return the model of the processor. Libraries choose their kernels by it, which changes the last digits."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
