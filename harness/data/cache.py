"""The picture cache: pictures are decoded and resized once, and kept in a file that is mapped into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.core.files import replacing
from harness.data.cropping import CropBox, fit_box
from harness.data.images import PICTURE_SIZE, Size, decode_pictures, picture_bounds, usable_threads

CACHE_FORMAT = 3  # to be raised when the same picture files would give other pixels


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The decoded pictures of some tracks: row `rows[i]` of the cache file `path` is the picture of track i.

    `rows` is int64 [n]. `bounds` is int32 [n, 6], the bounds of each picture's content as `content_bounds` gives
    them, or None before `prepare_crop`. The pixels stay in the file: an object that is sent to another process
    has the rows and bounds of its own tracks only. One that is sent to another machine has `held`, the pixels by
    the name of their cache file (see `holding`).
    """

    path: Path
    rows: np.ndarray
    bounds: np.ndarray | None = None
    size: Size = PICTURE_SIZE
    held: Mapping[str, np.ndarray] | None = None

    def holding(self, boxes: Iterable[CropBox | None]) -> Pictures:
        """Return the same pictures with their pixels in memory: whole, and for each box that has a cache file."""
        paths = {cropped_path(self.path, box) for box in boxes}
        held = {path.name: open_pictures(path)[self.rows] for path in paths if path.exists()}
        return replace(self, rows=np.arange(len(self.rows)), held=held)

    def read(self, tracks: np.ndarray, box: CropBox | None) -> np.ndarray:
        """Return copies of the pictures of the tracks with these indices, cropped to `box` if there is one.

        uint8 [len(tracks), *size, 3].
        """
        path = cropped_path(self.path, box)
        whole = open_pictures(path) if self.held is None else self.held[path.name]
        pixels: np.ndarray = whole[self.rows[tracks]]
        return pixels

    def box(self, tracks: np.ndarray) -> CropBox:
        """Return the smallest box with all content of the pictures of these tracks; needs `bounds`."""
        assert self.bounds is not None
        return fit_box(self.bounds[tracks])

    def select(self, tracks: np.ndarray) -> Pictures:
        """Return only the pictures of the tracks with these indices."""
        bounds = None if self.bounds is None else self.bounds[tracks]
        return replace(self, rows=self.rows[tracks], bounds=bounds)


def cached_pictures(files: Sequence[Path], digest: str, size: Size = PICTURE_SIZE) -> Path:
    """Return the cache file of these pictures; decode them first if the file is missing or damaged.

    The file contains uint8 [n, *size, 3] in the order of `files`; a second file has a digest of its bytes.
    `digest` is that of the picture files (`pictures_digest`). Several processes may make the same file at once:
    each writes its own copy, and the last one replaces the others.

    Raises DataError if a picture cannot be decoded or has another size than most, or if the cache folder cannot be
    written.
    """
    path = cache_folder() / f"pictures-{digest[:32]}-{size[0]}x{size[1]}-v{CACHE_FORMAT}.npy"
    return _cached(path, lambda: decode_pictures(files, size=size))


def cached_bounds(path: Path, files: Sequence[Path]) -> np.ndarray:
    """Return the bounds of the pictures' content, int32 [n, 6]; they are cached beside the cache file `path`."""
    bounds: np.ndarray = np.load(_cached(path.with_name(f"{path.stem}-bounds.npy"), lambda: picture_bounds(files)))
    return bounds


def cache_crop(path: Path, files: Sequence[Path], box: CropBox, size: Size) -> None:
    """Make the cache file of the pictures cropped to `box`, unless it exists.

    `path` is the cache file of the whole pictures. Raises DataError as `cached_pictures` does.
    """
    if not box.is_whole:
        _cached(cropped_path(path, box), lambda: decode_pictures(files, box, size))


def cropped_path(path: Path, box: CropBox | None) -> Path:
    """Return the cache file of the pictures cropped to `box`; for a box of whole pictures it is `path` itself."""
    if box is None or box.is_whole:
        return path
    return path.with_name(f"{path.stem}-{box.top}-{box.bottom}-{box.left}-{box.right}.npy")


def _cached(path: Path, make: Callable[[], np.ndarray]) -> Path:
    """Return the path of an array file; make the array first if the file is missing or damaged."""
    checksum = path.with_suffix(".digest")
    if _is_whole(path, checksum):
        return path
    array = make()
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
        with replacing(checksum) as temporary:
            temporary.write_text(_checksum(path) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"the picture cache {path.parent} cannot be written: {error}",
            expected=f"a folder with {array.nbytes / 1e6:.0f} MB of free space",
            hint="the same command with HARNESS_CACHE=FOLDER in the environment",
        ) from error
    return path


def _is_whole(path: Path, checksum: Path) -> bool:
    try:
        return checksum.read_bytes().strip() == _checksum(path).encode()
    except (OSError, ValueError):  # missing or unreadable (OSError); empty, which cannot be mapped (ValueError)
        return False


def _checksum(path: Path) -> str:
    """Return a digest of all bytes of a file; it is divided into slices, so that every core computes a part."""
    content = np.memmap(path, dtype=np.uint8, mode="r")
    with ThreadPoolExecutor(usable_threads()) as pool:
        digests = pool.map(lambda part: hashlib.sha256(part).digest(), np.array_split(content, 16))
        return hashlib.sha256(b"".join(digests)).hexdigest()


def open_pictures(path: Path) -> np.ndarray:
    """Map a cache file into memory, read-only: uint8 [n, height, width, 3]."""
    pixels: np.ndarray = np.load(path, mmap_mode="r")
    return pixels


def cache_folder() -> Path:
    """Return the folder of the picture cache: $HARNESS_CACHE, else `harness` in the user's cache folder.

    Raises DataError if the user has no home folder and neither variable is set.
    """
    own = os.environ.get("HARNESS_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():  # the XDG base directory specification says that relative paths are ignored
        return Path(base) / "harness"
    try:
        return Path.home() / ".cache" / "harness"
    except RuntimeError as error:
        raise DataError(
            "there is no folder for caches: HOME is not set, and this user has no home folder",
            expected="a folder that can be written",
            hint="the same command with HARNESS_CACHE=FOLDER in the environment",
        ) from error
