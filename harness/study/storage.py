"""Optuna's storage: created atomically, opened by many processes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb import storage as rdb

from harness.core.errors import NoStudiesYet, StudyError
from harness.core.files import make_database, read_only_url, sqlite_path
from harness.core.watched import WatchedFile
from harness.study.database import are_plain, check_is_optunas, has_failed, is_of_this_schema, not_opened
from harness.study.leases import advisory_lock, make_lease_table

# Exceptions of drivers and of Optuna's version check, besides those of SQLAlchemy and Optuna.
_OPENING = (OSError, ImportError, RuntimeError, ValueError)
# Exceptions of a storage that can no longer be reached or written.
STORAGE_ERRORS = (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError)
CONNECT_SECONDS = 10  # timeout for connecting to a database server


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
        check_is_optunas(path)
    try:
        if path is not None and read_only:
            with _known_version(path):
                return RDBStorage(read_only_url(path), skip_table_creation=True)
        return _open_server(url, create, read_only) if path is None else _open_file(url, path)
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, *_OPENING) as error:
        raise not_opened(url, error) from error


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Raise StudyError if the storage fails inside the block, for example because it is full or unreachable."""
    try:
        yield
    except STORAGE_ERRORS as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        raise has_failed(url, cause or error) from error


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


def _log_warnings_only() -> None:
    """Let Optuna and its schema migrations log warnings only: the harness shows progress itself."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


_REPLACING = threading.Lock()  # what `_known_version` replaces is of the process


class _KnownVersion:
    """Stands for what Optuna looks up the version of a database with."""

    def __init__(self, *_: object) -> None:
        pass

    def check_table_schema_compatibility(self) -> None:
        """Do nothing: the version is that of this Optuna."""


@contextmanager
def _known_version(path: Path) -> Iterator[None]:
    """Let Optuna not look for the version of an SQLite file that has the schema of this Optuna.

    It looks each time that it opens one, by Alembic, whose import takes 0.3 s, and has no option against it.
    """
    with _REPLACING:
        own = getattr(rdb, "_VersionManager", None)
        if own is None or not (path.exists() and is_of_this_schema(path)):  # an Optuna that does it otherwise
            yield
            return
        rdb._VersionManager = _KnownVersion  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            rdb._VersionManager = own  # type: ignore[misc]


def _open_file(url: str, path: Path) -> RDBStorage:
    make_database(path, lambda new: RDBStorage(new).engine.dispose())
    watched = WatchedFile(path)
    with _known_version(path):
        storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}}, skip_table_creation=True)
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


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver does not begin transactions: _on_begin does
    connection.execute("PRAGMA synchronous=NORMAL")  # safe with a write-ahead log if a process is killed


def _check_in_place(database: WatchedFile) -> None:
    database.check("Optuna's", StudyError)


def _on_begin(connection: sqlalchemy.Connection, database: WatchedFile) -> None:
    _check_in_place(database)
    connection.exec_driver_sql("BEGIN" if are_plain() else "BEGIN IMMEDIATE")
