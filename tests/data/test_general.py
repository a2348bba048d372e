"""Any table and any pictures: what is read, what is refused, how groups are split, and every command on it."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_wine

import harness
from harness.compare.baselines import BASELINES
from harness.compare.contenders import candidates_of
from harness.compare.plan import CompareSettings
from harness.compare.warnings import split_warnings
from harness.core.errors import DataError
from harness.core.records import Split
from harness.core.search_stats import wilson_interval
from harness.data import Inputs, Tracks, View, fold_splits, load_tracks, stratified_split, validation_folds
from harness.data.filling import median_filler
from harness.data.guessing import guessed_options
from harness.data.inputs import feature_rows
from harness.data.leaks import leak_warnings
from harness.data.open import default_experiment
from harness.data.options import DatasetOptions, plural
from harness.data.parquet import MAX_CELLS
from harness.export.frames import predict_items
from harness.models.normalise import StandardizeFeatures
from harness.training.description import Architecture
from tests.support.commands import Harness, last_json

ROWS = 40


def table(
    folder: Path, header: Sequence[str], rows: Sequence[Sequence[object]], name: str = "features.csv"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return folder


def rows_of(count: int = ROWS, classes: int = 2) -> list[list[object]]:
    """Rows of an id, a label, two numbers."""
    return [[f"i{n:03d}", f"k{n % classes}", n / 7, -n] for n in range(count)]


def pictures(folder: Path, names: Sequence[str], size: tuple[int, int] = (20, 12), suffix: str = ".png") -> Path:
    random_ = np.random.default_rng(0)
    for name in names:
        path = (folder / name).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return folder


def test_a_table_and_pictures_of_any_size(tmp_path: Path) -> None:
    folder = table(
        tmp_path / "birds ä", ["x", "id", "label", "y"], [[n, f"é{n}", "ab"[n % 2], n * n] for n in range(12)]
    )
    pictures(folder / "pictures", [f"{'ab'[n % 2]}/é{n}" for n in range(11)], suffix=".jpg")
    tracks = load_tracks(folder)
    assert tracks.columns == ("x", "y")
    assert tracks.excluded == {"é11": "features but no picture"}
    assert (tracks.size, tracks.words.items, tracks.words.classes) == ((12, 20), "items", "classes")
    assert tracks.features is not None
    assert tracks.features[tracks.ids.index("é7")].tolist() == [7, 49]
    assert default_experiment(tracks) == "birds"
    part = View(tracks, "pictures").training(stratified_split(tracks, seed=0)).train
    with Image.open(folder / "pictures" / f"b/{part.ids[-1]}.jpg" if part.targets[-1] else "") as image:
        assert np.array_equal(part.tensor[-1].numpy(), np.asarray(image))


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    frame = pd.DataFrame(rows_of(), columns=["id", "label", "x", "y"])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    frame.to_csv(tmp_path / "a" / "features.csv", index=False)
    frame.to_parquet(tmp_path / "b" / "features.parquet")
    first, second = (load_tracks(tmp_path / name) for name in ("a", "b"))
    assert first.digest == second.digest
    assert first.ids == second.ids


def test_a_folder_of_classes_is_a_data_set(tmp_path: Path) -> None:
    pictures(tmp_path, [f"{label}/{label}{n}" for label in ("cat", "dog") for n in range(6)], size=(600, 300))
    tracks = load_tracks(tmp_path)
    assert (len(tracks.ids), tracks.genres, tracks.columns) == (12, ("cat", "dog"), ())
    assert tracks.size == (128, 256)  # scaled down, in proportion
    (tmp_path / "dataset.toml").write_text('class = "species"\nitem = "photo"\nsize = [30, 40]\n')
    before, tracks = tracks.digest, load_tracks(tmp_path)
    assert tracks.digest != before  # so that no study goes on with pictures of another size
    assert (tracks.size, tracks.words.item, tracks.words.classes) == ((30, 40), "photo", "specieses")
    assert [plural(word) for word in ("class", "item", "city", "day", "box")] == [
        "classes", "items", "cities", "days", "boxes",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[5].__setitem__(2, "tall"), r"line 7, column x: 'tall'"),
        (lambda rows: rows[5].__setitem__(2, "inf"), r"line 7, column x: 'inf'"),
        (lambda rows: rows[5].__setitem__(2, ""), r"line 7, column x: '', a missing value \(1 in this column\)"),
        (
            lambda rows: [row.__setitem__(2, f"v{n}") for n, row in enumerate(rows)],
            "column 'x' has text, not numbers",
        ),
        (lambda rows: [row.__setitem__(1, "k0") for row in rows], "one class only, 'k0'"),
        (
            lambda rows: [row.__setitem__(1, f"k{n // 2}") for n, row in enumerate(rows)],
            "too few usable items: 2 of",
        ),
        (lambda rows: rows[5].__setitem__(1, ""), "line 7, column label: ''"),
        (lambda rows: rows[5].__setitem__(0, "a/b"), r"line 7, column id: 'a/b'"),
        (lambda rows: rows[5].__setitem__(0, ".."), r"line 7, column id: '..'"),
        (lambda rows: rows[5].__setitem__(0, "i004"), r"line 7, column id: 'i004' is also in .*line 6"),
        (lambda rows: rows[5].append(1), "line 7: 5 cells"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_error(tmp_path: Path, change: object, message: str) -> None:
    rows = rows_of()
    assert callable(change)
    change(rows)
    with pytest.raises(DataError, match=message):
        load_tracks(table(tmp_path, ["id", "label", "x", "y"], rows))


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (["name", "label", "x", "y"], {}, "lacks column 'id'"),
        (["id", "kind", "x", "y"], {}, "lacks column 'label'"),
        (["id", "label", "x", "x"], {}, "has twice column 'x'"),
        (["id", "label", "x=1", "y"], {}, "a column has the name 'x=1'"),
        (["id", "label", "x", "y"], {"group": "artist"}, "lacks column 'artist'"),
        (["id", "label", "x", "y"], {"group": "label"}, "id, label, label"),
        (["id", "label", "x", "y"], {"impute": "mean"}, "impute is 'mean'"),
    ],
)
def test_headers_and_options_that_do_not_fit(
    tmp_path: Path, header: list[str], options: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_tracks(table(tmp_path, header, rows_of()), options=options)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("colour = 3", "there is no key 'colour'"),
        ("size = [2, 3]", "size.0 is 2"),
        ('table = "../x.csv"', "expected: a name inside|table is"),
        ('table = "y.csv"', "there is no table 'y.csv'"),
        ('class = "a\\nb"', "class is"),
        ("[", "cannot be read as TOML"),
    ],
)
def test_a_dataset_toml_that_does_not_fit(tmp_path: Path, toml: str, message: str) -> None:
    table(tmp_path, ["id", "label", "x", "y"], rows_of())
    (tmp_path / "dataset.toml").write_text(toml)
    with pytest.raises(DataError, match=message):
        load_tracks(tmp_path)


def test_pictures_that_do_not_fit(tmp_path: Path) -> None:
    names = [f"{label}/{label}{n}" for label in "ab" for n in range(6)]
    pictures(tmp_path / "mixed", names)
    pictures(tmp_path / "mixed", ["a/a3"], size=(21, 12))
    with pytest.raises(DataError, match=r"a3.png is 21x12 pixels"):
        load_tracks(tmp_path / "mixed")
    pictures(tmp_path / "twice", [*names, "b/a3"])
    with pytest.raises(DataError, match="item 'a3' already has a picture"):
        load_tracks(tmp_path / "twice")
    pictures(tmp_path / "other" / "pictures", names)
    table(tmp_path / "other", ["id", "label", "x"], [[name[2:], "b", 1] for name in names])
    with pytest.raises(DataError, match="item 'a0' is 'b' in the table, and its picture is in the folder 'a'"):
        load_tracks(tmp_path / "other")
    with pytest.raises(DataError, match="holds no data set"):
        load_tracks(table(tmp_path / "none", ["id"], [], name="table.csv"))


def test_many_columns_are_one_error(tmp_path: Path) -> None:
    header = ["id", "label", *[f"c{n}" for n in range(10_000)]]
    with pytest.raises(DataError, match="10002 cells"):
        load_tracks(table(tmp_path, header, [["a", "b", *range(10_000)]]))


def test_the_id_and_the_label_are_guessed_where_they_are_sure(tmp_path: Path) -> None:
    folder = table(tmp_path / "sure", ["name", "kind", "x", "y"], rows_of())
    assert guessed_options(folder, {}) == {"id": "name", "label": "kind"}
    assert guessed_options(folder, {"label": "x"}) == {"id": "name", "label": "x"}
    rows = [[*row[:2], f"s{n % 4}", 1] for n, row in enumerate(rows_of())]
    two = table(tmp_path / "two", ["name", "kind", "sort", "y"], rows)
    assert guessed_options(two, {}) == {"id": "name"}  # either could be the label
    assert guessed_options(table(tmp_path / "usual", ["id", "label", "x", "y"], rows_of()), {}) == {}


def grouped(sizes: Sequence[tuple[int, int]], folder: Path) -> Tracks:
    """Items in groups: for each group its class and its size."""
    rows: list[list[object]] = []
    for group, (label, size) in enumerate(sizes):
        rows += [[f"i{len(rows) + n:04d}", f"k{label}", len(rows) + n, f"g{group}"] for n in range(size)]
    return load_tracks(table(folder, ["id", "label", "x", "artist"], rows), options={"group": "artist"})


@settings(max_examples=10)
@given(st.lists(st.integers(1, 5), min_size=36, max_size=60), st.integers(0, 9))
def test_no_split_tears_a_group_apart(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int
) -> None:
    tracks = grouped([(n % 3, size) for n, size in enumerate(sizes)], tmp_path_factory.mktemp("g"))
    assert tracks.groups is not None
    group_of = dict(zip(tracks.ids, tracks.groups, strict=True))
    drawn = stratified_split(tracks, seed=seed)
    rounds = fold_splits(tracks, seed=seed)
    for split in (drawn, *rounds, *validation_folds(tracks, drawn, 3)):
        parts = [{group_of[track] for track in part} for part in (split.train, split.valid, split.test)]
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
        assert split_warnings(tracks, split) == []
    assert sorted(drawn.train + drawn.valid + drawn.test) == list(tracks.ids)
    assert sorted(track for split in rounds for track in split.test) == list(tracks.ids)
    share = len(drawn.test) / len(tracks.ids)
    assert 0.1 < share < 0.32


def test_a_group_that_is_a_class_is_one_error(tmp_path: Path) -> None:
    tracks = grouped([(0, 20), (1, 20), *[(2, 4)] * 8], tmp_path)
    with pytest.raises(DataError, match="class 'k0' has 1 group of items"):
        stratified_split(tracks, seed=0)


def test_lists_that_tear_a_group_are_warned_of(tmp_path: Path) -> None:
    tracks = grouped([(n % 2, 4) for n in range(10)], tmp_path)
    split = Split(name="x", drawn=False, train=tracks.ids[:21], valid=tracks.ids[21:30], test=tracks.ids[30:])
    (warning,) = split_warnings(tracks, split)
    assert "2 group(s) of the data set lie in different parts of the split: g5; g7" in warning


def fit_of(rows: torch.Tensor) -> torch.Tensor:
    fill = StandardizeFeatures.fit(rows, impute=True).fill
    assert fill is not None
    return fill.double()


def test_missing_values_are_filled_by_the_train_parts_median(tmp_path: Path) -> None:
    rows = rows_of()
    rows[3][2] = rows[9][2] = "NA"
    tracks = load_tracks(table(tmp_path, ["id", "label", "x", "y"], rows), options={"impute": "median"})
    assert tracks.features is not None
    assert np.isnan(tracks.features).sum() == 2
    split = stratified_split(tracks, seed=0)
    data = View(tracks, "features", tracks.columns).training(split)
    assert data.impute
    train = data.train.tensor
    fitted = StandardizeFeatures.fit(train, impute=True)
    median = float(np.nanmedian(train[:, 0].numpy()))
    assert fitted.fill is not None
    assert fitted.fill[0] == pytest.approx(median)
    # As scikit-learn fills for the baselines, also where the median is between two values; 0 where there is none.
    gaps = torch.tensor([[0, math.nan], [1, math.nan], [10, math.nan], [11, math.nan], [math.nan, math.nan]])
    assert torch.equal(fit_of(gaps), torch.from_numpy(median_filler().fit(gaps.double().numpy()).statistics_))
    filled = torch.where(train.isnan(), median, train)
    assert torch.allclose(fitted.mean, filled.mean(0))
    assert torch.allclose(fitted(train), (filled - filled.mean(0)) / filled.std(0, correction=0), atol=1e-5)
    for name, make in BASELINES.items():
        found = make(0).fit(train.double().numpy(), data.train.targets.numpy())
        assert len(found.predict(train.double().numpy())) == len(train), name


def test_categories_become_columns(tmp_path: Path) -> None:
    rows = [[*row[:3], ["red", "blue", ""][n % 3]] for n, row in enumerate(rows_of())]
    folder, one_hot = table(tmp_path, ["id", "label", "x", "colour"], rows), {"categorical": "one-hot"}
    with pytest.raises(DataError, match=r"line 4, column colour: '', a missing value \(13 in this column\)"):
        load_tracks(folder, options=one_hot)
    tracks = load_tracks(folder, options={**one_hot, "impute": "median"})
    assert tracks.columns == ("x", "colour=blue", "colour=red")
    assert tracks.features is not None
    assert tracks.features[:6, 1:].tolist() == [[0, 1], [1, 0], [0, 0]] * 2


def test_a_column_with_few_texts_and_many_gaps_is_one_of_categories(tmp_path: Path) -> None:
    rows = [[*row[:3], ["red", "", ""][n % 3]] for n, row in enumerate(rows_of())]
    folder = table(tmp_path, ["id", "label", "x", "colour"], rows)
    tracks = load_tracks(folder, options={"categorical": "one-hot", "impute": "median"})
    assert tracks.columns == ("x", "colour=red")


@pytest.mark.parametrize(("classes", "each"), [(30, 5), (30, 6), (10, 5), (2, 5)])
def test_five_items_of_each_class_are_enough(tmp_path: Path, classes: int, each: int) -> None:
    tracks = load_tracks(table(tmp_path, ["id", "label", "x", "y"], rows_of(classes * each, classes)))
    for seed in range(5):
        split = stratified_split(tracks, seed=seed)
        for part in (split.train, split.valid, split.test):
            assert set(tracks.labels[tracks.indices(part)]) == set(range(classes))


@pytest.mark.parametrize("each", [3, 5])
def test_few_groups_of_each_class_are_split_all_the_same(tmp_path: Path, each: int) -> None:
    tracks = grouped([(n % 3, 4) for n in range(3 * each)], tmp_path)
    for seed in range(12):
        split = stratified_split(tracks, seed=seed)
        for part in (split.train, split.valid, split.test):
            assert set(tracks.labels[tracks.indices(part)]) == {0, 1, 2}


def test_data_that_no_sweep_could_split_have_a_fault(tmp_path: Path, inside: Harness) -> None:
    folder = tmp_path / "one"
    grouped([(0, 20), (1, 20)], folder)
    shown = inside("data", "check", str(folder), "--group", "artist", code=1).stderr
    assert "class 'k0' has 1 group of items" in shown


def test_options_of_a_table_and_the_layout_of_kaggle(demo_data: Path) -> None:
    with pytest.raises(DataError, match="laid out as Kaggle's GTZAN: its columns are fixed"):
        load_tracks(demo_data, options={"group": "artist"})
    with pytest.raises(DataError, match=r"features_30_sec\.csv is a file"):
        load_tracks(demo_data / "features_30_sec.csv")


def test_a_category_that_the_train_part_did_not_have(tmp_path: Path) -> None:
    columns = ("x", "site=north", "site=south")
    rows = [["a", 1, "north"], ["b", 2, "west"], ["c", 3, " south "], ["d", 4, ""]]
    path = table(tmp_path, ["id", "x", "site"], rows) / "features.csv"
    found = feature_rows(path, columns)
    assert found.values.tolist() == [[1, 1, 0], [2, 0, 0], [3, 0, 1], [4, 0, 0]]
    assert found.unknown == ((), ("site=west",), (), ("site=",))
    assert feature_rows(path, columns, impute=True).unknown == ((), ("site=west",), (), ())
    with pytest.raises(DataError, match=r"the header lacks, or has twice, 'kind'\n"):
        feature_rows(path, ("x", "kind=a", "kind=b"))
    architecture = Architecture(model="fcnn", representation="features", columns=columns, genres=("k0", "k1"))

    def even(inputs: Inputs) -> torch.Tensor:
        assert isinstance(inputs, torch.Tensor)
        return torch.full((len(inputs), 2), 0.5)

    with pytest.warns(UserWarning, match=r"column 'site' has 'west' in 1 row\(s\).*knows north, south"):
        given = predict_items(even, architecture, pd.DataFrame(rows[:3], columns=["id", "x", "site"]))
    assert list(given.columns) == ["prediction", "k0", "k1"]


def test_what_no_split_tears_apart_is_one_unit(tmp_path: Path) -> None:
    tracks = grouped([(n % 2, 4) for n in range(10)], tmp_path)
    joined = replace(tracks, duplicates=((tracks.ids[0], tracks.ids[39]),))
    assert len(set(tracks.units.tolist())) == 10
    assert len(set(joined.units.tolist())) == 9
    assert joined.units[0] == joined.units[3] == joined.units[36] == joined.units[39]


def test_a_column_called_length_is_one_like_others(tmp_path: Path) -> None:
    tracks = load_tracks(table(tmp_path, ["id", "label", "length", "y"], rows_of()))
    assert tracks.not_music == ()
    assert leak_warnings(tracks, stratified_split(tracks, seed=0), ("length", "y")) == []
    given = CompareSettings(studies=(), untuned=False)
    assert [found.name for found in candidates_of((), tracks, given)] == list(BASELINES)


def test_a_parquet_file_of_few_bytes_and_many_rows_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"id": np.zeros(MAX_CELLS // 2 + 1), "x": 0.0}).to_parquet(tmp_path / "features.parquet")
    assert (tmp_path / "features.parquet").stat().st_size < 1_000_000
    with pytest.raises(DataError, match="20000002 cells"):
        load_tracks(tmp_path)


def test_options_are_written_as_they_are_read(tmp_path: Path) -> None:
    options = DatasetOptions.model_validate({"id": 'a"b', "class": "species", "size": [8, 9], "impute": "median"})
    (tmp_path / "dataset.toml").write_text(options.as_toml(), encoding="utf-8")
    from harness.data.options import read_options

    assert read_options(tmp_path, {}) == options


@pytest.fixture
def wine(tmp_path: Path) -> Path:
    """scikit-learn's wine as a table, with other names of columns, a text column and gaps."""
    found = load_wine()
    names = [name.replace("/", "_") for name in found.feature_names]
    rows = [
        [f"bottle {n}", found.target_names[label], *values, f"farm {n // 4}", ["dry", "sweet"][n % 2]]
        for n, (values, label) in enumerate(zip(found.data.tolist(), found.target, strict=True))
    ]
    rows[5][4] = rows[77][9] = ""
    return table(tmp_path / "wine", ["bottle", "cultivar", *names, "farm", "taste"], rows)


def test_the_interval_of_a_validation_accuracy_takes_a_group_for_one(inside: Harness, wine: Path) -> None:
    columns = ("--id-column", "bottle", "--label-column", "cultivar", "--group", "farm", "--impute", "median")
    words = ("--categorical", "one-hot", "--trials", "1", "--epochs", "2", "--jobs", "1")
    shown = inside("sweep", "--model", "fcnn", "--data", str(wine), *columns, *words).stdout
    found = re.search(r"\((\d+) items, (\d+) of them independent: 95 % interval (0\.\d+) to ([01]\.\d+)\)", shown)
    assert found is not None, shown
    bottles, farms = int(found[1]), int(found[2])
    assert 3 * farms <= bottles <= 4 * farms  # a farm has four bottles, the last one two
    accuracy = re.search(r"validation accuracy (0\.\d+)", shown)
    assert accuracy is not None
    low, high = wilson_interval(float(accuracy[1]) * farms, farms)
    assert float(found[3]) == pytest.approx(low, abs=0.006)
    assert float(found[4]) == pytest.approx(high, abs=0.006)


def test_a_column_that_float32_cannot_tell_apart_is_warned_of(tmp_path: Path) -> None:
    rows = [[f"i{n}", "ab"[n % 2], 1.7e9 + n % 50, 1.7e9 + 1e6 * n, 5.0, n] for n in range(50)]
    tracks = load_tracks(table(tmp_path / "set", ["id", "label", "seconds", "weeks", "same", "small"], rows))
    (line,) = tracks.coarse_lines()
    assert line.startswith("column 'seconds': of 50 different values a network tells 1 apart")


@pytest.mark.parametrize(("mark", "decimal"), [(";", "."), (";", ","), ("\t", ".")])
def test_another_separator_is_named(tmp_path: Path, mark: str, decimal: str) -> None:
    lines = [["id", "label", "x"], *([f"i{n}", "ab"[n % 2], f"{n}{decimal}5"] for n in range(12))]
    (tmp_path / "features.csv").write_text("".join(mark.join(cells) + "\n" for cells in lines))
    with pytest.raises(DataError, match=re.escape(f"the cells are separated by {mark!r}")):
        load_tracks(tmp_path)


def test_numbers_that_are_too_large_are_no_categories(tmp_path: Path) -> None:
    rows = [[f"i{n}", "ab"[n % 2], f"{n + 1}e400"] for n in range(12)]
    with pytest.raises(DataError, match=r"column 'x' has the number '1\d?e400'"):
        load_tracks(table(tmp_path / "set", ["id", "label", "x"], rows))
    codes = [[f"i{n}", "ab"[n % 2], ("12e4", "3e40", "zz")[n % 3]] for n in range(12)]
    one_hot = {"categorical": "one-hot"}
    assert len(load_tracks(table(tmp_path / "codes", ["id", "label", "x"], codes), options=one_hot).columns) == 3


@pytest.mark.long
def test_every_command_takes_a_table(
    inside: Harness,
    place: Path,
    wine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    flags = ("--group", "farm", "--impute", "median", "--categorical", "one-hot")
    shown = inside("data", "check", str(wine), *flags, code=1).stderr
    assert "header lacks column 'label'" in shown  # two text columns could be it
    assert "--label-column NAME" in shown
    shown = inside(
        "data", "check", str(wine), "--id-column", "bottle", "--label-column", "cultivar", *flags
    ).stdout
    assert "items      178 with 15 feature columns" in shown
    assert "classes    3: class_0 59, class_1 71, class_2 48" in shown
    assert "groups     45" in shown
    (wine / "dataset.toml").write_text(
        (wine / "dataset.toml").read_text() + 'class = "cultivar"\nitem = "bottle"\n'
    )
    words = ("--trials", "2", "--epochs", "4", "--jobs", "1")
    shown = inside(
        "sweep", "--model", "fcnn", "--data", str(wine), *words, "--folds", "2", "--confirm", "0"
    ).stderr
    assert "fcnn on wine: 178 bottles, 3 cultivars, split" in shown
    found = last_json(inside("status", "--json"))
    assert [(line["name"], line["experiment"]) for line in found] == [("wine-fcnn", "wine")]
    exported = last_json(inside("export", "--study", "wine-fcnn", "--out", str(tmp_path / "best"), "--json"))
    assert [check["largest_difference"] < 1e-5 for check in exported["formats"]] == [True, True]
    card = (tmp_path / "best" / "README.md").read_text()
    assert "A classifier of cultivars" in card
    assert "music" not in card
    monkeypatch.chdir(wine)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlruns/mlflow.db")
    (example,) = re.findall(r"```python\n(import mlflow.*?)```", card, re.DOTALL)
    exec(example)  # of the registered model, on rows with gaps and a column of categories
    assert "class_1" in capfd.readouterr().out
    monkeypatch.chdir(place)
    predicted = last_json(inside("predict", str(tmp_path / "best"), str(wine / "features.csv"), "--json"))
    pd.read_csv(wine / "features.csv").to_parquet(tmp_path / "rows.parquet")
    again = last_json(inside("predict", str(tmp_path / "best"), str(tmp_path / "rows.parquet"), "--json"))
    assert [each["genres"] for each in again["predictions"]] == [
        each["genres"] for each in predicted["predictions"]
    ]
    assert len(predicted["predictions"]) == 178
    assert not predicted["errors"]
    right = sum(
        each["genres"][0]["genre"] == label
        for each, label in zip(predicted["predictions"], pd.read_csv(wine / "features.csv").cultivar, strict=True)
    )
    assert right / 178 > 0.6


@pytest.mark.long
@pytest.mark.usefixtures("place")
def test_every_command_takes_pictures(inside: Harness, tmp_path: Path) -> None:
    digits = load_digits()
    rows = []
    for n, (values, label) in enumerate(zip(digits.data[:400].tolist(), digits.target, strict=False)):
        name = str(n) if n < 200 else f"{n // 10 - 20}.{n % 10}"  # 11 and 1.1: not the same without the dot
        rows.append([name, int(label), *values])
        path = tmp_path / "digits" / "pictures" / str(label) / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[n] * 15).astype(np.uint8)).save(path)
    folder = table(tmp_path / "digits", ["scan", "label", *digits.feature_names], rows)
    words = ("--data", str(folder), "--id-column", "scan", "--trials", "2", "--epochs", "5", "--jobs", "1")
    for model in ("cnn", "fcnn", "both"):
        inside("sweep", "--model", model, *words)
        inside("export", "--study", f"digits-{model}", "--out", str(tmp_path / model))
        found = last_json(inside("predict", str(tmp_path / model), str(folder), "--json"))
        assert len(found["predictions"]) == 400
        assert not found["errors"]
    rows_of_pictures = pd.read_csv(folder / "features.csv", dtype={"scan": str})
    rows_of_pictures["picture"] = [
        str(folder / "pictures" / str(label) / f"{name}.png")
        for name, label in zip(rows_of_pictures.scan, rows_of_pictures.label, strict=True)
    ]
    table_of_both = harness.load_bundle(tmp_path / "both").predict(rows_of_pictures)
    by_file = dict(zip(rows_of_pictures.picture, table_of_both.prediction, strict=True))
    assert {each["file"]: each["genres"][0]["genre"] for each in found["predictions"]} == by_file
    about = json.loads((tmp_path / "cnn" / "model.json").read_text())["architecture"]
    assert (about["size"], about["is_music"]) == ([8, 8], False)
    compared = last_json(inside("compare", "--repeats", "5", "--no-untuned", "--json"))
    assert {row["name"] for row in compared["models"]} == {"cnn", "fcnn", "both"}
    traits = last_json(inside("traits", "--study", "digits-cnn", "--json"))
    assert traits["learners"][0]["nothing"] < 0.25
    assert {"rows 12.5 to 25 %", "columns 75 to 100 %"} < set(traits["regions"])
    families = tmp_path / "families.toml"
    halves = {name: [f"pixel_{row}_*" for row in rows] for name, rows in (("top", range(4)), ("low", range(4, 8)))}
    families.write_text("[families]\n" + "".join(f"{name} = {columns}\n" for name, columns in halves.items()))
    found = last_json(
        inside("traits", "--study", "digits-fcnn", "--families", str(families), "--repeats", "5", "--json")
    )
    assert [row["name"] for row in found["learners"][0]["rows"]] == ["top", "low"]
    inside("doctor")
