"""A data set of ten tracks, as bytes, to be spoilt."""

from __future__ import annotations

import csv
import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.data import FEATURE_COLUMNS

FEATURES, PICTURES = "features_30_sec.csv", "images_original"
GENRES, TRACKS = ("blues", "rock"), 5
SIDE = 20  # pixels
HEADER = ["filename", *FEATURE_COLUMNS, "label"]
NAMES = [(genre, number) for genre in GENRES for number in range(TRACKS)]
Bytes = Callable[[], bytes]
Make = Callable[[Path], None]


def rows() -> list[list[str]]:
    """Return the header and ten rows of made-up numbers."""
    found = [list(HEADER)]
    for index, (genre, number) in enumerate(NAMES):
        numbers = [f"{(index * 7 + column * 3) % 11 + 1}.25" for column in range(len(FEATURE_COLUMNS))]
        found.append([f"{genre}.{number:05d}.wav", *numbers, genre])
    return found


def table(content: Sequence[Sequence[str]], delimiter: str = ",", end: str = "\n") -> bytes:
    """Return rows as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(content)
    return text.getvalue().encode()


def with_cell(text: str, row: int = 3, column: str = "tempo") -> bytes:
    """Return the table with one other cell; row 0 is the header."""
    content = rows()
    content[row][HEADER.index(column)] = text
    return table(content)


def chunk(kind: bytes, content: bytes, crc: int | None = None) -> bytes:
    """Return one chunk of a PNG file."""
    found = zlib.crc32(kind + content) if crc is None else crc
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", found)


def header(width: int = SIDE, height: int = SIDE, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """Return the first chunk of a PNG file; colour 0 is grey, 2 RGB, 3 a palette, 4 and 6 have transparency."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


SIGNATURE, END = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")


def pixels(width: int = SIDE, height: int = SIDE, bytes_a_pixel: int = 3, shade: int = 90) -> bytes:
    """Return the pixels of a picture of one shade, as PNG has them before compression."""
    return (b"\0" + bytes([shade]) * (width * bytes_a_pixel)) * height


def png(shade: int = 90, width: int = SIDE, height: int = SIDE) -> bytes:
    """Return a sound PNG file of one shade."""
    return (
        SIGNATURE + header(width, height) + chunk(b"IDAT", zlib.compress(pixels(width, height, shade=shade))) + END
    )


def whole() -> dict[str, bytes]:
    """Return the files of the data set by their names."""
    pictures = {
        f"{PICTURES}/{genre}/{genre}{number:05d}.png": png(shade) for shade, (genre, number) in enumerate(NAMES)
    }
    return {FEATURES: table(rows()), **pictures}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files to a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def writes(content: Bytes) -> Make:
    """Return what writes the content to a path."""

    def make(path: Path) -> None:
        path.write_bytes(content())

    return make


# What a path can be besides a file: each makes it at the path.
ODD_FILES: dict[str, Make] = {
    "a folder": lambda path: path.mkdir(),
    "a pipe that nobody writes to": lambda path: os.mkfifo(path),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("missing"),
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/null": lambda path: path.symlink_to("/dev/null"),
}
