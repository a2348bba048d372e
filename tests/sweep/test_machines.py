"""Several machines on one study: a real PostgreSQL, a real MLflow server, working folders of their own."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from harness.data import DEMO_FOLDER
from tests.support.commands import Harness, command, last_json
from tests.support.processes import kill_all, wait_for, workers
from tests.support.servers import Server, running_postgres
from tests.support.stores import Stores, epochs_on_record, left_behind

STUDY = "shared"


class Machine:
    """A working folder with processes of its own, sharing nothing with others but the two servers."""

    def __init__(self, folder: Path, stores: Stores, demo_data: Path) -> None:
        self.folder = folder
        self.options = ["--storage", stores.storage, "--tracking-uri", stores.tracking, "--study", STUDY]
        (folder / "input").mkdir(parents=True)
        (folder / DEMO_FOLDER).symlink_to(demo_data)
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(name, *self.options, *arguments),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    @property
    def work_folder(self) -> Path:
        (found,) = self.work_folders()
        return found

    def work_folders(self) -> list[Path]:
        return list(Path(self.folder, "mlruns").glob(f"*.work/{STUDY}/*"))

    def is_training(self) -> bool:
        return any(epochs_on_record(found) for found in self.work_folders())

    def kill_all(self) -> None:
        """What a power cut does."""
        for process in self.processes:
            kill_all(process)


def end_of(process: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


@pytest.fixture
def stores(new_database: Callable[[], str], mlflow_server: Server) -> Stores:
    return Stores(new_database(), mlflow_server.url)


@pytest.fixture
def machine(stores: Stores, demo_data: Path, tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    made = []

    def make(name: str) -> Machine:
        made.append(Machine(tmp_path / name, stores, demo_data))
        return made[-1]

    yield make
    for each in made:
        for process in each.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


SWEEP = ["--data", "demo", "--model", "fcnn", "--pruner", "none", "--jobs", "1"]


def test_a_worker_is_killed_and_a_machine_is_lost(stores: Stores, machine: Callable[[str], Machine]) -> None:
    total, epochs = 10, 400
    first, second, third = machine("first"), machine("second"), machine("third")
    sweep = first.start("sweep", *SWEEP, "--trials", str(total), "--epochs", str(epochs))
    wait_for(first.is_training)
    joined = second.start("worker", "--jobs", "1")
    third.start("worker", "--jobs", "1")
    wait_for(second.is_training)
    (victim,) = workers(second.work_folder, joined.pid)
    os.kill(victim, signal.SIGKILL)  # in mid-epoch; its machine lives, and so gives its trial back at once
    wait_for(third.is_training)
    third.kill_all()  # nobody is left to say so: the lease tells, once it has run out
    end_of(sweep)
    end_of(joined)
    stores.check(STUDY, total, epochs)
    assert left_behind(first.work_folder) == left_behind(second.work_folder) == []


def test_a_machine_goes_on_where_another_was_told_to_stop(
    stores: Stores, machine: Callable[[str], Machine]
) -> None:
    options = [*SWEEP, "--trials", "1", "--epochs", "600"]
    first, second = machine("first"), machine("second")
    sweep = first.start("sweep", *options)
    wait_for(lambda: first.is_training() and epochs_on_record(first.work_folder) >= 3)
    sweep.send_signal(signal.SIGTERM)
    assert "the same command again runs them" in end_of(sweep, 143)
    (run,) = stores.runs(STUDY, "trial")
    assert (run.info.status, run.data.tags["trial_state"]) == ("KILLED", "interrupted")
    kept = [file.path for file in stores.client().list_artifacts(run.info.run_id, "resume")]
    assert "resume/resume.json" in kept
    done = len(stores.client().get_metric_history(run.info.run_id, "val_loss"))
    assert f"resume/resume-{done:05d}.safetensors" in kept
    end_of(second.start("worker"))
    stores.check(STUDY, 1, 600)
    (run,) = stores.runs(STUDY, "trial")
    assert run.data.tags["resumed_after_epoch"] == str(done)
    # The numbers are those of one machine.
    end_of(machine("whole").start("sweep", *options, "--study", "whole"))
    stores.same_numbers(STUDY, "whole")


def test_trials_that_pause_go_on_on_another_machine(stores: Stores, machine: Callable[[str], Machine]) -> None:
    """One machine is lost while trials of its own pause; another goes on with them from what MLflow has."""
    first, second = machine("first"), machine("second")
    options = ["--data", "demo", "--model", "fcnn", "--pruner", "asha", "--jobs", "1"]
    first.start("sweep", *options, "--trials", "30", "--epochs", "900")

    def paused() -> int:
        return sum(trial.state == TrialState.WAITING for trial in stores.trials(STUDY))

    wait_for(lambda: first.is_training() and paused() >= 3)
    first.kill_all()
    waiting = {trial.number for trial in stores.trials(STUDY) if trial.state == TrialState.WAITING}
    for run in stores.runs(STUDY, "trial"):
        if int(run.data.tags["trial"]) in waiting:
            kept = [file.path for file in stores.client().list_artifacts(run.info.run_id, "resume")]
            assert "resume/resume.json" in kept
    end_of(second.start("worker"))
    trained = stores.check_halved(STUDY, 30, (4, 11, 33, 100, 300), 900, lost=True)
    assert set(trained) >= {4, 11}
    resumed = [run.data.tags.get("resumed_after_epoch") for run in stores.runs(STUDY, "trial")]
    assert {"4", "11"} & set(resumed)
    assert left_behind(second.work_folder) == []


def test_every_command_on_servers(stores: Stores, machine: Callable[[str], Machine], harness: Harness) -> None:
    first = machine("first")
    end_of(first.start("sweep", *SWEEP, "--trials", "2", "--epochs", "2"))
    at = ["--storage", stores.storage, "--tracking-uri", stores.tracking]
    status = last_json(harness("status", "--storage", stores.storage, "--json"))
    assert [study["name"] for study in status] == [STUDY]
    assert harness("doctor", *at).stdout == "nothing is wrong\n"
    out = first.folder / "best"
    harness(
        "export", "--study", STUDY, "--tracking-uri", stores.tracking, "--data", str(first.folder / DEMO_FOLDER),
        "--out", str(out),
    )  # fmt: skip
    assert (out / "model.safetensors").is_file()
    assert "its UI is at http://" in harness("ui", "--tracking-uri", stores.tracking).stdout
    (run, _) = stores.runs(STUDY, "trial")
    harness("delete", STUDY, "--yes", *at)
    assert stores.runs(STUDY, "trial") == []
    assert not stores.client().list_artifacts(run.info.run_id, "checkpoint")
    assert last_json(harness("status", "--storage", stores.storage, "--json")) == []


@pytest.mark.machines
def test_a_database_that_goes_away(tmp_path: Path, demo_data: Path) -> None:
    with running_postgres() as server:
        storage = server.get_uri()  # as a user writes it, without the driver
        stores = Stores(
            storage.replace("postgresql:", "postgresql+psycopg:"), f"sqlite:///{tmp_path}/mlruns/mlflow.db"
        )
        machine = Machine(tmp_path, Stores(storage, stores.tracking), demo_data)
        options = [*SWEEP, "--trials", "3", "--epochs", "300"]
        sweep = machine.start("sweep", *options)
        wait_for(machine.is_training)
        server.stop()
        output = end_of(sweep, 1)
        assert "error: Optuna's storage" in output
        assert "Traceback" not in output
        server.start()
        end_of(machine.start("sweep", *options))
        stores.check(STUDY, 3, 300)


def test_other_data_are_refused(
    stores: Stores, machine: Callable[[str], Machine], demo_copy: Path, harness: Harness
) -> None:
    first = machine("first")
    end_of(first.start("sweep", *SWEEP, "--trials", "1", "--epochs", "1"))
    csv = demo_copy / "features_30_sec.csv"
    csv.write_text(csv.read_text().replace("0.1", "0.2"))
    output = end_of(first.start("worker", "--data", str(demo_copy)), 1)
    assert "holds other data than the study was made on" in output
    assert "no study 'none'" in harness("worker", *first.options, "--study", "none", code=1).stderr
