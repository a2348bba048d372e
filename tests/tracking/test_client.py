"""MLflow's settings, and that an import of the harness changes no environment variable and no logger."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import TrackingError
from harness.tracking import Tracker, request_timeout

# Imported twice: what libraries change at their import is undone in between, so that only our changes show.
IMPORT_ALL = """
import logging, os, pkgutil, sys
def import_all():
    import harness
    for module in pkgutil.walk_packages(harness.__path__, "harness."):
        # __main__ runs the program; pyfunc_model.py is run by MLflow.
        if module.name not in ("harness.cli.__main__", "harness.tracking.pyfunc_model"):
            __import__(module.name)
def loggers():
    return [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
before = dict(os.environ)
import_all()
assert "mlflow" not in sys.modules
os.environ.clear()
os.environ.update(before)
for logger in loggers():
    logger.setLevel(logging.NOTSET)
for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
    del sys.modules[name]
import_all()
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
assert [logger.name for logger in loggers() if logger.level != logging.NOTSET] == []
"""
TELEMETRY = """
import sys
{first}
from harness.tracking import Tracker
Tracker("sqlite:///mlflow.db")
from mlflow.telemetry import get_telemetry_client
assert get_telemetry_client() is None
"""


def python(code: str, folder: os.PathLike[str]) -> None:
    # MLflow disables telemetry in tests and in continuous integration: it must not detect them.
    hidden = ("PYTEST_", "CI", "GITHUB_", "MLFLOW_", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment["HOME"] = str(folder)  # MLflow writes the installation's id there
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_importing_the_harness_sets_no_environment_variable_and_no_logger(tmp_path: os.PathLike[str]) -> None:
    python(IMPORT_ALL, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("first", ["", "import mlflow"], ids=["harness first", "mlflow first"])
def test_telemetry_is_off_once_a_store_is_open(tmp_path: os.PathLike[str], first: str) -> None:
    python(TELEMETRY.format(first=first), tmp_path)


def test_the_request_timeout_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    monkeypatch.setenv(name, "33")
    with request_timeout(4.0):
        assert os.environ[name] == "4"
    assert os.environ[name] == "33"
    monkeypatch.delenv(name)
    with request_timeout(0.5):
        assert os.environ[name] == "1"
    assert name not in os.environ


def test_a_database_of_optuna_is_left_alone(workspace: Path) -> None:
    database = workspace / "mlruns" / "optuna.db"
    before = database.read_bytes()
    with pytest.raises(TrackingError, match="is a database of Optuna"):
        Tracker(f"sqlite:///{database}")
    assert database.read_bytes() == before
