"""`harness compare` on real stores: what it records, what it reuses, what it refuses, what it survives."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Harness, Server, command, last_json
from invariants import Stores, family, kill_all, wait_for
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.compare import CompareSettings, ComparisonPlan, plan_comparison
from harness.compare.choose import draw_split
from harness.compare.leaks import leak_warnings
from harness.compare.repeats import RepeatTask, do_repeats, read_repeat, repeat_path
from harness.compare.warnings import split_warnings
from harness.core.errors import DataError, HarnessError, SettingsError, StudyError
from harness.core.records import Split, WorkerId
from harness.core.stats import corrected_resampled_t
from harness.data import DEMO_FOLDER, Tracks, load_tracks, stratified_split
from harness.sweep.driver import open_study, run_sweep
from harness.sweep.plan import plan_sweep
from harness.sweep.settings import SweepSettings

FAST = SweepSettings(model="fcnn", trials=2, epochs=4, jobs=1, pruner="none", data="demo")
BASELINES = ["majority", "logistic regression", "RBF SVM", "random forest", "gradient boosting"]


def sweep(**changes: Any) -> None:
    plan = plan_sweep(replace(FAST, **changes))
    run_sweep(plan, open_study(plan))


@pytest.fixture(scope="module")
def studies(empty_stores: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two studies of the demo set; the tests below share it, each with comparisons of its own."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "mlruns").mkdir()
    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(empty_stores / name, folder / "mlruns" / name)
    (folder / "input").mkdir()
    (folder / DEMO_FOLDER).symlink_to(demo_data)
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    sweep(study="one")
    sweep(study="two", seed=1)
    yield folder
    patch.undo()


def repeats(run_id: str) -> list[Run]:
    client = Stores.here().client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(ids, f"tags.kind = 'repeat' and tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(found, key=lambda run: (run.data.tags["candidate"], int(run.data.tags["repeat"])))


def artifact(run_id: str, name: str, folder: Path) -> Path:
    return Path(Stores.here().client().download_artifacts(run_id, name, str(folder)))


def test_the_whole_of_it(studies: Path, inside: Harness, tmp_path: Path, demo_tracks: Tracks) -> None:
    process = inside("compare", "--study", "one", "--study", "two", "--repeats", "3", "--json")
    found = last_json(process)
    assert [(model["name"], model["study"]) for model in found["models"]] == [("one", "one"), ("two", "two")]
    assert [row["name"] for row in found["baselines"]] == BASELINES
    assert found["synthetic"] is True
    client = Stores.here().client()
    parent = client.get_run(found["run_id"])
    assert (parent.info.status, parent.data.tags["verdict"]) == ("FINISHED", found["verdict"])
    assert found["verdict"] in parent.data.tags["mlflow.note.content"]

    runs = repeats(found["run_id"])
    assert len(runs) == 3 * 7
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["test_openings"] for run in runs} == {"1"}
    accuracies: dict[str, list[float]] = {}
    for run in runs:
        accuracies.setdefault(run.data.tags["candidate"], []).append(run.data.metrics["test_accuracy"])
    # The same split and, for studies of the same seed, the same seed in the same repeat.
    splits = {(run.data.tags["repeat"], run.data.tags["split_digest"]) for run in runs}
    assert len(splits) == 3
    for model in found["models"] + found["baselines"]:
        values = accuracies[model["name"]]
        assert model["test"]["mean"] == pytest.approx(np.mean(values))
        assert model["test"]["std"] == pytest.approx(np.std(values, ddof=1))
        low, high = model["test"]["interval"]
        assert 0 <= low <= model["test"]["mean"] <= high <= 1
    majority = found["baselines"][0]
    assert majority["test"]["mean"] == pytest.approx(0.1, abs=0.02)

    # The pair, by hand: from the repeats on record to the interval.
    (pair,) = found["pairs"]
    assert (pair["a"], pair["b"], pair["repeats"]) == ("one", "two", 3)
    differences = [x - y for x, y in zip(accuracies["one"], accuracies["two"], strict=True)]
    split = stratified_split(demo_tracks, seed=0)
    expected = corrected_resampled_t(differences, len(split.train), len(split.test))
    assert pair["difference"] == pytest.approx(np.mean(differences))
    assert (pair["low"], pair["high"]) == pytest.approx((expected.low, expected.high))
    assert pair["wins"] == sum(difference > 0 for difference in differences)
    assert pair["winner"] is None or {"one": pair["low"] > 0, "two": pair["high"] < 0}[pair["winner"]]

    # Each epoch of a study's repeat is on record once.
    for run in runs:
        if run.data.tags["of_study"]:
            points = client.get_metric_history(run.info.run_id, "val_accuracy")
            assert sorted(point.step for point in points) == [1, 2, 3, 4]
            assert run.data.metrics["best_val_accuracy"] == max(point.value for point in points)

    with artifact(found["run_id"], "predictions.csv", tmp_path).open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 7 * 3 * len(split.test)
    for name in ("one", "random forest"):
        for number in range(3):
            mine = [line for line in lines if (line["name"], line["repeat"]) == (name, str(number))]
            assert np.mean([line["genre"] == line["predicted"] for line in mine]) == accuracies[name][number]
            assert all(line["track"].startswith(f"{line['genre']}.") for line in mine)
    stored = {file.path for file in client.list_artifacts(found["run_id"])}
    assert {"report.html", "comparison.json", "confusion.png", "learning_curves.png", "trials.png"} <= stored
    assert json.loads(artifact(found["run_id"], "comparison.json", tmp_path).read_text()) == found
    assert not (studies / "mlruns" / "work" / ".comparisons").exists() or not list(
        (studies / "mlruns" / "work" / ".comparisons").iterdir()
    )


def test_again_trains_nothing_and_more_repeats_only_those(studies: Path, inside: Harness) -> None:
    arguments = ["compare", "--study", "one", "--study", "two", "--no-baselines", "--json", "--repeats"]
    first = last_json(inside(*arguments, "2"))
    before = {run.info.run_id: run.info.end_time for run in repeats(first["run_id"])}
    again = last_json(inside(*arguments, "2"))
    assert again == first
    assert {run.info.run_id: run.info.end_time for run in repeats(first["run_id"])} == before
    more = last_json(inside(*arguments, "4"))
    assert more["run_id"] == first["run_id"]
    after = {run.info.run_id: run.info.end_time for run in repeats(first["run_id"])}
    assert before.items() <= after.items()
    studied = [run for run in repeats(first["run_id"]) if run.data.tags["of_study"]]
    assert len(studied) == 2 * 4


def test_what_is_printed_fits_80_columns(studies: Path, inside: Harness) -> None:
    process = inside("compare", "--study", "one", "--study", "two", "--repeats", "2")
    tables, _, rest = process.stdout.partition("the data are SYNTHETIC")
    assert all(len(line) <= 80 for line in tables.splitlines())
    assert "\x1b" not in process.stdout
    assert "has been opened" in rest
    assert "gradient boosting" in tables
    assert not re.search(r"-0\.0\b", process.stdout)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_stands_alone(studies: Path, inside: Harness, tmp_path: Path) -> None:
    out = tmp_path / "report"
    found = last_json(
        inside("compare", "--study", "one", "--study", "two", "--repeats", "2", "--json", "--out", str(out))
    )
    text = (out / "report.html").read_text()
    page = Page(text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 6
    for image in images:
        assert (image["src"] or "").startswith("data:image/png;base64,")
        assert len(image["alt"] or "") > 40
    assert not [tag for tag, attributes in page.tags if tag in ("script", "link", "iframe")]
    addresses = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all((address or "").startswith("data:") for address in addresses)
    assert ("html", {"lang": "en"}) in page.tags
    assert any(tag == "meta" and attributes.get("name") == "viewport" for tag, attributes in page.tags)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert found["verdict"] in text
    assert "Synthetic data" in text
    assert len(list(out.glob("*.png"))) == 6


def plan(**changes: Any) -> ComparisonPlan:
    return plan_comparison(CompareSettings(**{"studies": ("one", "two"), **changes}))


def test_redrawn_splits_keep_out_what_chose_the_settings(studies: Path) -> None:
    found = plan(repeats=6)
    assert len({split.digest for split in found.splits}) == 6
    for split in found.splits:
        assert not set(split.test) & set(found.split.valid)
        assert not set(split.train) & set(split.test)
    longer = plan(repeats=8)
    assert longer.splits[:6] == found.splits
    assert longer.identity == found.identity


def test_by_default_the_newest_finished_study_of_each_model(studies: Path) -> None:
    with pytest.raises(StudyError, match=r"finished studies of 1 model.*two \(fcnn\)"):
        plan(studies=(), experiment="demo")
    with pytest.raises(StudyError, match="experiment 'gtzan' has finished studies of 0"):
        plan(studies=())


def refused(kind: type[HarnessError], match: str, **changes: Any) -> None:
    before = Stores.here().client().search_runs(["0", "1"], "tags.kind = 'comparison'")
    with pytest.raises(kind, match=match):
        plan(**changes)
    assert len(Stores.here().client().search_runs(["0", "1"], "tags.kind = 'comparison'")) == len(before)


def test_what_is_refused(studies: Path, demo_copy: Path) -> None:
    sweep(study="other-split", split_seed=1)
    refused(StudyError, r"differ in split.*(?s:.)*--split-seed", studies=("one", "other-split"))
    csv_file = demo_copy / "features_30_sec.csv"
    csv_file.write_text("\n".join(csv_file.read_text().splitlines()[:-1]) + "\n")
    sweep(study="other-data", data=str(demo_copy), experiment="demo")
    refused(StudyError, "differ in data", studies=("one", "other-data"))
    refused(DataError, "holds other data", data=str(demo_copy))
    refused(StudyError, "two or more different studies", studies=("one",))
    refused(StudyError, "two or more different studies", studies=("one", "one"))
    refused(StudyError, "there is no study 'nothing'", studies=("one", "nothing"))
    refused(SettingsError, "repeats is 1", repeats=1)


def test_names_that_would_clash(studies: Path) -> None:
    sweep(study="cnn", trials=1)  # named as another study's model is
    sweep(study="majority", trials=1, seed=1)
    sweep(study="pictures", model="cnn", trials=1, epochs=1)
    named = [candidate.name for candidate in plan(studies=("one", "cnn", "pictures")).candidates]
    assert named == ["one", "cnn", "pictures", *BASELINES]
    named = [candidate.name for candidate in plan(studies=("one", "majority")).candidates]
    assert named == ["one", "majority", "majority (reference)", *BASELINES[1:]]


def test_the_order_of_studies_makes_no_other_comparison(studies: Path) -> None:
    one, other = plan(studies=("one", "two")), plan(studies=("two", "one"))
    assert one.identity == other.identity
    folder = Path("work")
    for a, b in zip(one.candidates[:2], reversed(other.candidates[:2]), strict=True):
        assert repeat_path(folder, a, 0) == repeat_path(folder, b, 0)
        assert a.config is not None
        fewer_cores = replace(a, config=replace(a.config, threads=a.config.threads + 1))
        assert repeat_path(folder, fewer_cores, 0) == repeat_path(folder, a, 0)


def test_what_would_be_missed_after_all_training_is_refused_before(
    studies: Path, tmp_path: Path, inside: Harness
) -> None:
    file = tmp_path / "net.py"
    code = (Path(__file__).parents[1] / "experiments" / "residual_mlp.py").read_text()
    file.write_text(code)
    sweep(study="of-a-file", model=f"{file}:ResidualMLP", trials=1, epochs=1)
    plan(studies=("one", "of-a-file"))
    file.write_text(code + "\n# changed\n")
    refused(StudyError, "is not the code that study 'of-a-file' was made with", studies=("one", "of-a-file"))
    inside("delete", "of-a-file", "--yes")
    sweep(study="bare", trials=1)
    client = Stores.here().client()
    run = next(run for run in Stores.here().runs("bare", "trial"))
    client.set_tag(run.info.run_id, "checkpoint", "removed")
    refused(StudyError, "was removed by --keep", studies=("one", "bare"))


def test_what_deleted_runs_have_seen_stays_seen(studies: Path, inside: Harness) -> None:
    def opened() -> int:
        found = last_json(inside("compare", *pair, "--repeats", "2", "--no-baselines", "--json"))
        return int(found["test_openings"]["own_split"])

    sweep(study="seen", trials=1)
    pair = ("--study", "one", "--study", "two")
    before = opened()
    inside("export", "--study", "seen", "--out", "seen", "--no-register")
    inside("delete", "seen", "--yes")
    assert opened() == before + 1


def test_where_studies_and_data_are_looked_for(studies: Path, inside: Harness, demo_data: Path) -> None:
    nothing = inside("compare", "--experiment", "nowhere", code=1).stderr
    assert "there are others in demo" in nothing
    # A folder of synthetic data by its path means the experiment of the synthetic set.
    sweep(study="newest", trials=1)
    sweep(study="newest-pictures", model="cnn", trials=1, epochs=1)
    found = plan(studies=(), data=str(demo_data))
    assert {"newest", "newest-pictures"} <= {study.spec.name for study in found.compared}
    Path("file").touch()
    assert "--out file is a file" in inside("compare", "--out", "file", code=2).stderr


def test_unlike_studies_are_warned_of(studies: Path) -> None:
    sweep(study="longer", epochs=5, trials=3)
    warnings = plan(studies=("one", "longer")).warnings
    assert any("budgets differ: one has 2 trials, longer 3" in warning for warning in warnings)
    assert any("epochs differ: one trains 4, longer 5" in warning for warning in warnings)
    edge = {"lr": {"low": 1e-3, "high": 1e-1}, "batch_size": [32]}
    sweep(study="edge", search=edge, trials=1)  # its one trial is the report's setting, at the lower end
    assert any("edge of its range" in warning for warning in plan(studies=("one", "edge")).warnings)


def test_a_column_that_tells_the_genre_is_named(demo_tracks: Tracks) -> None:
    split = stratified_split(demo_tracks, seed=0)
    assert demo_tracks.features is not None
    spoilt = demo_tracks.features.copy()
    spoilt[:, demo_tracks.columns.index("tempo")] = demo_tracks.labels
    (warning,) = leak_warnings(replace(demo_tracks, features=spoilt), split, ("tempo", "rms_mean"))
    assert "'tempo' alone predicts the genre at 100 %" in warning
    assert leak_warnings(demo_tracks, split, ("rms_mean",)) == []


def test_length_is_named_on_the_real_data(gtzan: Path) -> None:
    tracks = load_tracks(gtzan)
    (warning,) = leak_warnings(tracks, stratified_split(tracks, seed=0), tracks.columns)
    assert "'length' alone predicts the genre at 2" in warning


def lists(folder: Path, split: Split) -> Path:
    folder.mkdir()
    for part in ("train", "valid", "test"):
        tracks = [f"{track.partition('.')[0]}/{track}.wav" for track in getattr(split, part)]
        (folder / f"{part}.txt").write_text("\n".join(tracks) + "\n")
    return folder


def test_on_lists_the_seed_alone_varies(
    studies: Path, inside: Harness, tmp_path: Path, demo_tracks: Tracks
) -> None:
    folder = str(lists(tmp_path / "lists", stratified_split(demo_tracks, seed=5)))
    sweep(study="listed", split=folder)
    sweep(study="listed-too", split=folder, seed=3)
    assert draw_split(demo_tracks, plan(studies=("listed", "listed-too")).split, 7).name == "lists, lists"
    pair = ["--study", "listed", "--study", "listed-too"]
    found = last_json(inside("compare", *pair, "--repeats", "3", "--no-baselines", "--json"))
    runs = [run for run in repeats(found["run_id"]) if run.data.tags["of_study"] == "listed"]
    assert len({run.data.tags["split_digest"] for run in runs}) == 1
    assert len({run.data.params["seed"] for run in runs}) == 3
    assert found["split"] == {"name": "lists, lists", "redrawn": False}
    assert "seeds" in found["verdict"]
    # Both best checkpoints, and three repeats of both, have seen this one test part.
    assert found["test_openings"]["own_split"] == 2 + 3 * 2


def test_identical_tracks_on_two_sides_are_warned_of(demo_tracks: Tracks) -> None:
    split = stratified_split(demo_tracks, seed=5)
    torn = replace(demo_tracks, duplicates=((split.train[0], split.test[0]), (split.train[1], split.train[2])))
    (warning,) = split_warnings(torn, split)
    assert warning.startswith("1 group(s) of identical tracks lie on two sides of the split: ")
    assert split_warnings(demo_tracks, split) == []


def test_a_diverging_repeat_counts_as_guessing(studies: Path, tmp_path: Path, demo_tracks: Tracks) -> None:
    found = plan(repeats=2)
    candidate = found.candidates[0]
    assert candidate.config is not None
    wild = replace(candidate, config=replace(candidate.config, params={"lr": 1e30}))
    task = RepeatTask(
        candidates=(wild,),
        splits=found.splits,
        todo=((0, 0),),
        tracks=demo_tracks,
        folder=tmp_path,
        device="cpu",
        threads=1,
        worker_id=WorkerId(),
    )
    do_repeats(task, threading.Event())
    events = read_repeat(repeat_path(tmp_path, wild, 0))
    assert events is not None
    assert [event["event"] for event in events if event["event"] != "epoch"] == ["start", "test", "end"]
    assert (events[-1]["state"], len(set(events[-1]["test"]))) == ("diverged", 1)
    assert len(events[-1]["test"]) == len(found.splits[0].test)
    assert "is nan" in events[-1]["reason"] or "is inf" in events[-1]["reason"]


def test_killed_and_run_again(studies: Path, inside: Harness) -> None:
    """Every process is killed in mid-repeat; the same command does what is missing, and each repeat once."""
    sweep(study="slow", epochs=60, trials=1)
    sweep(study="slow-too", epochs=60, trials=1, seed=1)
    arguments = ["compare", "--study", "slow", "--study", "slow-too", "--repeats", "3"]
    arguments += ["--json", "--no-baselines"]
    planned = plan(studies=("slow", "slow-too"), repeats=3)
    folder = studies / "mlruns" / "work" / ".comparisons" / planned.identity
    journal = repeat_path(folder, planned.candidates[1], 0)
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: journal.exists() and journal.stat().st_size > 2000)
    kill_all(process)
    report = inside("doctor", code=1).stdout
    assert "of a comparison was RUNNING, and no process is at it" in report
    assert folder.with_suffix(".lock").exists()  # reporting removes nothing
    inside("doctor", "--fix")
    assert inside("doctor").stdout == "nothing is wrong\n"

    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for(lambda: bool(family(process.pid)) and (folder.with_suffix(".lock")).exists())
    wait_for(lambda: len(list(folder.glob("*.jsonl"))) > 3)
    process.send_signal(signal.SIGSTOP)  # however fast the machine, it is not over meanwhile
    second = inside(*arguments, code=1)
    assert "another process is at work on this comparison" in second.stderr
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert b"the same command again" in errors

    found = last_json(inside(*arguments))
    runs = repeats(found["run_id"])
    assert len(runs) == 3 * 2
    assert len({(run.data.tags["candidate"], run.data.tags["repeat"]) for run in runs}) == 3 * 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        points = Stores.here().client().get_metric_history(run.info.run_id, "val_loss")
        assert sorted(point.step for point in points) == list(range(1, 61))

    process = subprocess.Popen(
        command(*arguments, "--repeats", "4"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    while b"(8 of 8)" not in (line := process.stderr.readline()):
        assert line, "it ended before its last repeat"
    process.send_signal(signal.SIGTERM)  # while it sums up
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert b"error: interrupted; " in errors
    assert Stores.here().client().get_run(found["run_id"]).info.status == "KILLED"
    inside(*arguments, "--repeats", "4")
    assert Stores.here().client().get_run(found["run_id"]).info.status == "FINISHED"
    assert len(repeats(found["run_id"])) == 4 * 2
    assert inside("doctor").stdout == "nothing is wrong\n"


def test_on_a_database_server_and_an_mlflow_server(
    place: Path, harness: Harness, mlflow_server: Server, new_database: Callable[[], str]
) -> None:
    stores = ["--storage", new_database(), "--tracking-uri", mlflow_server.url]
    for study, seed in (("a", "0"), ("b", "1")):
        words = ["--model", "fcnn", "--data", "demo", "--trials", "1", "--epochs", "2", "--seed", seed]
        assert last_json(harness("sweep", "--study", study, *words, *stores, "--json"))["trials"]["complete"] == 1
    arguments = ["compare", "--study", "a", "--study", "b", "--repeats", "2", "--no-baselines", "--json", *stores]
    found = last_json(harness(*arguments))
    assert [model["study"] for model in found["models"]] == ["a", "b"]
    client = MlflowClient(mlflow_server.url)
    assert client.get_run(found["run_id"]).info.status == "FINISHED"
    assert "report.html" in {file.path for file in client.list_artifacts(found["run_id"])}
    assert last_json(harness(*arguments)) == found
