"""Looks at the runs of a study in an SQLite store without importing MLflow, which takes more than a second."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.core.files import read_only_name
from harness.core.names import digest_of
from harness.core.study_record import Conclusion
from harness.tracking.tags import RunStatus

_PARENT = "SELECT status, artifact_uri FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"
_OF_PARENT = """
SELECT r.run_uuid, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
WHERE t.key = 'mlflow.parentRunId' AND t.value = ? AND r.lifecycle_stage = 'active'
"""


def is_standing(database: Path, conclusion: Conclusion) -> bool:
    """Return whether the run of a study has ended well, and its files and the runs under it are as they were.

    False also for a database that cannot be read: whoever asks
    then opens the store with MLflow, which says what is wrong.
    """
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(read_only_name(database), uri=True)) as connection:
            found = connection.execute(_PARENT, (conclusion.parent,)).fetchone()
            runs = dict(connection.execute(_OF_PARENT, (conclusion.parent,)).fetchall())
    except sqlite3.Error:
        return False
    if found is None or found[0] != RunStatus.FINISHED or digest_of(sorted(runs)) != conclusion.runs:
        return False
    folder = Path(unquote(urlsplit(found[1] or "").path))  # elsewhere if the store has been moved
    return RunStatus.RUNNING not in runs.values() and folder.is_dir()
