"""MLflow settings that are made before its import, and the translation of its errors to TrackingError.

To import a module of this package does not import MLflow. A function that needs MLflow imports it after
`prepare_mlflow`, which every `Tracker` calls.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from harness.core.errors import TrackingError

# Set only if the user has not set them. MLflow reads the first when it is imported, the others when it needs them.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is only for the output of commands
    # A server that is down is noticed at once. What cannot be sent remains in the journals and is sent later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"


@cache
def prepare_mlflow() -> None:
    """Set the defaults above, import MLflow, and limit its log to warnings; a second call does nothing.

    Telemetry is off unless the user has set `MLFLOW_DISABLE_TELEMETRY=false`.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    already_imported = "mlflow" in sys.modules
    import mlflow.telemetry

    if already_imported:
        # MLflow decided about telemetry at its import, before the defaults were set: it must decide again.
        mlflow.telemetry.set_telemetry_client()  # type: ignore[no-untyped-call]
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # This logger prints tracebacks of errors that are raised as well, and then printed as one sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


@contextmanager
def request_timeout(seconds: float) -> Iterator[None]:
    """Limit each request to an MLflow server inside this context to so many seconds (at least 1)."""
    before = os.environ.get(_TIMEOUT)
    os.environ[_TIMEOUT] = str(max(1, int(seconds)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[_TIMEOUT]
        else:
            os.environ[_TIMEOUT] = before


@contextmanager
def translated(doing: str, uri: str = "URL") -> Iterator[None]:
    """Turn errors of MLflow inside this context into TrackingError.

    `doing` completes "MLflow: ... failed" in the message; `uri` is the URI of the store.
    """
    prepare_mlflow()
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError  # passed on by MLflow where it makes the tables of a database

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, sqlite3.Error) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if "database schema" in str(error):
            raise TrackingError(
                f"MLflow: {doing} failed: its database has the schema of another MLflow",
                expected=f"the schema of MLflow {mlflow.__version__}",
                hint=f"a copy of the database first, then: mlflow db upgrade '{uri}'",
            ) from error
        raise TrackingError(
            f"MLflow: {doing} failed: {lines[0]}",
            expected="a store that can be reached and written, of this MLflow's version",
            hint="the same command again once it can, or another --tracking-uri",
        ) from error
