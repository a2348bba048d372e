"""A database of Optuna, checked and read without Optuna: to import that takes longer than to list the studies."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.core.errors import StudyError, mask_login, mask_password
from harness.core.files import read_only_name, tables_of

if TYPE_CHECKING:
    import sqlalchemy

OPTUNAS_TABLES = ("studies", "trials", "version_info", "alembic_version")  # of every schema that can be upgraded

_ONLY_READS: ContextVar[bool] = ContextVar("only_reads", default=False)


class HasEngine(Protocol):
    """Optuna's storage, as far as the queries need it."""

    @property
    def engine(self) -> sqlalchemy.Engine:
        """The engine of SQLAlchemy."""
        ...


@dataclass(frozen=True, slots=True)
class Database:
    """An SQLite file that is only read."""

    connection: sqlite3.Connection

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self.connection.execute(statement).fetchall()


def rows_of(storage: Database | HasEngine, statement: str) -> list[Any]:
    """Return the rows of a statement that only reads, in SQL that SQLite and PostgreSQL share."""
    if isinstance(storage, Database):
        return storage.rows(statement)
    with plain_reads(), storage.engine.connect() as connection:
        return list(connection.exec_driver_sql(statement).all())


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


def are_plain() -> bool:
    """Whether transactions begin without the write lock here."""
    return _ONLY_READS.get()


@cache
def last_migration() -> str:
    """Return the revision of the schema of the installed Optuna, from the names of its migrations."""
    found = importlib.util.find_spec("optuna")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "storages" / "_rdb" / "alembic" / "versions"
    named = [re.fullmatch(r"(v(\d+)\.(\d+)\.(\d+)\.([a-z]))_?", path.stem) for path in folder.glob("v*.py")]
    numbers = [(*(int(part) for part in match.group(2, 3, 4)), match[5], match[1]) for match in named if match]
    return str(max(numbers, default=("",))[-1])


def is_of_this_schema(path: Path) -> bool:
    """Whether the last migration of an SQLite file is the installed Optuna's."""
    try:
        with closing(sqlite3.connect(read_only_name(path), uri=True)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except (sqlite3.Error, OSError):
        return False
    return bool(found == [(last_migration(),)])


def check_is_optunas(path: Path) -> None:
    """Raise StudyError if an SQLite file is not a whole database of Optuna.

    Optuna would add what it misses of one, and claim the present schema for it.
    """
    try:
        with closing(sqlite3.connect(read_only_name(path), uri=True)) as connection:
            found = tables_of(connection)
    except (sqlite3.Error, OSError) as error:
        raise not_opened(f"sqlite:///{path}", error) from error
    missing = [name for name in OPTUNAS_TABLES if name not in found]
    if missing:
        raise StudyError(
            f"{path} is not a database of Optuna, or is damaged: it has no table {', '.join(missing)}",
            expected="a file that harness sweep or Optuna has made",
            hint="the database from a copy in its place, or --storage URL of another one",
        )


def has_failed(url: str, cause: BaseException) -> StudyError:
    """Return the error for a storage that failed while it was used."""
    return StudyError(
        f"Optuna's storage {mask_password(url)} failed: {str(cause).strip().splitlines()[0]}",
        expected="a database that can be reached and written",
        hint="the same command again, once it can; finished epochs are kept",
    )


def not_opened(url: str, error: Exception) -> StudyError:
    """Return the error for a storage that could not be opened."""
    shown = mask_password(url)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, RuntimeError) and "upgrade" in str(error):
        return StudyError(
            f"Optuna's storage {shown} has the schema of an older Optuna",
            expected=f"the schema of Optuna {importlib.metadata.version('optuna')}",
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
