"""Stores that are removed or replaced while a sweep uses them: what is written to them would be lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import HarnessError
from harness.core.events import Event, TrialStarted
from harness.sweep import driver
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from tests.support.commands import Harness
from tests.support.stores import Stores
from tests.support.sweeps import FAST, changed, sweep

MLRUNS = Path("mlruns")


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "PATIENCE_SECONDS", 0.0)


def replace(name: str) -> None:
    """Put another file in the place of a database, as a backup that is restored."""
    shutil.copy(MLRUNS / name, MLRUNS / "copy")
    (MLRUNS / "copy").replace(MLRUNS / name)


@pytest.mark.long
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("lose", "named"),
    [
        (lambda: shutil.rmtree(MLRUNS, ignore_errors=True), "Optuna's database"),
        (lambda: (MLRUNS / "optuna.db").unlink(), "Optuna's database"),
        (lambda: replace("optuna.db"), "Optuna's database"),
        (lambda: (MLRUNS / "mlflow.db").unlink(), "MLflow's database"),
        (lambda: replace("mlflow.db"), "MLflow's database"),
    ],
    ids=["all", "optuna.db", "optuna.db replaced", "mlflow.db", "mlflow.db replaced"],
)
def test_a_sweep_ends_with_an_error(lose: Callable[[], object], named: str) -> None:
    def listen(number: int, event: Event) -> None:
        if number == 1 and isinstance(event, TrialStarted):
            lose()

    plan = plan_sweep(changed(FAST, trials=4, epochs=200))
    study = open_study(plan)
    with pytest.raises(HarnessError, match=f"{named} .* was removed or replaced while it was in use"):
        run_sweep(plan, study, listen)
    assert not (MLRUNS / "optuna.db").exists() or (MLRUNS / "optuna.db").stat().st_size


def test_a_study_does_not_go_on_where_its_record_is_not(place: Path, inside: Harness) -> None:
    words = ("sweep", "--model", "fcnn", "--data", "demo", "--epochs", "1", "--jobs", "1", "--pruner", "none")
    inside(*words, "--trials", "2")
    other = f"sqlite:///{place}/mlruns/other.db"
    shown = inside(*words, "--trials", "3", "--tracking-uri", other, code=1).stderr
    assert "2 trials of study 'demo-fcnn' ended before" in shown
    assert "try: --tracking-uri of that store" in shown
    assert "--tracking-uri of the store that has" in inside("doctor", "--tracking-uri", other, code=1).stdout
    inside(*words, "--trials", "3")
    Stores.here().check("demo-fcnn", 3, 1)


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_a_sweep_after_that_begins_anew() -> None:
    def listen(_number: int, event: Event) -> None:
        if isinstance(event, TrialStarted):
            shutil.rmtree(MLRUNS, ignore_errors=True)

    plan = plan_sweep(changed(FAST, trials=2, epochs=100))
    with pytest.raises(HarnessError):
        run_sweep(plan, open_study(plan), listen)
    sweep()
    Stores.here().check("demo-fcnn", 2, 4)
