"""Workers and parents killed at random moments: nothing is lost, nothing is doubled, nothing is left running."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pytest
from conftest import command
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.data import DEMO_FOLDER

SEED = 20261123


@pytest.fixture
def place(workspace: Path, demo_data: Path) -> Path:
    (workspace / "input").mkdir()
    (workspace / DEMO_FOLDER).symlink_to(demo_data)
    return workspace


def sweep(*arguments: str) -> list[str]:
    return command("sweep", "--data", "demo", "--pruner", "none", *arguments)


def trials(study: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=study, storage=f"sqlite:///{Path.cwd()}/mlruns/optuna.db").get_trials()


def client() -> MlflowClient:
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")


def runs(study: str, kind: str) -> list[Run]:
    mlflow = client()
    ids = [experiment.experiment_id for experiment in mlflow.search_experiments()]
    return list(mlflow.search_runs(ids, f"tags.study = '{study}' and tags.kind = '{kind}'"))


def family(parent: int) -> list[int]:
    """The processes that are a sweep's: whatever has its pid among its ancestors."""
    found, parents = [], {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(status.parent.name)] = int(fields[1])
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != parent:
            ancestor = parents[ancestor]
        if ancestor == parent and pid != parent:
            found.append(pid)
    return found


def workers(work_folder: Path, parent: int) -> list[int]:
    """The processes that hold a trial's lock, told by their open files."""
    holders = []
    for pid in family(parent):
        try:
            names = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if any(name.startswith(str(work_folder / "trial-")) and name.endswith(".lock") for name in names):
            holders.append(pid)
    return holders


def epochs_on_record(work_folder: Path) -> int:
    return sum(path.read_bytes().count(b'"epoch"') for path in work_folder.glob("*.jsonl"))


def run_with_kills(arguments: tuple[str, ...], study: str, kills: int, chance: random.Random) -> int:
    """Run a sweep to its end, killing workers, parent or both while epochs are running; return how often."""
    work_folder = Path.cwd() / "mlruns" / "work" / study
    done = 0
    for _ in range(200):
        process = subprocess.Popen(sweep(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        before = epochs_on_record(work_folder)
        while process.poll() is None:
            time.sleep(chance.uniform(0.01, 0.4))
            holders = workers(work_folder, process.pid)
            if done >= kills or not holders or epochs_on_record(work_folder) == before:
                continue  # only while epochs are running
            before = epochs_on_record(work_folder)
            victims = chance.choice(["worker", "worker", "parent", "both"])
            doomed = [process.pid] if victims == "parent" else [chance.choice(holders)]
            doomed += [process.pid] if victims == "both" else []
            for pid in doomed:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            done += 1
        assert process.stderr is not None
        message = process.stderr.read()
        process.stderr.close()
        if process.returncode == 0:
            return done
        assert process.returncode == -signal.SIGKILL or "workers were killed" in message, message
    pytest.fail("the sweep never came to its end")


def check(study: str, total: int, epochs: int) -> None:
    """The invariants, read through the stores' own clients."""
    found = trials(study)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * total
    assert [trial.number for trial in found] == list(range(total))
    (parent,) = runs(study, "study")
    assert parent.info.status == "FINISHED"
    children = sorted(runs(study, "trial"), key=lambda run: int(run.data.tags["trial"]))
    assert [int(run.data.tags["trial"]) for run in children] == list(range(total))
    for trial, run in zip(found, children, strict=True):
        assert (run.info.status, run.data.tags["trial_state"]) == ("FINISHED", "complete")
        for metric in ("train_loss", "val_loss", "val_accuracy", "epoch_seconds"):
            points = client().get_metric_history(run.info.run_id, metric)
            assert sorted(point.step for point in points) == list(range(1, epochs + 1)), (
                run.info.run_name,
                metric,
            )
        assert run.data.metrics["best_val_accuracy"] == trial.value
        folder = Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoint"
        assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    left = sorted(path.name for path in (Path.cwd() / "mlruns" / "work" / study).iterdir())
    assert [name for name in left if name.startswith("trial-")] == []


CASES = {
    "fcnn-one-job": (("--model", "fcnn", "--trials", "4", "--epochs", "150", "--jobs", "1"), 4, 150, 8),
    "fcnn-two-jobs": (("--model", "fcnn", "--trials", "8", "--epochs", "120", "--jobs", "2"), 8, 120, 8),
    "cnn-one-job": (("--model", "cnn", "--trials", "2", "--epochs", "6", "--jobs", "1"), 2, 6, 5),
    "cnn-two-jobs": (("--model", "cnn", "--trials", "3", "--epochs", "5", "--jobs", "2"), 3, 5, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_moments(place: Path, case: str) -> None:
    arguments, total, epochs, kills = CASES[case]
    chance = random.Random(f"{SEED} {case}")
    done = run_with_kills((*arguments, "--study", case), case, kills, chance)
    assert done == kills
    check(case, total, epochs)
    if case.endswith("one-job"):
        whole = f"{case}-whole"
        subprocess.run(sweep(*arguments, "--study", whole), check=True, capture_output=True)
        check(whole, total, epochs)
        assert [(t.params, t.value) for t in trials(case)] == [(t.params, t.value) for t in trials(whole)]
        for broken, intact in zip(by_trial(case), by_trial(whole), strict=True):
            assert curves(broken) == curves(intact)


def by_trial(study: str) -> list[Run]:
    return sorted(runs(study, "trial"), key=lambda run: int(run.data.tags["trial"]))


def curves(run: Run) -> list[list[tuple[int, float]]]:
    names = ("train_loss", "val_loss", "val_accuracy")
    return [
        sorted((point.step, point.value) for point in client().get_metric_history(run.info.run_id, name))
        for name in names
    ]
