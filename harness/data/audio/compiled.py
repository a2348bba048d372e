"""The functions of librosa that Numba compiles: made once, by one process, in a folder that is complete or absent.

Numba keeps compiled functions in files. Two processes that compile at once, or one that is killed meanwhile, leave
files that do not match, and then every later process ends in SIGSEGV (https://github.com/numba/numba/issues/10128).
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from harness.core.errors import DataError
from harness.core.files import FileLock, new_folder
from harness.data.cache import cache_folder

LIBRARIES = ("librosa", "soundfile")
NUMBA_VARIABLE = "NUMBA_CACHE_DIR"
COMPILE = """
import sys
from harness.data.audio.compiled import make_folder
from harness.data.audio.recipe import compile_all
make_folder(sys.argv[1], compile_all)
"""
SHOWN_LINES = 3


def prepare_audio() -> None:
    """Make sure that librosa can be imported and used; to be called before it is imported, here or in a worker.

    The first call on a machine compiles what the recipes use, which takes 20 to 40 s. The files are below
    $NUMBA_CACHE_DIR, else in the cache folder, else (where it cannot be written) in a temporary folder of this
    process.

    Raises DataError if a library that reads sound is not installed, or if librosa cannot be used.
    """
    check_libraries()
    name, given = _name(), os.environ.get(NUMBA_VARIABLE)
    if given and Path(given).name == name and Path(given).is_dir():
        return  # prepared by this process, or by the one that started it
    folder = _base(given) / name
    if not folder.is_dir():
        _start_making(folder)
    os.environ[NUMBA_VARIABLE] = str(folder)  # read when librosa is imported


def check_libraries() -> None:
    """Raise DataError if a library that reads sound is not installed."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(
            f"reading audio needs the package {' and '.join(missing)}",
            expected="the extra [audio]",
            hint="pip install -e '.[audio]'",
        )


@functools.cache
def _name() -> str:
    """Return a name for the libraries, Python and the processor: other ones need other machine code."""
    from llvmlite import binding

    told = [f"{name} {version(name)}" for name in ("librosa", "numba", "llvmlite", "numpy")]
    spec = importlib.util.find_spec("librosa")  # Numba's files hold for these source files alone
    assert spec is not None
    assert spec.origin is not None
    told += [spec.origin, str(Path(spec.origin).stat().st_mtime_ns)]
    told += [sys.version, binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    return f"librosa-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"


def _base(given: str | None) -> Path:
    """Return a folder that can be written. Numba unpickles what it finds there, so nobody else may write to it."""
    try:
        base = Path(given).absolute() if given else cache_folder() / "numba"
        base.mkdir(parents=True, exist_ok=True)
    except (OSError, DataError):
        base = None
    if base is not None and os.access(base, os.W_OK):
        return base
    temporary = Path(tempfile.mkdtemp(prefix="harness-numba-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary


def _start_making(folder: Path) -> None:
    """Make the folder in a process of its own, which ends its work even if this one is killed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", COMPILE, str(folder)],  # -P: a file where the user works is no module
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise DataError(
            f"librosa cannot be used here: {' / '.join(done.stderr.splitlines()[-SHOWN_LINES:])}",
            expected="an installation of librosa and Numba that works",
            hint="pip install --force-reinstall -e '.[audio]'",
        )


def make_folder(path: str, compile_all: Callable[[], None]) -> None:
    """Make the folder `path` by a call of `compile_all`, if it is not there; in a process without Numba as yet."""
    folder = Path(path)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():  # another process made it while this one waited
            return
        for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        making = new_folder(folder)
        os.environ[NUMBA_VARIABLE] = str(making)
        try:
            compile_all()
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
