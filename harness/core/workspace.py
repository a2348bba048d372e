"""Where the stores and the work in progress lie, and which names are fit for them."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import SettingsError, mask_password
from harness.core.files import FileLock, sqlite_path
from harness.core.records import new_name

RUNS_FOLDER = Path("mlruns")


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where all is kept: MLflow's URI, Optuna's URL, and the folder for work in progress (absolute paths)."""

    tracking_uri: str
    storage: str
    work_root: Path

    def work_folder(self, study: str) -> Path:
        """Return where a study's work in progress lies on this machine.

        A study on a database server is worked on from many machines, which may share `work_root`.
        """
        folder = self.work_root / study
        return folder if sqlite_path(self.storage) is not None else folder / socket.gethostname()


def resolve_stores(tracking_uri: str | None, storage: str | None) -> Stores:
    """Return the stores that these two name, None for the default.

    By default all of it lies under `mlruns/`. Work in progress (journals, locks) lies beside an SQLite
    storage, so that the same command run from elsewhere finds it; for a database server it lies under `mlruns/`.

    Raises SettingsError for what is no URL of a store, and where both name the same database.
    """
    tracking = _absolute(tracking_uri) if tracking_uri else f"sqlite:///{RUNS_FOLDER.absolute() / 'mlflow.db'}"
    search = _absolute(storage) if storage else f"sqlite:///{RUNS_FOLDER.absolute() / 'optuna.db'}"
    search = _with_driver(search)
    beside = sqlite_path(search)
    if storage is not None and search == _with_driver(tracking):
        raise SettingsError(
            "MLflow and Optuna were given the same database, and both need a table of the same name",
            expected="two databases",
            hint="the same command with another --storage",
        )
    work_root = (RUNS_FOLDER.absolute() if beside is None else beside.parent) / "work"
    return Stores(tracking_uri=tracking, storage=search, work_root=work_root)


def lasting_name(path: Path) -> str:
    """Return the unique name that a file holds, given on first use."""
    with FileLock(path) as lock:
        if not lock.note():
            lock.annotate(new_name())
        return lock.note()


def _absolute(url: str) -> str:
    path = sqlite_path(url)
    if path is not None:
        return f"sqlite:///{path.absolute()}"
    if "://" not in url:
        raise SettingsError(
            f"{mask_password(url)!r} is not a URL of a store",
            expected="sqlite:///FILE, http://HOST:PORT (MLflow), postgresql+psycopg://... (Optuna)",
        )
    return url


def _with_driver(url: str) -> str:
    """Name the one driver for PostgreSQL that the harness brings, where the URL names none."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgresql", "postgres") else url


def check_name(kind: str, name: str) -> str:
    """Return a name of a study or an experiment that is fit for files, URLs and queries.

    Raises SettingsError for any other.
    """
    if not NAME.fullmatch(name) or len(name) > 100:
        raise SettingsError(
            f"{kind} {name!r} is not a usable name",
            expected="up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return name


RESUME_FILE = "resume.json"
