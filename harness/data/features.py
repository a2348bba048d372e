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
from harness.data.layout import CHECK_HINT, MAX_COLUMNS, MISSING
from harness.data.parquet import PARQUET, parquet_header, parquet_rows

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
IS = "="  # between a column of categories and the value, in the name of the column of that value
FLOAT32_MAX = float(np.finfo(np.float32).max)  # a larger value would become infinite in a network's float32 input
# Far above any feature table. Without them a small archive of commas would cost minutes and gigabytes.
MAX_LINE = 1_000_000  # characters
TRACK_FILE = re.compile(r"(?P<genre>.+)\.(?P<number>\d+)\.wav")


PlacedRows = list[tuple[str, list[str]]]  # where each row is, for messages, and its cells


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
        found[track] = (genre, _numbers(where, FEATURE_COLUMNS, [cells[index] for index in numeric]))
    ids = tuple(sorted(found))
    values = np.array([found[track][1] for track in ids], dtype=np.float64)
    return FeatureTable(ids, tuple(found[track][0] for track in ids), values)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a user's file, in its order: `values` is float64 [n, columns], `names` the cells of `filename`.

    `unknown` has for each row the cells of columns of categories that are none of them, as `COLUMN=VALUE`.
    """

    names: tuple[str | None, ...]
    values: np.ndarray
    unknown: tuple[tuple[str, ...], ...] = ()

    @property
    def tracks(self) -> tuple[str | None, ...]:
        """The names without `.wav`: the ids of tracks where they are those of a data set."""
        return tuple(None if name is None else name.removesuffix(".wav") for name in self.names)


def read_rows(
    path: Path, columns: Sequence[str], *, names_in: Sequence[str] = ("filename",), impute: bool = False
) -> Rows:
    """Read the named columns of a CSV or Parquet file. The first of `names_in` that it has gives the rows' names.

    Other columns are ignored. A column `NAME=VALUE` that it lacks is 1 where column NAME has VALUE, else 0.
    `impute`: a missing value is NaN.

    Raises DataError as `read_features` does.
    """
    header, rows = table_rows(path)
    expected = f"a header with the columns {', '.join(columns)}, and rows"
    counts = Counter(header)
    missing = list(
        dict.fromkeys(raw_name(name) for name in columns if counts[name] != 1 and counts[raw_name(name)] != 1)
    )
    if missing:
        shown = ", ".join(map(repr, missing[:6])) + (" and others" if missing[6:] else "")
        raise DataError(f"{_header_of(path)}: the header lacks, or has twice, {shown}", expected=expected)
    if not rows:
        raise DataError(f"{path} has a header and no rows", expected=expected)
    place = {name: header.index(name if name in counts else raw_name(name)) for name in columns}
    categories: dict[str, set[str]] = {}
    for name in columns:
        if name not in counts:
            categories.setdefault(raw_name(name), set()).add(name.partition(IS)[2])
    named = next((header.index(name) for name in names_in if name in header), None)
    names, values, unknown = [], [], []
    for where, cells in rows:
        check_width(where, cells, header)
        texts_of = {name: cells[header.index(name)].strip() for name in categories}
        strange = {name: text for name, text in texts_of.items() if text not in categories[name]}
        unknown.append(
            tuple(f"{name}{IS}{text}" for name, text in strange.items() if not (impute and text in MISSING))
        )
        names.append(None if named is None else cells[named])
        texts = [_cell(name, cells[index], name in counts) for name, index in place.items()]
        gaps = [index for index, text in enumerate(texts) if impute and text.strip() in MISSING]
        numbers = _numbers(where, columns, ["0" if index in gaps else text for index, text in enumerate(texts)])
        for index in gaps:
            numbers[index] = math.nan
        values.append(numbers)
    return Rows(tuple(names), np.array(values, dtype=np.float64), tuple(unknown))


def table_rows(path: Path) -> tuple[list[str], PlacedRows]:
    """Return the header of a CSV or Parquet file, [] for an empty file, and its rows, whatever their width.

    Raises DataError as `csv_rows` and `parquet_rows` do.
    """
    if path.suffix.lower() == PARQUET:
        header, cells_of_rows = parquet_rows(path)
        return header, [(f"{path}, row {number}", cells) for number, cells in enumerate(cells_of_rows, 1)]
    rows = csv_rows(path)
    header = [name.strip() for name in rows[0][1]] if rows else []
    return header, [(f"{path}, line {line}", cells) for line, cells in rows[1:]]


def _header_of(path: Path) -> str:
    return str(path) if path.suffix.lower() == PARQUET else f"{path}, line 1"


def _cell(column: str, text: str, is_there: bool) -> str:
    return text if is_there else str(int(text.strip() == column.partition(IS)[2]))


def raw_name(column: str) -> str:
    """Return the column of a table that a column is made of: NAME for `NAME=VALUE`, 1 where NAME has VALUE."""
    return column.partition(IS)[0]


def has_columns(path: Path, columns: Sequence[str]) -> bool:
    """Return True if the file is a table whose header has at least one of the columns (see `read_rows`)."""
    if path.suffix.lower() == PARQUET:
        header = parquet_header(path)
    else:
        try:
            with regular(path).open(encoding="utf-8-sig", newline="") as file:
                header = next(csv.reader(_lines(path, file), strict=True), [])
        except (DataError, OSError, UnicodeDecodeError, csv.Error):
            return False
    return not {name.strip() for name in header}.isdisjoint({*columns, *map(raw_name, columns)})


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
            reader = csv.reader(_lines(path, file), strict=True)
            return [(reader.line_num, _bounded(path, reader.line_num, cells)) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}", expected="a UTF-8 CSV file", hint=CHECK_HINT
        ) from error


def _lines(path: Path, file: TextIO) -> Iterator[str]:
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


def _numbers(where: str, columns: Sequence[str], cells: list[str]) -> list[float]:
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
