import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data import PICTURE_SIZE, PICTURES_FOLDER, Tracks, load_tracks, open_pictures, resize
from harness.data.images import decode_picture, find_pictures
from harness.errors import DataError


def a_picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, size=(288, 432, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((432, 288))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = a_picture().convert(mode)
    image.save(tmp_path / "a.png")
    decoded = decode_picture(tmp_path / "a.png")
    assert decoded.shape == (*PICTURE_SIZE, 3)
    assert decoded.dtype == np.uint8
    plain = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    np.testing.assert_array_equal(decoded, resize(plain).permute(1, 2, 0).numpy())


def test_resizing_is_close_to_pillows() -> None:
    image = a_picture()
    ours = resize(torch.from_numpy(np.array(image)).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    theirs = np.asarray(image.resize((144, 216), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_cached_row_is_its_picture(demo_data: Path, demo_tracks: Tracks) -> None:
    assert demo_tracks.pictures is not None
    cached = open_pictures(demo_tracks.pictures)
    found = find_pictures(demo_data / PICTURES_FOLDER)
    for row in (0, 17, 299):
        np.testing.assert_array_equal(cached[row], decode_picture(found[demo_tracks.ids[row]][1]))


@pytest.mark.parametrize("damage", ["cut", "flipped", "no checksum"])
def test_a_damaged_cache_is_made_again(
    demo_data: Path, demo_tracks: Tracks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    path = load_tracks(demo_data).pictures
    assert path is not None
    assert path.parent == tmp_path / "cache"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    else:
        path.with_suffix(".digest").unlink()
    assert load_tracks(demo_data).pictures == path
    assert path.read_bytes() == content
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, path.with_suffix(".digest").name])


def load_into(cache: str, folder: str) -> None:
    import os

    os.environ["HARNESS_CACHE"] = cache
    load_tracks(Path(folder))


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
    assert cache.read_bytes() == demo_tracks.pictures.read_bytes()


def test_a_cache_that_cannot_be_written(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="HARNESS_CACHE=FOLDER"):
        load_tracks(demo_data)


def test_nothing_is_written_into_the_data_folder(demo_data: Path, demo_tracks: Tracks) -> None:
    assert sorted(path.name for path in demo_data.iterdir()) == [
        "SYNTHETIC.md",
        "features_30_sec.csv",
        "images_original",
    ]
