"""What MLflow is set to, and that importing the harness sets nothing."""

import os
import subprocess
import sys

import pytest

from harness.tracking import request_timeout

# Imported twice: what libraries set at their import is put back in between, so that only the harness's own shows.
IMPORT_ALL = """
import logging, os, pkgutil, sys
def import_all():
    import harness
    for module in pkgutil.walk_packages(harness.__path__, "harness."):
        # One is the program; the other is a file that MLflow copies and runs.
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
    # MLflow turns telemetry off by itself in tests and under continuous integration: it must not know.
    hidden = ("PYTEST_", "CI", "GITHUB_", "MLFLOW_", "DO_NOT_TRACK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment["HOME"] = str(folder)  # where MLflow keeps an id of the installation
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_harness_sets_no_environment_variable_and_no_logger(tmp_path: os.PathLike[str]) -> None:
    python(IMPORT_ALL, tmp_path)


@pytest.mark.parametrize("first", ["", "import mlflow"], ids=["harness first", "mlflow first"])
def test_telemetry_is_off_once_a_store_is_open(tmp_path: os.PathLike[str], first: str) -> None:
    python(TELEMETRY.format(first=first), tmp_path)


def test_the_timeout_of_requests_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    monkeypatch.setenv(name, "33")
    with request_timeout(4.0):
        assert os.environ[name] == "4"
    assert os.environ[name] == "33"
    monkeypatch.delenv(name)
    with request_timeout(0.5):
        assert os.environ[name] == "1"
    assert name not in os.environ
