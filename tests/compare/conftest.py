"""The two studies that the tests of comparisons share."""

from pathlib import Path

import pytest

from tests.support.sweeps import make_workspace, sweep


@pytest.fixture(scope="session")
def two_studies(empty_stores: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_workspace(tmp_path_factory.mktemp("compared") / "workspace", empty_stores, demo_data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep(study="one")
        sweep(study="two", seed=1)
    return folder


@pytest.fixture
def studies(two_studies: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, as the current one, with two studies of the demo set; each test has comparisons of its own."""
    monkeypatch.chdir(two_studies)
    return two_studies
