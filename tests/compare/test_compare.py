"""`harness compare` on real stores: what it records, what it reuses, what it refuses, what it survives."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from harness.compare.choose import draw_splits
from harness.compare.run import run_comparison
from harness.core.errors import SettingsError, StudyError
from harness.core.events import (
    EpochDone,
    OpenedTestPart,
    RepeatEnded,
    RepeatStarted,
)
from harness.core.names import derive_seed
from harness.core.stats import tracks_by_fits
from harness.data import Tracks, stratified_split
from tests.support.commands import Harness, last_json
from tests.support.comparisons import BASELINES, by_hand, plan, repeats, run_repeat
from tests.support.servers import Server
from tests.support.stores import Stores
from tests.support.sweeps import sweep, write_lists


def artifact(run_id: str, name: str, folder: Path) -> Path:
    return Path(Stores.here().client().download_artifacts(run_id, name, str(folder)))


@pytest.mark.parametrize(
    ("baselines", "protocol"), [pytest.param(BASELINES, "holdout", marks=pytest.mark.long), ([], "refit")]
)
def test_the_whole_of_it(
    studies: Path, inside: Harness, tmp_path: Path, demo_tracks: Tracks, baselines: list[str], protocol: str
) -> None:
    chosen = ["--protocol", protocol, *([] if baselines else ["--no-baselines"])]
    untuned = [["one", "one untuned"], ["two", "two untuned"]]
    process = inside("compare", "--study", "one", "--study", "two", "--repeats", "5", "--json", *chosen)
    candidates = 2 + len(untuned) + len(baselines)
    found = last_json(process)
    assert [(model["name"], model["study"]) for model in found["models"]] == [("one", "one"), ("two", "two")]
    assert [row["name"] for row in found["baselines"]] == baselines
    assert found["synthetic"] is True
    client = Stores.here().client()
    parent = client.get_run(found["run_id"])
    assert (parent.info.status, parent.data.tags["verdict"]) == ("FINISHED", found["verdict"])
    assert found["verdict"] in parent.data.tags["mlflow.note.content"]

    runs = repeats(found["run_id"])
    assert len(runs) == 5 * candidates
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["test_openings"] for run in runs} == {"1"}
    for run in runs:  # what MLflow's UI can group them by
        named = {key: run.data.params[key] for key in ("candidate", "comparison", "repeat")}
        assert named == {key: run.data.tags[key] for key in named}
    accuracies: dict[str, list[float]] = {}
    for run in runs:
        accuracies.setdefault(run.data.tags["candidate"], []).append(run.data.metrics["test_accuracy"])
    # The same split and, for studies of the same seed, the same seed in the same repeat.
    splits = {(run.data.tags["repeat"], run.data.tags["split_digest"]) for run in runs}
    assert len(splits) == 5
    with artifact(found["run_id"], "predictions.csv", tmp_path).open() as file:
        lines = list(csv.DictReader(file))
    counts = Counter(line["repeat"] for line in lines if line["name"] == "one")
    sizes = [counts[str(number)] for number in range(5)]  # a mean is over answers: each track weighs the same
    for model in found["models"] + found["untuned"] + found["baselines"]:
        values = accuracies[model["name"]]
        assert model["test"]["mean"] == pytest.approx(np.average(values, weights=sizes))
        assert model["test"]["std"] == pytest.approx(np.std(values, ddof=1))
        assert (model["val"] is None) == (protocol == "refit")
        if model["val"] is not None:
            assert set(model["val"]) == {"mean", "std"}  # chosen on: an interval would promise too much
        low, high = model["test"]["interval"]
        assert 0 <= low <= model["test"]["mean"] <= high <= 1
    for majority in found["baselines"][:1]:
        assert majority["test"]["mean"] == pytest.approx(0.1, abs=0.02)

    # The pair, by hand: from the repeats on record to the interval.
    (pair,) = found["pairs"]
    assert (pair["a"], pair["b"], pair["repeats"]) == ("one", "two", 5)
    row_of = {track: row for row, track in enumerate(demo_tracks.ids)}
    flags: dict[str, list[dict[int, int]]] = {name: [{} for _ in range(5)] for name in ("one", "two")}
    for line in lines:
        if line["name"] in flags:
            flags[line["name"]][int(line["repeat"])][row_of[line["track"]]] = int(line["correct"])
    clusters = [np.array(list(repeat)) for repeat in flags["one"]]
    by_track = [
        np.array([a[row] - b[row] for row in a], dtype=float)
        for a, b in zip(flags["one"], flags["two"], strict=True)
    ]
    # The folds cut the tracks that may judge into five parts.
    judges = set(demo_tracks.ids) - set(stratified_split(demo_tracks, seed=0).valid)
    assert sorted(row for repeat in flags["one"] for row in repeat) == sorted(row_of[track] for track in judges)
    expected = tracks_by_fits(by_track, clusters, (len(judges) / 5) / (len(judges) * 4 / 5))
    differences = [x - y for x, y in zip(accuracies["one"], accuracies["two"], strict=True)]
    assert (pair["difference"], pair["low"], pair["high"]) == pytest.approx(
        (expected.value, max(-1, expected.low), min(1, expected.high))
    )
    assert (pair["confidence"], pair["rule"]) == (0.95, "exact sign test" if expected.exact else "tracks x fits")
    assert pair["wins"] == sum(difference > 0 for difference in differences)
    assert pair["winner"] is None or {"one": pair["low"] > 0, "two": pair["high"] < 0}[pair["winner"]]

    # Each epoch of a study's repeat is on record once.
    for run in (run for run in runs if run.data.tags["of_study"]):
        points = client.get_metric_history(run.info.run_id, "train_loss")
        assert sorted(point.step for point in points) == list(range(1, len(points) + 1))
        if protocol == "holdout":
            points = client.get_metric_history(run.info.run_id, "val_accuracy")
            assert sorted(point.step for point in points) == [1, 2, 3, 4]
            assert run.data.metrics["best_val_accuracy"] == max(point.value for point in points)

    # What tuning gained: the two studies have other seeds, so that each has an untuned network of its own.
    assert [gain["names"] for gain in found["gains"]] == untuned
    for gain in found["gains"]:
        tuned, default = gain["names"]
        gained = np.average(np.subtract(accuracies[tuned], accuracies[default]), weights=sizes)
        assert gain["difference"] == pytest.approx(gained)
        assert parent.data.metrics[f"tuning_gain_{tuned}"] == gain["difference"]
        assert re.search(rf"tuning (gained |cost )?{tuned} ", parent.data.tags["mlflow.note.content"])

    assert len(lines) == candidates * len(judges)
    for name in ("one", *baselines[-1:]):
        for number in range(5):
            mine = [line for line in lines if (line["name"], line["repeat"]) == (name, str(number))]
            assert np.mean([line["genre"] == line["predicted"] for line in mine]) == accuracies[name][number]
            assert all(line["track"].startswith(f"{line['genre']}.") for line in mine)
    stored = {file.path for file in client.list_artifacts(found["run_id"])}
    assert {"report.html", "comparison.json", "confusion.png", "learning_curves.png", "trials.png"} <= stored
    assert json.loads(artifact(found["run_id"], "comparison.json", tmp_path).read_text()) == found
    assert not (studies / "mlruns" / "work" / ".comparisons").exists() or not list(
        (studies / "mlruns" / "work" / ".comparisons").iterdir()
    )


@pytest.mark.long
def test_again_trains_nothing_and_more_repeats_only_those(studies: Path, inside: Harness) -> None:
    arguments = ["compare", "--study", "one", "--study", "two", "--no-baselines", "--json", "--repeats"]
    first = last_json(inside(*arguments, "5"))
    before = {run.info.run_id: run.info.end_time for run in repeats(first["run_id"])}
    again = last_json(inside(*arguments, "5"))
    assert again == first
    assert {run.info.run_id: run.info.end_time for run in repeats(first["run_id"])} == before
    more = last_json(inside(*arguments, "10"))
    assert more["run_id"] == first["run_id"]
    # Every look is on record, and one at the same repeats is no new one.
    assert (first["looks"], more["looks"]) == ([5], [5, 10])
    (looked,) = [warning for warning in more["warnings"] if "look 2 at the result" in warning]
    assert "seen with 5, then 10 repeats" in looked
    assert not [warning for warning in first["warnings"] if "look" in warning]
    assert Stores.here().client().get_run(first["run_id"]).data.tags["looks"] == "5, 10"
    after = {run.info.run_id: run.info.end_time for run in repeats(first["run_id"])}
    assert before.items() <= after.items()
    studied = [run for run in repeats(first["run_id"]) if run.data.tags["of_study"]]
    assert len(studied) == 4 * 10  # both chosen settings, and the default setting with both studies' seeds


@pytest.mark.long
def test_what_is_printed_fits_80_columns(studies: Path, inside: Harness) -> None:
    process = inside("compare", "--study", "one", "--study", "two", "--repeats", "5")
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


@pytest.mark.long
def test_the_page_stands_alone(studies: Path, inside: Harness, tmp_path: Path) -> None:
    out = tmp_path / "report"
    found = last_json(
        inside("compare", "--study", "one", "--study", "two", "--repeats", "5", "--json", "--out", str(out))
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
    assert {len(list(out.glob(f"*.{suffix}"))) for suffix in ("pdf", "svg")} == {6}
    assert {path.name for path in out.glob("*.tex")} == {"table.tex", "numbers.tex", "methods.tex"}
    assert f"{found['models'][0]['test']['mean']:.3f}" in (out / "table.tex").read_text()


@pytest.mark.long
def test_what_deleted_runs_have_seen_stays_seen(studies: Path, inside: Harness) -> None:
    def opened() -> int:
        found = last_json(inside("compare", *pair, "--repeats", "5", "--no-baselines", "--json"))
        return int(found["test_openings"]["own_split"])

    sweep(study="seen", trials=1)
    pair = ("--study", "one", "--study", "two")
    before = opened()
    inside("export", "--study", "seen", "--out", "seen", "--no-register")
    inside("delete", "seen", "--yes")
    assert opened() == before + 1


@pytest.mark.long
def test_on_lists_the_seed_alone_varies(
    studies: Path, inside: Harness, tmp_path: Path, demo_tracks: Tracks
) -> None:
    folder = str(write_lists(tmp_path / "lists", stratified_split(demo_tracks, seed=5)))
    sweep(study="listed", split=folder)
    sweep(study="listed-too", split=folder, seed=3)
    planned = plan(studies=("listed", "listed-too"), repeats=3)
    assert draw_splits(demo_tracks, planned.split, 3, chose=()) == (planned.split,) * 3 == planned.splits
    with pytest.raises(SettingsError, match="repeats is 1"):
        plan(studies=("listed", "listed-too"), repeats=1)
    pair = ["--study", "listed", "--study", "listed-too"]
    found = last_json(inside("compare", *pair, "--repeats", "3", "--no-baselines", "--json"))
    runs = [run for run in repeats(found["run_id"]) if run.data.tags["of_study"] == "listed"]
    assert len({run.data.tags["split_digest"] for run in runs}) == 1
    assert len({run.data.params["seed"] for run in runs}) == 3
    assert found["split"] == {"name": "lists, lists", "redrawn": False}
    assert "with these settings and this train list" in found["verdict"]
    assert "of 3 seeds" in found["verdict"]
    # Both best checkpoints, and three repeats of both, have seen this one test part.
    # So have those of the default setting, with both studies' seeds.
    assert found["test_openings"]["own_split"] == 2 + 3 * 4


def test_a_repeat_trains_on_all_but_the_test_part_for_the_chosen_epochs(
    studies: Path, tmp_path: Path, demo_tracks: Tracks
) -> None:
    found = plan(repeats=5)
    (candidate, *_), split = found.candidates, found.splits[0]
    assert candidate.config is not None
    assert candidate.config.last_epoch == found.compared[0].best.best_epoch
    events, end = run_repeat(found, candidate, demo_tracks, tmp_path)
    config = replace(candidate.config, seed=derive_seed(candidate.seed, "repeat", 0))
    probabilities, _ = by_hand(demo_tracks, split.merged(), config)
    assert (end.test, end.valid) == (tuple(probabilities.argmax(1).tolist()), ())
    epochs = [event.metrics for event in events if isinstance(event, EpochDone)]
    assert len(epochs) == candidate.config.last_epoch
    assert {metrics.val_accuracy for metrics in epochs} == {None}


def test_a_repeat_that_holds_a_part_out_chooses_its_epoch_on_it(
    studies: Path, tmp_path: Path, demo_tracks: Tracks
) -> None:
    found = plan(repeats=5, protocol="holdout")
    assert found.identity != plan(repeats=5).identity
    (candidate, *_), split = found.candidates, found.splits[0]
    assert candidate.config is not None
    _, end = run_repeat(found, candidate, demo_tracks, tmp_path)
    config = replace(candidate.config, seed=derive_seed(candidate.seed, "repeat", 0))
    probabilities, _ = by_hand(demo_tracks, split, config)
    assert end.test == tuple(probabilities.argmax(1).tolist())
    assert len(end.valid) == len(split.valid)


def test_a_diverging_repeat_counts_as_guessing(studies: Path, tmp_path: Path, demo_tracks: Tracks) -> None:
    found = plan(repeats=5)
    candidate = found.candidates[0]
    assert candidate.config is not None
    wild = replace(candidate, config=replace(candidate.config, params={"lr": 1e30}))
    events, end = run_repeat(found, wild, demo_tracks, tmp_path)
    kinds = [type(event) for event in events if not isinstance(event, EpochDone)]
    assert kinds == [RepeatStarted, OpenedTestPart, RepeatEnded]
    assert (end.result.state, len(set(end.test))) == ("diverged", 1)
    assert len(end.test) == len(found.splits[0].test)
    reason = end.result.reason or ""
    assert "is nan" in reason or "is inf" in reason


@pytest.mark.long
def test_workers_that_end_before_the_repeats_do(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(study="left", trials=1)
    monkeypatch.setattr("harness.compare.scheduling.work_on_repeats", bool)  # ends at once, without an error
    with pytest.raises(StudyError, match="15 of 15 repeats have not ended, and no worker is left"):
        run_comparison(plan(studies=("one", "left"), repeats=5, baselines=False))


def test_on_a_database_server_and_an_mlflow_server(
    place: Path, harness: Harness, mlflow_server: Server, new_database: Callable[[], str]
) -> None:
    stores = ["--storage", new_database(), "--tracking-uri", mlflow_server.url]
    for study, seed in (("a", "0"), ("b", "1")):
        words = ["--model", "fcnn", "--data", "demo", "--trials", "1", "--epochs", "2", "--seed", seed]
        assert last_json(harness("sweep", "--study", study, *words, *stores, "--json"))["trials"]["complete"] == 1
    arguments = ["compare", "--study", "a", "--study", "b", "--repeats", "5", "--no-baselines", "--json", *stores]
    found = last_json(harness(*arguments))
    assert [model["study"] for model in found["models"]] == ["a", "b"]
    client = MlflowClient(mlflow_server.url)
    assert client.get_run(found["run_id"]).info.status == "FINISHED"
    assert "report.html" in {file.path for file in client.list_artifacts(found["run_id"])}
    assert last_json(harness(*arguments)) == found
