"""`harness doctor`, and the faults it is for."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.sweep.doctor import examine
from harness.tracking import Tracker
from tests.support.commands import SWEEP, Harness, last_json, start_sweep
from tests.support.processes import kill_all, wait_for
from tests.support.stores import Stores, epochs_on_record, work_folder
from tests.support.sweeps import train_without_uploading

LONG = 5000  # epochs, some ten seconds: the first trial still trains when MLflow has its run


def run_killed(study: str) -> None:
    """A sweep of which everything is killed in mid-trial."""
    process = start_sweep(
        "--model", "fcnn", "--trials", "2", "--epochs", str(LONG), "--jobs", "1", "--study", study
    )
    # Workers begin before the record is open: what is killed earlier has no run.
    wait_for(lambda: epochs_on_record(work_folder(study)) > 1 and bool(Stores.here().runs(study, "trial")))
    kill_all(process)


def test_healthy_stores(place: Path, inside: Harness) -> None:
    inside(*SWEEP, "--model", "fcnn", "--trials", "2", "--epochs", "1")
    assert inside("doctor").stdout == "nothing is wrong\n"
    assert last_json(inside("doctor", "--fix", "--json")) == []


@pytest.mark.process
def test_after_everything_was_killed(place: Path, inside: Harness) -> None:
    run_killed("gone")
    before = Stores.here().trials("gone")[0].state
    report = inside("doctor", code=1).stdout
    assert "gone: trial 0 was RUNNING, and no process runs it" in report
    assert "gone: the study's run was RUNNING" not in report  # while its trial still counts as running
    assert "try:   harness doctor --fix" in report
    assert Stores.here().trials("gone")[0].state == before  # reporting changes nothing
    fixed = last_json(inside("doctor", "--fix", "--json"))
    assert all(finding["fixed"] for finding in fixed)
    assert inside("doctor").stdout == "nothing is wrong\n"
    stores = Stores.here()
    assert [trial.state.name for trial in stores.trials("gone")] == ["WAITING"]
    assert stores.runs("gone", "study")[0].info.status == "KILLED"
    (run,) = stores.runs("gone", "trial")
    assert (run.info.status, run.data.tags["trial_state"]) == ("KILLED", "interrupted")
    assert len(stores.client().get_metric_history(run.info.run_id, "val_loss")) > 1  # what was done is on record
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", str(LONG), "--jobs", "1", "--study", "gone")
    stores.check("gone", 1, LONG)


@pytest.mark.long
def test_an_error_at_one_study_does_not_hide_the_others(place: Path) -> None:
    names = ("a", "b", "c")
    unsent = [train_without_uploading(study=name, experiment=f"music-{name}", trials=1) for name in names]
    blocked = place / "mlruns" / "artifacts" / "music-b"
    shutil.rmtree(blocked)
    blocked.write_text("a file where the folder should be")
    findings = list(examine(unsent[0].plan.stores, fix=True))
    assert {finding.study for finding in findings} == set(names)
    (failed,) = [finding for finding in findings if not finding.fixed]
    assert failed.study == "b"
    assert "are not in MLflow yet" in failed.found
    assert [len(each.journals) for each in unsent] == [0, 1, 0]


@pytest.mark.process
def test_a_live_sweep_is_left_alone(place: Path, inside: Harness) -> None:
    process = start_sweep("--model", "fcnn", "--trials", "3", "--epochs", "800", "--jobs", "1", "--study", "alive")
    wait_for(lambda: epochs_on_record(work_folder("alive")) > 1 and bool(Stores.here().runs("alive", "trial")))
    assert inside("doctor", "--fix").stdout == "nothing is wrong\n"
    process.communicate(timeout=120)
    assert process.returncode == 0
    Stores.here().check("alive", 3, 800)


@pytest.mark.process
def test_a_run_whose_study_is_gone(place: Path, inside: Harness) -> None:
    run_killed("lost")
    (place / "mlruns" / "optuna.db").unlink()
    for leftover in (place / "mlruns").glob("optuna.db-*"):
        leftover.unlink()
    inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1", "--study", "other")
    assert "Optuna has no study 'lost'" in inside("doctor", code=1).stdout
    inside("doctor", "--fix")
    assert {run.info.status for run in Stores.here().runs("lost", "study")} == {"KILLED"}


@pytest.mark.parametrize("tag", ["{}/victim", "../../victim", "../demo-fcnn/claim", "y" * 400, "0123456789abcdeg"])
def test_a_tag_names_no_file_of_others(place: Path, inside: Harness, tag: str) -> None:
    victims = [place / "victim.lock", place / "mlruns" / "victim.lock", work_folder("demo-fcnn") / "claim.lock"]
    for victim in victims:
        victim.parent.mkdir(parents=True, exist_ok=True)
        victim.write_text("not yours")
    client = Stores.here().client()
    experiment = client.create_experiment("other")
    tags = {"kind": "comparison", "comparison": tag.format(place)}
    run = client.create_run(experiment, start_time=1000, tags=tags)
    assert "of a comparison was RUNNING" in inside("doctor", "--fix").stdout
    assert client.get_run(run.info.run_id).info.status != "RUNNING"
    assert [victim.read_text() for victim in victims] == ["not yours"] * 3


def test_a_deleted_run_of_the_best_trial_is_not_passed_over(place: Path, inside: Harness) -> None:
    words = ("sweep", "--model", "fcnn", "--data", "demo", "--jobs", "1", "--epochs", "2", "--trials", "2")
    inside(*words)
    stores = Stores.here()
    (parent,) = stores.runs("demo-fcnn", "study")
    best = parent.data.tags["best_run_id"]
    stores.client().delete_run(best)
    shown = inside("export", "--study", "demo-fcnn", "--out", "best", code=1).stderr
    assert "is not in MLflow, or not any more" in shown
    assert "the run of its best trial" in inside("doctor", code=1).stdout
    assert "run:  none: it was deleted, or is not sent yet" in inside(*words).stdout
    assert "the run of its best trial" in inside("doctor", code=1).stdout
    assert "the run of the best trial" in inside("export", "--study", "demo-fcnn", "--out", "best", code=1).stderr
    stores.client().restore_run(best)
    assert inside("doctor").stdout == "nothing is wrong\n"
    stores.client().set_tag(parent.info.run_id, "best_run_id", "a'b")
    assert "the run of its best trial" in inside("doctor", code=1).stdout
    inside(*words)
    inside("export", "--study", "demo-fcnn", "--out", "best")
    # The study's own run: a second one would tear the record apart.
    stores.client().delete_run(parent.info.run_id)
    assert "it was deleted, or the experiment was deleted or renamed" in inside(*words[:-1], "3", code=1).stderr
    stores.client().restore_run(parent.info.run_id)
    stores.client().rename_experiment(parent.info.experiment_id, "renamed")
    assert parent.info.run_id in inside(*words[:-1], "3", code=1).stderr
    stores.client().rename_experiment(parent.info.experiment_id, "demo")
    inside(*words[:-1], "3")
    assert len(stores.runs("demo-fcnn", "study")) == 1
    # The openings of the test part stay on record when the experiment is deleted.
    stores.client().delete_experiment(parent.info.experiment_id)
    tracker = Tracker(stores.tracking)
    assert sum(run.test_openings for run in tracker.runs.with_data(parent.data.tags["data_digest"])) == 1


@pytest.mark.long
@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_folder_that_was_moved(
    place: Path, inside: Harness, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The folder's name must be quoted in a URL.
    options = ["--model", "fcnn", "--epochs", "2", "--study", "s", "--experiment", "music-1"]
    inside(*SWEEP, *options, "--trials", "2")
    elsewhere = tmp_path / "else where é"
    elsewhere.mkdir()
    (shutil.move if how == "moved" else shutil.copytree)(str(place / "mlruns"), str(elsewhere / "mlruns"))
    shutil.copytree(place / "input", elsewhere / "input", symlinks=True)
    monkeypatch.chdir(elsewhere)
    wrong = inside("export", "--study", "s", "--out", "best", code=1).stderr
    assert "was moved or copied" in wrong
    assert "harness doctor --fix" in wrong
    assert "was moved or copied" in inside("doctor", code=1).stdout
    inside("doctor", "--fix")
    assert inside("doctor").stdout == "nothing is wrong\n"
    inside("export", "--study", "s", "--out", "best")
    inside(*SWEEP, *options, "--trials", "3")
    for run in Stores.here().runs("s", "trial"):
        assert run.info.artifact_uri.startswith((elsewhere / "mlruns").as_uri())
    Stores.here().check("s", 3, 2)


@pytest.mark.long
def test_the_start_of_a_sweep_mends_a_moved_folder(
    place: Path, inside: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(*SWEEP, "--model", "fcnn", "--epochs", "2", "--study", "s", "--trials", "1")
    moved = tmp_path / "moved"
    place.rename(moved)
    monkeypatch.chdir(moved)
    inside(*SWEEP, "--model", "fcnn", "--epochs", "2", "--study", "s", "--trials", "2")
    Stores.here().check("s", 2, 2)


@pytest.mark.long
def test_a_folder_reached_by_another_name_is_not_moved(
    place: Path, inside: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside(*SWEEP, "--model", "fcnn", "--epochs", "1", "--study", "s", "--trials", "1")
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlruns").symlink_to(place / "mlruns")
    monkeypatch.chdir(tmp_path / "other")
    assert inside("doctor").stdout == "nothing is wrong\n"


@pytest.mark.parametrize(
    ("database", "revision", "upgrade"),
    [
        ("optuna.db", "UPDATE alembic_version SET version_num = 'v2.6.0.a'", "optuna storage upgrade --storage"),
        ("mlflow.db", "UPDATE alembic_version SET version_num = '451aebb31d03'", "mlflow db upgrade"),
    ],
)
def test_an_old_schema(place: Path, inside: Harness, database: str, revision: str, upgrade: str) -> None:
    with closing(sqlite3.connect(place / "mlruns" / database)) as connection, connection:
        connection.execute(revision)
    assert upgrade in inside("doctor", code=1).stdout
    assert upgrade in inside("doctor", "--fix", code=1).stdout
    refused = inside(*SWEEP, "--model", "fcnn", "--trials", "1", "--epochs", "1", code=1).stderr
    assert upgrade in refused
    assert "schema" in refused
