"""Optuna's storage: opened safely by many processes, made in one step."""

from __future__ import annotations

import logging
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage

from harness.errors import StudyError
from harness.files import make_database, sqlite_path

_OPENING = (OSError, ImportError, RuntimeError)  # what drivers and Optuna's version check raise besides

optuna.logging.set_verbosity(optuna.logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def open_storage(url: str, *, create: bool = True) -> RDBStorage:
    """Open (and on first use, unless `create` forbids it, make) the storage behind an SQLAlchemy URL.

    On SQLite every transaction takes the write lock when it begins: the default, taking it at the first
    write, hands one waiting trial to two processes (measured, see docs/architecture.md).

    Raises StudyError where the database cannot be opened, or is missing and not to be made.
    """
    path = sqlite_path(url)
    if path is not None and not create and not path.exists():
        raise StudyError(f"there are no studies yet: no {path}", run="harness sweep first, or --storage URL")
    try:
        if path is None:
            return RDBStorage(url)
        make_database(path, lambda new: RDBStorage(new).engine.dispose())
        storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}}, skip_table_creation=True)
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, *_OPENING) as error:
        raise StudyError(
            f"cannot open Optuna's storage {mask_password(url)}: {error}",
            legal="an SQLAlchemy URL such as sqlite:///mlruns/optuna.db of a database that this Optuna can read",
        ) from error
    sqlalchemy.event.listen(storage.engine, "connect", _on_connect)
    sqlalchemy.event.listen(storage.engine, "begin", _on_begin)
    storage.engine.dispose()  # connections made before the listeners were there
    return storage


def mask_password(url: str) -> str:
    """Return a URL fit to be shown: its password as three stars."""
    try:
        return sqlalchemy.engine.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "(not a URL)"


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own: _on_begin does
    connection.execute("PRAGMA synchronous=NORMAL")  # with a write-ahead log, safe against a killed process


def _on_begin(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
