"""The pictures of a data set: find the files, decode them, and resize the pixels."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

if TYPE_CHECKING:
    from torch import Tensor

from harness.core.errors import DataError
from harness.core.files import regular
from harness.core.threads import intra_op_threads
from harness.data.cropping import CropBox, content_bounds
from harness.data.layout import CHECK_HINT, HIDDEN

PICTURE_SIZE = (216, 144)  # height, width: the input size of the report's CNN
OWN_SIDE = 256  # pixels: pictures up to this size are a network's input as they are, larger ones are scaled to it
MIN_SIDE, MAX_SIDE = 4, 4096  # pixels a side, checked before a picture is decoded
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
Size = tuple[int, int]  # height, width
BATCH_BYTES = 32 << 20  # of pictures that are decoded at a time and not resized
MODES = (
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
)  # no 16-bit grey: it saturates in RGB


def resize(pictures: Tensor, size: Size = PICTURE_SIZE) -> Tensor:
    """Resize pictures to the network's size: uint8 [..., 3, height, width] to uint8 [..., 3, *size].

    Bilinear with antialiasing. The picture cache and the export use this same resize.
    """
    # Imported here: torchvision takes 2.4 s of a processor, and studies of the features do without it.
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    resized: Tensor = transforms.resize(
        pictures, list(size), interpolation=InterpolationMode.BILINEAR, antialias=True
    )
    return resized


def find_pictures(folder: Path) -> dict[str, tuple[str, Path]]:
    """Return `{track id: (genre, file)}` for every picture under `images_original`, nested or flattened.

    `blues/blues00000.png` and `blues/blues.00000.png` are the track `blues.00000`. In the flattened form, without
    folders of genres, the last five digits are the number. Raises DataError for a file that is not a PNG, for a
    name that contradicts its folder, and for a track with two pictures.
    """
    found: dict[str, tuple[str, Path]] = {}
    for path in entries(folder):
        for file in entries(path) if path.is_dir() else [path]:
            genre, number = _parse(file, path.name if path.is_dir() else None)
            track = f"{genre}.{number}"
            if track in found:
                raise DataError(
                    f"{file}: track {track} already has a picture, {found[track][1]}",
                    expected="one picture for each track",
                    hint=CHECK_HINT,
                )
            found[track] = (genre, file)
    return found


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, by name, without the files of operating systems; DataError if unreadable."""
    try:
        return sorted(path for path in folder.iterdir() if not HIDDEN.fullmatch(path.name))
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed: {error}", expected="a folder of pictures", hint=CHECK_HINT
        ) from error


def _parse(file: Path, genre: str | None) -> tuple[str, str]:
    stem, expected = file.stem, "images_original/GENRE/GENRENNNNN.png, or images_original/GENRENNNNN.png"
    if file.suffix.lower() != ".png" or not file.is_file():
        raise DataError(f"{file} is not a PNG file", expected=expected, hint=CHECK_HINT)
    if genre is None:
        match = re.fullmatch(r"(?P<genre>.*[^.])\.?(?P<number>\d{5})", stem)
        if match is None:
            raise DataError(
                f"{file}: {file.name!r} is not the name of a track's picture", expected=expected, hint=CHECK_HINT
            )
        return match["genre"], match["number"]
    number = stem.removeprefix(genre).removeprefix(".")
    if not stem.startswith(genre) or not re.fullmatch(r"\d+", number, re.ASCII):
        raise DataError(
            f"{file}: {file.name!r} contradicts its folder {genre!r}",
            expected=f"{genre}NNNNN.png",
            hint=CHECK_HINT,
        )
    return genre, number


def pictures_digest(ids: Sequence[str], files: Sequence[Path]) -> str:
    """Return the SHA-256 over the tracks' ids and the bytes of their picture files."""
    whole = hashlib.sha256()
    for track, digest in zip(ids, picture_digests(files), strict=True):
        whole.update(f"{track} {digest}\n".encode())
    return whole.hexdigest()


def picture_digests(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of the bytes of each file; raises DataError if one cannot be read."""
    step = max(1, -(-len(files) // usable_threads()))
    slices = [files[first : first + step] for first in range(0, len(files), step)]
    with ThreadPoolExecutor(usable_threads()) as pool:
        return [digest for part in pool.map(_digest_files, slices) for digest in part]


def _digest_files(paths: Sequence[Path]) -> list[str]:
    digests = []
    for path in paths:
        try:
            digests.append(hashlib.sha256(regular(path).read_bytes()).hexdigest())
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error}", expected="a picture that can be read", hint=CHECK_HINT
            ) from error
    return digests


def input_size(files: Sequence[Path]) -> Size:
    """Return the size that pictures have as a network's input: their own, or scaled down to OWN_SIDE.

    Raises DataError if the first picture cannot be read.
    """
    with _quiet_pillow():
        width, height = _size(files[0])
    share = min(1.0, OWN_SIDE / max(width, height))
    return max(MIN_SIDE, round(height * share)), max(MIN_SIDE, round(width * share))


def decode_pictures(files: Sequence[Path], box: CropBox | None = None, size: Size = PICTURE_SIZE) -> np.ndarray:
    """Decode pictures of one size, crop them to `box` if there is one, and resize them: uint8 [n, *size, 3].

    Raises DataError if a picture cannot be decoded or has another size than most.
    """
    pixels = np.empty((len(files), *size, 3), dtype=np.uint8)

    def keep(index: int, picture: Tensor) -> None:
        content = picture if box is None else box.cut(picture.permute(1, 2, 0)).permute(2, 0, 1)
        pixels[index] = resize(content, size).permute(1, 2, 0).numpy()

    _for_each(files, keep)
    return pixels


def picture_bounds(files: Sequence[Path]) -> np.ndarray:
    """Return the bounds of the content of pictures of one size: int32 [n, 6], as `content_bounds` gives them.

    Raises DataError as `decode_pictures` does.
    """
    bounds = np.empty((len(files), 6), dtype=np.int32)

    def keep(index: int, picture: Tensor) -> None:
        bounds[index] = content_bounds(picture)

    _for_each(files, keep)
    return bounds


def _for_each(files: Sequence[Path], use: Callable[[int, Tensor], None]) -> None:
    """Call `use` with the index and the pixels, uint8 [3, height, width], of each picture, in several threads."""

    def decode(index: int) -> None:
        use(index, _rgb(files[index], size))

    # Each thread of the pool works on one picture.
    with intra_op_threads(1), _quiet_pillow(), ThreadPoolExecutor(usable_threads()) as pool:
        # The most common size is the expected one: an outlier is reported even if it is the first picture.
        size = Counter(pool.map(_size, files)).most_common(1)[0][0]
        for _ in pool.map(decode, range(len(files))):
            pass


def raw_pictures(files: Sequence[Path]) -> Tensor:
    """Decode pictures of one size without a resize: uint8 [n, height, width, 3].

    Raises DataError if a picture cannot be decoded, if a side is not within 4 to 4096 pixels, or if a size
    differs from that of the first picture.
    """
    import torch

    with _quiet_pillow():
        size = _size(files[0])
        return torch.stack([_rgb(file, size).permute(1, 2, 0) for file in files])


def raw_batches(files: Sequence[Path]) -> Iterator[Tensor]:
    """Yield the pictures of `raw_pictures` in batches, because all of them may not fit into memory."""
    with _quiet_pillow():
        width, height = _size(files[0])
    count = max(1, BATCH_BYTES // (3 * width * height))
    for first in range(0, len(files), count):
        yield raw_pictures(files[first : first + count])


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings. Use it around a thread pool, not in its threads, which share the filters."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _rgb(path: Path, size: tuple[int, int]) -> Tensor:
    """Decode a picture: uint8 [3, height, width]."""
    import torch

    with _opened(path) as image:
        if image.size != size:
            raise DataError(
                f"{path} is {image.size[0]}x{image.size[1]} pixels",
                expected=f"{size[0]}x{size[1]}, as the others of this set",
                hint=CHECK_HINT,
            )
        try:
            rgb = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, MemoryError) as error:  # a chunk may claim 4 GB
            raise DataError(
                f"{path} cannot be decoded: {error}", expected="a whole picture file", hint=CHECK_HINT
            ) from error
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return image.size


def _opened(path: Path) -> Image.Image:
    def unreadable(reason: object) -> DataError:
        return DataError(
            f"{path} cannot be read as a picture: {reason}", expected=f"a {kind} file", hint=CHECK_HINT
        )

    kind = FORMATS.get(path.suffix.lower(), "PNG")

    try:
        image = Image.open(regular(path), formats=[kind])
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise unreadable(error) from error
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in image.size):
        image.close()
        raise DataError(
            f"{path} is {image.size[0]}x{image.size[1]} pixels",
            expected=f"{MIN_SIDE} to {MAX_SIDE} pixels a side",
            hint=CHECK_HINT,
        )
    if image.mode not in MODES:
        image.close()
        raise DataError(
            f"{path} has the colour mode {image.mode!r}",
            expected="8 bits a channel: RGB, RGBA, palette or grey",
            hint=CHECK_HINT,
        )
    return image


def usable_threads() -> int:
    """Return the number of threads that decode and digest files."""
    return min(8, os.cpu_count() or 1)
