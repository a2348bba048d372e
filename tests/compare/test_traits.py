"""Traits: the game's mathematics, what a repeat trains on, what is recorded, and what a kill leaves."""

from __future__ import annotations

import csv
import json
import subprocess
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.compare.traits.families import MAX_FAMILIES, families_of
from harness.compare.traits.forecast import Forecast
from harness.compare.traits.game import CONTROLS, FamilyGame, set_key, shares, spread
from harness.compare.traits.permuted import FamilyTrainings
from harness.compare.traits.plan import LONG_MINUTES, TraitsSettings, plan_traits
from harness.compare.traits.work import Learner
from harness.core.errors import SettingsError, StudyError
from harness.core.events import SubsetTrained
from harness.core.journal import comparison_folder, read_events
from harness.core.records import TrialConfig
from harness.data import FEATURE_COLUMNS, Tracks, View, stratified_split
from harness.models.registry import model_spec
from tests.support.commands import Harness, command, last_json
from tests.support.processes import kill_all, wait_for
from tests.support.stores import Stores, artifacts
from tests.support.sweeps import sweep

TWO = """
[families]
timbre = ["mfcc*"]
rest = ["chroma*", "rms*", "spectral*", "rolloff*", "zero*", "harmony*", "perceptr*", "tempo"]
"""


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_shares_are_the_mean_over_all_orders_and_sum_to_the_whole(count: int, seed: int) -> None:
    random_ = np.random.default_rng(seed)
    values = {mask: random_.integers(0, 2, size=7).astype(float) for mask in range(1 << count)}
    found = shares(values.__getitem__, [1 << place for place in range(count)])
    assert np.allclose(found.sum(axis=0), values[(1 << count) - 1] - values[0], atol=1e-12)
    by_orders = np.zeros((count, 7))
    for order in permutations(range(count)):
        mask = 0
        for player in order:
            by_orders[player] += values[mask | 1 << player] - values[mask]
            mask |= 1 << player
    assert np.allclose(found, by_orders / factorial(count), atol=1e-12)


def test_a_merged_family_is_one_player() -> None:
    values = {mask: np.array([float(mask == 0b111)]) for mask in range(8)}  # all three are needed
    assert np.allclose(shares(values.__getitem__, [1, 2, 4]), 1 / 3)
    assert np.allclose(shares(values.__getitem__, [0b011, 0b100]), 1 / 2)
    assert spread(0b10, [0b011, 0b100]) == 0b100


def test_each_column_of_another_table_is_a_family_while_they_are_few() -> None:
    own = families_of(["width", "height", "ratio"])
    assert [(family.name, family.columns) for family in own.families] == [
        ("width", ("width",)),
        ("height", ("height",)),
        ("ratio", ("ratio",)),
    ]
    assert [family.name for family in families_of(["länge [mm]", "a/b"]).families] == ["länge [mm]", "a/b"]
    for columns in ([f"x{number}" for number in range(MAX_FAMILIES + 1)], ["x$", "y"], ["a b", "a_b"]):
        with pytest.raises(SettingsError, match="the default families: ") as caught:
            families_of(columns)
        assert "--families FILE.toml" in str(caught.value)


def test_kaggles_columns_have_families_and_length_is_apart() -> None:
    found = families_of(FEATURE_COLUMNS)
    sizes = {family.name: len(family.columns) for family in found.families}
    assert sizes == {
        "MFCC means": 20,
        "MFCC variances": 20,
        "chroma": 2,
        "spectral shape": 6,
        "loudness": 2,
        "zero crossings": 2,
        "harmony and percussion": 4,
        "tempo": 1,
    }
    assert found.apart == ("length",)
    assert sorted((*found.columns, *found.apart)) == sorted(FEATURE_COLUMNS)
    assert found.coarse[0] == ("MFCC", (0, 1))
    assert len(found.coarse) == 7
    game = FamilyGame(families=found)
    keys = list(game.trainings())
    assert len(keys) == len(set(keys)) == 256 + 2 * 9 + 8 + 1 + 2 * 8 * 2
    assert keys[0] == set_key(game.whole)
    fewer = families_of([name for name in FEATURE_COLUMNS if "chroma" not in name and name != "length"])
    assert "chroma" not in [family.name for family in fewer.families]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("families = 3", "families is 3"),
        ("[families]\na = []\nb = ['tempo']", "families 'a' is \\[\\]"),
        ("[families]\na = ['tempi']\nb = ['tempo']", "names 'tempi', which the study has not"),
        ("[families]\na = ['temp*']\nb = ['tempo']", "column 'tempo' is in two families"),
        ("[families]\na = ['tempo']", ": 1 family of the"),
        ("[families]\n" + "".join(f"f{n} = ['mfcc{n}_mean']\n" for n in range(1, 14)), ": 13 families of the"),
        ("[families]\na = ['tempo']\nb = ['rms*']\n[merged]\nc = ['a', 'x']", "names 'x', no family"),
        ("[families]\na = ['tempo']\nb = ['rms*']\n[merged]\na = ['a', 'b']", "both a family and a merged one"),
        ("[families]\na = ['tempo']\nb = ['rms*']\n[groups]\nc = ['a']", "there is no table 'groups'"),
        ("[families]\n'a$b' = ['tempo']\nb = ['rms*']", r"families has the name 'a\$b'"),
        ("[families]\n'a b' = ['tempo']\nA_b = ['rms*']", "'a b' and 'A_b' would be one metric"),
        ("[families]\na = ['temp?']\nb = ['rms*']", r"names 'temp\?', which the study has not"),
        ("[families", "cannot be read as TOML"),
    ],
)
def test_families_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "families.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        families_of(FEATURE_COLUMNS, file)
    assert MAX_FAMILIES == 12


def trainings(tracks: Tracks) -> tuple[FamilyTrainings, FamilyGame, np.ndarray, np.ndarray]:
    game = FamilyGame(families=families_of(tracks.columns))
    split = stratified_split(tracks, seed=3).merged()
    view = View(tracks, "features", tracks.columns)
    order = [tracks.columns.index(name) for name in game.families.columns]
    assert tracks.features is not None
    train, test = (tracks.features[tracks.indices(part)][:, order] for part in (split.train, split.test))
    return FamilyTrainings(game, 5, view, split), game, train, test


def test_an_absent_family_is_a_copy_permuted_over_the_tracks(demo_tracks: Tracks) -> None:
    made, game, *parts = trainings(demo_tracks)
    mask = game.whole ^ 0b10  # without the MFCC variances
    own = np.array([index == 1 for index, f in enumerate(game.families.families) for _ in f.columns])
    for found, whole in zip(made.inputs(set_key(mask)), parts, strict=True):
        assert found.shape == whole.shape
        assert np.allclose(found[:, ~own], whole[:, ~own].astype(np.float32))
        rows = [row.tobytes() for row in whole[:, own].astype(np.float32)]
        permuted = [row.tobytes() for row in found[:, own]]  # as a whole: no row is torn
        assert sorted(permuted) == sorted(rows)
        assert sum(a == b for a, b in zip(permuted, rows, strict=True)) < 0.1 * len(rows)
    # The same permutation in every subset, so that subsets differ by the family alone.
    again = made.inputs(set_key(0b1))[0]
    assert np.array_equal(again[:, own], made.inputs(set_key(mask))[0][:, own])
    alone = made.inputs("alone/1")
    assert [part.shape[1] for part in alone] == [20, 20]
    assert np.allclose(alone[1], parts[1][:, own].astype(np.float32))
    assert made.inputs("apart/length")[0].shape[1] == 1
    for name, width in zip(CONTROLS, (20, 20), strict=True):
        here, gone = (made.inputs(f"control/{name}/{game.whole}/{arm}")[0] for arm in ("here", "gone"))
        assert here.shape == gone.shape == (len(parts[0]), parts[0].shape[1] + width)
        assert np.array_equal(here[:, :-width], gone[:, :-width])
        assert sorted(map(bytes, here[:, -width:])) == sorted(map(bytes, gone[:, -width:]))


def test_the_test_tracks_do_not_change_what_is_trained_on(demo_tracks: Tracks) -> None:
    made, game, *_ = trainings(demo_tracks)
    split = stratified_split(demo_tracks, seed=3)
    assert demo_tracks.features is not None
    spoilt = demo_tracks.features.copy()
    spoilt[demo_tracks.indices(split.test)] = 1e6
    other, *_ = trainings(
        Tracks(**{name: getattr(demo_tracks, name) for name in demo_tracks.__slots__} | {"features": spoilt})
    )
    for key in (set_key(0b101), "alone/0", f"control/shuffled/{game.whole}/here"):
        assert np.array_equal(made.inputs(key)[0], other.inputs(key)[0])


@pytest.fixture
def two(tmp_path: Path) -> Path:
    file = tmp_path / "families.toml"
    file.write_text(TWO)
    return file


@pytest.mark.usefixtures("place")
def test_what_is_recorded_printed_and_trained_once(inside: Harness, two: Path, tmp_path: Path) -> None:
    sweep(trials=1, epochs=2)
    words = ("traits", "--study", "demo-fcnn", "--families", str(two), "--repeats", "5")
    shown = inside(*words, "--out", str(tmp_path / "out"))
    assert "2 families, 145 trainings" in shown.stderr
    assert "in no family: length" in shown.stderr
    assert "SYNTHETIC" in shown.stdout
    assert max(map(len, shown.stdout.partition("SYNTHETIC")[0].splitlines())) <= 80
    found = json.loads((tmp_path / "out" / "traits.json").read_text())
    (learner,) = found["learners"]
    names = [family["name"] for family in learner["rows"]]
    assert names == list(found["families"]) == ["timbre", "rest"]
    total = learner["accuracy"]["value"] - learner["nothing"]
    assert sum(family["share"]["value"] for family in learner["rows"]) == pytest.approx(total, abs=1e-12)
    controls = [control["name"] for control in learner["controls"]]
    assert controls == ["noise", "shuffled timbre"]
    assert list(learner["apart"]) == ["length"]

    client = Stores.here().client()
    parent = client.get_run(found["run_id"])
    assert (parent.info.status, parent.data.tags["kind"]) == ("FINISHED", "traits")
    assert parent.data.metrics["share_timbre"] == learner["rows"][0]["share"]["value"]
    assert {path.name for path in artifacts(parent).iterdir()} >= {
        "traits.html",
        "traits.json",
        "traits.csv",
        "effects.png",
    }
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    children = client.search_runs(ids, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [run.data.tags["test_openings"] for run in children] == ["1"] * 5

    # By hand: what the predictions on record say.
    plan = plan_traits(TraitsSettings(study="demo-fcnn", families=two, repeats=5))
    assert isinstance(plan.game, FamilyGame)
    right: dict[str, list[np.ndarray]] = {}
    for run in sorted(children, key=lambda run: int(run.data.tags["repeat"])):
        subsets = json.loads((artifacts(run) / "subsets.json").read_text())
        assert set(plan.game.trainings()) < set(subsets)
        truth = plan.labels_of(plan.splits[int(run.data.tags["repeat"])].test)
        for key, guesses in subsets.items():
            right.setdefault(key, []).append(np.array(guesses) == truth)
    accuracy = {key: np.concatenate(values).mean() for key, values in right.items()}
    mean = {mask: np.mean([accuracy[set_key(mask, seed)] for seed in range(3)]) for mask in (1, 2, 3)}
    assert learner["rows"][0]["lost"]["value"] == pytest.approx(mean[3] - mean[2])
    assert learner["rows"][0]["alone"]["value"] == pytest.approx(accuracy["alone/0"])
    assert learner["rows"][1]["network_uses"] == pytest.approx(accuracy["set/3"] - accuracy["uses/1"])
    share = (mean[3] - mean[2] + mean[1] - accuracy["set/0"]) / 2
    assert learner["rows"][0]["share"]["value"] == pytest.approx(share)

    with (tmp_path / "out" / "traits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["timbre", "rest", *controls]
    recalls = np.array(
        learner["recall"]["without"][0]
    )  # of as many tracks in each genre: their mean is the accuracy
    assert recalls.mean() == pytest.approx(mean[2], abs=0.02)
    assert "the shares of the families are exact" in (tmp_path / "out" / "traits.html").read_text().lower()


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_another_learner_is_added_and_nothing_is_trained_again(inside: Harness, two: Path) -> None:
    sweep(trials=1, epochs=2)
    words = ("traits", "--study", "demo-fcnn", "--families", str(two), "--repeats", "5", "--json")
    found = last_json(inside(*words))
    client = Stores.here().client()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    children = f"tags.`mlflow.parentRunId` = '{found['run_id']}'"
    ended = {run.info.run_id: run.info.end_time for run in client.search_runs(ids, children)}
    assert len(ended) == 5
    both = last_json(inside(*words, "--learner", "network", "--learner", "logistic"))
    assert both["run_id"] == found["run_id"]
    assert both["learners"][0] == found["learners"][0]
    after = client.search_runs(ids, children)
    assert len(after) == 10
    assert ended.items() <= {run.info.run_id: run.info.end_time for run in after}.items()
    asked = inside(*words, "--learner", "logistic")
    assert "2 families, 145 trainings, 145 of them on record: about 0 min" in asked.stderr
    assert last_json(asked)["learners"] == both["learners"]  # one learner does not take the place of another
    inside("doctor")


@pytest.mark.long
@pytest.mark.usefixtures("workspace")
def test_the_family_that_decides_gets_it_all_and_noise_gets_nothing(
    inside: Harness, demo_copy: Path, tmp_path: Path
) -> None:
    with (demo_copy / "features_30_sec.csv").open() as file:
        header, *rows = list(csv.reader(file))
    random_ = np.random.default_rng(0)
    genres = sorted({row[-1] for row in rows})
    for row in rows:
        row[1:-1] = [f"{value:.6f}" for value in random_.normal(size=len(row) - 2)]
        angle = 2 * np.pi * genres.index(row[-1]) / len(genres)
        for name, value in (("rms_mean", np.cos(angle)), ("rms_var", np.sin(angle))):
            row[header.index(name)] = f"{10 * value + 0.1 * random_.normal():.6f}"
    with (demo_copy / "features_30_sec.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    families = tmp_path / "families.toml"
    families.write_text('[families]\ndecides = ["rms*"]\nnoise = ["mfcc*"]\ntoo = ["tempo", "chroma*"]\n')
    sweep(data=str(demo_copy), experiment="demo", trials=1, epochs=2)
    found = last_json(
        inside(
            "traits",
            "--study",
            "demo-fcnn",
            "--families",
            str(families),
            "--repeats",
            "5",
            "--learner",
            "forest",
            "--json",
        )
    )
    (learner,) = found["learners"]
    decides, noise, too = learner["rows"]
    assert learner["accuracy"]["value"] > 0.9
    assert decides["share"]["low"] > 0.6
    for nothing in (noise, too, *learner["controls"]):
        assert nothing["share"]["low"] <= 0 <= nothing["share"]["high"]
        assert abs(nothing["share"]["value"]) < 0.05
    assert found["robust"] == {}  # one learner agrees with itself


@pytest.mark.long
@pytest.mark.usefixtures("workspace")
def test_data_with_missing_values_have_a_forecast_and_traits(inside: Harness) -> None:
    random_ = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 40)
    features = np.stack([(labels == "b") + random_.normal(size=80), random_.normal(size=80)], axis=1)
    features[::9, 0] = np.nan
    harness.Dataset(features=features, labels=labels, impute="median").save("gaps")
    inside("sweep", "--model", "fcnn", "--data", "gaps", "--trials", "1", "--epochs", "8", "--jobs", "1")
    shown = inside("traits", "--study", "gaps-fcnn", "--repeats", "5", "--json")
    assert "about 0 min" in shown.stderr
    (learner,) = last_json(shown)["learners"]
    shares_ = {row["name"]: row["share"]["value"] for row in learner["rows"]}
    assert shares_["x0"] > shares_["x1"]


@pytest.mark.usefixtures("place")
def test_what_cannot_be_asked_is_refused_before_any_training(
    inside: Harness, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(trials=1, epochs=2)
    assert "--learner tree" in inside("traits", "--study", "demo-fcnn", "--learner", "tree", code=1).stderr
    with pytest.raises(StudyError, match="there is no study 'none'"):
        plan_traits(TraitsSettings(study="none"))
    long = Forecast(left=1, all=1, seconds=60 * LONG_MINUTES + 61)
    monkeypatch.setattr("harness.compare.traits.forecast.forecast", lambda _: long)
    refused = inside("traits", "--study", "demo-fcnn", "--families", str(two), "--repeats", "5", code=1).stderr
    assert "2 families, 1 trainings: about 31 min: more than 30" in refused
    assert "--yes" in refused
    assert Stores.here().client().search_runs(["0", "1"], "tags.kind = 'traits'") == []


@pytest.mark.process
@pytest.mark.usefixtures("place")
def test_killed_traits_go_on_and_train_nothing_twice(inside: Harness, two: Path) -> None:
    sweep(trials=1, epochs=20)
    arguments = (
        "traits",
        "--study",
        "demo-fcnn",
        "--families",
        str(two),
        "--repeats",
        "5",
        "--jobs",
        "1",
        "--json",
    )
    plan = plan_traits(TraitsSettings(study="demo-fcnn", families=two, repeats=5))
    folder = comparison_folder(plan.stores.work_root, plan.identity)

    def trained() -> list[tuple[str, str]]:
        found = []
        for path in sorted(folder.glob("*.jsonl")):
            events, _ = read_events(path)
            found += [(path.name, event.subset) for event in events if isinstance(event, SubsetTrained)]
        return found

    before: list[tuple[str, str]] = []
    for enough in (15, 60):
        process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda n=enough: len(trained()) >= n)  # type: ignore[misc]
        kill_all(process)
        now = trained()
        assert now[: len(before)] == before or set(before) <= set(now)
        before = now
    whole = last_json(inside(*arguments))
    ids = [experiment.experiment_id for experiment in Stores.here().client().search_experiments()]
    runs = Stores.here().client().search_runs(ids, f"tags.`mlflow.parentRunId` = '{whole['run_id']}'")
    assert len(runs) == 5
    inside("delete", "demo-fcnn", "--yes")
    sweep(trials=1, epochs=20)
    again = last_json(inside(*arguments))
    assert again["learners"] == whole["learners"]  # killed twice or not at all: the same numbers


def test_a_forecast_of_a_training_that_diverges_is_as_long_as_that() -> None:
    config = TrialConfig(model="fcnn", params={"lr": 1e29, "batch_size": 16}, epochs=200, seed=0, threads=1)
    learner = Learner(name="network", seed=0, config=config, model=model_spec("fcnn"), device="cpu")
    rows = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    assert 0 < learner.seconds(rows, np.arange(64) % 2, 2, enough=60.0) < 60
