"""The locations of the stores and of the work folder, and the legal names of studies and experiments."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import SettingsError, mask_password
from harness.core.files import FileLock, sqlite_path
from harness.core.names import is_name, new_name

RUNS_FOLDER = Path("mlruns")
DEFAULT_STORAGE = "optuna.db"
RESUME_FILE = "resume.json"
FOLDS_FILE = "folds.json"  # the curves of the folds that a trial has ended
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_NAME = 100  # characters of a name that a user chooses
MAX_SUFFIX = 40  # characters that the name of a part of a study has behind the study's: .nested-DIGEST-NN.confirm
# What SQLAlchemy, Optuna or MLflow would not take for a part of a file's name in a URL or a statement.
NOT_IN_PATHS = '?%{}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """MLflow's URI, Optuna's URL, and the folder for journals, locks and checkpoints (absolute paths)."""

    tracking_uri: str
    storage: str
    work_root: Path

    def work_folder(self, study: str) -> Path:
        """Return the work folder of a study on this machine.

        For a study on a database server it has the host's name, because machines may share `work_root`.
        """
        folder = self.work_root / study
        return folder if sqlite_path(self.storage) is not None else folder / socket.gethostname()


def resolve_stores(tracking_uri: str | None, storage: str | None) -> Stores:
    """Return the stores of an MLflow URI and an Optuna URL, None for the defaults under `mlruns/`.

    The work folder is beside an SQLite storage, so that the same command from another folder finds it. For a
    database server it is under `mlruns/`. That of `optuna.db` is `work`, that of any other file FILE.work, that of
    a server HOST_PORT_DATABASE.work: two storages may have a study of the same name.

    Raises SettingsError if an argument is not the URL of a store, if both are the same database, and if the path
    of an SQLite file has a character that a URL cannot have.
    """
    tracking = _absolute(tracking_uri) if tracking_uri else _sqlite_url(RUNS_FOLDER / "mlflow.db")
    search = _with_driver(_absolute(storage) if storage else _sqlite_url(RUNS_FOLDER / DEFAULT_STORAGE))
    if search.partition("://")[0].partition("+")[0] not in ("sqlite", "postgresql"):
        raise SettingsError(
            f"{mask_password(search)!r} is not the URL of a storage that Optuna's studies can lie in",
            expected="sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
        )
    beside = sqlite_path(search)
    if search == _with_driver(tracking):
        raise SettingsError(
            "MLflow and Optuna have the same database, and both need a table of the same name",
            expected="two databases",
            hint="the same command with another --tracking-uri or --storage",
        )
    if beside is None:
        work_root = RUNS_FOLDER.absolute() / f"{_database_of(search)}.work"
    else:
        work_root = beside.with_name("work" if beside.name == DEFAULT_STORAGE else f"{beside.name}.work")
    return Stores(tracking_uri=tracking, storage=search, work_root=work_root)


def lasting_name(path: Path) -> str:
    """Return the unique name in a file, which is made on first use, and made anew if the file has no such name."""
    with FileLock(path) as lock:
        if not recorded_name(path):
            lock.annotate(new_name())
        return recorded_name(path)


def recorded_name(path: Path) -> str:
    """Return the unique name in a file, empty if there is none."""
    note = FileLock(path).note()
    return note if is_name(note) else ""


def _database_of(url: str) -> str:
    """Return the host and the database of a server's URL, as a name for a folder: HOST_PORT_DATABASE."""
    place = re.split("[?#]", url.partition("://")[2].rpartition("@")[2])[0]  # no part of a password
    return re.sub(r"[^A-Za-z0-9.-]+", "_", place).strip("._") or "server"


def _absolute(url: str) -> str:
    path = sqlite_path(url)
    if url.startswith(("sqlite:", "sqlite+")) and (path is None or path.name == ":memory:"):
        raise SettingsError(
            f"{url!r} is a database in memory, which is gone when the command ends",
            expected="sqlite:///FILE",
        )
    if path is not None:
        return _sqlite_url(path)
    if "://" not in url:
        raise SettingsError(
            f"{mask_password(url)!r} is not a URL of a store",
            expected="sqlite:///FILE, http://HOST:PORT (MLflow), postgresql+psycopg://... (Optuna)",
        )
    return url


def _sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, with its absolute path; it is refused before anything is written."""
    path = path.absolute()
    if not _is_utf8(str(path)):
        raise SettingsError(
            f"a store cannot lie at {path}: the path is not UTF-8",
            expected="a path in UTF-8",
            hint="the same command in another folder, or with --storage and --tracking-uri",
        )
    odd = [character for character in NOT_IN_PATHS if character in str(path)]
    if odd:
        raise SettingsError(
            f"a store cannot lie at {path}: its path has {' and '.join(odd)}",
            expected=f"a path without {' '.join(NOT_IN_PATHS)}",
            hint="the same command in another folder, or with --storage and --tracking-uri",
        )
    return f"sqlite:///{path}"


def _is_utf8(text: str) -> bool:
    """Return whether a path is UTF-8; Python has half of a surrogate pair for each byte that is not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_driver(url: str) -> str:
    """Add the driver that the harness installs to a PostgreSQL URL without a driver."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg{separator}{rest}" if scheme in ("postgresql", "postgres") else url


def check_name(kind: str, name: str) -> str:
    """Return the name of a study or an experiment, if it can be used in files, URLs and queries.

    It may be the name of a part of a study, which is longer than that of the study. Raises SettingsError if not.
    """
    return _check_length(kind, name, MAX_NAME + MAX_SUFFIX)


def check_new_name(kind: str, name: str) -> str:
    """Return the name that a new study or experiment is given; it is so short that its parts have names as well.

    Raises SettingsError if it cannot be used.
    """
    return _check_length(kind, name, MAX_NAME)


def _check_length(kind: str, name: str, longest: int) -> str:
    if not NAME.fullmatch(name) or len(name) > longest:
        raise SettingsError(
            f"{kind} {name!r} is not a usable name",
            expected=f"up to {longest} letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return name


def clear_resume(folder: Path, *, folds: bool = True) -> None:
    """Remove the resume point of a folder, if there is one; `resume.json` first.

    `folds`: also the curves of the folds that have ended.
    """
    if not folder.is_dir():
        return
    if folds:
        (folder / FOLDS_FILE).unlink(missing_ok=True)
    (folder / RESUME_FILE).unlink(missing_ok=True)
    for path in folder.glob("resume-*.safetensors"):
        path.unlink()
