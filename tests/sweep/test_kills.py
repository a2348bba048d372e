"""Workers and parents killed at random moments: nothing is lost, nothing is doubled, nothing is left running."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pytest

from harness.training.description import read_description
from tests.support.commands import command
from tests.support.processes import kill_all, wait_for, workers
from tests.support.stores import Stores, artifacts, epochs_on_record, left_behind

pytestmark = pytest.mark.process

SEED = 20261123


def sweep_command(*arguments: str) -> list[str]:
    # Chance may hit one trial again and again before a new epoch: none is to be given up here.
    return command("sweep", "--data", "demo", "--pruner", "none", "--attempts", "50", *arguments)


def run_with_kills(arguments: tuple[str, ...], study: str, kills: int, chance: random.Random) -> int:
    """Run a sweep to its end, killing workers, parent or both while epochs are running; return how often."""
    work_folder = Path.cwd() / "mlruns" / "work" / study
    done = 0
    for _ in range(200):
        process = subprocess.Popen(
            sweep_command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        before = epochs_on_record(work_folder)
        while process.poll() is None:
            time.sleep(chance.uniform(0.01, 0.4))
            running = workers(work_folder, process.pid)
            if done >= kills or not running or epochs_on_record(work_folder) == before:
                continue  # only while epochs are running
            before = epochs_on_record(work_folder)
            victims = chance.choice(["worker", "worker", "parent", "both"])
            doomed = [process.pid] if victims == "parent" else [chance.choice(running)]
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
        assert process.returncode == -signal.SIGKILL, message
    pytest.fail("the sweep never came to its end")


CASES = {
    "fcnn-one-job": (("--model", "fcnn", "--trials", "4", "--epochs", "150", "--jobs", "1"), 4, 150, 8),
    "fcnn-two-jobs": (("--model", "fcnn", "--trials", "8", "--epochs", "120", "--jobs", "2"), 8, 120, 10),
    "fcnn-stack": (
        ("--model", "fcnn", "--trials", "8", "--epochs", "120", "--jobs", "4", "--stack", "3"),
        8,
        120,
        8,
    ),
    "folds-one-job": (
        ("--model", "fcnn", "--folds", "3", "--trials", "2", "--epochs", "100", "--jobs", "1"),
        2,
        100,
        8,
    ),
    "cnn-one-job": (("--model", "cnn", "--trials", "2", "--epochs", "6", "--jobs", "1"), 2, 6, 3),
    "cnn-two-jobs": (("--model", "cnn", "--trials", "3", "--epochs", "5", "--jobs", "2"), 3, 5, 4),
}


LONG = {
    "fcnn-one-job": (("--model", "fcnn", "--trials", "12", "--epochs", "150", "--jobs", "1"), 12, 150, 40),
    "fcnn-two-jobs": (("--model", "fcnn", "--trials", "30", "--epochs", "120", "--jobs", "2"), 30, 120, 40),
    "cnn-one-job": (("--model", "cnn", "--trials", "8", "--epochs", "8", "--jobs", "1"), 8, 8, 20),
    "cnn-two-jobs": (("--model", "cnn", "--trials", "10", "--epochs", "8", "--jobs", "2"), 10, 8, 20),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", LONG)
def test_killed_at_random_moments_for_long(place: Path, case: str) -> None:
    kill_and_check(case, *LONG[case])


@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_moments(place: Path, case: str) -> None:
    kill_and_check(case, *CASES[case])


def kill_and_check(case: str, arguments: tuple[str, ...], total: int, epochs: int, kills: int) -> None:
    chance = random.Random(f"{SEED} {case}")
    done = run_with_kills((*arguments, "--study", case), case, kills, chance)
    assert done == kills
    stores = Stores.here()
    stores.check(case, total, epochs)
    assert left_behind(Path("mlruns", "work", case)) == []
    if case.endswith("one-job"):
        whole = f"{case}-whole"
        subprocess.run(sweep_command(*arguments, "--study", whole), check=True, capture_output=True)
        stores.check(whole, total, epochs)
        stores.same_numbers(case, whole)
        if case.startswith("folds"):
            assert refitted(stores, case) == refitted(stores, whole)
            stores.same_numbers(f"{case}.confirm", f"{whole}.confirm")
            assert confirmed(stores, case) == confirmed(stores, whole)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_that_pauses_is_killed_at_random_moments(place: Path, jobs: int) -> None:
    """With one job the same trials go on as in a sweep that is not killed; with two the best third does."""
    chance = random.Random(f"{SEED} asha {jobs}")
    arguments = ("--model", "fcnn", "--trials", "9", "--epochs", "90", "--jobs", str(jobs), "--pruner", "asha")
    run_with_kills((*arguments, "--study", "halved"), "halved", 6, chance)
    stores, rungs = Stores.here(), (3, 10, 30)
    trained = stores.check_halved("halved", 9, rungs, 90)
    assert set(trained) >= {3, 10}
    assert left_behind(Path("mlruns", "work", "halved")) == []
    if jobs == 1:
        subprocess.run(sweep_command(*arguments, "--study", "whole"), check=True, capture_output=True)
        assert stores.check_halved("whole", 9, rungs, 90) == trained
        stores.same_numbers("halved", "whole")


def test_an_ensemble_that_is_killed_goes_on_to_the_same_weights(place: Path) -> None:
    """Killed in the second network, in the third, and when all are trained: the same command goes on each time."""
    # So slow a training has its best epoch late, and the refit has as many epochs.
    slow = ("--set", "lr=1e-5", "--set", "batch_size=64", "--search", "dropout=0:0.1")
    arguments = ("--model", "fcnn", "--trials", "1", "--epochs", "300", "--jobs", "1", *slow, "--ensemble", "3")
    stores, work = Stores.here(), place / "mlruns" / "work"

    def epochs(member: int) -> int:
        # The name of the refit's study ends in the epochs, which the search has to find first.
        path = next(work.glob(f"killed.refit-0-*/trial-{member:05d}.jsonl"), None)
        return 0 if path is None else path.read_bytes().count(b'"event":"epoch"')

    def trained() -> int:
        return sum(trial.state.name == "COMPLETE" for trial in stores.trials(stores.refit_of("killed")))

    ended: dict[str, int] = {}
    for reached in (lambda: epochs(1) > 20, lambda: epochs(2) > 20, lambda: trained() == 3):
        process = subprocess.Popen(
            sweep_command(*arguments, "--study", "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(reached)
        kill_all(process)
        refits = stores.runs(stores.refit_of("killed"), "trial")
        runs = {run.info.run_id: run.info.end_time for run in refits if run.info.end_time}
        assert ended.items() <= runs.items()  # a network that is on record is not trained again
        ended = runs
    for study in ("killed", "whole"):
        subprocess.run(sweep_command(*arguments, "--study", study), check=True, capture_output=True)
    part, whole = stores.refit_of("killed"), stores.refit_of("whole")
    assert part.removeprefix("killed") == whole.removeprefix("whole")
    assert weights(stores, part) == weights(stores, whole)
    assert left_behind(work / part) == []
    members = stores.runs(part, "trial")
    assert [run.info.status for run in members] == ["FINISHED"] * 3
    steps = [sorted(step for step, _ in stores.history(run, "train_loss")) for run in members]
    assert steps == [list(range(1, len(steps[0]) + 1))] * 3
    assert len(steps[0]) > 40
    subprocess.run(command("doctor"), check=True, capture_output=True)


def weights(stores: Stores, refit: str) -> list[str]:
    """The SHA-256 of the weights of a refit's networks, and last that of their ensemble."""
    (parent,) = stores.runs(refit, "study")
    assert parent.data.tags["members"] == "3"
    runs = [*stores.runs(refit, "trial"), parent]
    return [read_description(artifacts(run) / "checkpoint").sha256 for run in runs]


def confirmed(stores: Stores, study: str) -> object:
    """What the confirmation of a study's best trials has stored with the study."""
    return optuna.load_study(study_name=study, storage=stores.storage).user_attrs["confirmation"]


def refitted(stores: Stores, study: str) -> tuple[str, str]:
    """The trial that was refitted, and the SHA-256 of the refit's weights."""
    (parent,) = stores.runs(study, "study")
    run = stores.client().get_run(parent.data.tags["refit_run_id"])
    return parent.data.tags["refit_trial"], read_description(artifacts(run) / "checkpoint").sha256
