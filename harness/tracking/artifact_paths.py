"""Where an SQLite store keeps its artifacts: MLflow records absolute paths, so a folder that is moved breaks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.core.errors import TrackingError
from harness.core.files import read_only_name

# Where MLflow's schema keeps the paths of artifacts.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifact_folder(database: Path, experiment: str) -> Path:
    """Return where an experiment's artifacts lie: beside the database."""
    return database.parent / "artifacts" / experiment


def moved_experiments(database: Path) -> dict[str, str]:
    """Return the experiments whose recorded folder is not beside the database: their names and recorded URIs.

    Only experiments laid out as the harness does count, and not those that another name (a link) leads to.
    """
    with closing(sqlite3.connect(read_only_name(database), uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
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
    """Raise TrackingError where the folder of the store was moved or copied: its paths lead elsewhere."""
    moved = moved_experiments(database)
    if moved:
        name, uri = next(iter(moved.items()))
        raise TrackingError(
            f"{database.parent} was moved or copied: the artifacts of experiment {name!r} are recorded at {uri}",
            expected=f"artifacts beside their database, in {artifact_folder(database, name)}",
            hint="harness doctor --fix",
        )


def fix_artifact_paths(database: Path) -> None:
    """Make the recorded paths of a moved or copied store lead to the folder it is in now."""
    if not database.exists():
        return
    moved = moved_experiments(database)
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for name, old in moved.items():
            new = artifact_folder(database, name).as_uri()
            for table, column in _COLUMNS:
                if table in tables:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )
