"""Fixtures: the demo set made once, stores of one's own, the command line as a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.commands import Harness, command
from tests.support.scheduling import SharedFixtures

# pytest-xdist's own process reads this file too, so the fixtures import what takes seconds.
if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from xdist.remote import Producer  # type: ignore[import-untyped]

    from harness.data import Tracks
    from tests.support.exports import Export
    from tests.support.servers import Server

# How long an example takes says nothing here: the machine that runs the tests is shared.
COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.register_profile("tests", COMMON, max_examples=30)
settings.register_profile("thorough", COMMON, max_examples=300)
settings.load_profile("tests")


# Tests say what a CPU does, also where there is a GPU: one may be slow to begin, and its last digits are others.
if not os.environ.get("HARNESS_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# The fixtures that give a test its marker, so that none is forgotten.
MARKED_BY_FIXTURE = {"postgres": "machines", "mlflow_server": "machines", "gtzan": "data"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs servers or the real data, before the selection by markers."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKED_BY_FIXTURE:
                item.add_marker(MARKED_BY_FIXTURE[fixture])


@pytest.hookimpl(optionalhook=True)  # pytest-xdist can be switched off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SharedFixtures:
    """Keep the tests that share a slow fixture in one process."""
    return SharedFixtures(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from harness.data.cache import cache_folder

    patch = pytest.MonkeyPatch()
    # What Numba compiles takes 40 s: once for all processes and runs, beside the user's own.
    patch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR") or str(cache_folder() / "numba"))
    patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))  # the list of trusted code
    for name in list(os.environ):
        if name.startswith(("HARNESS_", "MLFLOW_TRACKING")) and name not in ("HARNESS_CACHE", "HARNESS_GTZAN"):
            patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo set; for reading only."""
    from harness.data import make_demo

    folder = tmp_path_factory.mktemp("data") / "demo"
    make_demo(folder)
    return folder


@pytest.fixture(scope="session")
def demo_tracks(demo_data: Path) -> Tracks:
    from harness.data import load_tracks

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
    from tests.support.sweeps import make_workspace

    folder = make_workspace(tmp_path / "workspace", empty_stores)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def place(workspace: Path, demo_data: Path) -> Path:
    """A workspace in which `--data demo` is there already."""
    from harness.data import DEMO_FOLDER

    (workspace / "input").mkdir()
    (workspace / DEMO_FOLDER).symlink_to(demo_data)
    return workspace


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own."""
    from tests.support.servers import running_postgres

    with running_postgres() as server:
        yield server.get_uri()


@pytest.fixture
def new_database(postgres: str) -> Callable[[], str]:
    """Make a database of its own on the server, and return its URL."""

    import psycopg

    def make() -> str:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return postgres.replace("/postgres?", f"/{name}?").replace("postgresql:", "postgresql+psycopg:")

    return make


@pytest.fixture
def storage(new_database: Callable[[], str]) -> Iterator[RDBStorage]:
    """Optuna's storage in a database of its own on the server."""
    from harness.study import open_storage

    opened = open_storage(new_database())
    yield opened
    opened.engine.dispose()


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


@pytest.fixture
def mlflow_server(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Server]:
    """A real `mlflow server` on PostgreSQL, artifacts proxied, on a free port of 127.0.0.1."""
    from tests.support.servers import running_mlflow_server

    with running_mlflow_server(new_database(), tmp_path) as server:
        yield server


@pytest.fixture(
    scope="session",
    params=[
        "demo-fcnn",
        pytest.param("demo-cnn", marks=pytest.mark.long),
        pytest.param("demo-both", marks=pytest.mark.long),
        pytest.param("gtzan-fcnn", marks=pytest.mark.data),
        pytest.param("gtzan-cnn", marks=pytest.mark.data),
    ],
)
def exported(
    request: pytest.FixtureRequest, empty_stores: Path, tmp_path_factory: pytest.TempPathFactory
) -> Export:
    """The best of a small study, exported in every format and registered; for reading only."""
    from harness.export.bundle import export_best
    from tests.support.exports import ALL, Export
    from tests.support.sweeps import sweep

    name, model = request.param.split("-")
    data: Path = request.getfixturevalue("demo_data" if name == "demo" else "gtzan")
    folder = tmp_path_factory.mktemp("exported")
    for database in ("optuna.db", "mlflow.db"):
        shutil.copy(empty_stores / database, folder / database)
    tracking = f"sqlite:///{folder}/mlflow.db"
    study = sweep(
        model=model,
        data=str(data),
        trials=1,
        epochs=5 if model == "fcnn" else 1,
        tracking_uri=tracking,
        storage=f"sqlite:///{folder}/optuna.db",
    )
    bundle = export_best(folder / "best", study=request.param, tracking_uri=tracking, formats=ALL)
    return Export(data, folder, study, bundle)


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
