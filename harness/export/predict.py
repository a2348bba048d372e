"""An exported bundle asked for the genres of rows of features, pictures and sound files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.errors import CheckpointError, DataError, HarnessError
from harness.core.json_types import JsonObject
from harness.core.records import Representation
from harness.data import FEATURE_COLUMNS
from harness.data.audio import SUFFIXES, clip_features, clip_picture, load_clip
from harness.data.features import has_columns, read_rows
from harness.data.images import HIDDEN, raw_pictures
from harness.export.formats import FILES, Transform, read_format
from harness.training.checkpoint import DESCRIPTION_FILE, Architecture, read_description
from harness.training.loop import EVALUATION_BATCH

# What a bundle takes beside sound, by what its model was trained on.
OWN_SUFFIX: dict[Representation, str] = {"features": ".csv", "pictures": ".png"}
FAR = 20.0  # standard deviations from the mean of what the model was trained on; GTZAN's own rows stay below 16
NORMALISE = "classifier.normalise"  # where an exported program keeps the scaler's mean and scale
Told = Callable[[str, int, int, str | None], None]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest genres of one input with their probabilities, the likeliest first.

    `row` counts the rows of a CSV from 1, `track` is what it says under `filename`; both are None for a picture
    and for sound. `far` names the columns whose value lies over 20 standard deviations from the train part's mean.
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
    """What came of the files: predictions, and the files that none could be made for with the reasons.

    `ignored` are CSV files met in folders that have none of the bundle's columns.
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
        """Return what the reader of the predictions must know beside them."""
        notes = [f"passed over, no feature columns: {file}" for file in self.ignored]
        if self.bundle.synthetic:
            notes.append("the bundle was trained on SYNTHETIC data: its predictions say nothing about music")
        far = [prediction for prediction in self.made if prediction.far]
        if far:
            columns = sorted({name for prediction in far for name in prediction.far})
            notes.append(
                f"{len(far)} of {len(self.made)} inputs lie far outside of what the model was trained on "
                f"({', '.join(columns[:6])}{' and others' if columns[6:] else ''}): do not trust it there"
            )
        return notes


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """An exported model: raw inputs to probabilities [n, genres].

    Takes float32 [n, columns] or uint8 [n, height, width, 3]. `spread` is the mean and the scale of the columns in
    the train part, None where the bundle does not tell them.
    """

    folder: Path
    architecture: Architecture
    synthetic: bool
    probabilities: Callable[[Tensor], Tensor]
    spread: tuple[Tensor, Tensor] | None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The kinds of file that can be predicted."""
        return (OWN_SUFFIX[self.architecture.representation], *SUFFIXES)


def open_bundle(folder: Path) -> Bundle:
    """Open a folder that `harness export` wrote: its safetensors, else its PyTorch program, else its ONNX file.

    For a model from outside the package the safetensors come last: they need the file with its class, the others
    do not.
    PyTorch reads parts of a program with pickle, which can run code: those of strangers are not to be opened.

    Raises CheckpointError where it is none, or is damaged.
    """
    description = read_description(folder)
    architecture = description.architecture
    order = sorted(FILES, key=lambda name: name == "safetensors" and architecture.source_digest is not None)
    format_ = next((name for name in order if (folder / FILES[name]).exists()), None)
    if format_ is None:
        raise CheckpointError(
            f"{folder} holds no model",
            expected=f"{', '.join(FILES.values())} beside {DESCRIPTION_FILE}",
            hint="harness export again",
        )
    transform = _transform(folder, format_, architecture)
    spread = None
    if architecture.representation == "features" and isinstance(transform, nn.Module):
        spread = (transform.get_buffer(f"{NORMALISE}.mean"), transform.get_buffer(f"{NORMALISE}.scale"))

    @torch.inference_mode()
    def probabilities(inputs: Tensor) -> Tensor:
        return torch.cat([transform(batch) for batch in torch.split(inputs, EVALUATION_BATCH)])

    return Bundle(folder, architecture, description.is_synthetic, probabilities, spread)


def _transform(folder: Path, format_: str, architecture: Architecture) -> Transform:
    try:
        return read_format(folder, format_, architecture)
    except ImportError as error:
        raise CheckpointError(
            f"reading {folder / FILES[format_]} needs a package that is not installed: {error.name}",
            hint="pip install -e '.[onnx]'",
        ) from None
    except HarnessError:
        raise
    except Exception as error:  # what PyTorch and onnxruntime raise for damaged files has no base but this
        raise _damaged(folder / FILES[format_], error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read: {error}", hint="harness export again, from the run that made it"
    )


def predict(bundle: Bundle, paths: Sequence[Path], *, top: int = 3, told: Told = lambda *_: None) -> Predictions:
    """Predict files and what folders hold of the kinds that the bundle takes; `told` hears of each file.

    A file that cannot be predicted is among the errors and stops nothing. Pictures of any size are resized as
    those that the model was trained on.
    """
    found: list[tuple[Path, str | None]] = []
    ignored: list[str] = []
    for path in dict.fromkeys(paths):
        found += _search(bundle, path, ignored) if path.is_dir() else [(path, None)]
    made: list[Prediction] = []
    errors: list[tuple[str, str]] = []
    files = dict(found)
    for done, (path, error) in enumerate(files.items(), start=1):
        if error is None:
            try:
                made += _predict_file(bundle, path, top)
            except DataError as fault:
                error = fault.found + (f" (expected: {fault.expected})" if fault.expected else "")
        if error is not None:
            errors.append((str(path), error))
        told(str(path), done, len(files), error)
    return Predictions(bundle, tuple(made), tuple(errors), tuple(ignored))


def _search(bundle: Bundle, folder: Path, ignored: list[str]) -> Iterator[tuple[Path, str | None]]:
    """Yield what a folder holds of the bundle's kinds, and with an error what cannot be searched."""
    unreadable: list[OSError] = []
    count = 0
    for place, folders, names in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not HIDDEN.fullmatch(name))
        for path in (Path(place, name) for name in sorted(names) if not HIDDEN.fullmatch(name)):
            if path.suffix.lower() not in bundle.suffixes:
                continue
            count += 1
            if path.suffix.lower() == ".csv" and not has_columns(path, bundle.architecture.columns):
                ignored.append(str(path))
            else:
                yield path, None
    for error in unreadable:
        yield Path(error.filename), f"cannot be listed: {error}"
    if count == 0 and not unreadable:
        yield folder, f"the folder holds no {', '.join(bundle.suffixes)}"


def _predict_file(bundle: Bundle, path: Path, top: int) -> Iterator[Prediction]:
    inputs, tracks = _read(bundle, path)
    genres = bundle.architecture.genres
    best = bundle.probabilities(inputs).topk(min(top, len(genres)))
    for row, (values, indices) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
        yield Prediction(
            file=str(path),
            row=None if tracks is None else row + 1,
            track=None if tracks is None else tracks[row],
            genres=tuple((genres[index], value) for value, index in zip(values, indices, strict=True)),
            far=_far(bundle, inputs[row]),
        )


def _read(bundle: Bundle, path: Path) -> tuple[Tensor, tuple[str | None, ...] | None]:
    """Return a file's inputs, and for a CSV the names of its rows."""
    if not path.exists():
        raise DataError(f"{path} does not exist")
    suffix, wanted = path.suffix.lower(), bundle.architecture.representation
    columns = bundle.architecture.columns
    if suffix not in bundle.suffixes:
        raise DataError(
            f"{path} is {_kind(suffix)}, and this bundle's {bundle.architecture.model} takes {wanted}",
            expected=", ".join(bundle.suffixes),
        )
    if suffix == ".csv":
        rows = read_rows(path, columns)
        names = (None if name is None else name.removesuffix(".wav") for name in rows.names)
        return torch.from_numpy(rows.values.astype(np.float32)), tuple(names)
    if suffix == ".png":
        return raw_pictures([path]), None
    clip = load_clip(path)
    if wanted == "features":
        found = dict(zip(FEATURE_COLUMNS, clip_features(path, clip), strict=True))
        row = np.array([[found[name] for name in columns]], dtype=np.float32)
        return torch.from_numpy(row), None
    box = bundle.architecture.box
    # Drawn without a frame: a network that cuts one would cut what it is to see.
    picture = clip_picture(clip) if box is None else box.framed(clip_picture(clip, box.size))
    return torch.from_numpy(picture.copy())[None], None


def _kind(suffix: str) -> str:
    known = {".csv": "a table of features", ".png": "a picture"}
    return known.get(suffix, f"of the kind {suffix!r}")


def _far(bundle: Bundle, row: Tensor) -> tuple[str, ...]:
    if bundle.spread is None:
        return ()
    mean, scale = bundle.spread
    outside = ((row - mean) / scale).abs() > FAR
    return tuple(name for name, far in zip(bundle.architecture.columns, outside.tolist(), strict=True) if far)
