"""The same command on a finished study: it says so without MLflow, unless something is left to be done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import TrackingError
from harness.sweep import driver
from harness.sweep.plan import SweepPlan
from tests.support.commands import python
from tests.support.stores import Stores
from tests.support.sweeps import sweep

STUDY = "demo-fcnn"
pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The studies whose record in MLflow was opened."""
    found: list[str] = []
    begin = driver._begin_record

    def noted(plan: SweepPlan, *rest: object) -> object:
        found.append(plan.spec.name)
        return begin(plan, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(driver, "_begin_record", noted)
    return found


def test_a_finished_study_says_so_without_mlflow(opened: list[str]) -> None:
    first = sweep()
    again = sweep()
    assert opened == [STUDY]
    assert (again.best, again.best_run_id, again.counts) == (first.best, first.best_run_id, first.counts)
    assert again.parent_run_id == first.parent_run_id


def test_the_command_imports_neither_mlflow_nor_pytorch(place: Path) -> None:
    sweep()
    code = (
        "import sys\nfrom harness.cli import app\n"
        "app(['sweep', '--model', 'fcnn', '--data', 'demo', '--trials', '2', '--epochs', '4', '--pruner', 'none'],"
        " standalone_mode=False)\n"
        "print([name for name in ('mlflow', 'torch', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    assert python(code, place, dict(os.environ)).strip().endswith("\n[]")


def _more_trials(stores: Stores) -> None:
    assert sweep(trials=3).counts.finished == 3


def _running_run(stores: Stores) -> None:
    stores.client().update_run(stores.runs(STUDY, "trial")[0].info.run_id, status="RUNNING")


def _deleted_run(stores: Stores) -> None:
    stores.client().delete_run(stores.runs(STUDY, "trial")[0].info.run_id)


def _reopened_study(stores: Stores) -> None:
    stores.client().update_run(stores.runs(STUDY, "study")[0].info.run_id, status="RUNNING")


@pytest.mark.parametrize("change", [_more_trials, _running_run, _deleted_run, _reopened_study])
def test_what_has_changed_is_looked_at(change: Callable[[Stores], None], opened: list[str]) -> None:
    sweep()
    change(Stores.here())
    opened.clear()
    sweep(trials=3 if change is _more_trials else 2)
    assert opened == ([] if change is _more_trials else [STUDY])  # the end with three trials is on record too
    (parent,) = Stores.here().runs(STUDY, "study")
    assert parent.info.status == "FINISHED"
    assert all(run.info.status == "FINISHED" for run in Stores.here().runs(STUDY, "trial"))


def test_a_store_that_was_moved_is_repaired(
    place: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep()
    moved = shutil.copytree(place, place.with_name("moved"), symlinks=True)
    shutil.rmtree(place / "mlruns")
    monkeypatch.chdir(moved)
    opened.clear()
    sweep()
    assert opened == [STUDY]
    (parent,) = Stores.here().runs(STUDY, "study")
    assert str(moved) in parent.info.artifact_uri


def test_trials_are_given_back_if_there_can_be_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers begin before the record does."""
    sweep(trials=1)
    begin = driver._begin_record

    def refused(*_: object) -> None:
        raise TrackingError("refused", expected="a record")

    monkeypatch.setattr(driver, "_begin_record", refused)
    with pytest.raises(TrackingError, match="refused"):
        sweep(trials=3)
    assert "RUNNING" not in {trial.state.name for trial in Stores.here().trials(STUDY)}
    monkeypatch.setattr(driver, "_begin_record", begin)
    sweep(trials=3)
    Stores.here().check(STUDY, 3, 4)
