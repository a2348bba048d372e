import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DataError
from harness.data import FEATURES_FILE, PICTURES_FOLDER, Tracks, import_data, load_tracks
from harness.data.importing import _target
from tests.support.commands import Harness


@pytest.fixture
def archive(demo_data: Path, tmp_path: Path) -> Path:
    """A zip like Kaggle's: everything is under Data/, and some files are not imported."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.write(demo_data / FEATURES_FILE, f"Data/{FEATURES_FILE}")
        for picture in sorted((demo_data / PICTURES_FOLDER).rglob("*.png")):
            file.write(picture, f"Data/{picture.relative_to(demo_data)}")
        file.writestr("Data/features_3_sec.csv", "not,taken\n")
        file.writestr("Data/genres_original/amber/amber.00000.wav", b"RIFF")
        file.writestr("__MACOSX/Data/images_original/amber/._amber00000.png", b"x")
    return path


def laid_out(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_kaggles_zip_is_imported(archive: Path, demo_tracks: Tracks, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "README.md").write_text("a note")
    import_data(archive, tmp_path / "input")
    assert laid_out(tmp_path / "input") == ["README.md", FEATURES_FILE, PICTURES_FOLDER]
    assert load_tracks(tmp_path / "input").digest == demo_tracks.digest


@pytest.mark.long
def test_a_synthetic_set_stays_marked_as_synthetic(demo_data: Path, tmp_path: Path) -> None:
    import_data(demo_data, tmp_path / "folder")
    assert load_tracks(tmp_path / "folder").synthetic
    shutil.make_archive(str(tmp_path / "demo"), "zip", demo_data)
    import_data(tmp_path / "demo.zip", tmp_path / "zip")
    assert load_tracks(tmp_path / "zip").synthetic


@pytest.mark.parametrize("inside", ["", "Data"])
def test_an_unpacked_folder_is_imported(demo_data: Path, demo_tracks: Tracks, tmp_path: Path, inside: str) -> None:
    shutil.copytree(demo_data, tmp_path / "unpacked" / inside)
    import_data(tmp_path / "unpacked", tmp_path / "new" / "input")
    assert load_tracks(tmp_path / "new" / "input").digest == demo_tracks.digest


def test_flattened_pictures_get_their_folders(demo_copy: Path, demo_tracks: Tracks, tmp_path: Path) -> None:
    for path in sorted((demo_copy / PICTURES_FOLDER).glob("*/*.png")):
        path.rename(demo_copy / PICTURES_FOLDER / path.name)
    import_data(demo_copy, tmp_path / "input")
    assert (tmp_path / "input" / PICTURES_FOLDER / "jade" / "jade00029.png").is_file()
    assert load_tracks(tmp_path / "input").digest == demo_tracks.digest


def test_an_existing_data_set_is_not_changed(archive: Path, demo_copy: Path) -> None:
    before = (demo_copy / FEATURES_FILE).read_bytes()
    with pytest.raises(DataError, match="there already"):
        import_data(archive, demo_copy)
    assert (demo_copy / FEATURES_FILE).read_bytes() == before


def refused(source: Path, folder: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        import_data(source, folder / "input")
    assert not (folder / "input").exists()


def with_entry(archive: Path, name: str, content: bytes = b"x") -> Path:
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, content)
    return archive


@pytest.mark.parametrize(
    "name",
    [
        f"../{PICTURES_FOLDER}/amber/amber00099.png",
        f"/{PICTURES_FOLDER}/amber/amber00099.png",
        f"Data/{PICTURES_FOLDER}/../../../amber00099.png",
        f"..\\{PICTURES_FOLDER}\\amber\\amber00099.png",
        f"C:/{PICTURES_FOLDER}/amber/amber00099.png",
        f"../../{FEATURES_FILE}",
    ],
)
def test_names_that_point_outside_the_folder_are_refused(archive: Path, tmp_path: Path, name: str) -> None:
    refused(with_entry(archive, name), tmp_path, "outside its folder")


@given(
    parts=st.lists(
        st.sampled_from(["..", "a", PICTURES_FOLDER, "/", ".", "x.png", FEATURES_FILE, "C:"]), min_size=1
    )
)
def test_every_imported_path_is_inside_the_folder(parts: list[str]) -> None:
    try:
        target = _target("/".join(parts))
    except DataError:
        return
    if target is not None:
        assert not target.is_absolute()
        assert ".." not in target.parts
        assert target.parts[0] in (PICTURES_FOLDER, FEATURES_FILE)


def test_sizes_are_counted_while_reading(archive: Path, tmp_path: Path) -> None:
    bomb = with_entry(archive, f"Data/{PICTURES_FOLDER}/amber/amber00099.png", bytes(17 << 20))
    refused(bomb, tmp_path, "too large")


@pytest.mark.parametrize("name", [f"{PICTURES_FOLDER}/a/b/a00000.png", f"{PICTURES_FOLDER}/\x1b[31m/a00000.png"])
def test_names_too_deep_or_not_printable_are_refused(archive: Path, tmp_path: Path, name: str) -> None:
    refused(with_entry(archive, name), tmp_path, "too deep|cannot be printed")


def damage(archive: Path, how: str, demo_data: Path) -> None:
    """Damage a zip in one of several ways; zipfile raises a different error for each."""
    if how == "no zip":
        archive.write_text("filename,length")
        return
    if how in ("deflate", "bzip2", "lzma"):
        method = {"deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}[how]
        with zipfile.ZipFile(archive, "w", method) as file:
            file.write(demo_data / FEATURES_FILE, FEATURES_FILE)
    if how == "name":
        with_entry(archive, "\u00e9")
    content = bytearray(archive.read_bytes())
    match how:
        case "encrypted":
            content[content.index(b"PK\x01\x02") + 8] |= 1
        case "name":
            content = content.replace("\u00e9".encode(), b"\xff\xfe")
        case _:
            start = content.index(FEATURES_FILE.encode()) + 100
            content[start : start + 200] = b"\xff" * 200
    archive.write_bytes(content)


@pytest.mark.parametrize("how", ["no zip", "checksum", "deflate", "bzip2", "lzma", "encrypted", "name"])
def test_a_zip_damaged_in_any_way_is_refused(archive: Path, demo_data: Path, tmp_path: Path, how: str) -> None:
    damage(archive, how, demo_data)
    refused(archive, tmp_path, "archive.zip cannot be unpacked")


def test_the_same_file_twice_is_refused(archive: Path, tmp_path: Path) -> None:
    refused(with_entry(archive, f"Other/{FEATURES_FILE}"), tmp_path, "comes twice")


def test_a_truncated_zip_is_refused(archive: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    refused(archive, tmp_path, "cannot be unpacked")


def test_a_faulty_set_is_not_imported(demo_copy: Path, tmp_path: Path) -> None:
    (demo_copy / PICTURES_FOLDER / "amber" / "amber00000.png").write_bytes(b"x")
    # The message names the source file, not its copy, which is removed.
    refused(demo_copy, tmp_path, f"{demo_copy}/{PICTURES_FOLDER}/amber/amber00000.png cannot be read")


def test_a_source_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path, "holds no data set")
    refused(tmp_path / "none.zip", tmp_path, "there is no")


@pytest.mark.parametrize(
    "name",
    [FEATURES_FILE, PICTURES_FOLDER, f"{PICTURES_FOLDER}/amber", f"{PICTURES_FOLDER}/amber/amber00000.png"],
)
def test_links_are_not_followed(demo_copy: Path, tmp_path: Path, name: str) -> None:
    (demo_copy / name).rename(tmp_path / "elsewhere")
    (demo_copy / name).symlink_to(tmp_path / "elsewhere")
    refused(demo_copy, tmp_path, f"{name} is a link")


@pytest.mark.parametrize("inside", ["", "input"])
def test_a_destination_that_cannot_be_written_is_refused(demo_data: Path, tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("a note")
    with pytest.raises(DataError, match=r"file.* cannot be written"):
        import_data(demo_data, tmp_path / "file" / inside)
    assert laid_out(tmp_path) == ["file"]


def test_an_interrupted_import_leaves_nothing(
    demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.data.importing.load_tracks", interrupt)
    with pytest.raises(KeyboardInterrupt):
        import_data(demo_data, tmp_path / "new" / "input")
    assert list(tmp_path.iterdir()) == []


def test_fetching_without_kagglehub_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Harness
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # it cannot be imported, even if it is installed
    monkeypatch.chdir(tmp_path)
    assert "pip install -e '.[fetch]'" in inside("data", "fetch", code=1).stderr
    assert list(tmp_path.iterdir()) == []
