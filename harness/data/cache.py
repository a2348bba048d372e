"""The picture cache: pictures decoded once, resized once, kept in a file that is mapped into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.core.files import replacing
from harness.data.cropping import CropBox, fit_box
from harness.data.images import PICTURE_SIZE, decode_pictures, picture_bounds, usable_threads

CACHE_FORMAT = 3  # raised when the same bytes would give other pixels


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The decoded pictures of some tracks: row `rows[i]` of the cache file `path` is the picture of track i.

    `rows` is int64 [n]. `bounds`, int32 [n, 6], says where each picture has content; it is None until
    `prepare_crop` has found it. An object that is sent to another process carries the rows and bounds of its own
    tracks only.
    """

    path: Path
    rows: np.ndarray
    bounds: np.ndarray | None = None

    def read(self, tracks: np.ndarray, box: CropBox | None) -> np.ndarray:
        """Return copies of the pictures, or their boxes, of the tracks with these indices.

        They are uint8 [len(tracks), 216, 144, 3].
        """
        pixels: np.ndarray = open_pictures(cropped_path(self.path, box))[self.rows[tracks]]
        return pixels

    def box(self, tracks: np.ndarray) -> CropBox:
        """Return the smallest box with all content of the tracks with these indices, after `prepare_crop`."""
        assert self.bounds is not None
        return fit_box(self.bounds[tracks])

    def select(self, tracks: np.ndarray) -> Pictures:
        """Return the pictures of the tracks with these indices only."""
        return Pictures(self.path, self.rows[tracks], None if self.bounds is None else self.bounds[tracks])


def cached_pictures(files: Sequence[Path], digest: str) -> Path:
    """Return the cache file of these pictures, decoding them where it is missing or damaged.

    The file holds uint8 [n, 216, 144, 3] in the order of `files`, with a digest of its bytes beside it;
    `digest` names what the pictures' files contain. Safe when several processes make it at once: each writes
    its own and the last one stands.

    Raises DataError for a picture that cannot be decoded or is of another size than most, and where the cache
    folder cannot be written.
    """
    path = cache_folder() / f"pictures-{digest[:32]}-{PICTURE_SIZE[0]}x{PICTURE_SIZE[1]}-v{CACHE_FORMAT}.npy"
    return _cached(path, lambda: decode_pictures(files))


def cached_bounds(path: Path, files: Sequence[Path]) -> np.ndarray:
    """Return where the pictures of a cache file have content, int32 [n, 6]; kept beside that file."""
    bounds: np.ndarray = np.load(_cached(path.with_name(f"{path.stem}-bounds.npy"), lambda: picture_bounds(files)))
    return bounds


def cache_crop(path: Path, files: Sequence[Path], box: CropBox) -> None:
    """Make the cache file of the boxes of a cache file's pictures, unless it is there; raises DataError."""
    if not box.is_whole:
        _cached(cropped_path(path, box), lambda: decode_pictures(files, box))


def cropped_path(path: Path, box: CropBox | None) -> Path:
    """Return where the boxes of a cache file's pictures are kept: the file itself for whole pictures."""
    if box is None or box.is_whole:
        return path
    return path.with_name(f"{path.stem}-{box.top}-{box.bottom}-{box.left}-{box.right}.npy")


def _cached(path: Path, make: Callable[[], np.ndarray]) -> Path:
    """Return the path of an array, which is made where the file is missing or damaged."""
    checksum = path.with_suffix(".digest")
    if _is_whole(path, checksum):
        return path
    array = make()
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array)
        with replacing(checksum) as temporary:
            temporary.write_text(_checksum(path) + "\n")
    except OSError as error:
        raise DataError(
            f"the picture cache {path.parent} cannot be written: {error}",
            expected=f"a folder with {array.nbytes / 1e6:.0f} MB of free space",
            hint="the same command with HARNESS_CACHE=FOLDER in its environment",
        ) from error
    return path


def _is_whole(path: Path, checksum: Path) -> bool:
    try:
        return checksum.read_bytes().strip() == _checksum(path).encode()
    except (OSError, ValueError):  # missing or unreadable; empty, which cannot be mapped
        return False


def _checksum(path: Path) -> str:
    """Return a digest of a file's bytes, its header too, computed in slices so that every core has a share."""
    content = np.memmap(path, dtype=np.uint8, mode="r")
    with ThreadPoolExecutor(usable_threads()) as pool:
        digests = pool.map(lambda part: hashlib.sha256(part).digest(), np.array_split(content, 16))
        return hashlib.sha256(b"".join(digests)).hexdigest()


def open_pictures(path: Path) -> np.ndarray:
    """Map a cache file into memory: uint8 [n, 216, 144, 3], read-only."""
    pixels: np.ndarray = np.load(path, mmap_mode="r")
    return pixels


def cache_folder() -> Path:
    """Return where decoded pictures are kept: $HARNESS_CACHE, else `harness` in the user's cache folder."""
    own = os.environ.get("HARNESS_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "harness"
