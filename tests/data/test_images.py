import multiprocessing
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.core.errors import DataError
from harness.data import PICTURE_SIZE, PICTURES_FOLDER, Tracks, load_tracks, open_pictures, resize
from harness.data.cache import cache_folder
from harness.data.images import decode_pictures, find_pictures


def a_picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, size=(288, 432, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((432, 288))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = a_picture().convert(mode)
    image.save(tmp_path / "a.png")
    decoded = decode_pictures([tmp_path / "a.png"])[0]
    assert decoded.shape == (*PICTURE_SIZE, 3)
    assert decoded.dtype == np.uint8
    plain = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    np.testing.assert_array_equal(decoded, resize(plain).permute(1, 2, 0).numpy())


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    image = a_picture().quantize(64)
    image.save(tmp_path / "a.png", transparency=bytes([0] * 32 + [255] * 32))
    image.save(tmp_path / "opaque.png")
    decoded = decode_pictures([tmp_path / "a.png"])[0]
    np.testing.assert_array_equal(decoded, decode_pictures([tmp_path / "opaque.png"])[0])


def test_resizing_is_close_to_pillows() -> None:
    image = a_picture()
    ours = resize(torch.from_numpy(np.array(image)).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    theirs = np.asarray(image.resize((144, 216), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_cached_row_is_its_picture(demo_data: Path, demo_tracks: Tracks) -> None:
    assert demo_tracks.pictures is not None
    cached = open_pictures(demo_tracks.pictures.path)
    found = find_pictures(demo_data / PICTURES_FOLDER)
    for row in (0, 17, 299):
        np.testing.assert_array_equal(cached[row], decode_pictures([found[demo_tracks.ids[row]][1]])[0])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "flipped": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "a zip": lambda content: b"PK\x03\x04" + content[4:],
    "another type": lambda content: content.replace(b"|u1", b"|i1", 1),
    "another order": lambda content: content.replace(b"'fortran_order': False", b"'fortran_order': True ", 1),
}


LONG = ("empty", "a zip", "another type", "another order")  # each takes as long, and is found by the same checksum


@pytest.mark.parametrize(
    "damage",
    [
        *[name for name in DAMAGES if name not in LONG],
        *[pytest.param(name, marks=pytest.mark.long) for name in LONG],
        "no checksum",
        "checksum of junk",
    ],
)
def test_a_damaged_cache_is_made_again(
    demo_data: Path, demo_tracks: Tracks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    assert demo_tracks.pictures is not None
    path = tmp_path / "cache" / demo_tracks.pictures.path.name
    path.parent.mkdir()
    for file in (demo_tracks.pictures.path, demo_tracks.pictures.path.with_suffix(".digest")):
        shutil.copy(file, path.parent)
    content = path.read_bytes()
    if damage in DAMAGES:
        path.write_bytes(DAMAGES[damage](content))
        assert path.read_bytes() != content
    elif damage == "no checksum":
        path.with_suffix(".digest").unlink()
    else:
        path.with_suffix(".digest").write_bytes(b"\xff\xfe\x00junk")
    again = load_tracks(demo_data).pictures
    assert again is not None
    assert again.path == path
    assert path.read_bytes() == content
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".digest").name])


def load_into(cache: str, folder: str) -> None:
    import os

    os.environ["HARNESS_CACHE"] = cache
    load_tracks(Path(folder))


@pytest.mark.long
def test_two_processes_make_the_cache_at_once(demo_data: Path, demo_tracks: Tracks, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "cache"), str(demo_data))
    processes = [context.Process(target=load_into, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    (cache,) = (tmp_path / "cache").glob("*.npy")
    assert demo_tracks.pictures is not None
    assert cache.read_bytes() == demo_tracks.pictures.path.read_bytes()


def test_the_cache_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "harness"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache" / "harness"


def test_a_cache_that_cannot_be_written_is_refused(
    demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="HARNESS_CACHE=FOLDER"):
        load_tracks(demo_data)


def test_a_cache_inside_the_data_folder_is_refused(demo_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(demo_copy / "cache"))
    with pytest.raises(DataError, match="inside the data folder"):
        load_tracks(demo_copy)
    assert not (demo_copy / "cache").exists()


def test_a_relative_cache_folder_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", "cache")
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "harness"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "harness"


def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_user(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "HARNESS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_such_user)
    with pytest.raises(DataError, match="HOME is not set") as refusal:
        cache_folder()
    assert "HARNESS_CACHE" in (refusal.value.hint or "")


GENRE = st.from_regex(r"[a-z][a-z0-9 _-]{0,8}", fullmatch=True).filter(lambda name: not name[-1].isdigit())


@given(
    tracks=st.sets(st.tuples(GENRE, st.integers(0, 99999)), min_size=1, max_size=8),
    dotted=st.booleans(),
    nested=st.booleans(),
)
def test_pictures_are_found_by_name(
    tmp_path_factory: pytest.TempPathFactory, tracks: set[tuple[str, int]], dotted: bool, nested: bool
) -> None:
    folder = tmp_path_factory.mktemp("pictures")
    for genre, number in tracks:
        name = f"{genre}{'.' if dotted else ''}{number:05d}.png"
        path = folder / genre / name if nested else folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_pictures(folder)
    assert {track: genre for track, (genre, _) in found.items()} == {
        f"{genre}.{number:05d}": genre for genre, number in tracks
    }


@pytest.mark.parametrize("name", ["rock00001.png", "blues0000x.png", "blues.png", "blues..00001.png", "1.png"])
def test_a_name_that_contradicts_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "blues").mkdir()
    (tmp_path / "blues" / name).touch()
    with pytest.raises(DataError, match="contradicts its folder 'blues'"):
        find_pictures(tmp_path)


def test_nothing_is_written_into_the_data_folder(demo_data: Path, demo_tracks: Tracks) -> None:
    assert sorted(path.name for path in demo_data.iterdir()) == [
        "SYNTHETIC.md",
        "features_30_sec.csv",
        "images_original",
    ]
