"""Reading a data folder: what is accepted, which tracks are excluded, and that every fault is named."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.core.errors import DataError
from harness.data import FEATURE_COLUMNS, FEATURES_FILE, PICTURES_FOLDER, Tracks, load_tracks, open_pictures


def rows(folder: Path) -> list[list[str]]:
    with (folder / FEATURES_FILE).open(newline="") as file:
        return list(csv.reader(file))


def write_rows(folder: Path, table: list[list[str]]) -> None:
    with (folder / FEATURES_FILE).open("w", newline="") as file:
        csv.writer(file).writerows(table)


def set_cell(folder: Path, line: int, column: str, value: str) -> None:
    table = rows(folder)
    table[line - 1][table[0].index(column)] = value
    write_rows(folder, table)


def drop_column(folder: Path, column: str) -> None:
    table = rows(folder)
    place = table[0].index(column)
    write_rows(folder, [row[:place] + row[place + 1 :] for row in table])


def add_column(folder: Path, name: str) -> None:
    table = rows(folder)
    write_rows(folder, [[*row, name if number == 0 else "1.0"] for number, row in enumerate(table)])


def repeat_row(folder: Path) -> None:
    table = rows(folder)
    write_rows(folder, [*table, table[7]])


def keep_rows(folder: Path, keep: Callable[[list[str]], bool]) -> None:
    table = rows(folder)
    write_rows(folder, [table[0], *filter(keep, table[1:])])


def picture(folder: Path, name: str = "amber/amber00003.png") -> Path:
    return folder / PICTURES_FOLDER / name


def truncate(folder: Path) -> None:
    path = picture(folder)
    path.write_bytes(path.read_bytes()[:2000])


def resize(folder: Path) -> None:
    Image.new("RGB", (100, 80)).save(picture(folder))


def resize_first(folder: Path) -> None:
    Image.new("RGB", (100, 80)).save(picture(folder, "amber/amber00000.png"))


def sixteen_bits(folder: Path) -> None:
    Image.fromarray(np.zeros((288, 432), dtype=np.uint16)).save(picture(folder))


def huge_cells(folder: Path) -> None:
    for column in ("rms_mean", "rms_var", "tempo"):  # each is finite, their sum is not
        set_cell(folder, 6, column, "1.7e308")


def file_for_folder(folder: Path) -> None:
    shutil.rmtree(folder / PICTURES_FOLDER)
    (folder / PICTURES_FOLDER).write_text("x")


def folder_for_file(folder: Path) -> None:
    (folder / FEATURES_FILE).unlink()
    (folder / FEATURES_FILE).mkdir()


def no_pictures(folder: Path) -> None:
    shutil.rmtree(folder / PICTURES_FOLDER)
    (folder / PICTURES_FOLDER).mkdir()


def two_pictures(folder: Path) -> None:
    shutil.copy(picture(folder), folder / PICTURES_FOLDER / "amber00003.png")


def few_tracks(folder: Path) -> None:
    keep_rows(folder, lambda row: row[-1] != "jade" or row[0] < "jade.00003")


FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "text for a number": (
        lambda f: set_cell(f, 5, "tempo", "fast"),
        [FEATURES_FILE, "line 5", "tempo", "'fast'", "finite number"],
    ),
    "nan": (lambda f: set_cell(f, 9, "rms_var", "nan"), ["line 9", "rms_var", "'nan'"]),
    "infinity": (lambda f: set_cell(f, 2, "length", "inf"), ["line 2", "length", "'inf'"]),
    "empty cell": (lambda f: set_cell(f, 301, "mfcc20_var", ""), ["line 301", "mfcc20_var", "''"]),
    "too large for float32": (lambda f: set_cell(f, 3, "mfcc1_var", "1e39"), ["line 3", "'1e39'"]),
    "too large for a sum": (huge_cells, ["line 6", "rms_mean", "'1.7e308'", "finite number"]),
    "digits with underscores": (lambda f: set_cell(f, 3, "tempo", "1_0"), ["line 3", "tempo", "'1_0'"]),
    "missing column": (lambda f: drop_column(f, "harmony_var"), ["line 1", "lacks", "'harmony_var'"]),
    "missing label": (lambda f: drop_column(f, "label"), ["lacks", "'label'"]),
    "extra column": (lambda f: add_column(f, "loudness"), ["unknown", "'loudness'"]),
    "column twice": (lambda f: add_column(f, "tempo"), ["twice", "'tempo'"]),
    "ragged row": (
        lambda f: write_rows(f, [*rows(f), ["amber.00077.wav", "1"]]),
        ["line 302", "2 cells", "60 cells"],
    ),
    "contradicting label": (lambda f: set_cell(f, 4, "label", "jade"), ["line 4", "label", "'jade'", "'amber'"]),
    "no track's name": (lambda f: set_cell(f, 4, "filename", "song.mp3"), ["line 4", "'song.mp3'", "GENRE.NNNNN"]),
    "repeated id": (repeat_row, ["line 302", "amber.00006", "a second row"]),
    "empty file": (lambda f: (f / FEATURES_FILE).write_text(""), [FEATURES_FILE, "empty"]),
    "header only": (lambda f: keep_rows(f, lambda _: False), ["no rows"]),
    "binary junk": (lambda f: (f / FEATURES_FILE).write_bytes(bytes(range(256)) * 9), ["cannot be read as CSV"]),
    "few tracks in a genre": (few_tracks, ["'jade'", "3 of 'jade'", "at least 5"]),
    "one genre": (lambda f: keep_rows(f, lambda row: row[-1] == "iris"), ["one genre only", "'iris'"]),
    "truncated picture": (truncate, ["amber00003.png", "cannot be decoded"]),
    "no picture at all": (lambda f: picture(f).write_text("hello"), ["amber00003.png", "cannot be read"]),
    "picture of another size": (resize, ["amber00003.png", "100x80", "432x288"]),
    "first picture of another size": (resize_first, ["amber00000.png", "100x80", "432x288"]),
    "picture of 16 bits": (sixteen_bits, ["amber00003.png", "'I;16'", "8 bits"]),
    "pictures in a file": (file_for_folder, [PICTURES_FOLDER, "cannot be listed"]),
    "no pictures": (no_pictures, [PICTURES_FOLDER, "holds no pictures"]),
    "csv that is a folder": (
        folder_for_file,
        [FEATURES_FILE, "cannot be read as CSV"],
    ),
    "picture of absurd size": (
        lambda f: Image.new("1", (9000, 9000)).save(picture(f)),
        ["amber00003.png", "9000x9000"],
    ),
    "picture in a wrong folder": (
        lambda f: picture(f).rename(picture(f, "jade/amber00003.png")),
        ["amber00003.png", "contradicts", "'jade'"],
    ),
    "picture that is no PNG": (lambda f: picture(f, "amber/notes.txt").write_text("x"), ["notes.txt", "PNG"]),
    "two pictures": (two_pictures, ["amber.00003", "already"]),
    "pictures without names": (
        lambda f: shutil.copy(picture(f), f / PICTURES_FOLDER / "amber.png"),
        ["'amber.png'", "is not the name of a track's picture"],
    ),
    "halves that share no track": (
        lambda f: write_rows(
            f,
            [
                [c.replace("amber", "ochre") if c != r[1] else c for c in r]
                for r in rows(f)
                if r[-1] in "amberlabel"
            ],
        ),
        ["no track has both", "ochre.00000", "amber.00000"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_a_fault_is_named(demo_data: Path, tmp_path: Path, fault: str) -> None:
    spoil, quoted = FAULTS[fault]
    # A fault of the table alone does without copies of 300 pictures.
    without = () if any(word in fault for word in ("picture", "halves")) else (PICTURES_FOLDER,)
    folder = Path(shutil.copytree(demo_data, tmp_path / "copy", ignore=shutil.ignore_patterns(*without)))
    spoil(folder)
    with pytest.raises(DataError) as error:
        load_tracks(folder)
    for word in quoted:
        assert word in str(error.value)


def test_for_an_empty_folder_the_hint_says_how_to_get_data(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("a note")
    (tmp_path / "demo").mkdir()
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError) as error:
            load_tracks(folder)
        for way in ("harness data fetch", "harness data import", "--data demo"):
            assert way in str(error.value)


def test_the_demo_set_is_read(demo_tracks: Tracks) -> None:
    assert demo_tracks.synthetic
    assert len(demo_tracks.ids) == 300
    assert len(demo_tracks.genres) == 10
    assert demo_tracks.columns == FEATURE_COLUMNS
    assert len(FEATURE_COLUMNS) == 58
    assert demo_tracks.pictures is not None
    assert open_pictures(demo_tracks.pictures.path).shape == (300, 216, 144, 3)
    assert list(demo_tracks.ids) == sorted(demo_tracks.ids)


def test_features_alone_and_pictures_alone_are_read(demo_copy: Path, demo_tracks: Tracks) -> None:
    shutil.move(demo_copy / FEATURES_FILE, demo_copy.parent)
    pictures = load_tracks(demo_copy)
    assert pictures.features is None
    assert pictures.ids == demo_tracks.ids
    shutil.rmtree(demo_copy / PICTURES_FOLDER)
    shutil.move(demo_copy.parent / FEATURES_FILE, demo_copy)
    features = load_tracks(demo_copy)
    assert features.pictures is None
    np.testing.assert_array_equal(features.features, demo_tracks.features)
    assert len({pictures.digest, features.digest, demo_tracks.digest}) == 3


def test_tracks_without_features_or_picture_are_excluded_with_the_reason(demo_copy: Path) -> None:
    picture(demo_copy).unlink()
    keep_rows(demo_copy, lambda row: row[0] != "jade.00010.wav")
    tracks = load_tracks(demo_copy)
    assert tracks.excluded_lines() == [
        "amber.00003: features but no picture",
        "jade.00010: picture but no features",
    ]
    assert len(tracks.ids) == 298


def test_the_digest_is_of_the_content(demo_copy: Path, demo_tracks: Tracks) -> None:
    table = rows(demo_copy)
    write_rows(demo_copy, [table[0], *reversed(table[1:])])
    for path in sorted((demo_copy / PICTURES_FOLDER).glob("*/*.png")):  # the report's flattened form
        path.rename(demo_copy / PICTURES_FOLDER / path.name)
    for folder in sorted((demo_copy / PICTURES_FOLDER).iterdir()):
        if folder.is_dir():
            folder.rmdir()
    (demo_copy / PICTURES_FOLDER / ".DS_Store").write_text("x")
    same = load_tracks(demo_copy)
    assert same.digest == demo_tracks.digest
    assert same.ids == demo_tracks.ids
    set_cell(demo_copy, 2, "tempo", "100.0")
    assert load_tracks(demo_copy).digest != demo_tracks.digest


def test_byte_order_mark_and_crlf(demo_copy: Path, demo_tracks: Tracks) -> None:
    path = demo_copy / FEATURES_FILE
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert load_tracks(demo_copy).digest == demo_tracks.digest


def test_genres_come_from_the_data(demo_copy: Path) -> None:
    shutil.rmtree(demo_copy / PICTURES_FOLDER / "jade")
    tracks = load_tracks(demo_copy)
    assert "jade" not in tracks.genres
    assert len(tracks.genres) == 9
    assert tracks.labels.max() == 8


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_picture_is_named(demo_copy: Path) -> None:
    picture(demo_copy).chmod(0)
    with pytest.raises(DataError, match=r"amber00003\.png cannot be read"):
        load_tracks(demo_copy)


def test_gtzan(gtzan: Path) -> None:
    tracks = load_tracks(gtzan)
    assert len(tracks.ids) == 999
    assert len(tracks.genres) == 10
    assert tracks.excluded_lines() == ["jazz.00054: features but no picture"]
    assert len(tracks.duplicates) == 14
    assert ("metal.00058", "rock.00016") in tracks.duplicates
    assert not tracks.synthetic
