"""Reading a database of Optuna without Optuna: which files are read so, and that they give the same."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from optuna.storages import RDBStorage

from harness.core.errors import StudyError
from harness.study import list_studies, reading_database, reading_storage
from harness.study.database import last_migration
from tests.support.sweeps import sweep

URL = "sqlite:///mlruns/optuna.db"


def test_the_last_migration_is_the_one_that_optuna_names(workspace: Path) -> None:
    assert RDBStorage(URL).get_head_version() == last_migration()


@pytest.mark.usefixtures("place")
def test_a_database_of_this_optuna_is_opened_without_alembic() -> None:
    """Alembic takes 0.3 s to import, in every command and every worker."""
    sweep()
    code = (
        "import sys; from harness.study import open_storage\n"
        f"storages = [open_storage('{URL}'), open_storage('{URL}', create=False, read_only=True)]\n"
        "assert [len(storage.get_all_studies()) for storage in storages] == [1, 1]\n"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.usefixtures("place")
def test_a_database_gives_what_optunas_storage_gives() -> None:
    sweep()
    with reading_database(URL) as database, reading_storage(URL) as storage:
        assert not isinstance(database, RDBStorage)
        assert list_studies(database) == list_studies(storage) != []


def test_a_schema_of_another_optuna_is_left_to_optuna(workspace: Path) -> None:
    with closing(sqlite3.connect("mlruns/optuna.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v3.0.0.a'")
        connection.execute("UPDATE version_info SET schema_version = 11")
    with pytest.raises(StudyError, match="optuna storage upgrade"), reading_database(URL):
        pass
