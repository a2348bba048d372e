"""Self-describing checkpoints: safetensors beside a JSON that alone suffices to rebuild the network.

Nothing here is a pickle, so nothing that comes from outside can run code when it is read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness import __version__
from harness.core.errors import CheckpointError
from harness.core.files import sha256_of
from harness.core.json_types import JsonObject
from harness.core.records import EpochMetrics, Representation, TrialConfig
from harness.core.space import Params
from harness.data import CropBox
from harness.models.classifier import Classifier, build_classifier
from harness.models.normalise import NORMALISERS
from harness.models.registry import model_spec

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What it takes to rebuild a network: the model's name, its input columns (none for pictures), its genres.

    `hyperparameters` are those that the network itself takes.
    `source_digest` is the SHA-256 of the file that the model comes from, None for those of the package. `box` is
    what is cut out of each picture before the resize, None where nothing is.
    """

    model: str
    representation: Representation
    columns: tuple[str, ...]
    genres: tuple[str, ...]
    hyperparameters: Params = field(default_factory=dict)
    source_digest: str | None = None
    box: CropBox | None = None

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Architecture:
        """Rebuild an architecture from its JSON form; raises KeyError or TypeError where it is none."""
        box = recorded["box"]
        sequences = {name: tuple(recorded[name]) for name in ("columns", "genres")}
        return cls(**{**recorded, **sequences, "box": None if box is None else CropBox(**box)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which trial of which study a network comes from, and what it was trained on."""

    study: str
    trial: int
    data_digest: str
    split_digest: str
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """Accuracy on the test part with its 95 % Wilson interval; `openings` counts how often this run opened it."""

    __test__ = False  # pytest takes a class of this name for a class of tests

    tracks: int
    correct: int
    accuracy: float
    low: float
    high: float
    openings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatCheck:
    """A file read back and compared with the original on the test part.

    `largest_difference` is that of a probability; `accuracy` is the file's own.
    """

    format: str
    file: str
    sha256: str
    largest_difference: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What `harness export` adds: the run, the split with the sizes of its parts, figures and checked files."""

    run_id: str
    split: str
    parts: Mapping[str, int]
    test: TestResult | None = None
    formats: tuple[FormatCheck, ...] = ()
    registered: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `model.json` says of a network: how to rebuild it, how it was trained, how well it does.

    `metrics` are those of the best epoch, whose weights these are. `origin` is None for a network that no study's
    trial made, `exported` for one that was not exported. `sha256` is that of the weights, known once they are
    written. No other module knows the JSON form.
    """

    architecture: Architecture
    config: TrialConfig
    metrics: EpochMetrics
    origin: Origin | None = None
    exported: Exported | None = None
    versions: Mapping[str, str] = field(
        default_factory=lambda: {"harness": __version__, "torch": torch.__version__}
    )
    sha256: str = ""

    @property
    def is_synthetic(self) -> bool:
        """Whether the network was trained on synthetic data, as far as is known."""
        return self.origin is not None and self.origin.synthetic

    def as_json(self) -> JsonObject:
        """Return the content of `model.json`."""
        found = {
            "format": FORMAT,
            "architecture": asdict(self.architecture),
            "sha256": self.sha256,
            "versions": dict(self.versions),
            "config": self.config.as_dict(),
            "metrics": asdict(self.metrics),
            **({} if self.origin is None else asdict(self.origin)),
        }
        if self.exported is not None:
            exported = asdict(self.exported)
            found["metrics"]["test"] = exported.pop("test")
            found |= exported
        return found

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Description:
        """Rebuild a description from its JSON form.

        Raises KeyError or TypeError where something is missing or unknown.
        """
        metrics = dict(recorded["metrics"])
        test = metrics.pop("test", None)
        exported = None
        if "run_id" in recorded:
            exported = Exported(
                run_id=recorded["run_id"],
                split=recorded["split"],
                parts=recorded["parts"],
                test=None if test is None else TestResult(**test),
                formats=tuple(FormatCheck(**check) for check in recorded["formats"]),
                registered=recorded["registered"],
            )
        origin = None
        if "study" in recorded:
            origin = Origin(**{each.name: recorded[each.name] for each in fields(Origin)})
        return cls(
            architecture=Architecture.of(recorded["architecture"]),
            config=TrialConfig.of(recorded["config"]),
            metrics=EpochMetrics(**metrics),
            origin=origin,
            exported=exported,
            versions=recorded["versions"],
            sha256=recorded["sha256"],
        )


def save_checkpoint(folder: Path, weights: dict[str, Tensor], description: Description) -> Description:
    """Write a checkpoint as a folder that appears whole or not at all; return the description with the SHA-256."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        save_tensors(weights, temporary / WEIGHTS_FILE)
        description = replace(description, sha256=sha256_of(temporary / WEIGHTS_FILE))
        write_description(temporary, description)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return description


def write_description(folder: Path, description: Description) -> None:
    """Write the `model.json` of a checkpoint's folder."""
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description.as_json(), indent=2) + "\n")


def load_checkpoint(folder: Path) -> tuple[Classifier, Description]:
    """Rebuild the classifier (on the CPU, in evaluation mode) and return it with its description.

    Raises CheckpointError where a file is missing, damaged (by its SHA-256) or of another format.
    """
    description = read_description(folder)
    weights_path = folder / WEIGHTS_FILE
    if not weights_path.is_file() or sha256_of(weights_path) != description.sha256:
        raise CheckpointError(
            f"{weights_path} is missing or damaged",
            expected=f"a file with the SHA-256 {description.sha256}",
            hint="harness export again, from the run that made it",
        )
    architecture = description.architecture
    spec = model_spec(architecture.model)
    if spec.source_digest != architecture.source_digest:
        raise CheckpointError(
            f"{architecture.model} is not the code that {folder} was made with "
            f"(SHA-256 {spec.source_digest}, recorded {architecture.source_digest})",
            expected="the file as it was",
            hint="git, to find that version of it",
        )
    inputs = len(architecture.columns)
    normalise = NORMALISERS[architecture.representation].blank(inputs)
    classifier = build_classifier(spec, normalise, inputs, len(architecture.genres), architecture.hyperparameters)
    classifier.load_state_dict(load_file(weights_path))
    return classifier.eval(), description


def read_description(folder: Path) -> Description:
    """Return what a checkpoint's `model.json` says.

    Raises CheckpointError where there is none, or one of another format.
    """
    path = folder / DESCRIPTION_FILE
    try:
        recorded = json.loads(path.read_text())
        found = recorded["format"]
        if found != FORMAT:
            raise CheckpointError(f"{path} has format {found!r}", expected=str(FORMAT), hint="a newer harness")
        return Description.of(recorded)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} holds no {DESCRIPTION_FILE}",
            expected="a folder that harness export wrote",
            hint="harness export --model MODEL --out DIR",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's description: {error}") from error


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, on the disk when this returns; raises CheckpointError if the disk is full."""
    # safetensors takes dense row-major tensors only; the convolutions' weights are channels last in memory.
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # how safetensors says that the disk is full
        raise CheckpointError(
            f"cannot write {path}: {error}",
            expected="a disk with room",
            hint="the same command again, once it has",
        ) from error
    path.chmod(0o644)  # safetensors leaves it to its owner alone
    with path.open("rb") as written:
        os.fsync(written.fileno())
