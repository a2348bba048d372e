"""Self-describing checkpoints: safetensors beside a JSON that alone suffices to rebuild the network.

Nothing here is a pickle, so nothing that comes from outside can run code when it is read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness import __version__
from harness.core.errors import CheckpointError
from harness.core.files import sha256_of
from harness.core.records import Representation
from harness.core.space import Params
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
    `source_digest` is the SHA-256 of the file that the model comes from, None for those of the package.
    """

    model: str
    representation: Representation
    columns: tuple[str, ...]
    genres: tuple[str, ...]
    hyperparameters: Params = field(default_factory=dict)
    source_digest: str | None = None


def save_checkpoint(
    folder: Path, architecture: Architecture, weights: dict[str, Tensor], about: dict[str, Any]
) -> None:
    """Write a checkpoint as a folder that appears whole or not at all.

    `about` is any JSON-able mapping that belongs in the record: configuration, digests, metrics.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        save_tensors(weights, temporary / WEIGHTS_FILE)
        description = {
            "format": FORMAT,
            "architecture": asdict(architecture),
            "sha256": sha256_of(temporary / WEIGHTS_FILE),
            "versions": {"harness": __version__, "torch": torch.__version__},
            **about,
        }
        (temporary / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def load_checkpoint(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """Rebuild the classifier (on the CPU, in evaluation mode) and return it with its description.

    Raises CheckpointError where a file is missing, damaged (by its SHA-256) or of another format.
    """
    description = read_description(folder)
    weights_path = folder / WEIGHTS_FILE
    if not weights_path.is_file() or sha256_of(weights_path) != description["sha256"]:
        raise CheckpointError(
            f"{weights_path} is missing or damaged",
            expected=f"a file with the SHA-256 {description['sha256']}",
            hint="harness export again, from the run that made it",
        )
    architecture = Architecture(**description["architecture"])
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


def read_description(folder: Path) -> dict[str, Any]:
    """Return the JSON of a checkpoint.

    Raises CheckpointError where there is none, or one of another format.
    """
    path = folder / DESCRIPTION_FILE
    try:
        description: dict[str, Any] = json.loads(path.read_text())
        found = description["format"]
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} holds no {DESCRIPTION_FILE}",
            expected="a folder that harness export wrote",
            hint="harness export --model MODEL --out DIR",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's description: {error}") from error
    if found != FORMAT:
        raise CheckpointError(f"{path} has format {found!r}", expected=str(FORMAT), hint="a newer harness")
    return description


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
