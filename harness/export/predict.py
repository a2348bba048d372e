"""Predict the genres of feature rows, pictures and sound files with an exported bundle."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.core.errors import DataError
from harness.core.json_types import JsonObject
from harness.data import CropBox, Inputs, Joined, tensors_of
from harness.data.audio import clip_picture, load_clip
from harness.data.images import FORMATS, raw_pictures
from harness.data.inputs import FAR, TABLE_SUFFIXES, clip_row, feature_rows
from harness.data.layout import HIDDEN, FileProgress
from harness.data.rows import Rows as NamedRows
from harness.data.rows import has_columns
from harness.export.opening import Bundle


@dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest genres of one input with their probabilities, the likeliest first.

    `row` is the number of the row in a table, from 1, and `track` its cell in the column of ids; both are None for
    pictures and sound. `far` names the columns whose value is over 20 standard deviations from the mean of the
    train part, and as `COLUMN=VALUE` the categories that the data set did not have.
    """

    file: str
    row: int | None
    track: str | None
    genres: tuple[tuple[str, float], ...]
    far: tuple[str, ...]

    def as_json(self) -> JsonObject:
        """Return an element of `predictions` in what `--json` prints."""
        genres = [{"genre": genre, "probability": probability} for genre, probability in self.genres]
        return {"file": self.file, "row": self.row, "track": self.track, "genres": genres, "far": list(self.far)}


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions, and the files that cannot be predicted with the reasons.

    `ignored` are tables found in folders that have none of the bundle's columns.
    """

    bundle: Bundle
    made: tuple[Prediction, ...]
    errors: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]

    def as_json(self) -> JsonObject:
        """Return the object that `--json` prints."""
        return {
            "bundle": str(self.bundle.folder),
            "model": self.bundle.architecture.model,
            "synthetic": self.bundle.synthetic,
            "predictions": [prediction.as_json() for prediction in self.made],
            "errors": [{"file": file, "error": error} for file, error in self.errors],
        }

    def notes(self) -> list[str]:
        """Return the notes and warnings that belong to the predictions."""
        notes = [f"ignored, no feature columns: {file}" for file in self.ignored]
        if self.bundle.synthetic:
            notes.append("the bundle was trained on SYNTHETIC data: its predictions say nothing about real data")
        far = [prediction for prediction in self.made if prediction.far]
        if far:
            columns = sorted({name for prediction in far for name in prediction.far})
            notes.append(
                f"{len(far)} of {len(self.made)} inputs lie far outside of the data that the model was trained on "
                f"({', '.join(columns[:6])}{' and others' if columns[6:] else ''}): do not trust their predictions"
            )
        return notes


def predict(
    bundle: Bundle, paths: Sequence[Path], *, top: int = 3, progress: FileProgress = lambda *_: None
) -> Predictions:
    """Predict the `top` likeliest genres for files, and for the files in folders whose type the bundle takes.

    A file that cannot be predicted is listed in the errors, and the others are predicted. Pictures of any size are
    resized as the model's training pictures were. `progress` is called after each file.

    A bundle of both inputs takes a picture with the row of the same track, from the tables among the paths or in
    the folders.
    """
    found: list[tuple[Path, str | None]] = []
    ignored: list[str] = []
    rows = _rows_by_track(bundle, paths) if bundle.architecture.representation == "both" else {}
    for path in dict.fromkeys(paths):
        if path.is_dir():
            found += _search(bundle, path, ignored)
        elif not (rows and path.suffix.lower() in TABLE_SUFFIXES):
            found.append((path, None))
    made: list[Prediction] = []
    errors: list[tuple[str, str]] = []
    if rows and not found:
        errors.append(
            (str(paths[0]), "a table without pictures, and the bundle takes both: give their folder as well")
        )
    files = dict(found)
    for done, (path, error) in enumerate(files.items(), start=1):
        if error is None:
            try:
                made += _predict_file(bundle, path, top, rows)
            except DataError as fault:
                error = fault.found + (f" (expected: {fault.expected})" if fault.expected else "")
        if error is not None:
            errors.append((str(path), error))
        progress(str(path), done, len(files), error)
    return Predictions(bundle, tuple(made), tuple(errors), tuple(ignored))


def _search(bundle: Bundle, folder: Path, ignored: list[str]) -> Iterator[tuple[Path, str | None]]:
    """Yield the files of a folder whose type the bundle takes, and what cannot be searched with an error.

    CSV files without the bundle's columns are added to `ignored` instead.
    """
    unreadable: list[OSError] = []
    count = 0
    for parent, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not HIDDEN.fullmatch(name))
        for path in (Path(parent, name) for name in sorted(names) if not HIDDEN.fullmatch(name)):
            if path.suffix.lower() not in bundle.suffixes:
                continue
            count += 1
            if path.suffix.lower() in TABLE_SUFFIXES and not has_columns(path, bundle.architecture.columns):
                ignored.append(str(path))
            else:
                yield path, None
    for error in unreadable:
        yield Path(error.filename), f"cannot be listed: {error}"
    if count == 0 and not unreadable:
        yield folder, f"the folder has no file of type {', '.join(bundle.suffixes)}"


Rows = Mapping[str, tuple[Tensor, tuple[str, ...]]]  # by track: float32 [columns], unknown categories


def _rows_by_track(bundle: Bundle, paths: Sequence[Path]) -> Rows:
    """Return the rows of all tables among the paths, or in their folders, by the track that each names.

    Raises DataError for a table that cannot be read, and for a track with two rows that differ.
    """
    columns, found = bundle.architecture.columns, dict[str, tuple[Tensor, tuple[str, ...]]]()
    for path in dict.fromkeys(paths):
        tables = sorted(path.rglob("*")) if path.is_dir() else [path]
        for table in (table for table in tables if table.suffix.lower() in TABLE_SUFFIXES):
            if path.is_dir() and not has_columns(table, columns):
                continue
            rows = _table_rows(bundle, table)
            every = zip(rows.names, rows.values.astype(np.float32), rows.unknown, strict=True)
            for name, values, unknown in every:
                if name is None:
                    continue
                row = torch.from_numpy(values)
                known, _ = found.setdefault(_track_of(bundle, name), (row, unknown))
                if not torch.equal(known.nan_to_num(), row.nan_to_num()):
                    raise DataError(f"{table}: a second row of {name}, with other values", expected="one for each")
    return found


def _table_rows(bundle: Bundle, table: Path) -> NamedRows:
    about = bundle.architecture
    return feature_rows(table, about.columns, impute=about.impute, id_column=about.id_column)


def _track_of(bundle: Bundle, name: str) -> str:
    """Return a file's name without its type, and of music without dots: GTZAN's pictures have none."""
    track = re.sub(r"\.(wav|png|jpe?g)$", "", Path(name).name, flags=re.IGNORECASE)
    return track.replace(".", "") if bundle.architecture.is_music else track


def _predict_file(bundle: Bundle, path: Path, top: int, rows: Rows) -> Iterator[Prediction]:
    inputs, tracks, unknown = _read(bundle, path, rows)
    genres = bundle.architecture.genres
    best = bundle.probabilities(inputs).topk(min(top, len(genres)))
    for row, (values, indices) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
        yield Prediction(
            file=str(path),
            row=None if tracks is None else row + 1,
            track=None if tracks is None else tracks[row],
            genres=tuple((genres[index], value) for value, index in zip(values, indices, strict=True)),
            far=(*unknown[row], *_far(bundle, tensors_of(inputs)[-1][row])),
        )


def _read(
    bundle: Bundle, path: Path, rows: Rows
) -> tuple[Inputs, tuple[str | None, ...] | None, Sequence[tuple[str, ...]]]:
    """Return the inputs of a file, the names of its rows if it is a table, and the unknown categories of each."""
    if not path.exists():
        raise DataError(f"{path} does not exist")
    suffix, wanted = path.suffix.lower(), bundle.architecture.representation
    columns = bundle.architecture.columns
    if suffix not in bundle.suffixes:
        raise DataError(
            f"{path} is {_kind(suffix)}, and this bundle's {bundle.architecture.model} takes {wanted}",
            expected=", ".join(bundle.suffixes),
        )
    if suffix in TABLE_SUFFIXES:
        table = _table_rows(bundle, path)
        return torch.from_numpy(table.values.astype(np.float32)), table.tracks, table.unknown
    if suffix in FORMATS:
        picture = raw_pictures([path])
        if wanted == "pictures":
            return picture, None, [()]
        row, unknown = _row_of(bundle, path, rows)
        return Joined(picture, row[None]), None, [unknown]
    clip = load_clip(path)
    if wanted == "features":
        return _clip_row(path, clip, columns), None, [()]
    picture = _clip_picture(clip, bundle.architecture.box)
    return (picture if wanted == "pictures" else Joined(picture, _clip_row(path, clip, columns))), None, [()]


def _row_of(bundle: Bundle, path: Path, rows: Rows) -> tuple[Tensor, tuple[str, ...]]:
    row, about = rows.get(_track_of(bundle, path.name)), bundle.architecture
    if row is None:
        raise DataError(
            f"{path}: no table among the paths has a row of this {about.words[1]}, and the bundle takes both",
            expected=f"a table of features as well, with the name of the picture under {about.id_column}",
        )
    return row


def _clip_row(path: Path, clip: np.ndarray, columns: Sequence[str]) -> Tensor:
    return torch.from_numpy(clip_row(path, clip, columns).astype(np.float32))


def _clip_picture(clip: np.ndarray, box: CropBox | None) -> Tensor:
    # Our pictures have no white frame. If the network crops, the picture gets one, so that no content is cut.
    picture = clip_picture(clip) if box is None else box.framed(clip_picture(clip, box.size))
    return torch.from_numpy(picture.copy())[None]


def _kind(suffix: str) -> str:
    known = {**dict.fromkeys(TABLE_SUFFIXES, "a table of features"), **dict.fromkeys(FORMATS, "a picture")}
    return known.get(suffix, f"a file of type {suffix!r}")


def _far(bundle: Bundle, row: Tensor) -> tuple[str, ...]:
    if bundle.spread is None:
        return ()
    mean, scale = bundle.spread
    outside = ((row - mean) / scale).abs() > FAR
    return tuple(name for name, far in zip(bundle.architecture.columns, outside.tolist(), strict=True) if far)
