from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import Dataset
from harness.core.errors import DataError
from harness.core.records import Split
from harness.data import FOLDS, Tracks, fold_splits, load_tracks, read_split, stratified_split
from tests.support.sweeps import write_lists


def tracks_of(sizes: list[int], duplicates: tuple[tuple[str, ...], ...] = ()) -> Tracks:
    """Tracks of a data set with these numbers of tracks in the genres; no files exist."""
    genres = tuple(f"genre{index}" for index in range(len(sizes)))
    ids = [f"{genre}.{number:05d}" for genre, size in zip(genres, sizes, strict=True) for number in range(size)]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return Tracks(
        folder=Path("data"),
        ids=tuple(ids),
        genres=genres,
        labels=labels,
        columns=(),
        features=None,
        pictures=None,
        excluded={"genre0.99999": "features but no picture"},
        duplicates=duplicates,
        digest="",
        synthetic=True,
    )


@given(
    sizes=st.lists(st.integers(12, 60), min_size=2, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    pairs=st.integers(0, 4),
)
def test_a_stratified_split_is_complete_disjoint_and_stratified(sizes: list[int], seed: int, pairs: int) -> None:
    plain = tracks_of(sizes)
    # Each pair is a track of one genre and a track of the next: duplicates may have different genres.
    groups = tuple((f"genre0.{n:05d}", f"genre1.{n:05d}") for n in range(pairs))
    tracks = tracks_of(sizes, groups)
    split = stratified_split(tracks, seed=seed)
    parts = (split.train, split.valid, split.test)
    assert sorted(track for part in parts for track in part) == sorted(tracks.ids)
    for group in groups:
        assert sum(bool(set(group) & set(part)) for part in parts) == 1
    assert split == stratified_split(tracks, seed=seed)
    for part, fraction in zip(parts, (0.64, 0.16, 0.20), strict=True):
        counts = Counter(track.split(".")[0] for track in part)
        for genre, size in zip(tracks.genres, sizes, strict=True):
            assert abs(counts[genre] - fraction * size) <= 2.5 + pairs
    assert {split.digest} == {stratified_split(tracks, seed=seed).digest}
    assert stratified_split(plain, seed=seed).name == f"stratified, seed {seed}"


@given(sizes=st.lists(st.integers(20, 60), min_size=2, max_size=5), seed=st.integers(0, 1000))
def test_a_round_tests_once_on_each_track_that_chose_nothing(sizes: list[int], seed: int) -> None:
    tracks = tracks_of(sizes, (("genre0.00000", "genre1.00000"), ("genre0.00003", "genre1.00007")))
    first = stratified_split(tracks, seed=0)
    twins = {track for group in tracks.duplicates if set(group) & set(first.valid) for track in group}
    folds = fold_splits(tracks, seed=seed, never_test=first.valid)
    tested = [track for split in folds for track in split.test]
    assert sorted(tested) == sorted(set(tracks.ids) - set(first.valid) - twins)
    assert len(folds) == FOLDS
    for split in folds:
        assert sorted((*split.train, *split.valid, *split.test)) == sorted(tracks.ids)
        assert abs(len(split.test) - len(tested) / FOLDS) <= len(sizes) + 2
        assert abs(len(split.valid) - 0.2 * (len(tracks.ids) - len(split.test))) <= 3
        for part in (split.train, split.valid, split.test):
            assert {track.split(".")[0] for track in part} == set(tracks.genres)
            for group in tracks.duplicates:
                assert len(set(group) & set(part)) in (0, len(group))
        assert split.drawn
        assert split.name.endswith("tracks kept out of test")
    assert folds == fold_splits(tracks, seed=seed, never_test=first.valid)
    assert folds != fold_splits(tracks, seed=seed + 1, never_test=first.valid)


def test_a_genre_with_too_few_judges_for_the_folds_is_refused() -> None:
    tracks = tracks_of([20, 6])
    with pytest.raises(DataError, match=r"4 tracks of genre 'genre1' may be tested on"):
        fold_splits(tracks, seed=0, never_test=["genre1.00000", "genre1.00001"])


def test_other_seeds_give_other_splits(demo_tracks: Tracks) -> None:
    digests = {stratified_split(demo_tracks, seed=seed).digest for seed in range(20)}
    assert len(digests) == 20


def test_a_genre_too_small_for_every_part_is_refused() -> None:
    with pytest.raises(DataError, match="genre1"):
        stratified_split(tracks_of([50, 2]), seed=0)


def test_the_order_of_duplicates_does_not_matter() -> None:
    groups = (("genre0.00001", "genre1.00001"), ("genre0.00005", "genre0.00009", "genre1.00004"))
    splits = {stratified_split(tracks_of([20, 20], order), seed=4).digest for order in (groups, groups[::-1])}
    assert len(splits) == 1


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    return write_lists(tmp_path / "lists", stratified_split(tracks_of([20, 20]), seed=0), "_filtered")


def test_a_split_has_the_name_of_its_folder_however_it_is_reached(
    lists: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lists)
    assert read_split(Path(), tracks_of([20, 20])).name == "lists, lists"


def append(folder: Path, part: str, line: str) -> None:
    with (folder / f"{part}_filtered.txt").open("a") as file:
        file.write(line + "\n")


def test_lists_are_read_back(lists: Path) -> None:
    tracks = tracks_of([20, 20])
    drawn = stratified_split(tracks, seed=0)
    append(lists, "test", "")
    append(lists, "train", "genre0/genre0.99999.wav")
    split = read_split(lists, tracks)
    assert split.digest == drawn.digest
    assert split.name == "lists, lists"
    assert split.excluded == ("genre0.99999: in train_filtered.txt, features but no picture",)


@pytest.mark.parametrize(
    ("part", "line", "quoted"),
    [
        ("test", "genre0/genre0.00077.wav", ["test_filtered.txt", "line 9", "genre0.00077"]),
        ("test", "genre1/genre0.00001.wav", ["'genre1/genre0.00001.wav'", "is not the name of a track"]),
        ("valid", "nonsense", ["valid_filtered.txt", "'nonsense'"]),
    ],
)
def test_a_wrong_line_is_named(lists: Path, part: str, line: str, quoted: list[str]) -> None:
    append(lists, part, line)
    with pytest.raises(DataError) as error:
        read_split(lists, tracks_of([20, 20]))
    for word in quoted:
        assert word in str(error.value)


def test_a_track_in_two_lists_is_refused(lists: Path) -> None:
    line = (lists / "train_filtered.txt").read_text().splitlines()[0]
    append(lists, "valid", line)
    with pytest.raises(
        DataError, match=r"valid_filtered\.txt, line .* is already listed in .*train_filtered\.txt, line 1"
    ):
        read_split(lists, tracks_of([20, 20]))


def test_missing_empty_and_ambiguous_lists_are_refused(lists: Path, tmp_path: Path) -> None:
    tracks = tracks_of([20, 20])
    (lists / "test_filtered.txt").write_text("\n")
    with pytest.raises(DataError, match="lists no usable track"):
        read_split(lists, tracks)
    (lists / "test_filtered.txt").unlink()
    with pytest.raises(DataError, match=r"0 lists test\*\.txt"):
        read_split(lists, tracks)
    (lists / "train2.txt").write_text("")
    with pytest.raises(DataError, match=r"train2\.txt"):
        read_split(lists, tracks)
    with pytest.raises(DataError, match="no folder of split lists"):
        read_split(tmp_path / "none", tracks)


def test_a_genre_that_is_not_in_the_train_list_is_refused(tmp_path: Path) -> None:
    tracks = tracks_of([20, 20])
    whole = stratified_split(tracks, seed=0)
    one_genre = tuple(track for track in whole.train if track.startswith("genre0"))
    folder = write_lists(
        tmp_path / "l",
        Split(name="", drawn=False, train=one_genre, valid=whole.valid, test=whole.test),
        "_filtered",
    )
    with pytest.raises(DataError, match=r"train_filtered\.txt: genre 'genre1'.*train part, but genre1\."):
        read_split(folder, tracks)


def test_lists_of_another_data_set_name_ids_or_files_of_them(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    ids = [f"a.{number}" for number in range(30)]
    folder = Dataset(features=values, labels=["p", "q"] * 15, ids=ids).save(tmp_path / "data")
    tracks = load_tracks(folder)
    whole = stratified_split(tracks, seed=0)
    for line in ("{}", "p/{}.wav", "{}.PNG"):
        lists = tmp_path / "lists"
        lists.mkdir(exist_ok=True)
        for part in ("train", "valid", "test"):
            (lists / f"{part}.txt").write_text(
                "\n".join(line.format(track) for track in getattr(whole, part)), encoding="utf-8"
            )
        assert read_split(lists, tracks).digest == whole.digest
    (lists / "test.txt").write_text("a.1.7\n", encoding="utf-8")  # no file of `a.1`: .7 is no format
    with pytest.raises(DataError, match=r"test\.txt, line 1: a\.1\.7 is not in"):
        read_split(lists, tracks)


def test_a_genre_that_no_list_has(tmp_path: Path) -> None:
    whole = stratified_split(tracks_of([20, 20]), seed=0)
    split = read_split(write_lists(tmp_path / "l", whole, "_filtered"), tracks_of([20, 20, 20]))
    assert split.digest == whole.digest


def test_lists_from_other_systems(lists: Path) -> None:
    tracks = tracks_of([20, 20])
    drawn = read_split(lists, tracks)
    for path in lists.iterdir():
        lines = [line.rpartition("/")[2] for line in path.read_text().splitlines()]  # bare names
        path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*reversed(lines), "", ""]).encode())
    assert read_split(lists, tracks) == drawn


def test_a_list_that_is_not_text_is_refused(lists: Path) -> None:
    (lists / "valid_filtered.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"valid_filtered\.txt cannot be read"):
        read_split(lists, tracks_of([20, 20]))


def test_gtzan_splits(gtzan: Path) -> None:
    tracks = load_tracks(gtzan)
    split = stratified_split(tracks, seed=0)
    assert (len(split.train), len(split.valid), len(split.test)) == (640, 160, 199)
    side = {track: part for part in ("train", "valid", "test") for track in getattr(split, part)}
    assert all(len({side[track] for track in group}) == 1 for group in tracks.duplicates)
    lists = read_split(gtzan / "splits" / "fault-filtered", tracks)
    assert (len(lists.train), len(lists.valid), len(lists.test)) == (442, 197, 290)
    assert lists.excluded == ("jazz.00054: in train_filtered.txt, features but no picture",)


@pytest.mark.parametrize(
    "damage", [b"", b"[1, 2]", b'[["genre0.00001"], [], []]', b'[[["a"]], [], []]', None], ids=str
)
def test_a_split_is_drawn_once_and_anew_if_its_file_is_damaged(
    damage: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    tracks = tracks_of([20, 30], duplicates=(("genre0.00001", "genre0.00005"),))
    first = stratified_split(tracks, seed=4)
    (file,) = tmp_path.glob("split-*.json")
    kept = file.read_bytes()
    if damage is not None:
        file.write_bytes(damage)
    with monkeypatch.context() as patch:
        if damage is None:
            patch.setattr("sklearn.model_selection.train_test_split", None)  # not called
        assert stratified_split(tracks, seed=4) == first
    assert file.read_bytes() == kept
    assert stratified_split(tracks, seed=5) != first
