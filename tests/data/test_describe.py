"""Descriptions: the figures are right, the test part is in none of them, the page is whole and self-contained."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from scipy.stats import spearmanr

from harness.core.errors import DataError, SettingsError
from harness.core.json_types import finite
from harness.core.records import Split
from harness.data import (
    FEATURE_COLUMNS,
    FEATURES_FILE,
    PICTURES_FOLDER,
    Tracks,
    load_tracks,
    read_split,
    stratified_split,
)
from harness.data.audio.panels import clip_panels
from harness.data.audio.recipe import RATE
from harness.data.describe import Description, check_page, describe_data, write_page
from harness.data.describe.chosen import choose_track, panels_or_reason
from harness.data.describe.columns import MOST_COLUMNS, columns_of, difference
from harness.data.describe.pictures import correlation_picture, tempo_picture
from harness.data.describe.strips import strips_of
from harness.data.features import write_features
from harness.data.layout import SOUND_FOLDER
from tests.support.commands import Harness, last_json
from tests.support.pictures import BOX, write_pictures
from tests.support.sweeps import write_lists
from tests.support.tables import tracks_of

LARGEST_PAGE = 4 << 20  # bytes


@pytest.fixture(scope="module")
def split(demo_tracks: Tracks) -> Split:
    return stratified_split(demo_tracks, seed=0)


@pytest.fixture(scope="module")
def described(demo_tracks: Tracks, split: Split) -> Description:
    return describe_data(demo_tracks, split)


@pytest.fixture(scope="module")
def page(described: Description, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "demo.html"
    assert write_page(described, path) is not None  # the demo set has no sound
    return path


def train_rows(tracks: Tracks, split: Split) -> np.ndarray:
    assert tracks.features is not None
    rows: np.ndarray = tracks.features[tracks.indices(split.train)]
    return rows


def with_features(tracks: Tracks, features: np.ndarray) -> Tracks:
    return replace(tracks, features=features)


@pytest.mark.long
def test_correlations_and_components_are_those_of_the_train_part(
    described: Description, demo_tracks: Tracks, split: Split
) -> None:
    rows, columns = train_rows(demo_tracks, split), described.columns
    assert columns is not None
    a, b = demo_tracks.columns.index("tempo"), demo_tracks.columns.index("rms_var")
    place = {name: index for index, name in enumerate(columns.names)}
    centred = rows - rows.mean(axis=0)
    expected = centred[:, a] @ centred[:, b] / np.sqrt((centred[:, a] ** 2).sum() * (centred[:, b] ** 2).sum())
    assert columns.pearson[place["tempo"], place["rms_var"]] == pytest.approx(expected)
    assert sorted(columns.names) == sorted(demo_tracks.columns)

    assert described.points is not None
    assert described.points.plane is not None
    found = [component.explained for component in described.points.plane.components]
    music = [index for index, name in enumerate(demo_tracks.columns) if name != "length"]
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(rows[:, music], rowvar=False))[::-1]
    assert found == pytest.approx((eigenvalues / eigenvalues.sum()).tolist(), abs=1e-12)
    assert described.points.plane.needed == int((np.cumsum(eigenvalues) / eigenvalues.sum() < 0.9).sum()) + 1
    assert len(described.points.plane.valid) == len(split.valid)


@pytest.mark.long
def test_the_values_by_genre_are_quantiles_of_the_train_part(
    described: Description, demo_tracks: Tracks, split: Split
) -> None:
    assert described.columns is not None
    labels = demo_tracks.labels[demo_tracks.indices(split.train)]
    values = train_rows(demo_tracks, split)[labels == 3][:, demo_tracks.columns.index("tempo")]
    found = described.columns.quantiles[3, described.columns.names.index("tempo")]
    assert found.tolist() == pytest.approx(np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist())


def test_how_much_genres_differ() -> None:
    labels, noise = np.repeat(np.arange(4), 50), np.random.default_rng(0).normal(size=(400, 200))
    apart = 100.0 * labels + noise[0]
    assert difference(apart, labels) > 0.93  # 1 if the tracks of a genre had one rank
    assert difference(np.exp(apart / 100), labels) == difference(apart, labels)
    assert np.mean([difference(row, labels) for row in noise]) == pytest.approx(0, abs=0.003)
    assert np.isnan(difference(np.arange(2.0), np.arange(2)))


def test_the_test_part_changes_no_figure(
    demo_copy: Path, demo_tracks: Tracks, split: Split, described: Description
) -> None:
    """Every value and every picture of the test part is another one."""
    assert demo_tracks.features is not None
    features, test = demo_tracks.features.copy(), demo_tracks.indices(split.test)
    features[test] = np.random.default_rng(1).normal(scale=1e3, size=features[test].shape)
    genres = [demo_tracks.genres[label] for label in demo_tracks.labels]
    write_features(demo_copy / FEATURES_FILE, demo_tracks.ids, genres, features)
    for number, track in enumerate(split.test):
        genre, _, digits = track.partition(".")
        colour = (number % 256, 10, 20)
        Image.new("RGB", (432, 288), colour).save(demo_copy / PICTURES_FOLDER / genre / f"{genre}{digits}.png")
    tracks = load_tracks(demo_copy)
    assert stratified_split(tracks, seed=0) == split
    again = describe_data(tracks, split)
    old, new = described.as_json(), again.as_json()
    of_the_file = ("folder", "digest")
    assert json.dumps(finite({**new, **{key: old[key] for key in of_the_file}})) == json.dumps(finite(old))
    assert set(again.train.ids + again.valid.ids).isdisjoint(split.test)


@pytest.mark.long
def test_what_is_planted_is_found(demo_tracks: Tracks, split: Split) -> None:
    """A constant column, a track that lies far out, a near copy, and a recording under two genres."""
    assert demo_tracks.features is not None
    features, (a, b, c), (d, *_) = demo_tracks.features.copy(), split.train[:3], split.valid
    row = {track: index for index, track in enumerate(demo_tracks.ids)}
    features[row[a]] = features[row[b]] * (1 + 1e-7)
    features[:, demo_tracks.columns.index("rms_var")] = 7.0
    tempo = demo_tracks.columns.index("tempo")
    features[row[d], tempo] = 10_000.0
    other = next(track for track in split.train if not track.startswith(c.partition(".")[0]))
    tracks = replace(with_features(demo_tracks, features), duplicates=((c, other),))
    found = describe_data(tracks, split)
    assert found.columns is not None
    assert found.points is not None
    assert found.columns.constant == ("rms_var",)
    assert np.isnan(found.columns.pearson[found.columns.names.index("rms_var")]).all()
    assert "rms_var" not in dict(found.columns.most_different)
    assert {found.points.close[0].a, found.points.close[0].b} == {a, b}
    assert found.points.close[0].distance < 1e-3
    farthest = found.points.far[0]
    mean, std = train_rows(tracks, split)[:, tempo].mean(), train_rows(tracks, split)[:, tempo].std()
    assert (farthest.track, farthest.part, farthest.column) == (d, "validation", "tempo")
    assert farthest.deviations == pytest.approx((10_000 - mean) / std)
    (group,) = found.identical
    assert (group.tracks, group.alike, len(group.genres)) == ((c, other), ("features",), 2)
    assert "constant in the train part: rms_var" in found.warnings
    assert f"1 group(s) of identical tracks have different genres: {c}, {other}" in found.warnings
    json.dumps(finite(found.as_json()), allow_nan=False)


@pytest.mark.long
def test_missing_values_are_left_aside(demo_tracks: Tracks, split: Split) -> None:
    assert demo_tracks.features is not None
    features = demo_tracks.features.copy()
    random, tempo, rms = np.random.default_rng(2), *(demo_tracks.columns.index(n) for n in ("tempo", "rms_mean"))
    features[random.random(len(features)) < 0.3, tempo] = np.nan
    features[:, rms] = np.nan
    found = describe_data(with_features(demo_tracks, features), split)
    columns, rows = found.columns, features[demo_tracks.indices(split.train)]
    assert columns is not None
    assert columns.missing == {"tempo": int(np.isnan(rows[:, tempo]).sum()), "rms_mean": len(rows)}
    assert columns.constant == ("rms_mean",)
    other, known = demo_tracks.columns.index("rolloff_var"), ~np.isnan(rows[:, tempo])
    a, b = (columns.names.index(name) for name in ("tempo", "rolloff_var"))
    assert columns.pearson[a, b] == pytest.approx(np.corrcoef(rows[known][:, [tempo, other]].T)[0, 1])
    assert columns.spearman[a, b] == pytest.approx(spearmanr(*rows[known][:, [tempo, other]].T)[0], abs=0.02)
    assert any(
        line.endswith("values of the train part are missing, in rms_mean, tempo") for line in found.warnings
    )
    of_tempo, drawings = tempo_picture(found), strips_of(columns, demo_tracks.genres, found.drawn)
    assert of_tempo is not None
    assert "nan" not in of_tempo.alt
    assert not [strip for strips in drawings.values() for strip in strips if "nan" in strip.alt]
    for picture in (of_tempo, correlation_picture(columns)):
        picture.draw().canvas.draw()


@pytest.mark.long
def test_of_many_columns_those_that_differ_are_drawn() -> None:
    random, labels = np.random.default_rng(0), np.arange(40) % 4
    values = random.normal(size=(40, MOST_COLUMNS + 20))
    values[:, 50] += 10 * labels
    found = columns_of(tracks_of(values, labels))
    assert found.most_different[0][0] == "x50"
    assert 50 in found.drawn
    assert found.pearson.shape == (MOST_COLUMNS, MOST_COLUMNS)
    assert [name for names in found.families.values() for name in names] == [found.names[i] for i in found.drawn]
    assert found.pearson == pytest.approx(np.corrcoef(values[:, list(found.drawn)], rowvar=False))


def test_identical_pictures_are_found_beside_identical_features(tmp_path: Path) -> None:
    """Here the features of the two tracks differ, so that a drawn split may tear them apart."""
    folder = write_pictures(tmp_path / "data", BOX)
    pictures = folder / PICTURES_FOLDER / "genre0"
    shutil.copy(pictures / "genre000000.png", pictures / "genre000001.png")
    names = [(f"genre{genre}", f"genre{genre}.{number:05d}") for genre in range(2) for number in range(10)]
    values = np.random.default_rng(0).normal(size=(20, len(FEATURE_COLUMNS)))
    values[12] = values[11]
    write_features(folder / FEATURES_FILE, [track for _, track in names], [genre for genre, _ in names], values)
    found = describe_data(load_tracks(folder), stratified_split(load_tracks(folder), seed=0))
    assert [(group.tracks, group.alike) for group in found.identical] == [
        (("genre0.00000", "genre0.00001"), ("pictures",)),
        (("genre1.00001", "genre1.00002"), ("features",)),
    ]
    torn = "1 group(s) of identical tracks lie in different parts of the split: genre0.00000, genre0.00001"
    assert (torn in found.warnings) == (len(found.identical[0].parts) > 1)
    assert len(found.identical[1].parts) == 1


class Outside(HTMLParser):
    """Collects what a page would fetch or run, and pictures without a text alternative."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag in ("script", "link", "iframe", "object"):
            self.found.append(tag)
        if tag == "img" and not named.get("alt"):
            self.found.append("img without alt")
        if tag == "svg" and not named.get("aria-label"):
            self.found.append("svg without label")
        for name in ("src", "srcset", "href"):
            value = named.get(name)
            if value and not value.startswith(("data:image/png;base64,", "#")):
                self.found.append(f"{name}={value[:40]}")


@pytest.mark.long
def test_the_page_holds_all_that_it_shows(page: Path, described: Description) -> None:
    text = page.read_text(encoding="utf-8")
    parser = Outside()
    parser.feed(text)
    assert parser.found == []
    assert "url(" not in text
    assert len(text.encode()) < LARGEST_PAGE
    assert "Synthetic data" in text
    assert "prefers-color-scheme: dark" in text
    for heading in ("Correlation", "Tempo by genre", "Explained variance", "lie far out", "Identical tracks"):
        assert heading in text
    assert text.count("<svg") == 58
    assert "there is no sound file genres_original/amber/" in text
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", re.sub(r"base64,[^\"]*", "", text).replace("None. ", ""))
    for track in described.split.test:
        assert f"{track}<" not in text


@pytest.mark.long
def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    tracks = load_tracks(write_pictures(tmp_path / "data", BOX))
    found = describe_data(tracks, stratified_split(tracks, seed=0))
    genre, _, digits = found.chosen.track.partition(".")
    (tmp_path / "data" / PICTURES_FOLDER / genre / f"{genre}{digits}.png").write_bytes(b"no picture")
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "report.html").write_text("old")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        write_page(found, folder / "report.html")
    assert [path.read_text() for path in folder.iterdir()] == ["old"]


@pytest.mark.long
def test_sets_with_one_half(demo_copy: Path, tmp_path: Path) -> None:
    pictures = load_tracks(write_pictures(tmp_path / "pictures", BOX))
    found = describe_data(pictures, stratified_split(pictures, seed=0))
    assert (found.columns, found.points) == (None, None)
    write_page(found, tmp_path / "pictures.html")
    text = (tmp_path / "pictures.html").read_text(encoding="utf-8")
    assert "The first train track of each genre" in text
    assert "Correlation" not in text
    shutil.rmtree(demo_copy / PICTURES_FOLDER)
    rows = load_tracks(demo_copy)
    assert not describe_data(rows, stratified_split(rows, seed=0)).has_pictures


@pytest.mark.long
def test_a_small_train_part_with_a_genre_that_it_lacks(demo_tracks: Tracks) -> None:
    """Lists may be of any size: two train tracks have no plane, and nothing is divided by zero."""
    amber = [track for track in demo_tracks.ids if track.startswith("amber")]
    lists = Split(
        name="lists", drawn=False, train=tuple(amber[:2]), valid=tuple(amber[2:4]), test=tuple(amber[4:6])
    )
    found = describe_data(demo_tracks, lists)
    assert found.points is not None
    assert found.points.plane is None
    assert found.unlisted == len(demo_tracks.ids) - 6
    assert found.drawn == (0,)
    json.dumps(finite(found.as_json()), allow_nan=False)
    one = replace(lists, train=tuple(amber[:1]))
    assert describe_data(demo_tracks, one).columns is not None


def tone(folder: Path, track: str) -> None:
    """Write four seconds of A, at 440 hertz."""
    path = folder / SOUND_FOLDER / track.partition(".")[0] / f"{track}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE), RATE)


@pytest.mark.long
def test_a_tone_is_where_it_should_be() -> None:
    panels = clip_panels((0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)).astype(np.float32))
    assert panels.seconds == 4
    assert panels.highest_hertz * panels.stft.mean(axis=1).argmax() / len(panels.stft) == pytest.approx(
        440, abs=60
    )
    assert panels.mel_hertz[panels.mel.mean(axis=1).argmax()] == pytest.approx(440, rel=0.1)
    assert panels.chroma.mean(axis=1).argmax() == 9  # A
    assert panels.wave.max() == pytest.approx(0.3, abs=0.01)
    assert panels.harmonic.max() > 5 * np.abs(panels.percussive[:, 20:-20]).max()
    assert panels.mfcc.shape[0] == 20


@pytest.mark.long
def test_the_track_that_is_shown(demo_copy: Path, demo_tracks: Tracks, split: Split) -> None:
    for track in (split.valid[0], split.train[5], split.test[0]):
        tone(demo_copy, track)
    tracks = replace(demo_tracks, folder=demo_copy)
    assert choose_track(tracks, split, None).track == split.train[5]
    chosen = choose_track(tracks, split, split.valid[0])
    assert (chosen.part, chosen.sound is not None) == ("validation", True)
    silent = choose_track(tracks, split, split.train[0])
    assert silent.sound is None
    assert f"there is no sound file {SOUND_FOLDER}/" in str(panels_or_reason(silent))
    assert chosen.sound is not None
    chosen.sound.write_bytes(b"no sound")
    assert "cannot be decoded" in str(panels_or_reason(chosen))
    excluded = replace(tracks, excluded={"jade.00099": "features but no picture"})
    for wanted, said in (
        ("polka.00000", "there is no track 'polka.00000'"),
        (split.test[0], "is in the test part"),
        ("jade.00099", "is excluded: features but no picture"),
    ):
        with pytest.raises(SettingsError, match=said):
            choose_track(excluded, split, wanted)


@pytest.mark.long
def test_without_librosa_the_page_says_so(
    demo_copy: Path, demo_tracks: Tracks, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone(demo_copy, split.train[0])
    monkeypatch.setattr("harness.data.audio.compiled.LIBRARIES", ("librosa", "no_such_library"))
    chosen = choose_track(replace(demo_tracks, folder=demo_copy), split, None)
    assert "no_such_library; expected: the extra [audio]" in str(panels_or_reason(chosen))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder.html", "is a folder"),
        ("report.txt", "does not end in .html"),
        ("data/report.html", "lies in the data folder"),
        ("data/features_30_sec.csv", "does not end in .html"),
        ("file/report.html", "file is not a folder"),
        (f"{'x' * 300}.html", "cannot be written"),
    ],
)
def test_where_a_page_cannot_lie(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=said):
        check_page(tmp_path / name, tmp_path / "data")
    check_page(tmp_path / "new" / "report.html", tmp_path / "data")


def test_the_command(demo_data: Path, demo_tracks: Tracks, tmp_path: Path, inside: Harness) -> None:
    out = inside("data", "describe", str(demo_data)).stdout
    assert "SYNTHETIC" in out
    assert "The 60 test tracks are left out" in out
    assert "--out report.html" in out
    parts = {"train": demo_tracks.ids[::2], "valid": demo_tracks.ids[1::4], "test": demo_tracks.ids[3::4]}
    write_lists(tmp_path, Split(name="lists", drawn=False, **parts), "_filtered")
    found = last_json(inside("data", "describe", str(demo_data), "--split", str(tmp_path), "--json"))
    assert found["split"] == {
        "name": f"lists, {tmp_path.name}",
        "train": 150,
        "validation": 75,
        "test": 75,
        "unlisted": 0,
    }
    assert len(found["features"]["pearson"]) == 58
    assert found["page"] is None


def test_errors_of_the_command(demo_data: Path, tmp_path: Path, inside: Harness) -> None:
    def refused(*arguments: str) -> str:
        done = inside("data", "describe", *arguments, code=1)
        assert done.stdout == ""
        assert "expected:" in done.stderr
        return done.stderr

    assert "holds no data set" in refused(str(tmp_path))
    assert "there is no data folder" in refused(str(tmp_path / "missing"))
    assert "is a folder" in refused(str(demo_data), "--out", str(tmp_path))
    assert "there is no track 'polka.00000'" in refused(str(demo_data), "--track", "polka.00000")
    assert "split_seed is -1" in refused(str(demo_data), "--split-seed", "-1")


def test_the_real_data(gtzan: Path, tmp_path: Path, inside: Harness) -> None:
    path = tmp_path / "report.html"
    lists = describe_data(load_tracks(gtzan), read_split(gtzan / "splits" / "fault-filtered", load_tracks(gtzan)))
    assert lists.unlisted == 70
    assert not [line for line in lists.warnings if "different parts" in line]  # the lists have one of each repeat
    found = last_json(inside("data", "describe", str(gtzan), "--out", str(path), "--json"))
    assert len(found["identical"]) == 14
    assert all(group["alike"] == ["features", "pictures"] for group in found["identical"])
    assert "1 group(s) of identical tracks have different genres: metal.00058, rock.00016" in found["warnings"]
    first, second = (component["explained"] for component in found["points"]["components"][:2])
    assert first + second == pytest.approx(0.409, abs=0.001)  # without `length`; with it 0.402
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST_PAGE
    for heading in ("Waveform", "Short-time Fourier transform", "Mel spectrogram", "Chroma", "MFCC"):
        assert f"<h3>{heading}" in text
