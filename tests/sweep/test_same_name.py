"""Studies of one name in two Optuna storages that share one MLflow store."""

from pathlib import Path

import pytest

from harness.core.errors import StudyError, TrackingError
from harness.study import Study, open_storage, read_identity
from harness.sweep.driver import open_study
from harness.sweep.plan import plan_sweep
from harness.tracking import Tracker
from harness.tracking.studies import Studies
from tests.support.commands import Harness
from tests.support.stores import Stores
from tests.support.sweeps import FAST, changed, sweep, train_without_uploading

NAME = "same"


def ids(stores: Stores) -> dict[str, set[str]]:
    """The ids of the runs of studies and trials, by the id of the study's run."""
    found = {run.info.run_id: {run.info.run_id} for run in stores.runs(NAME, "study")}
    for run in stores.runs(NAME, "trial"):
        found[run.data.tags["mlflow.parentRunId"]].add(run.info.run_id)
    return found


def best(studies: Studies, storage: str) -> str:
    """The run of the best trial of the study in a storage."""
    return studies.best_trial_run(NAME, read_identity(open_storage(storage), NAME)).run_id


def test_what_a_study_has_not_sent_yet_is_safe_from_one_of_the_same_name(place: Path) -> None:
    storage, tracking_uri = (f"sqlite:///{place}/mlruns/{name}.db" for name in ("theirs", "their_runs"))
    unsent = train_without_uploading(study=NAME, storage=storage, tracking_uri=tracking_uri)
    before = {path: path.read_bytes() for path in unsent.journals}
    assert len(before) == 2
    sweep(study=NAME, trials=1, epochs=1, seed=1)
    assert {path: path.read_bytes() for path in unsent.journals} == before
    sweep(study=NAME, storage=storage, tracking_uri=tracking_uri)
    assert not unsent.journals
    runs = Tracker(tracking_uri).studies.trial_runs(unsent.record.parent)
    assert {run.trial_number for run in runs} == {0, 1}


@pytest.mark.long
def test_each_storage_has_its_own_study(place: Path, empty_stores: Path, inside: Harness) -> None:
    mine, theirs = (f"sqlite:///{place}/mlruns/{name}.db" for name in ("optuna", "theirs"))
    (place / "mlruns" / "theirs.db").write_bytes((empty_stores / "optuna.db").read_bytes())
    first = sweep(study=NAME, experiment="first", trials=2, epochs=1)
    second = sweep(study=NAME, experiment="second", storage=theirs, trials=1, epochs=1, seed=1)
    stores, tracker = Stores.here(), Tracker(f"sqlite:///{place}/mlruns/mlflow.db")
    before = ids(stores)
    assert {key: len(family) for key, family in before.items()} == {
        first.parent_run_id: 3,
        second.parent_run_id: 2,
    }
    assert best(tracker.studies, mine) == first.best_run_id
    assert best(tracker.studies, theirs) == second.best_run_id

    missing = f"sqlite:///{place}/mlruns/mistyped.db"
    refused = inside("delete", NAME, "--yes", "--tracking-uri", missing, code=1).stderr
    assert "mistyped.db" in refused
    assert not (place / "mlruns" / "mistyped.db").exists()
    assert ids(stores) == before

    refused = inside("export", "--study", NAME, "--out", "best", code=1).stderr
    assert "MLflow has 2 studies of the name 'same'" in refused
    assert all(str(run_id) in refused for run_id in (*before, first.best_run_id, second.best_run_id))
    assert "--run" in refused

    # A third storage with a study of that name in the first experiment: it has no runs to delete.
    third = f"sqlite:///{place}/mlruns/third.db"
    (place / "mlruns" / "third.db").write_bytes((empty_stores / "optuna.db").read_bytes())
    with pytest.raises(TrackingError, match="MLflow has another study 'same' in experiment 'first'"):
        sweep(study=NAME, experiment="first", storage=third, trials=1, epochs=1)
    assert "there is no study 'same'" in inside("delete", NAME, "--yes", "--storage", third, code=1).stderr
    open_study(plan_sweep(changed(FAST, study=NAME, experiment="first", storage=third)))  # and was killed then
    deleted = inside("delete", NAME, "--yes", "--storage", third)
    assert "and 0 runs" in deleted.stdout
    assert "no run of it in sqlite:" in deleted.stderr
    assert ids(stores) == before

    assert "and 2 runs" in inside("delete", NAME, "--yes", "--storage", theirs).stdout
    assert ids(stores) == {first.parent_run_id: before[first.parent_run_id]}
    assert best(tracker.studies, mine) == first.best_run_id


@pytest.mark.long
def test_the_resume_point_of_another_study_is_not_fetched(place: Path, tmp_path: Path) -> None:
    summary = sweep(study=NAME, trials=1, epochs=1)
    tracker = Tracker(f"sqlite:///{place}/mlruns/mlflow.db")
    trial = tracker.studies.trial_run(summary.parent_run_id, 0)
    assert trial is not None
    resume = tmp_path / "resume"
    resume.mkdir()
    (resume / "resume.json").write_text('{"file": "state.safetensors"}')
    (resume / "state.safetensors").write_bytes(b"")
    tracker.artifacts.store_resume(trial.run_id, resume)
    storage = open_storage(f"sqlite:///{place}/mlruns/optuna.db")
    own = Study.open(storage, NAME, tmp_path).context.identity
    assert not tracker.fetch_resume(NAME, "another", 0, tmp_path / "fetched")
    assert tracker.fetch_resume(NAME, own, 0, tmp_path / "fetched")
    with pytest.raises(StudyError, match="has no run of study 'same'"):
        tracker.studies.require_run(NAME, "another")
