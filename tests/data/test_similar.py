"""Nearest tracks: the list is that of a plain computation, and the judgement knows nothing of the test part."""

import csv
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from harness.core.errors import DataError
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
from harness.data.similar import Judgement, similar
from tests.support.commands import Harness, last_json
from tests.support.sweeps import write_lists

MUSIC = [number for number, name in enumerate(FEATURE_COLUMNS) if name != "length"]


@pytest.fixture(scope="module")
def split(demo_tracks: Tracks) -> Split:
    return stratified_split(demo_tracks, seed=0)


@pytest.fixture(scope="module")
def lacking(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo set in which one track has no picture; for reading only."""
    folder = Path(shutil.copytree(demo_data, tmp_path_factory.mktemp("lacking") / "data"))
    (folder / PICTURES_FOLDER / "jade" / "jade00007.png").unlink()
    return folder


def values(tracks: Tracks) -> np.ndarray:
    assert tracks.features is not None
    return tracks.features


def cosines(tracks: Tracks, split: Split) -> np.ndarray:
    """The similarity of all pairs by the textbook's formula, float64 [n, n]."""
    features = values(tracks)[:, MUSIC]
    train = features[tracks.indices(split.train)]
    scaled = (features - train.mean(axis=0)) / train.std(axis=0)
    lengths = np.sqrt((scaled**2).sum(axis=1))
    found: np.ndarray = scaled @ scaled.T / np.outer(lengths, lengths)
    return found


def judged(tracks: Tracks, split: Split, top: int = 5) -> Judgement:
    return similar(tracks, split, tracks.ids[0], top=top).judgement


def test_the_nearest_are_those_of_a_plain_computation(demo_tracks: Tracks, split: Split) -> None:
    every = cosines(demo_tracks, split)
    for number in (0, 17, 299):
        (query,) = similar(demo_tracks, split, demo_tracks.ids[number], top=7).queries
        order = [int(other) for other in np.argsort(-every[number]) if other != number][:7]
        assert [near.track for near in query.neighbours] == [demo_tracks.ids[other] for other in order]
        assert [near.similarity for near in query.neighbours] == pytest.approx(every[number, order].tolist())
        assert all(near.track.startswith(f"{near.genre}.") for near in query.neighbours)
        assert {near.duplicate for near in query.neighbours} == {None}
    assert len(similar(demo_tracks, split, demo_tracks.ids[0], top=1000).queries[0].neighbours) == 299


def test_the_judgement_is_that_of_a_plain_computation(demo_tracks: Tracks, split: Split) -> None:
    every, genre_of = cosines(demo_tracks, split), dict(zip(demo_tracks.ids, demo_tracks.labels, strict=True))
    shares, chances = [], []
    for track in split.valid:
        near = sorted(split.train, key=lambda other: -every[tuple(demo_tracks.indices([track, other]))])[:5]
        shares.append(np.mean([genre_of[other] == genre_of[track] for other in near]))
        chances.append(np.mean([genre_of[other] == genre_of[track] for other in split.train]))
    found = judged(demo_tracks, split)
    assert (found.queries, found.candidates, found.top) == (len(split.valid), len(split.train), 5)
    assert found.share == pytest.approx(np.mean(shares))
    assert found.chance == pytest.approx(np.mean(chances))
    gains = np.subtract(shares, chances)
    half = t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5
    ends = [found.gain.low, found.gain.value, found.gain.high]
    assert ends == pytest.approx([gains.mean() - half, gains.mean(), gains.mean() + half])
    assert found.gain.low > 0.1


def test_the_test_part_stays_closed(demo_tracks: Tracks, split: Split) -> None:
    """Neither a row nor a genre of the test part reaches the scaler or the judgement."""
    chance = np.random.default_rng(0)
    tested = demo_tracks.indices(split.test)
    features, labels = values(demo_tracks).copy(), demo_tracks.labels.copy()
    features[tested] = 1e6 * chance.normal(size=(len(tested), len(FEATURE_COLUMNS)))
    labels[tested] = chance.permutation(labels[tested])
    spoilt = replace(demo_tracks, features=features, labels=labels)
    assert judged(spoilt, split) == judged(demo_tracks, split)
    lists = [similar(each, split, split.train[0], top=300).queries[0] for each in (demo_tracks, spoilt)]
    plain, other = ({near.track: near.similarity for near in query.neighbours} for query in lists)
    kept = {*split.train[1:], *split.valid}
    assert {track: plain[track] for track in kept} == {track: other[track] for track in kept}


def test_genres_without_any_signal_are_no_gain(demo_tracks: Tracks, split: Split) -> None:
    shuffled = replace(demo_tracks, labels=np.random.default_rng(1).permutation(demo_tracks.labels))
    found = judged(shuffled, split)
    assert not found.gain.excludes_zero
    assert abs(found.share - found.chance) < 0.06
    everything = judged(demo_tracks, split, top=1000)  # the whole train part is near then
    assert everything.top == len(split.train)
    assert everything.gain.value == pytest.approx(0)


def test_identical_tracks_are_flagged_and_count_as_one(demo_copy: Path, tmp_path: Path) -> None:
    """Every second validation track repeats the row of the one before it; the first two repeat a train track's."""
    tracks = load_tracks(demo_copy)
    drawn = stratified_split(tracks, seed=0)
    rows = dict(zip(tracks.ids, values(tracks), strict=True))
    for first, second in zip(drawn.valid[::2], drawn.valid[1::2], strict=False):
        rows[second] = rows[first]
    rows[drawn.valid[0]] = rows[drawn.valid[1]] = rows[drawn.train[0]]
    path = demo_copy / FEATURES_FILE
    lines = [",".join(["filename", *FEATURE_COLUMNS, "label"])]
    lines += [",".join([f"{i}.wav", *map(repr, map(float, row)), i.partition(".")[0]]) for i, row in rows.items()]
    path.write_text("\n".join(lines) + "\n")
    tracks = load_tracks(demo_copy)
    lists = read_split(write_lists(tmp_path / "lists", drawn), tracks)
    (query,) = similar(tracks, lists, drawn.train[0]).queries
    assert {near.track for near in query.neighbours if near.duplicate} == set(drawn.valid[:2])
    assert [near.duplicate for near in query.neighbours] == ["identical", "identical", None, None, None]
    found = judged(tracks, lists, top=1)
    # The repeat of the train track is no candidate of its copies.
    pairs = cosines(tracks, lists)[tracks.indices(drawn.valid)][:, tracks.indices(drawn.train)]
    pairs[:2, 0] = -2
    genres = tracks.labels[tracks.indices(drawn.train)][pairs.argmax(axis=1)]
    assert found.share == pytest.approx(np.mean(genres == tracks.labels[tracks.indices(drawn.valid)]))
    # Half as many different tracks: the interval is that of 24 pairs, not of 48 tracks.
    gains = (genres == tracks.labels[tracks.indices(drawn.valid)]) - found.chance
    sums = np.add.reduceat(gains - gains.mean(), np.arange(0, len(gains), 2))
    error = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(gains)
    half = t.ppf(0.975, len(sums) - 1) * error
    assert found.gain.high - found.gain.low == pytest.approx(2 * half, rel=0.02)


def test_rows_of_a_file(demo_data: Path, demo_tracks: Tracks, tmp_path: Path, inside: Harness) -> None:
    """Three rows, rounded and without `length`: the first two are tracks of the data set, the third is far off."""
    chosen = [demo_tracks.ids.index("coral.00003"), demo_tracks.ids.index("jade.00029")]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", *[FEATURE_COLUMNS[column] for column in MUSIC]])
        for name, number in zip(("coral.00003.wav", "again"), chosen, strict=True):
            writer.writerow([name, *[f"{value:.7g}" for value in values(demo_tracks)[number][MUSIC]]])
        writer.writerow(["far", *[1e9] * len(MUSIC)])
    words = ("similar", str(tmp_path / "rows.csv"), "--data", str(demo_data), "--top", "2")
    done = inside(*words, "--json")
    found = last_json(done)
    assert set(found) == {"query", "data", "synthetic", "columns", "queries", "judgement"}
    assert "length" not in found["columns"]
    named = [(query["name"], query["row"]) for query in found["queries"]]
    assert named == [("coral.00003", 1), ("again", 2), ("far", 3)]
    for query, number in zip(found["queries"], chosen, strict=False):
        first, second = query["neighbours"]
        assert (first["track"], first["duplicate"]) == (demo_tracks.ids[number], "identical")
        assert first["similarity"] == pytest.approx(1)
        assert second["duplicate"] is None
        assert query["far"] == []
    assert "rms_mean" in found["queries"][2]["far"]
    assert "1 of 3 inputs lie far outside" in done.stderr
    shown = inside(*words).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("identical") == 2


def test_a_track_in_eighty_columns(
    demo_data: Path, demo_tracks: Tracks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Harness
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jade.00000").write_text("a file of a track's name is not read")
    done = inside("similar", "jade.00000", "--data", str(demo_data))
    assert "SYNTHETIC" in done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "tracks of one artist may be on both sides" in re.sub(r"\s+", " ", done.stdout)
    lists = write_lists(tmp_path / "lists", stratified_split(demo_tracks, seed=0))
    words = ("similar", "jade.00000.wav", "--data", str(demo_data), "--json")
    drawn, listed = last_json(inside(*words)), last_json(inside(*words, "--split", str(lists)))
    assert drawn["queries"] == listed["queries"]
    assert drawn["judgement"]["split"] == {"name": "stratified, seed 0", "drawn": True}
    assert listed["judgement"]["split"] == {"name": "lists, lists", "drawn": False}
    drawn["judgement"]["split"] = listed["judgement"]["split"] = None
    assert drawn == listed
    assert last_json(inside(*words, "--split-seed", "1"))["judgement"] != drawn["judgement"]
    assert "artist" not in inside(*words[:-1], "--split", str(lists)).stdout


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("jade0007", "has no track 'jade0007', and there is no such file.*such as amber.00000.*try: jade.000"),
        ("songs/none.wav", "has no track 'songs/none.wav', and there is no such file.*harness data check"),
        ("jade.00007", "has jade.00007, but it cannot be used: features but no picture"),
        ("a" * 5000, "has no track 'aaaa"),
        ("folder", "folder is a folder, and .* has no track of that name.*csv, .parquet, .wav"),
        ("notes.txt", "notes.txt is a file of type '.txt'"),
        ("bare.csv", "the header lacks, or has twice, 'chroma_stft_mean'"),
        ("bad.csv", "line 2, column rms_mean: 'x'.*a finite number"),
        ("noise.wav", "noise.wav cannot be decoded"),
        ("pipe.csv", "not a regular file"),
    ],
)
def test_what_cannot_be_compared(
    lacking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Harness, asked: str, found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("notes.txt").write_text("nothing")
    Path("bare.csv").write_text("filename,label\na.wav,jade\n")
    cells = ["x" if name == "rms_mean" else "1" for name in FEATURE_COLUMNS]
    Path("bad.csv").write_text(f"{','.join(FEATURE_COLUMNS)}\n{','.join(cells)}\n")
    Path("noise.wav").write_bytes(b"RIFF, or so it says" * 50)
    os.mkfifo("pipe.csv")
    done = inside("similar", asked, "--data", str(lacking), code=1)
    assert done.stdout == ""
    assert re.search(found, done.stderr.replace("\n", " ")), done.stderr


def test_data_without_features(demo_copy: Path, inside: Harness) -> None:
    (demo_copy / FEATURES_FILE).unlink()
    error = inside("similar", "jade.00000", "--data", str(demo_copy), code=1).stderr
    assert "has no features, by which tracks are compared" in error
    assert "expected: features_30_sec.csv" in error


def test_tracks_that_are_all_identical(demo_tracks: Tracks, split: Split) -> None:
    same = replace(demo_tracks, duplicates=(demo_tracks.ids,))
    with pytest.raises(DataError, match="identical with all train tracks"):
        judged(same, split)


def test_a_real_clip_finds_its_own_row(gtzan: Path, tmp_path: Path, inside: Harness) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(gtzan / FEATURES_FILE, tmp_path / "data")
    clip = gtzan / "genres_original" / "metal" / "metal.00000.wav"
    lists = gtzan / "splits" / "fault-filtered"
    shown = inside("similar", str(clip), "--data", str(tmp_path / "data"), "--split", str(lists)).stdout
    assert re.search(r"metal\.00000 +│ metal +│ 1\.000 +│ identical", shown)
    assert shown.count("identical") == 1


def test_repeated_recordings_of_gtzan_are_flagged(gtzan: Path, tmp_path: Path) -> None:
    shutil.copy(gtzan / FEATURES_FILE, tmp_path)
    tracks = load_tracks(tmp_path)
    lists = read_split(gtzan / "splits" / "fault-filtered", tracks)
    (query,) = similar(tracks, lists, "metal.00058").queries
    assert (query.neighbours[0].track, query.neighbours[0].duplicate) == ("rock.00016", "identical")
    found = similar(tracks, lists, str(tmp_path / FEATURES_FILE), top=3).queries
    flagged: dict[str | None, set[frozenset[str]]] = {}
    for each in found:
        for near in each.neighbours:
            flagged.setdefault(near.duplicate, set()).add(frozenset((str(each.name), near.track)))
    groups = {frozenset(group) for group in tracks.duplicates}
    assert flagged["identical"] == groups | {frozenset([track]) for track in tracks.ids}
    assert len(groups) == 14
    # The lists were made by ear: they keep both tracks of no pair that is likely a repeat.
    kept = {*lists.train, *lists.valid, *lists.test}
    assert len(flagged["likely"]) == 12
    assert not any(pair <= kept for pair in flagged["likely"])


def test_neighbours_of_gtzan_share_the_genre_less_often_where_artists_are_kept_apart(
    gtzan: Path, tmp_path: Path
) -> None:
    shutil.copy(gtzan / FEATURES_FILE, tmp_path)
    tracks = load_tracks(tmp_path)
    apart = judged(tracks, read_split(gtzan / "splits" / "fault-filtered", tracks))
    mixed = judged(tracks, stratified_split(tracks, seed=0))
    assert (apart.queries, apart.candidates) == (197, 443)
    assert apart.gain.low > 0.2
    assert mixed.gain.low > apart.gain.high + 0.1
