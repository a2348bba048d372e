"""Optuna's storage: created atomically, opened by many processes."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import optuna
import sqlalchemy
from optuna.storages import RDBStorage

from harness.core.errors import NoStudiesYet, StudyError, mask_login, mask_password
from harness.core.files import make_database, read_only_name, read_only_url, sqlite_path
from harness.core.watched import WatchedFile
from harness.study.leases import advisory_lock, make_lease_table

# Exceptions of drivers and of Optuna's version check, besides those of SQLAlchemy and Optuna.
_OPENING = (OSError, ImportError, RuntimeError, ValueError)
# Exceptions of a storage that can no longer be reached or written.
STORAGE_ERRORS = (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError)
OPTUNAS_TABLES = ("studies", "trials", "version_info", "alembic_version")  # of every schema that can be upgraded
CONNECT_SECONDS = 10  # timeout for connecting to a database server

_ONLY_READS: ContextVar[bool] = ContextVar("only_reads", default=False)


def open_storage(url: str, *, create: bool = True, read_only: bool = False) -> RDBStorage:
    """Open the storage of an SQLAlchemy URL, and make it on first use unless `create` is False.

    With `read_only` neither an SQLite file nor the files beside it are written, and no permission to write is
    needed; on a database server no table is made.

    On SQLite every transaction takes the write lock when it begins, except in `plain_reads`. The default is to
    take it at the first write, which gives one waiting trial to two processes (measured, see
    docs/architecture.md). A transaction raises StudyError if the file was removed
    or replaced since it was opened. On PostgreSQL the table of leases is made beside Optuna's tables.

    Raises NoStudiesYet if the database is missing and `create` is False, and StudyError if it cannot be opened or
    has the schema of another Optuna version.
    """
    _log_warnings_only()
    path = sqlite_path(url)
    if path is not None and not create and not path.exists():
        raise NoStudiesYet(f"there are no studies yet: no {path}", hint="harness sweep first, or --storage URL")
    if path is not None and path.exists():
        _check_is_optunas(path)
    try:
        if path is not None and read_only:
            is_checked = path.exists() and _is_of_this_schema(path)
            return RDBStorage(read_only_url(path), skip_compatibility_check=is_checked, skip_table_creation=True)
        return _open_server(url, create, read_only) if path is None else _open_file(url, path)
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, *_OPENING) as error:
        raise _not_opened(url, error) from error


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Raise StudyError if the storage fails inside the block, for example because it is full or unreachable."""
    try:
        yield
    except STORAGE_ERRORS as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        raise StudyError(
            f"Optuna's storage {mask_password(url)} failed: {str(cause or error).strip().splitlines()[0]}",
            expected="a database that can be reached and written",
            hint="the same command again, once it can; finished epochs are kept",
        ) from error


@contextmanager
def reading_storage(url: str) -> Iterator[RDBStorage]:
    """Open a storage for reading only, and close it at the end of the block.

    Raises StudyError if the storage cannot be opened, or fails inside the block.
    """
    with reaching(url):
        storage = open_storage(url, create=False, read_only=True)
        try:
            yield storage
        finally:
            storage.engine.dispose()


class HasEngine(Protocol):
    """What the queries need: Optuna's storage, or a database that is only read."""

    @property
    def engine(self) -> sqlalchemy.Engine:
        """The engine of SQLAlchemy."""
        ...


@dataclass(frozen=True, slots=True)
class Database:
    """A database of Optuna that is read without Optuna."""

    engine: sqlalchemy.Engine


@contextmanager
def reading_database(url: str) -> Iterator[HasEngine]:
    """Open a storage for the queries alone, as `reading_storage` does.

    Optuna's own way imports its schema migrations, which takes half of the time of `harness status`. It is taken
    only for a database server, and for a file that this Optuna's last migration has not seen.
    """
    path = sqlite_path(url)
    if path is not None and path.exists():
        _check_is_optunas(path)
    if path is None or not path.exists() or not _is_of_this_schema(path):
        with reading_storage(url) as storage:
            yield storage
        return
    with reaching(url):
        engine = sqlalchemy.create_engine(read_only_url(path))
        try:
            yield Database(engine)
        finally:
            engine.dispose()


@cache
def last_migration() -> str:
    """Return the revision of the schema of the installed Optuna, from the names of its migrations."""
    folder = Path(optuna.__file__).parent / "storages" / "_rdb" / "alembic" / "versions"
    found = [re.fullmatch(r"(v(\d+)\.(\d+)\.(\d+)\.([a-z]))_?", path.stem) for path in folder.glob("v*.py")]
    numbers = [(*(int(part) for part in match.group(2, 3, 4)), match[5], match[1]) for match in found if match]
    return str(max(numbers, default=("",))[-1])


def _is_of_this_schema(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(read_only_name(path), uri=True)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return bool(found == [(last_migration(),)])


@contextmanager
def plain_reads() -> Iterator[None]:
    """Begin the SQLite transactions of the block, which only read, without the write lock.

    To read a large study takes seconds, in which no other process could write.
    """
    before = _ONLY_READS.set(True)
    try:
        yield
    finally:
        _ONLY_READS.reset(before)


def _log_warnings_only() -> None:
    """Let Optuna and its schema migrations log warnings only: the harness shows progress itself."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _check_is_optunas(path: Path) -> None:
    """Raise StudyError if an SQLite file is not a whole database of Optuna.

    Optuna would add what it misses of one, and claim the present schema for it.
    """
    try:
        with closing(sqlite3.connect(read_only_name(path), uri=True)) as connection:
            found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (sqlite3.Error, OSError) as error:
        raise _not_opened(f"sqlite:///{path}", error) from error
    missing = [name for name in OPTUNAS_TABLES if name not in found]
    if missing:
        raise StudyError(
            f"{path} is not a database of Optuna, or is damaged: it has no table {', '.join(missing)}",
            expected="a file that harness sweep or Optuna has made",
            hint="the database from a copy in its place, or --storage URL of another one",
        )


def _open_file(url: str, path: Path) -> RDBStorage:
    make_database(path, lambda new: RDBStorage(new).engine.dispose())
    watched = WatchedFile(path)
    storage = RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}},
        skip_compatibility_check=_is_of_this_schema(path),  # Optuna's own check reads its migrations: 0.1 s
        skip_table_creation=True,
    )
    # To connect would make an empty file in place of one that was removed.
    sqlalchemy.event.listen(storage.engine, "do_connect", lambda *_: _check_in_place(watched))
    sqlalchemy.event.listen(storage.engine, "connect", _on_connect)
    sqlalchemy.event.listen(storage.engine, "begin", lambda connection: _on_begin(connection, watched))
    storage.engine.dispose()  # connections made before the listeners were added
    return storage


def _open_server(url: str, create: bool, read_only: bool) -> RDBStorage:
    first = sqlalchemy.create_engine(url, connect_args={"connect_timeout": CONNECT_SECONDS})
    if not create and not sqlalchemy.inspect(first).has_table("harness_leases"):
        first.dispose()
        raise NoStudiesYet(f"there are no studies yet in {url}", hint="harness sweep first, or --storage URL")
    options = {"connect_args": {"connect_timeout": CONNECT_SECONDS}, "pool_pre_ping": True}
    if read_only:
        first.dispose()
        return RDBStorage(url, engine_kwargs=options, skip_table_creation=True)
    with advisory_lock(first, "storage"):  # processes that start together would make the same tables
        storage = RDBStorage(url, engine_kwargs=options)
        make_lease_table(storage.engine)
    first.dispose()
    return storage


def _not_opened(url: str, error: Exception) -> StudyError:
    shown = mask_password(url)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, RuntimeError) and "upgrade" in str(error):
        return StudyError(
            f"Optuna's storage {shown} has the schema of an older Optuna",
            expected=f"the schema of Optuna {optuna.__version__}",
            hint=f"a copy of the database first, then: optuna storage upgrade --storage '{shown}'",
        )
    if isinstance(error, ImportError):
        return StudyError(
            f"cannot open Optuna's storage {shown}: {reason}",
            expected="an installed driver",
            hint="pip install -e '.[postgres]'",
        )
    return StudyError(
        f"cannot open Optuna's storage {shown}: {mask_login(reason, url)}",
        expected="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, readable to this Optuna",
    )


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver does not begin transactions: _on_begin does
    connection.execute("PRAGMA synchronous=NORMAL")  # safe with a write-ahead log if a process is killed


def _check_in_place(database: WatchedFile) -> None:
    if not database.is_in_place():
        raise StudyError(
            f"Optuna's database {database.path} was removed or replaced while it was in use",
            expected="a database that stays where it is as long as a command uses it",
            hint="the database back in its place from a copy, if there is one; then the same command again",
        )


def _on_begin(connection: sqlalchemy.Connection, database: WatchedFile) -> None:
    _check_in_place(database)
    connection.exec_driver_sql("BEGIN" if _ONLY_READS.get() else "BEGIN IMMEDIATE")
