"""Open an exported bundle, to predict with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.core.errors import CheckpointError, HarnessError
from harness.core.records import Representation
from harness.core.trust import is_trusted
from harness.data import Inputs, batches_of
from harness.data.audio import SUFFIXES
from harness.data.images import FORMATS
from harness.data.inputs import TABLE_SUFFIXES
from harness.export.formats import (
    EXAMPLE_BATCH,
    FILES,
    OfTensors,
    Transform,
    checked_sha256,
    example_inputs,
    read_format,
)
from harness.training.description import DESCRIPTION_FILE, Architecture, Description, read_description
from harness.training.tasks import EVALUATION_BATCH

if TYPE_CHECKING:
    import pandas as pd

    from harness.export.frames import Items

# The file type that a bundle takes besides sound, by the input of its model.
SUFFIXES_OF: dict[Representation, tuple[str, ...]] = {
    "features": TABLE_SUFFIXES,
    "pictures": tuple(FORMATS),
    "both": tuple(FORMATS),
}
# The module of an exported program with the scaler's mean and scale; all members of an ensemble have the same.
NORMALISE = tuple(f"classifier.{place}normalise{part}" for place in ("", "members.0.") for part in ("", ".rows"))


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """An exported model, ready to predict.

    `probabilities` takes float32 [n, columns], uint8 [n, height, width, 3] or both, and gives float32 [n, genres].
    `spread` is the mean and the scale of each column in the train part, or None if the file does not give them.
    """

    folder: Path
    architecture: Architecture
    synthetic: bool
    probabilities: Callable[[Inputs], Tensor]
    spread: tuple[Tensor, Tensor] | None

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of the files that can be predicted."""
        own = SUFFIXES_OF[self.architecture.representation]
        return (*own, *SUFFIXES) if self.architecture.is_music else own

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.architecture.genres

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns that the model takes, () for pictures."""
        return self.architecture.columns

    def predict(self, items: Items) -> pd.DataFrame:
        """Predict the class of each item, as a table; see `predict_items`."""
        from harness.export.frames import predict_items  # imports pandas, which `harness predict` does without

        return predict_items(self.probabilities, self.architecture, items)


def open_bundle(folder: Path, *, trust_code: bool = False) -> Bundle:
    """Open a folder that `harness export` wrote: its safetensors, else its pt2 file, else its ONNX file.

    For a model from a user's file, safetensors come last: they need the file with the class, the others do not. A
    file that runs code which the user has not agreed to run is only taken if there is no other (see
    `require_trust`, for `trust_code` too).

    Raises CheckpointError if the folder is not a bundle or is damaged, and UntrustedCode if each of its files runs
    such code.
    """
    description = read_description(folder)
    architecture = description.architecture
    format_ = _format(folder, description, trust_code)
    transform = _transform(folder, format_, architecture, trust_code)
    _check_shapes(transform, folder / FILES[format_], architecture)
    spread = None if architecture.representation == "pictures" else _spread(transform)

    @torch.inference_mode()
    def probabilities(inputs: Inputs) -> Tensor:
        return torch.cat([transform(batch) for batch in batches_of(inputs, EVALUATION_BATCH)])

    return Bundle(folder, architecture, description.is_synthetic, probabilities, spread)


def _format(folder: Path, description: Description, trust_code: bool) -> str:
    """Return the format of the file to read, after the check of its SHA-256."""
    needs_class = description.architecture.source_digest is not None
    order = sorted(FILES, key=lambda name: name == "safetensors" and needs_class)
    found = [name for name in order if (folder / FILES[name]).is_file()]
    if not found:
        raise CheckpointError(
            f"{folder} holds no model",
            expected=f"{', '.join(FILES.values())} beside {DESCRIPTION_FILE}",
            hint="harness export again",
        )
    sums = {name: checked_sha256(folder, name, description) for name in found}

    def runs_unknown_code(name: str) -> bool:
        # pt2, and any format that is not known to be without code, runs what is in the file itself.
        runs = {"safetensors": description.architecture.source_digest, "onnx": None}.get(name, sums[name])
        return runs is not None and not (trust_code or is_trusted(runs))

    return next((name for name in found if not runs_unknown_code(name)), found[0])


def _transform(folder: Path, format_: str, architecture: Architecture, trust_code: bool) -> Transform:
    try:
        return read_format(folder, format_, architecture, trust_code=trust_code)
    except ImportError as error:
        raise CheckpointError(
            f"reading {folder / FILES[format_]} needs a package that is not installed: {error.name}",
            hint="pip install -e '.[onnx]'",
        ) from None
    except HarnessError:
        raise
    except Exception as error:  # the errors of PyTorch and onnxruntime for damaged files have no other common base
        raise _damaged(folder / FILES[format_], error) from error


def _check_shapes(transform: Transform, path: Path, architecture: Architecture) -> None:
    """Raise CheckpointError if a file does not take the inputs, or give the genres, that `model.json` names.

    Likewise if what it gives is not finite.
    """
    wanted: tuple[int, ...] = (EXAMPLE_BATCH, len(architecture.genres))
    example = example_inputs(architecture.representation, len(architecture.columns))
    try:
        with torch.inference_mode():
            given = transform(example)
            found, is_finite = tuple(given.shape), bool(torch.isfinite(given).all())
    except Exception as error:  # as above
        raise _damaged(path, error) from error
    if not architecture.is_classifier:  # what else it gives has one entry for each input
        wanted = (EXAMPLE_BATCH, *found[1:])
    if found != wanted:
        raise CheckpointError(
            f"{path} gives {found} for two inputs",
            expected=f"{wanted}, for the genres that {DESCRIPTION_FILE} names",
        )
    if not is_finite:
        raise CheckpointError(
            f"{path} gives values that are not finite numbers", expected="a network of finite weights"
        )


def _spread(transform: Transform) -> tuple[Tensor, Tensor] | None:
    function = transform.function if isinstance(transform, OfTensors) else None
    module = function if isinstance(function, nn.Module) else nn.Module()
    for name in NORMALISE:
        try:
            return module.get_buffer(f"{name}.mean"), module.get_buffer(f"{name}.scale")
        except AttributeError:  # an ONNX file, or a pt2 file that something else wrote
            continue
    return None


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read: {error}", hint="harness export again, from the run that made it"
    )
