"""An exported network's files: safetensors, PyTorch's pt2 and ONNX, each written, and read back as others would.

pt2 and ONNX hold the whole way from raw input to probabilities, and no Python of this package. Nothing in them
is a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from harness.core.errors import CheckpointError, SettingsError
from harness.core.records import Representation
from harness.data import LARGEST, SMALLEST, CropBox
from harness.export.resize import resize_by_arithmetic, resize_by_operator
from harness.models.classifier import Classifier
from harness.training.checkpoint import WEIGHTS_FILE, Architecture, load_checkpoint

FILES = {"safetensors": WEIGHTS_FILE, "pt2": "model.pt2", "onnx": "model.onnx"}
# The second is of use without this package, and is made for the registry in any case.
DEFAULT_FORMATS = ("safetensors", "pt2")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
METADATA = "metadata.json"  # the extra file in the pt2 archive; in ONNX the same keys are metadata properties
# What stands for the input while the network is traced: never a batch of one, nor a size of the network's own,
# which the trace would take for constants.
EXAMPLE_BATCH, EXAMPLE_SIZE = 2, (288, 432)
# Sums of float32 taken in another order change a probability by about 1e-6, by more where logits are large;
# a wrong scaling or weight shows as 1e-2 and more. The genre has to be the same besides.
TOLERANCE = 1e-4
BATCH = 64

Transform = Callable[[Tensor], Tensor]


class Resize(Protocol):
    """A resize of pictures, uint8 [n, height, width, 3], or of a box of them, to uint8 [n, 216, 144, 3]."""

    def __call__(self, pictures: Tensor, box: CropBox | None = None) -> Tensor:
        """Return the resized pictures."""


class Portable(nn.Module):
    """A classifier from raw input to probabilities, as it goes into a file.

    Takes float32 [n, columns] as the values stand in the CSV, or uint8 [n, height, width, 3] of any size from
    16 to 4096 pixels a side; gives float32 [n, genres], each row summing to 1.
    """

    def __init__(self, classifier: Classifier, representation: Representation, resize: Transform) -> None:
        super().__init__()
        self.classifier = classifier
        self.representation = representation
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities for raw inputs."""
        if self.representation == "pictures":
            x = self.resize(x)
        return torch.softmax(self.classifier(x), 1)


def check_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the formats in their usual order, each once.

    Raises SettingsError for one that does not exist, CheckpointError where the packages for it are missing.
    """
    for name in names:
        if name not in FILES:
            raise SettingsError(f"there is no format {name!r}", expected=", ".join(FILES))
    missing = [package for package in ONNX_PACKAGES if find_spec(package) is None]
    if "onnx" in names and missing:
        raise CheckpointError(
            f"the format onnx needs packages that are not installed: {', '.join(missing)}",
            expected=f"the extra onnx ({', '.join(ONNX_PACKAGES)})",
            hint="pip install -e '.[onnx]'",
        )
    return tuple(name for name in FILES if name in names)


@dataclass(frozen=True, slots=True)
class Source:
    """What a file is made from: the classifier, what it takes, what is to be known of it (JSON-able).

    `box` is what is cut out of each picture.
    """

    classifier: Classifier
    representation: Representation
    columns: int
    about: Mapping[str, object]
    box: CropBox | None = None


def write_formats(folder: Path, formats: tuple[str, ...], source: Source) -> None:
    """Write the files of these formats (but safetensors, which is the checkpoint itself) into a folder."""
    if "pt2" in formats:
        extra = {METADATA: json.dumps(source.about, indent=2)}
        resize = resize_by_operator if source.box is None else resize_by_arithmetic
        torch.export.save(_trace(source, resize), folder / FILES["pt2"], extra_files=extra)
    if "onnx" in formats:
        _write_onnx(folder / FILES["onnx"], _trace(source, resize_by_arithmetic), source)


def _trace(source: Source, resize: Resize) -> ExportedProgram:
    portable = Portable(source.classifier, source.representation, partial(resize, box=source.box))
    portable.eval().requires_grad_(False)
    batch = Dim("batch", min=1)
    if source.representation == "features":
        example = torch.zeros(EXAMPLE_BATCH, source.columns)
        shapes = {0: batch, 1: Dim.STATIC}
    else:
        example = torch.zeros(EXAMPLE_BATCH, *EXAMPLE_SIZE, 3, dtype=torch.uint8)
        sides = (Dim(name, min=SMALLEST, max=LARGEST) for name in ("height", "width"))
        shapes = {0: batch, 1: next(sides), 2: next(sides), 3: Dim.STATIC}
    program = torch.export.export(portable, (example,), dynamic_shapes=(shapes,))
    program.example_inputs = None  # would be kept in the file, as a pickle
    return program


def _write_onnx(path: Path, program: ExportedProgram, source: Source) -> None:
    exported = torch.onnx.export(
        program,
        (),
        input_names=[source.representation],
        output_names=["probabilities"],
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    for key, value in source.about.items():
        exported.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    exported.save(path)


def read_format(folder: Path, name: str, architecture: Architecture) -> Transform:
    """Return the function from raw input to probabilities that a folder's file of this format holds (CPU).

    safetensors is read by this package, pt2 by torch alone, ONNX by onnxruntime alone.
    """
    path = folder / FILES[name]
    if name == "safetensors":
        resize = partial(resize_by_operator, box=architecture.box)
        return Portable(load_checkpoint(folder)[0], architecture.representation, resize).eval()
    if name == "pt2":
        module: Transform = torch.export.load(path).module()
        return module
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


@torch.inference_mode()
def compare_outputs(file: str, probabilities: Transform, inputs: Tensor, expected: Tensor) -> tuple[float, Tensor]:
    """Return the largest difference from the expected probabilities [n, genres], and the genres given, int64 [n].

    Raises CheckpointError where the difference is above the tolerance, or a genre is another.
    """
    given = torch.cat([probabilities(batch) for batch in torch.split(inputs, BATCH)])
    difference, guesses = float((given - expected).abs().max()), given.argmax(1)
    others = int((guesses != expected.argmax(1)).sum())
    if not difference <= TOLERANCE or others:  # not <=: NaN is a difference
        raise CheckpointError(
            f"{file}, read back, differs from the original by {difference:.1e} in a probability "
            f"and in the genre of {others} of {len(inputs)} tracks",
            expected=f"at most {TOLERANCE:.0e}, and the same genres",
            hint="harness export with another --format",
        )
    return difference, guesses
