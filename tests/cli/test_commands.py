"""The command line as people use it: as a process, with its exit codes, its output, its signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from harness.sweep.driver import open_study
from harness.sweep.plan import plan_sweep
from tests.support.commands import SWEEP, Harness, command, last_json
from tests.support.stores import Stores
from tests.support.sweeps import FAST, changed

FCNN = (*SWEEP, "--model", "fcnn")


def store() -> MlflowClient:
    return Stores.here().client()


def trials(study: str = "demo-fcnn") -> list[optuna.trial.FrozenTrial]:
    return Stores.here().trials(study)


def test_from_sweep_to_delete(place: Path, inside: Harness) -> None:
    first = inside(*FCNN, "--trials", "3", "--epochs", "3", "--json")
    summary = last_json(first)
    assert set(summary) == {
        "study", "model", "experiment", "fixed", "trials", "known", "stopped", "best", "confirmation", "refit",
        "parent_run_id", "seconds", "tracking_uri",
    }  # fmt: skip
    assert summary["trials"] == {"complete": 3, "pruned": 0, "failed": 0}
    assert set(summary["best"]) == {"run_id", "trial", "params", "val_accuracy", "epoch"}
    assert set(summary["best"]["params"]) == {"lr", "batch_size"}
    assert summary["best"]["val_accuracy"] == max(trial.value or 0 for trial in trials())
    assert "SYNTHETIC" in first.stderr
    assert len(re.findall(r"^trial +\d+ complete", first.stderr, re.MULTILINE)) == 3
    assert "\x1b" not in first.stderr

    again = inside(*FCNN, "--trials", "3", "--epochs", "3")
    assert "already has 3 finished trials of 3" in again.stderr
    assert f"run:  {summary['best']['run_id']}" in again.stdout

    status = inside("status").stdout
    assert "demo-fcnn" in status
    assert max(map(len, status.splitlines())) <= 80
    (overview,) = last_json(inside("status", "--json"))
    assert overview["counts"]["complete"] == 3

    exported = last_json(inside("export", "--study", "demo-fcnn", "--out", "best", "--no-register", "--json"))
    assert exported["run_id"] == summary["best"]["run_id"]
    assert "harness delete demo-fcnn --yes" in inside("delete", "demo-fcnn", code=1).stderr
    assert "4 runs" in inside("delete", "demo-fcnn", "--yes").stdout
    assert "no study" in inside("delete", "demo-fcnn", "--yes", code=1).stderr
    assert store().search_runs([summary_experiment()]) == []
    assert not [path for path in Path("mlruns/artifacts").rglob("*") if path.is_file()]
    assert "no studies yet" in inside("status").stdout


def test_a_worker_joins_a_study(place: Path, inside: Harness) -> None:
    inside(*FCNN, "--trials", "1", "--epochs", "2")
    open_study(plan_sweep(changed(FAST, trials=3, epochs=2)))  # a sweep elsewhere has asked for two more
    assert "3 of 3 trials finished" in inside("worker", "--study", "demo-fcnn", "--jobs", "1").stdout
    Stores.here().check("demo-fcnn", 3, 2)


def summary_experiment() -> str:
    experiment = store().get_experiment_by_name("demo")
    assert experiment is not None
    return str(experiment.experiment_id)


@pytest.mark.process
def test_ctrl_c_and_on(place: Path, inside: Harness) -> None:
    """An interrupted trial goes back with its number and parameters, and its run is the same one afterwards."""
    long = (*FCNN, "--trials", "3", "--epochs", "400", "--jobs", "1")
    process = subprocess.Popen(command(*long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_epochs(place, process)
    for _ in range(2):  # timeout(1) sends it twice: not the second Ctrl-C of somebody who cannot wait
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command again runs them" in out
    states = [trial.state.name for trial in trials()]
    assert states.count("WAITING") == 1
    assert "RUNNING" not in states
    waiting = next(trial for trial in trials() if trial.state.name == "WAITING")
    assert set(waiting.params) == {"lr", "batch_size"}
    runs = store().search_runs([summary_experiment()], "tags.kind = 'trial'")
    interrupted = next(run for run in runs if run.data.tags["trial_state"] == "interrupted")
    assert interrupted.info.status == "KILLED"
    assert store().search_runs([summary_experiment()], "tags.kind = 'study'")[0].info.status == "KILLED"

    inside(*long)
    inside(*long, "--study", "whole")
    assert [trial.params for trial in trials()] == [trial.params for trial in trials("whole")]
    assert [trial.value for trial in trials()] == [trial.value for trial in trials("whole")]
    again = store().get_run(interrupted.info.run_id)
    assert again.info.status == "FINISHED"
    assert again.data.tags["trial_state"] == "complete"
    number = int(again.data.tags["trial"])
    (whole,) = store().search_runs(
        [summary_experiment()], f"tags.study = 'whole' and tags.kind = 'trial' and tags.trial = '{number}'"
    )
    for metric in ("train_loss", "val_loss", "val_accuracy"):
        assert curve(again.info.run_id, metric) == curve(whole.info.run_id, metric)


def curve(run_id: str, metric: str) -> list[tuple[int, float]]:
    points = [(point.step, point.value) for point in store().get_metric_history(run_id, metric)]
    assert [step for step, _ in points] == list(range(1, 401))
    return points


def wait_for_epochs(place: Path, process: subprocess.Popen[str], epochs: int = 40, trials: int = 1) -> None:
    journals = place / "mlruns" / "work" / "demo-fcnn"
    while sum(path.read_bytes().count(b'"epoch"') > 2 * epochs for path in journals.glob("*.jsonl")) < trials:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.process
def test_sigterm_gives_the_trial_back_too(place: Path) -> None:
    long = (*FCNN, "--trials", "2", "--epochs", "4000", "--jobs", "2")
    process = subprocess.Popen(command(*long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_epochs(place, process)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert {trial.state.name for trial in trials()} == {"WAITING"}


@pytest.mark.process
@pytest.mark.skipif(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="these tests run under nohup")
def test_the_end_of_the_terminal_gives_the_trial_back_too(place: Path) -> None:
    """Every process of a command gets SIGHUP then, the workers and what started them as well."""
    long = (*FCNN, "--trials", "2", "--epochs", "4000", "--jobs", "2")
    process = subprocess.Popen(
        command(*long), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for_epochs(place, process, trials=2)
    os.killpg(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 129, err
    assert "Traceback" not in err
    assert {trial.state.name for trial in trials()} == {"WAITING"}
    assert len(list((place / "mlruns" / "work" / "demo-fcnn").glob("trial-*/resume.json"))) == 2


@pytest.mark.process
def test_nohup_is_respected(place: Path) -> None:
    long = (*FCNN, "--trials", "1", "--epochs", "400", "--jobs", "1")
    process = subprocess.Popen(
        ["nohup", *command(*long)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_epochs(place, process)
    os.killpg(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    Stores.here().check("demo-fcnn", 1, 400)


@pytest.mark.parametrize(
    ("arguments", "code", "quoted"),
    [
        (("sweep",), 1, ["no model", "--model fcnn"]),
        (("sweep", "--model", "rnn"), 1, ["'rnn'", "cnn, fcnn"]),
        (("sweep", "--model", "fcnn"), 1, ["harness data fetch", "harness data import", "--data demo"]),
        (("sweep", "--model", "fcnn", "--trials", "x"), 2, ["--trials", "integer"]),
        (("sweep", "--model", "fcnn", "--trials", "0"), 1, ["trials is 0"]),
        (("sweep", "--model", "fcnn", "--config", "none.toml"), 1, ["none.toml"]),
        (("export", "--out", "x"), 2, ["--model, --study and --run"]),
        (("export", "--model", "fcnn", "--out", "x"), 1, ["no MLflow store", "harness sweep"]),
        (("ui",), 1, ["no store", "harness sweep"]),
        (("ui", "--port", "99999"), 2, ["--port", "65535"]),
        (("sweep", "--model", "fcnn", "--jobs", "²"), 1, ["jobs is '²'"]),
        (("delete", "none", "--yes"), 1, ["no studies yet", "harness sweep"]),
        (("data", "check", "nowhere"), 1, ["no data folder"]),
        (("similar", "blues.00000"), 1, ["harness data fetch", "--data demo"]),
        (("similar",), 2, ["TRACK|FILE"]),
        (("similar", "blues.00000", "--top", "0"), 2, ["--top"]),
        (("data", "import", "nowhere.zip"), 1, ["nowhere.zip"]),
        (("nonsense",), 2, ["nonsense"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_leave_nothing_behind(
    tmp_path: Path,
    inside: Harness,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    quoted: list[str],
) -> None:
    (tmp_path / "input").mkdir()
    monkeypatch.chdir(tmp_path)
    done = inside(*arguments, code=code)
    for word in quoted:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    left = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [], left


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (("--study", ""), ["study"]),
        (("--search", "lr=1e-2"), ["one value", "--set lr=1e-2"]),
        (("--set", "optimzer=sgd"), ["optimizer, if that was meant"]),
        (("--without", "lenght"), ["length, if that was meant", "and 50 others"]),
    ],
)
@pytest.mark.usefixtures("place")
def test_mistakes_in_a_sweep_name_what_was_meant(
    inside: Harness, arguments: tuple[str, ...], quoted: list[str]
) -> None:
    shown = inside("sweep", "--model", "fcnn", "--data", "demo", *arguments, code=1).stderr
    for word in quoted:
        assert word in shown
    assert last_json(inside("status", "--json")) == []


@pytest.mark.usefixtures("place")
def test_a_dry_run_says_what_would_be_done_and_begins_nothing(inside: Harness) -> None:
    words = ("sweep", "--model", "fcnn", "--data", "demo", "--trials", "3", "--epochs", "2", "--jobs", "1")
    shown = inside(*words, "--folds", "2", "--search", "dropout=0:0.5", "--dry-run")
    assert "fcnn on demo: 300 tracks" in shown.stderr
    for line in (
        "study   demo-fcnn, experiment demo, 58 feature columns: new",
        "search  dropout: 0 to 0.5",
        "trials  3 of at most 2 epochs on 2 folds, sampler tpe, pruner median; jobs 1 on cpu, fp32",
        "then    the 5 best trials again, on fresh folds",
        "nothing was begun",
    ):
        assert line in shown.stdout
    assert last_json(inside("status", "--json")) == []
    inside(*words)
    assert "3 of 5 trials have finished" in inside(*words[:6], "5", *words[7:], "--dry-run").stdout
    assert "epochs: the study has 2" in inside(*words[:-3], "9", "--dry-run", code=1).stderr


def test_a_sweep_that_cannot_begin_leaves_no_study(place: Path, inside: Harness) -> None:
    # So many epochs that no trial ends before the server is missed: a study with a trial that ended stays.
    words = ("sweep", "--model", "fcnn", "--data", "demo", "--trials", "1", "--jobs", "1", "--epochs", "100000")
    failed = inside(*words, "--tracking-uri", "http://127.0.0.1:1", code=1).stderr
    assert "127.0.0.1:1" in failed
    assert last_json(inside("status", "--json")) == []
    assert list((place / "mlruns" / "work").glob("[!.]*")) == []
    inside("doctor")
    inside(*words[:-1], "3")  # other settings, and no study in the way
    (line,) = last_json(inside("status", "--json"))
    assert line["counts"]["complete"] == 1
    # A study that has trials stays as it is.
    inside(*words[:-1], "3", "--trials", "2", "--tracking-uri", "http://127.0.0.1:1", code=1)
    (line,) = last_json(inside("status", "--json"))
    assert line["counts"]["complete"] == 1


@pytest.mark.usefixtures("place")
def test_status_says_what_is_left(inside: Harness) -> None:
    words = ("sweep", "--model", "fcnn", "--data", "demo", "--jobs", "1", "--epochs", "2")
    inside(*words, "--trials", "2")
    assert "trials have finished" not in inside("status").stdout
    inside(*words, "--trials", "4", "--timeout", "1e-9")
    assert "demo-fcnn: 2 of 4 trials have finished" in inside("status").stdout
    trials = Stores.here().trials("demo-fcnn")
    found = last_json(inside("status", "demo-fcnn", "--json"))
    assert [(line["trial"], line["val_accuracy"], line["params"]) for line in found] == [
        (trial.number, trial.value, trial.params) for trial in trials
    ]
    assert {(line["state"], line["reason"]) for line in found} == {("complete", None)}
    shown = inside("status", "demo-fcnn").stdout
    assert "│ complete │" in shown
    assert (
        f"best: trial {max(found, key=lambda line: line['val_accuracy'])['trial']}, validation accuracy" in shown
    )
    assert "there is no study 'none'" in inside("status", "none", code=1).stderr
    ended = inside(*words, "--trials", "1")
    assert "study demo-fcnn: 2 trials finished" in ended.stdout


def test_environment_over_file_and_flag_over_environment(place: Path, inside: Harness) -> None:
    Path("s.toml").write_text('model = "fcnn"\ndata = "demo"\ntrials = 3\nepochs = 2\npruner = "none"\n')
    summary = last_json(inside("sweep", "--config", "s.toml", "--epochs", "1", "--json", HARNESS_TRIALS="2"))
    assert summary["trials"]["complete"] == 2
    run = store().get_run(summary["best"]["run_id"])
    assert run.data.params["epochs"] == "1"


def test_data_check(demo_data: Path, inside: Harness) -> None:
    out = inside("data", "check", str(demo_data)).stdout
    assert "SYNTHETIC" in out
    assert "300 with 58 feature columns and pictures" in out
    assert re.search(r"digest +[0-9a-f]{64}", out)


def test_data_demo_and_import(workspace: Path, inside: Harness) -> None:
    assert "300" in inside("data", "demo").stdout
    assert "there already" in inside("data", "demo", code=1).stderr
    assert "300" in inside("data", "import", "input/demo", "--out", "mine").stdout


def test_data_check_on_gtzan(gtzan: Path, inside: Harness) -> None:
    lists = gtzan / "splits" / "fault-filtered"
    out = inside("data", "check", str(gtzan), "--split", str(lists)).stdout
    assert "999 with 58 feature columns and pictures" in out
    assert out.count("identical") == 14
    assert "jazz.00054: features but no picture" in out
    assert "442 train, 197 validation, 290 test" in out


@pytest.mark.parametrize(
    "name",
    [
        "",
        "sweep",
        "status",
        "ui",
        "export",
        "delete",
        "data",
        "data check",
        "data import",
        "data extract",
        "predict",
        "similar",
        "compare",
        "reproduce",
        "worker",
        "doctor",
    ],
)
def test_help_fits_eighty_columns_and_gives_an_example(inside: Harness, name: str) -> None:
    out = inside(*name.split(), "--help").stdout
    assert max(map(len, out.splitlines())) <= 80
    if name not in ("", "data"):
        assert f"Example: harness {name}" in re.sub(r"\s+", " ", out)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv[1:] = ['sweep', '--help']\n"
        "from harness.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'mlflow', 'optuna', 'pandas', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.long
def test_the_ui_serves_the_right_store(place: Path, inside: Harness) -> None:
    summary = last_json(inside(*FCNN, "--trials", "1", "--epochs", "1", "--json"))
    for module in ("mlflow", "optuna", "uvicorn"):  # must not run in place of the libraries
        Path(f"{module}.py").write_text(f"open({module + '.ran'!r}, 'w')\n")
    # A session of its own, so that the server's workers end with it.
    with Path("messages").open("w") as messages:
        server = subprocess.Popen(
            command("ui"), stdout=subprocess.PIPE, stderr=messages, text=True, start_new_session=True
        )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        assert address.startswith("http://127.0.0.1:")
        request = urllib.request.Request(f"{address}/api/2.0/mlflow/runs/get?run_id={summary['best']['run_id']}")
        run = json.loads(answer(request, server))
        assert {"key": "study", "value": "demo-fcnn"} in run["run"]["data"]["tags"]
        assert "<title>MLflow</title>" in answer(urllib.request.Request(address), server)
        port = address.rpartition(":")[2]
        assert host_answers(address, f"localhost:{port}") == 200
        for host in ("10.evil.com", "192.168.evil.com", f"10.evil.com:{port}", f"localhost:{port}.evil.com"):
            assert host_answers(address, host) == 403, host
        for host in ("localhost:x.evil.com", "localhost", "127.0.0.1", "evil.com", f"127.0.0.1:{port}.evil.com"):
            assert host_answers(address, host) == 403, host
        assert "every user of this machine can read and change the store" in Path("messages").read_text()
        assert list(Path.cwd().glob("*.ran")) == []
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
        if server.stdout is not None:
            server.stdout.close()


def host_answers(address: str, host: str) -> int:
    """The status of the answer to a request whose Host header a page of that name would send."""
    request = urllib.request.Request(f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0")
    request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def answer(request: urllib.request.Request, server: subprocess.Popen[str]) -> str:
    for _ in range(240):
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError:
            raise
        except OSError:  # not listening yet
            assert server.poll() is None
            time.sleep(0.25)
    pytest.fail("the UI did not come up")


@pytest.mark.process
def test_two_sweeps_of_one_study_at_once(place: Path) -> None:
    together = (*FCNN, "--trials", "14", "--epochs", "60", "--jobs", "1")
    processes = [
        subprocess.Popen(command(*together), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        _, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
    assert [trial.state.name for trial in trials()] == ["COMPLETE"] * 14
    runs = store().search_runs([summary_experiment()], "tags.kind = 'trial'")
    assert sorted(int(run.data.tags["trial"]) for run in runs) == list(range(14))
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        points = store().get_metric_history(run.info.run_id, "val_loss")
        assert [point.step for point in points] == list(range(1, 61))
    assert not list((place / "mlruns" / "work" / "demo-fcnn").glob("trial-*"))
