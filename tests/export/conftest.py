"""A small study that is swept once and copied for each test of the exports."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.sweep.summary import StudySummary
from harness.tracking import fix_artifact_paths
from tests.support.sweeps import make_workspace, sweep


@pytest.fixture(scope="session")
def swept_once(
    empty_stores: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, StudySummary]:
    """A folder with a swept study and the study's summary; for copying only."""
    folder = make_workspace(tmp_path_factory.mktemp("swept") / "workspace", empty_stores, demo_data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, sweep(trials=3)


@pytest.fixture
def swept(swept_once: tuple[Path, StudySummary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudySummary:
    """A swept study in a folder of the test's own, which is the current one."""
    folder, summary = swept_once
    place = Path(shutil.copytree(folder, tmp_path / "workspace", symlinks=True))
    monkeypatch.chdir(place)
    fix_artifact_paths(place / "mlruns" / "mlflow.db")
    return replace(summary, tracking_uri=f"sqlite:///{place}/mlruns/mlflow.db")
