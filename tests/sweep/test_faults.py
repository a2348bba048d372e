"""Disks that are full, folders that cannot be written, files that are damaged: an error, never a wrong result."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import Harness, command
from tests.support.processes import kill_all, wait_for, workers
from tests.support.stores import EPOCH_METRICS, Stores, epochs_on_record, left_behind

MB = 1 << 20


def sweep_arguments(model: str, *, trials: int = 2, epochs: int = 3) -> list[str]:
    options = ["--model", model, "--trials", str(trials), "--epochs", str(epochs)]
    return ["sweep", "--data", "demo", "--pruner", "none", "--jobs", "1", "--study", "s", *options]


@pytest.mark.process
@pytest.mark.parametrize(("model", "trials", "room"), [("cnn", 2, 20 * MB), ("fcnn", 6, MB // 8)])
def test_a_full_disk(place: Path, inside: Harness, model: str, trials: int, room: int) -> None:
    """A limit on the size of files stands in for the disk: a checkpoint, or a database, does not fit any more."""
    process = subprocess.run(
        command(*sweep_arguments(model, trials=trials)),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert process.returncode == 1, process.stderr
    assert "error: " in process.stderr
    assert "try: " in process.stderr
    assert "Traceback" not in process.stderr
    inside("doctor", "--fix")
    inside(*sweep_arguments(model, trials=trials))
    Stores.here().check("s", trials, 3)
    assert left_behind(place / "mlruns" / "work" / "s") == []


@pytest.mark.long
def test_artifacts_that_cannot_be_written(place: Path, inside: Harness) -> None:
    artifacts = place / "mlruns" / "artifacts"
    artifacts.write_text("a file where the folder should be")
    refused = inside(*sweep_arguments("fcnn"), code=1).stderr
    assert "error: MLflow:" in refused
    assert str(artifacts) in refused
    artifacts.unlink()
    inside(*sweep_arguments("fcnn"))
    Stores.here().check("s", 2, 3)
    inside("export", "--study", "s", "--out", "best")  # the study's run has all it should, though begun in vain


@pytest.mark.process
def test_journals_of_an_earlier_study_of_that_name(place: Path, inside: Harness) -> None:
    journal = kill_in_mid_trial()
    for file in (place / "mlruns").glob("optuna.db*"):
        file.unlink()
    refused = inside(*sweep_arguments("fcnn", trials=1), code=1).stderr
    assert "MLflow has another study 's'" in refused
    assert journal.exists()  # until the lost database is back, or the study is made anew
    assert "there is no study" in inside("delete", "s", "--yes", code=1).stderr
    stores = Stores.here()
    for run in (*stores.runs("s", "trial"), *stores.runs("s", "study")):
        stores.client().delete_run(run.info.run_id)
    inside(*sweep_arguments("fcnn", trials=1))
    Stores.here().check("s", 1, 3)


def test_databases_that_are_none(place: Path, inside: Harness) -> None:
    (place / "mlruns" / "mlflow.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    assert "file is not a database" in inside(*sweep_arguments("fcnn"), code=1).stderr
    assert "file is not a database" in inside("doctor", code=1).stdout
    wrong = inside("status", "--storage", "postgresql://me:secret@db:port/optuna", code=1).stderr
    assert "cannot open Optuna's storage" in wrong
    assert "secret" not in wrong


LONG = 500  # epochs of a trial that is not over when it is first looked at


def start() -> tuple[subprocess.Popen[bytes], Path]:
    """Start a sweep of one long trial, and return it with its work folder once it has recorded a few epochs."""
    words = sweep_arguments("fcnn", trials=1, epochs=LONG)
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = Path.cwd() / "mlruns" / "work" / "s"
    wait_for(lambda: epochs_on_record(folder) > 3)
    wait_for(lambda: bool(Stores.here().runs("s", "study")))  # MLflow is imported while the worker trains
    return process, folder


def kill_in_mid_trial() -> Path:
    """Kill everything of a sweep once it has recorded a few epochs; return the journal."""
    process, folder = start()
    (worker,) = workers(folder, process.pid)
    os.kill(worker, signal.SIGSTOP)  # however fast the machine, the trial does not end
    wait_for(lambda: bool(Stores.here().runs("s", "trial")))  # and MLflow has heard of it
    kill_all(process)
    (journal,) = folder.glob("trial-*.jsonl")
    return journal


def damage_to(journal: Path, kind: str) -> None:
    whole = journal.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    journal.write_bytes({"torn": whole[:-7], "flipped": flipped, "emptied": b""}[kind])


@pytest.mark.process
@pytest.mark.parametrize("damage", ["torn", "flipped", "emptied"])
def test_a_damaged_journal(place: Path, inside: Harness, damage: str) -> None:
    damage_to(kill_in_mid_trial(), damage)
    if damage != "emptied":
        assert "cut short or damaged" in inside("doctor", code=1).stdout
    inside(*sweep_arguments("fcnn", trials=1, epochs=LONG))
    Stores.here().check("s", 1, LONG)


@pytest.mark.process
@pytest.mark.parametrize("damage", ["flipped", "emptied"])
def test_a_damaged_journal_of_a_trial_that_had_ended(place: Path, inside: Harness, damage: str) -> None:
    """Its last epochs are lost with it; how it ended, its figures and its checkpoint are not."""
    process, folder = start()
    os.kill(process.pid, signal.SIGSTOP)  # the worker ends its trial, and nobody sends the end
    journal = folder / "trial-00000.jsonl"
    wait_for(lambda: b'"event":"closed"' in journal.read_bytes())
    kill_all(process)
    damage_to(journal, damage)
    assert "trial 0 had ended, and its last epochs are lost" in inside("doctor", code=1).stdout
    assert "its journal was damaged) was not in MLflow" in inside("doctor", "--fix").stdout
    stores = Stores.here()
    (trial,), (run,) = stores.trials("s"), stores.runs("s", "trial")
    assert (trial.state.name, run.info.status, run.data.tags["trial_state"]) == (
        "COMPLETE",
        "FINISHED",
        "complete",
    )
    assert "epochs may be missing" in run.data.tags["mended"]
    assert run.data.metrics["best_val_accuracy"] == trial.value
    for metric in EPOCH_METRICS:
        steps = sorted(point.step for point in stores.client().get_metric_history(run.info.run_id, metric))
        assert steps == list(range(1, len(steps) + 1))
    inside(*sweep_arguments("fcnn", trials=1, epochs=LONG))
    assert inside("doctor").stdout == "nothing is wrong\n"
    assert left_behind(folder) == []
    inside("export", "--study", "s", "--out", "best")
