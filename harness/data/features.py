"""The features of a data set: `features_30_sec.csv`, in which every cell is checked."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from harness.core.errors import DataError
from harness.core.files import regular
from harness.data.layout import CHECK_HINT, MAX_COLUMNS

_SPECTRAL = (
    "chroma_stft",
    "rms",
    "spectral_centroid",
    "spectral_bandwidth",
    "rolloff",
    "zero_crossing_rate",
    "harmony",
    "perceptr",
)
_MFCC = tuple(f"mfcc{number}" for number in range(1, 21))
# The 58 numeric columns of Kaggle's file, in its order.
FEATURE_COLUMNS: tuple[str, ...] = (
    "length",
    *(f"{name}_{moment}" for name in _SPECTRAL for moment in ("mean", "var")),
    "tempo",
    *(f"{name}_{moment}" for name in _MFCC for moment in ("mean", "var")),
)
# Families of them. `length` is in none: it describes the file, not the music.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "MFCC means": ("mfcc*_mean",),
    "MFCC variances": ("mfcc*_var",),
    "chroma": ("chroma_stft_*",),
    "spectral shape": ("spectral_centroid_*", "spectral_bandwidth_*", "rolloff_*"),
    "loudness": ("rms_*",),
    "zero crossings": ("zero_crossing_rate_*",),
    "harmony and percussion": ("harmony_*", "perceptr_*"),
    "tempo": ("tempo",),
}
# These columns describe the file and not the music: any likeness or prediction by them is an artefact.
NOT_MUSIC = ("length",)
FLOAT32_MAX = float(np.finfo(np.float32).max)  # a larger value would become infinite in a network's float32 input
# Far above any feature table. Without them a small archive of commas would cost minutes and gigabytes.
MAX_LINE = 1_000_000  # characters
TRACK_FILE = re.compile(r"(?P<genre>.+)\.(?P<number>\d+)\.wav")


def matches(column: str, pattern: str) -> bool:
    """Return whether a pattern names a column: `*` stands for any text, every other sign for itself."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), column, re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """The rows of the CSV, sorted by track id: `values` is float64 [n, 58], `genres` has the genre of each row."""

    ids: tuple[str, ...]
    genres: tuple[str, ...]
    values: np.ndarray


def read_features(path: Path) -> FeatureTable:
    """Read and check the CSV.

    Raises DataError with the line (the header is line 1), the column and the wrong value.
    """
    rows = csv_rows(path)
    if not rows:
        raise DataError(f"{path} is empty", expected=_expected_header(), hint=CHECK_HINT)
    header = [name.strip() for name in rows[0][1]]
    _check_header(path, header)
    if len(rows) == 1:
        raise DataError(f"{path} has a header and no rows", expected="one row for each track", hint=CHECK_HINT)
    index_of = {name: header.index(name) for name in ("filename", *FEATURE_COLUMNS, "label")}
    numeric = [index_of[name] for name in FEATURE_COLUMNS]
    found: dict[str, tuple[str, list[float]]] = {}
    for line, cells in rows[1:]:
        where = f"{path}, line {line}"
        check_width(where, cells, header)
        track, genre = _track(where, cells[index_of["filename"]])
        label = cells[index_of["label"]]
        if label != genre:
            raise DataError(
                f"{where}, column label: {label!r} contradicts the track's name {cells[index_of['filename']]!r}",
                expected=repr(genre),
                hint=CHECK_HINT,
            )
        if track in found:
            raise DataError(
                f"{where}, column filename: a second row for track {track}",
                expected="one row for each track",
                hint=CHECK_HINT,
            )
        found[track] = (genre, numbers_of(where, FEATURE_COLUMNS, [cells[index] for index in numeric]))
    ids = tuple(sorted(found))
    values = np.array([found[track][1] for track in ids], dtype=np.float64)
    return FeatureTable(ids, tuple(found[track][0] for track in ids), values)


def write_features(path: Path, ids: Sequence[str], genres: Sequence[str], values: np.ndarray) -> None:
    """Write a CSV as Kaggle's; `values` is float64 [n, 58] in the order of FEATURE_COLUMNS."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["filename", *FEATURE_COLUMNS, "label"])
        for track, genre, row in zip(ids, genres, values.tolist(), strict=True):
            writer.writerow([f"{track}.wav", int(row[0]), *row[1:], genre])


def csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file that are not empty, each with the number of its last line.

    Raises DataError if it is not a UTF-8 CSV file, or if a line or a row is too long.
    """
    try:
        with regular(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(lines_of(path, file), strict=True)
            return [(reader.line_num, _bounded(path, reader.line_num, cells)) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}", expected="a UTF-8 CSV file", hint=CHECK_HINT
        ) from error


def lines_of(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of a file; raises DataError for one that is too long, before all of it is read."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise DataError(
                f"{path}, line {number} is too long", expected=f"under {MAX_LINE} characters", hint=CHECK_HINT
            )
        yield line


def _bounded(path: Path, line: int, cells: list[str]) -> list[str]:
    if len(cells) > MAX_COLUMNS:
        raise DataError(
            f"{path}, line {line}: {len(cells)} cells", expected=f"up to {MAX_COLUMNS}", hint=CHECK_HINT
        )
    return cells


def _check_header(path: Path, header: list[str]) -> None:
    expected = {"filename", *FEATURE_COLUMNS, "label"}
    repeated = sorted(name for name, count in Counter(header).items() if count > 1)
    missing = [name for name in ("filename", *FEATURE_COLUMNS, "label") if name not in header]
    extra = [name for name in header if name not in expected]
    for what, names in (("has twice", repeated), ("lacks", missing), ("has the unknown", extra)):
        if names:
            shown = ", ".join(repr(name) for name in names[:6]) + (" and others" if len(names) > 6 else "")
            raise DataError(
                f"{path}, line 1: the header {what} column {shown}", expected=_expected_header(), hint=CHECK_HINT
            )


def _expected_header() -> str:
    return "filename, the 58 features of Kaggle's file (length, chroma_stft_mean, ... mfcc20_var), label"


def check_width(where: str, cells: list[str], header: list[str]) -> None:
    """Raise DataError if a row has not as many cells as the header."""
    if len(cells) != len(header):
        raise DataError(
            f"{where}: {len(cells)} cells", expected=f"{len(header)} cells, as in the header", hint=CHECK_HINT
        )


def _track(where: str, name: str) -> tuple[str, str]:
    match = TRACK_FILE.fullmatch(name)
    if match is None or "/" in name:
        raise DataError(f"{where}, column filename: {name!r}", expected="GENRE.NNNNN.wav", hint=CHECK_HINT)
    return name.removesuffix(".wav"), match["genre"]


def numbers_of(where: str, columns: Sequence[str], cells: list[str]) -> list[float]:
    """Return the numbers of a row's cells; raise DataError with the column for one that is not finite."""
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        numbers = []
    # If the sum of the absolute values is finite, every value is: one check for the row instead of 58. Only a row
    # that fails it is checked cell by cell. (math.fsum would raise if the sum of finite values is infinite.)
    if (
        numbers
        and "_" not in "".join(cells)
        and math.isfinite(sum(map(abs, numbers)))
        and max(map(abs, numbers)) <= FLOAT32_MAX
    ):
        return numbers
    return [_number(f"{where}, column {name}", cell) for name, cell in zip(columns, cells, strict=True)]


def _number(where: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > FLOAT32_MAX or "_" in text:
        raise DataError(f"{where}: {text!r}", expected="a finite number", hint=CHECK_HINT)
    return value
