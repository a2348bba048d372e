"""Where tracks are easy to recognise and genres are not, a split by row leaks; the page says what is measured."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from harness.compare.choose import draw_splits
from harness.core.errors import DataError
from harness.core.stats import Estimate
from harness.data import FEATURE_COLUMNS, FEATURES_FILE, load_tracks, stratified_split
from harness.data.features import write_features
from tests.support import EXPERIMENTS
from tests.support.sweeps import write_lists

SCRIPT = EXPERIMENTS / "ten_classifiers.py"
GENRES = ("alder", "beech", "cedar", "douglas")
TRACKS, SEGMENTS = 20, 10
CHEAP = ("naive Bayes", "19 nearest neighbours", "decision tree")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ten_classifiers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ten_classifiers"] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic rows: ten alike for each track (0.2), tracks that differ (1.0), genres that hardly do (0.2)."""
    folder = tmp_path_factory.mktemp("synthetic")
    chance = np.random.default_rng(0)
    genres = np.repeat(np.arange(len(GENRES)), TRACKS)
    centres = 0.2 * chance.normal(size=(len(GENRES), len(FEATURE_COLUMNS)))
    tracks = centres[genres] + chance.normal(size=(len(genres), len(FEATURE_COLUMNS)))
    ids = [f"{GENRES[genre]}.{number % TRACKS:05d}" for number, genre in enumerate(genres)]
    segments = np.repeat(tracks, SEGMENTS, axis=0) + 0.2 * chance.normal(
        size=(SEGMENTS * len(ids), len(FEATURE_COLUMNS))
    )
    tracks[:, 0], segments[:, 0] = 661794, 66149
    write_features(folder / FEATURES_FILE, ids, [GENRES[genre] for genre in genres], tracks)
    names = [f"{track}.{number}" for track in ids for number in range(SEGMENTS)]
    labels = [name.partition(".")[0] for name in names]
    write_features(folder / "features_3_sec.csv", names, labels, segments)
    return folder


def test_by_row_is_far_above_by_track(script: ModuleType, data: Path) -> None:
    """A track's own rows give it away, by row; by track what is left is a little above chance, 0.25."""
    tracks = load_tracks(data)
    segments = script.read_segments(data / "features_3_sec.csv")
    assert segments.values.shape == (len(tracks.ids) * SEGMENTS, 57)
    by_row = script.by_row(segments, CHEAP)
    splits = draw_splits(tracks, stratified_split(tracks, seed=0), 5, chose=())
    by_track = script.by_track(segments, tracks, splits, CHEAP)
    assert set(by_row) == set(by_track) == set(CHEAP)
    for name in CHEAP:
        estimate = by_track[name]
        assert isinstance(estimate, Estimate)
        assert by_row[name] > max(estimate.high, estimate.value + 0.2), name
    assert by_row["decision tree"] > 0.8
    assert by_track["decision tree"].value < 0.45
    whole = script.by_track(script.whole_tracks(tracks), tracks, splits, CHEAP)
    # One row a track is as hard as ten that are alike: they are one cluster, and the interval is no narrower.
    widths = [
        np.mean([estimate.high - estimate.low for estimate in found.values()]) for found in (by_track, whole)
    ]
    assert widths[0] > 0.5 * widths[1]


def test_rows_of_one_track_are_never_on_both_sides(
    script: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = load_tracks(data)
    segments = script.read_segments(data / "features_3_sec.csv")
    number_of = {row.tobytes(): number for number, row in enumerate(segments.values)}
    seen = []

    def look(name: str, seed: int, rows: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
        seen.append((len(rows), len(asked), rows.min(), rows.max(), asked.max() > 1 + 1e-9 or asked.min() < -1e-9))
        return np.zeros(len(asked), dtype=int)

    monkeypatch.setattr(script, "predict", look)
    splits = draw_splits(tracks, stratified_split(tracks, seed=0), 5, chose=())
    script.by_track(segments, tracks, splits, ["SVM"])
    assert len(number_of) == len(segments.values)
    for split, (trained, tested, low, high, outside) in zip(splits, seen, strict=True):
        assert not set(split.test) & {*split.train, *split.valid}
        assert (trained, tested) == (SEGMENTS * len(split.train + split.valid), SEGMENTS * len(split.test))
        assert (low, high) == pytest.approx((0, 1))  # the scaler was fitted on exactly these rows,
        assert outside  # and knows nothing of the test rows
    seen.clear()
    script.by_row(segments, ["SVM"])
    assert seen[0][:2] == (560, 240)
    assert not seen[0][4]  # as the notebook did: fitted on all


@pytest.mark.parametrize("name", ["alder.00000.wav", "alder.wav", ""])
def test_other_rows_are_refused(script: ModuleType, tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"filename,{','.join(FEATURE_COLUMNS)}\n{name},{','.join('1' for _ in FEATURE_COLUMNS)}\n")
    with pytest.raises(DataError, match="is no name of a 3-second row"):
        script.read_segments(path)


def test_the_page_says_what_is_quoted_and_what_is_measured(script: ModuleType) -> None:
    names = tuple(script.CLASSIFIERS)
    figures = {name: Estimate(0.75, 0.7, 0.8, 0.0) for name in names if name not in script.BOOSTED}
    only_tracks = [script.Column("30 s, by track, random splits", figures)]
    text = script.page(only_tracks, names, synthetic=False, repeats=10)
    assert "| naive Bayes | 0.520 | 0.750 (0.700 to 0.800) |\n" in text
    assert "| XGBoost | 0.901 | XGBoost is not installed |\n" in text
    assert "**Not measured here: the figures by row.**" in text
    assert "--segments features_3_sec.csv --write" in text
    assert "SYNTHETIC" not in text
    with_segments = [script.Column("3 s, by row: the leak", dict.fromkeys(names, 0.9)), *only_tracks]
    text = script.page(with_segments, names, synthetic=True, repeats=10)
    assert "| XGBoost | 0.901 | 0.900 | XGBoost is not installed |\n" in text
    assert "Not measured here" not in text
    assert "**The data are SYNTHETIC" in text
    assert "is quoted at 0.901. Here: 3 s, by row: the leak 0.900.**" in text
    assert not re.search(r"\n\n\n|[ \t]\n", text)
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 11


def test_the_page_in_docs_is_the_scripts(script: ModuleType) -> None:
    """Its table has the ten rows with the quoted figures, and no classifier is left unmeasured."""
    text = script.PAGE.read_text(encoding="utf-8")
    for name, quoted in script.QUOTED.items():
        assert re.search(rf"^\| {re.escape(name)} \| {quoted:.3f} \| 0\.\d{{3}} ", text, re.MULTILINE), name
    assert script.NO_BOOST not in text


@pytest.mark.long
def test_the_whole_script(data: Path, tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", stratified_split(load_tracks(data), seed=3))
    words = [sys.executable, str(SCRIPT), "--data", str(data), "--lists", str(lists), "--repeats", "5"]
    words += ["--only", "naive Bayes", "--only", "XGBoost", "--write", str(tmp_path / "page.md")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=EXPERIMENTS.parent, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.md").read_text() == done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("| naive Bayes")]
    assert row.count("|") == 8  # a name, the quoted figure, by row, and by track on both splits of both tables
    (boosted,) = [line for line in done.stdout.splitlines() if line.startswith("| XGBoost |")]
    assert boosted.count("|") == 8
    wrong = subprocess.run(
        [*words[:2], "--data", str(tmp_path / "none")], capture_output=True, text=True, check=False, timeout=300
    )
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: there is no data folder")
