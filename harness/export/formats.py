"""The file formats of an export: safetensors, PyTorch's pt2 and ONNX. Each is written, and read back for a check.

pt2 and ONNX files contain the whole computation from raw input to probabilities, and need no code of this package.
No file contains a pickle.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from harness.core.errors import CheckpointError, SettingsError
from harness.core.files import regular, sha256_of
from harness.core.records import Representation
from harness.core.trust import require_trust
from harness.data import MAX_SIDE, MIN_SIDE, PICTURE_SIZE, CropBox, Inputs, Joined, Size, tensors_of
from harness.export.resize import resize_by_arithmetic, resize_by_operator
from harness.training.checkpoint import WEIGHTS_FILE, load_checkpoint
from harness.training.description import Architecture, Description

FILES = {"safetensors": WEIGHTS_FILE, "pt2": "model.pt2", "onnx": "model.onnx"}
# pt2 needs no code of this package, and the registry needs it anyway.
DEFAULT_FORMATS = ("safetensors", "pt2")
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
METADATA = "metadata.json"  # an extra file in the pt2 archive; in ONNX its keys are metadata properties
PT2_LOGGERS = ("torch.export", "torch._export.serde.serialize")  # they log tracebacks of files that cannot be read
# The shape of the example input for the trace. A batch of 1, or the input size of a network, would become a
# constant of the trace.
EXAMPLE_BATCH, EXAMPLE_SIZE = 2, (288, 432)
# Another order of float32 sums changes a probability by about 1e-6, and by more if logits are large. A wrong
# scaling or a wrong weight changes it by 1e-2 or more. In addition the likeliest genre must be the same.
TOLERANCE = 1e-4
BATCH = 64

Transform = Callable[[Inputs], Tensor]
Tensors = Callable[..., Tensor]  # from the tensors of the inputs: one, or pictures and features


class Resize(Protocol):
    """Resizes pictures, uint8 [n, height, width, 3], or a box of them, to uint8 [n, *size, 3]."""

    def __call__(self, pictures: Tensor, box: CropBox | None = None, size: Size = PICTURE_SIZE) -> Tensor:
        """Return the resized pictures."""


class Portable(nn.Module):
    """A network with its resize, and a classifier with its softmax: the module that is written to a file.

    Input: float32 [n, columns] with the values of the CSV, or uint8 [n, height, width, 3] with 4 to 4096 pixels a
    side, or the pictures and then the rows. Output: probabilities, float32 [n, genres]; each row sums to 1. A
    network that is no classifier gives what its `forward` gives.
    """

    def __init__(
        self,
        classifier: nn.Module,
        representation: Representation,
        resize: Callable[[Tensor], Tensor],
        is_classifier: bool = True,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.representation = representation
        self.resize = resize
        self.is_classifier = is_classifier

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return probabilities for raw inputs."""
        if self.representation != "features":
            x = self.resize(x)
        given: Tensor = self.classifier(x if rows is None else Joined(x, rows))
        return torch.softmax(given, 1) if self.is_classifier else given


def check_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the formats in the order of `FILES`, each once.

    Raises SettingsError for an unknown format, and CheckpointError if a package for a format is missing.
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
    """What a file is made from: a classifier, its input, and its metadata.

    `columns` is the number of feature columns, `about` the JSON-able metadata, `box` the box that pictures are
    cropped to, None for whole pictures, and `size` the height and width of the network's input.
    """

    classifier: nn.Module
    representation: Representation
    columns: int
    about: Mapping[str, object]
    box: CropBox | None = None
    size: Size = PICTURE_SIZE
    is_classifier: bool = True


def write_formats(folder: Path, formats: tuple[str, ...], source: Source) -> None:
    """Write the files of these formats to a folder, except safetensors, which `save_checkpoint` writes."""
    if "pt2" in formats:
        extra = {METADATA: json.dumps(source.about, indent=2)}
        resize = resize_by_operator if source.box is None else resize_by_arithmetic
        torch.export.save(_trace(source, resize), folder / FILES["pt2"], extra_files=extra)
    if "onnx" in formats:
        _write_onnx(folder / FILES["onnx"], _trace(source, resize_by_arithmetic), source)


def _trace(source: Source, resize: Resize) -> ExportedProgram:
    portable = Portable(
        source.classifier,
        source.representation,
        partial(resize, box=source.box, size=source.size),
        source.is_classifier,
    )
    portable.eval().requires_grad_(False)
    batch = Dim("batch", min=1)
    examples, shapes = example_inputs(source.representation, source.columns), []
    if source.representation != "features":
        sides = (Dim(name, min=MIN_SIDE, max=MAX_SIDE) for name in ("height", "width"))
        shapes.append({0: batch, 1: next(sides), 2: next(sides), 3: Dim.STATIC})
    if source.representation != "pictures":
        shapes.append({0: batch, 1: Dim.STATIC})
    program = torch.export.export(portable, tensors_of(examples), dynamic_shapes=tuple(shapes))
    program.example_inputs = None  # they would be in the file, as a pickle
    return program


def example_inputs(representation: Representation, columns: int) -> Inputs:
    """Return two raw inputs of zeros."""
    rows = torch.zeros(EXAMPLE_BATCH, columns)
    pictures = torch.zeros(EXAMPLE_BATCH, *EXAMPLE_SIZE, 3, dtype=torch.uint8)
    examples: dict[str, Inputs] = {"features": rows, "pictures": pictures, "both": Joined(pictures, rows)}
    return examples[representation]


def _write_onnx(path: Path, program: ExportedProgram, source: Source) -> None:
    exported = torch.onnx.export(
        program,
        (),
        input_names=["pictures", "features"] if source.representation == "both" else [source.representation],
        output_names=["probabilities" if source.is_classifier else "output"],
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    for key, value in source.about.items():
        exported.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value)
    exported.save(path)


def of_network(network: nn.Module, architecture: Architecture) -> Transform:
    """Return the function from raw input to probabilities of a network with its normaliser, on the CPU."""
    resize = partial(resize_by_operator, box=architecture.box, size=architecture.input_size)
    return OfTensors(Portable(network, architecture.representation, resize, architecture.is_classifier).eval())


def read_format(folder: Path, name: str, architecture: Architecture, *, trust_code: bool) -> Transform:
    """Return the function from raw input to probabilities (on the CPU) of the file of this format in a folder.

    `trust_code`: see `require_trust`. safetensors run the file of a model from a file; PyTorch evaluates
    expressions and reads pickles in a pt2 file.

    safetensors is read by this package, pt2 by torch alone, ONNX by onnxruntime alone.
    """
    path = folder / FILES[name]
    if name == "safetensors":
        classifier, _ = load_checkpoint(folder, trust_code=trust_code)
        return of_network(classifier, architecture)
    if name == "pt2":
        code = regular(path).read_bytes()  # once: what runs are the bytes that were digested
        require_trust(str(path), hashlib.sha256(code).hexdigest(), str(folder), trust_code)
        return OfTensors(_load_pt2(code))
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*tensors: Tensor) -> Tensor:
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return OfTensors(run)


@dataclass(frozen=True, slots=True)
class OfTensors:
    """A function of tensors as a function of inputs."""

    function: Tensors

    def __call__(self, inputs: Inputs) -> Tensor:
        """Return the probabilities of raw inputs."""
        return self.function(*tensors_of(inputs))


def _load_pt2(code: bytes) -> Tensors:
    """Return the program of the bytes of a pt2 file.

    PyTorch logs why a file cannot be read, with a traceback, and then raises an error that refers to its log. Here
    the reason is raised instead.
    """
    reasons: list[BaseException] = []

    def keep_reason(record: logging.LogRecord) -> bool:
        reason = record.exc_info[1] if record.exc_info else None
        if reason is not None:
            reasons.append(reason)
        return reason is None

    loggers = [logging.getLogger(name) for name in PT2_LOGGERS]
    for logger in loggers:
        logger.addFilter(keep_reason)
    try:
        module: Tensors = torch.export.load(io.BytesIO(code)).module()
    except Exception as error:
        raise (reasons or [error])[0] from error
    finally:
        for logger in loggers:
            logger.removeFilter(keep_reason)
    return module


def checked_sha256(folder: Path, name: str, description: Description) -> str:
    """Return the SHA-256 of a bundle's file of this format.

    Raises CheckpointError if `model.json` has another one.
    """
    checks = () if description.exported is None else description.exported.formats
    recorded = {check.format: check.sha256 for check in checks} | {"safetensors": description.sha256}
    found = sha256_of(folder / FILES[name])
    if recorded.get(name, found) != found:
        raise CheckpointError(
            f"{folder / FILES[name]} is damaged or was changed (SHA-256 {found[:12]})",
            expected=f"the SHA-256 in model.json, {str(recorded.get(name))[:12]}",
            hint="harness export again, from the run that made it",
        )
    return found


@torch.inference_mode()
def compare_outputs(
    file: str, probabilities: Transform, batches: Iterable[Inputs], expected: Tensor, *, is_classifier: bool = True
) -> tuple[float, Tensor | None]:
    """Return the largest difference from the expected probabilities [n, genres], and the likeliest genres [n].

    `batches` has the n inputs. What a network without classes gives, [n, ...], is compared relative to its largest
    value, and has no likeliest genres.

    Raises CheckpointError if the difference is above the tolerance, or if a likeliest genre differs.
    """
    given = torch.cat([probabilities(batch) for batch in batches])
    difference = float((given - expected).abs().max())
    if not is_classifier:
        most = TOLERANCE * max(1.0, float(expected.abs().max()))
        if not difference <= most:
            raise CheckpointError(
                f"{file}, read back, differs from the original by {difference:.1e}",
                expected=f"at most {most:.0e}",
                hint="harness export with another --format",
            )
        return difference, None
    guesses = given.argmax(1)
    others = int((guesses != expected.argmax(1)).sum())
    if not difference <= TOLERANCE or others:  # `not ... <=`, because every comparison with NaN is false
        raise CheckpointError(
            f"{file}, read back, differs from the original by {difference:.1e} in a probability "
            f"and in the genre of {others} of {len(expected)} tracks",
            expected=f"at most {TOLERANCE:.0e}, and the same genres",
            hint="harness export with another --format",
        )
    return difference, guesses
