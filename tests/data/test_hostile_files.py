"""Files of other people: sizes are bounded before anything is read whole, and only regular files are opened."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from harness.core.errors import DataError
from harness.data import (
    FEATURE_COLUMNS,
    FEATURES_FILE,
    MAX_COLUMNS,
    PICTURES_FOLDER,
    Tracks,
    images,
    import_data,
    load_tracks,
    read_split,
)
from harness.data.features import MAX_LINE, read_features
from harness.data.images import raw_batches, raw_pictures
from harness.data.rows import has_columns, read_rows


def header(folder: Path, columns: int) -> Path:
    """Write a CSV with so many columns besides those that it should have."""
    names = ["filename", *FEATURE_COLUMNS, "label", *(f"own{number}" for number in range(columns))]
    path = folder / FEATURES_FILE
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n", encoding="utf-8")
    return path


def test_as_many_columns_as_allowed_are_looked_at_one_by_one(tmp_path: Path) -> None:
    path = header(tmp_path, MAX_COLUMNS - 60)
    with pytest.raises(DataError, match=r"unknown column 'own0', .* and others"):
        read_features(path)
    assert read_rows(path, ["tempo"]).values.tolist() == [[1.0]]


@pytest.mark.parametrize("columns", [MAX_COLUMNS, 100_000])
def test_more_columns_are_refused(tmp_path: Path, columns: int) -> None:
    path = header(tmp_path, columns)
    for read in (read_features, lambda path: read_rows(path, ["tempo"])):
        with pytest.raises(DataError, match=r"line 1(: \d+ cells| is too long)"):
            read(path)


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / FEATURES_FILE
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a file of zeros that takes no room on the disk
    for read in (read_features, lambda path: read_rows(path, ["tempo"])):
        with pytest.raises(DataError, match="line 1 is too long"):
            read(path)
    assert not has_columns(path, ["tempo"])
    with pytest.raises(DataError, match="line 1 is too long"):
        load_tracks(tmp_path)


def test_a_small_archive_of_commas_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(FEATURES_FILE, "," * 60_000_000)
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    with pytest.raises(DataError, match="line 1 is too long") as error:
        import_data(tmp_path / "a.zip", tmp_path / "out")
    assert error.value.expected == f"under {MAX_LINE} characters"
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_split_list_with_a_line_of_megabytes_is_refused(tmp_path: Path, demo_tracks: Tracks) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text("a.b+" * 2_500_000, encoding="utf-8")
    with pytest.raises(DataError, match="is not the name of a track") as error:
        read_split(tmp_path, demo_tracks)
    assert len(str(error.value)) < 1000


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def test_pipes_with_the_names_of_inputs_are_refused(demo_copy: Path, tmp_path: Path, demo_tracks: Tracks) -> None:
    pipe(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a regular file"):
        raw_pictures([tmp_path / "a.png"])
    pipe(tmp_path / "train.txt")
    (tmp_path / "valid.txt").touch()
    (tmp_path / "test.txt").touch()
    with pytest.raises(DataError, match="not a regular file"):
        read_split(tmp_path, demo_tracks)
    pipe(tmp_path / "a.zip")
    with pytest.raises(DataError, match="not a regular file"):
        import_data(tmp_path / "a.zip", tmp_path / "out")
    picture = demo_copy / PICTURES_FOLDER / "amber" / "amber00003.png"
    content = picture.read_bytes()
    pipe(picture)
    with pytest.raises(DataError, match="is not a PNG file"):
        load_tracks(demo_copy)
    picture.unlink()
    picture.write_bytes(content)
    pipe(demo_copy / FEATURES_FILE)
    assert not has_columns(demo_copy / FEATURES_FILE, ["tempo"])
    with pytest.raises(DataError, match="not a regular file"):
        load_tracks(demo_copy)


def test_pictures_are_read_in_batches_of_so_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(file)
    monkeypatch.setattr(images, "BATCH_BYTES", 2 * 30 * 20 * 3 + 1)
    batches = list(raw_batches(files))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat(batches), raw_pictures(files))
    monkeypatch.setattr(images, "BATCH_BYTES", 1)
    assert [len(batch) for batch in raw_batches(files)] == [1] * 5
