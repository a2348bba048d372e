"""A store that is removed while a comparison uses it."""

import shutil
from pathlib import Path

import pytest

from harness.compare import run_comparison
from harness.core.errors import TrackingError
from tests.support.comparisons import plan
from tests.support.sweeps import make_workspace, sweep


@pytest.mark.long
@pytest.mark.parametrize("after", [1, 4])
def test_a_comparison_ends_with_an_error(
    empty_stores: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.chdir(make_workspace(tmp_path / "workspace", empty_stores, demo_data))
    sweep(study="one", trials=1, epochs=2)
    sweep(study="two", trials=1, epochs=2, seed=1)

    def listen(_candidate: str, _number: int, done: int, _total: int) -> None:
        if done == after:
            shutil.rmtree("mlruns", ignore_errors=True)  # a worker may make a file meanwhile

    with pytest.raises(TrackingError, match=r"MLflow's database .* was removed or replaced while it was in use"):
        run_comparison(plan(repeats=5, baselines=False), listen)
