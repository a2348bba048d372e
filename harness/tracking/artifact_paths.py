"""Artifact paths of an SQLite store: MLflow records absolute paths, which are wrong after the folder is moved."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.core.errors import TrackingError
from harness.core.files import read_only_name, tables_of
from harness.core.workspace import NAME

_RUN_ID = re.compile(r"[0-9a-f]{32}")
# The tables and columns of MLflow's schema with paths of artifacts.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifact_folder(database: Path, experiment: str) -> Path:
    """Return the folder of an experiment's artifacts, which is beside the database."""
    return database.parent / "artifacts" / experiment


def is_run_folder(uri: str, run_id: str) -> bool:
    """Return True if a run's recorded artifact URI ends as MLflow makes it: with the run's id and `artifacts`."""
    parts = unquote(urlsplit(uri).path).split("/")
    return bool(_RUN_ID.fullmatch(run_id)) and parts[-2:] == [run_id, "artifacts"] and ".." not in parts


def remove_run_folder(database: Path, experiment: str, run_id: str, uri: str) -> bool:
    """Remove `artifacts/<experiment>/<run id>` beside an SQLite store; return True if nothing of it is left.

    `uri` is where the run's files are according to the store. If that is another folder, nothing is removed.
    """
    recorded = Path(unquote(urlsplit(uri).path))
    own = ("artifacts", experiment, run_id, "artifacts")
    if not is_run_folder(uri, run_id) or not NAME.fullmatch(experiment) or recorded.parts[-4:] != own:
        return False
    folder = -1
    try:
        if not recorded.parents[3].samefile(database.parent):
            return False
        folder = _open_folder(database.parent, "artifacts", experiment)
        shutil.rmtree(run_id, dir_fd=folder)
    except FileNotFoundError:
        return True  # the run has no files
    except OSError:
        return False
    finally:
        if folder >= 0:
            os.close(folder)
    return True


def _open_folder(root: Path, *names: str) -> int:
    """Open a folder below another, without following links: a link could lead to any folder of this machine."""
    opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in names:
        above = opened
        try:
            opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return opened


def moved_experiments(database: Path) -> dict[str, str]:
    """Return name and recorded artifact URI of each experiment whose recorded folder is not beside the database.

    Only experiments in the layout of the harness count. A recorded path that leads to the database's folder by
    another name (a link) is correct.
    """
    with closing(sqlite3.connect(read_only_name(database), uri=True)) as connection:
        if "experiments" not in tables_of(connection):
            return {}
        rows = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
    moved = {}
    for name, uri in rows:
        recorded = Path(unquote(urlsplit(uri or "").path))
        if uri.startswith("file:") and recorded.parts[-2:] == ("artifacts", name):
            root = recorded.parent.parent
            if not (root.exists() and root.samefile(database.parent)):
                moved[name] = uri
    return moved


def check_artifact_paths(database: Path) -> None:
    """Raise TrackingError if the folder of the store was moved or copied, so that its recorded paths are wrong."""
    moved = moved_experiments(database)
    if moved:
        name, uri = next(iter(moved.items()))
        raise TrackingError(
            f"{database.parent} was moved or copied: the artifacts of experiment {name!r} are recorded at {uri}",
            expected=f"artifacts beside their database, in {artifact_folder(database, name)}",
            hint="harness doctor --fix",
        )


def fix_artifact_paths(database: Path) -> None:
    """Correct the recorded paths of a store that was moved or copied to its present folder."""
    if not database.exists():
        return
    moved = moved_experiments(database)
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = tables_of(connection)
        for name, old in moved.items():
            new = artifact_folder(database, name).as_uri()
            for table, column in _COLUMNS:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )
