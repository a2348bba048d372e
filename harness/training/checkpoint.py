"""Self-describing checkpoints: weights as safetensors, and a JSON file with all that rebuilds the network.

No file is a pickle, so reading a file from elsewhere cannot run code.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.core.errors import CheckpointError
from harness.core.files import new_folder, sha256_of
from harness.models.classifier import Classifier, build_classifier, combined
from harness.models.normalise import NORMALISERS
from harness.models.registry import recorded_model
from harness.models.spec import ModelSpec
from harness.training.description import (
    DESCRIPTION_FILE,
    Architecture,
    Description,
    read_description,
    write_description,
)

WEIGHTS_FILE = "model.safetensors"


def save_checkpoint(folder: Path, weights: dict[str, Tensor], description: Description) -> Description:
    """Write a checkpoint folder atomically; return the description with the SHA-256 of the weights."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = new_folder(folder)
    try:
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


def load_checkpoint(folder: Path, *, trust_code: bool = False) -> tuple[nn.Module, Description]:
    """Return the network of a checkpoint (on the CPU, in evaluation mode) and its description.

    `trust_code`: see `require_trust`; it matters for a model from a file only.

    Raises CheckpointError if a file is missing, damaged (by its SHA-256) or of another format, and SettingsError
    if the file that the model comes from is missing or is another now, and UntrustedCode if the user has not
    agreed to run it.
    """
    description = read_description(folder)
    weights_path = checked_weights(folder, description)
    architecture = description.architecture
    spec = recorded_model(architecture.model, architecture.source_digest, str(folder), trust_code=trust_code)
    members = [_blank(spec, architecture) for _ in range(architecture.members)]
    classifier = combined(members)
    try:
        weights = load_file(weights_path)
        classifier.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{weights_path} does not have the weights of the network in {DESCRIPTION_FILE}: {error}",
            expected="a folder as harness export wrote it",
        ) from error
    odd = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        raise CheckpointError(
            f"{weights_path} has weights that are not finite numbers: {', '.join(odd[:6])}",
            expected="the weights of a training that ended well",
            hint="harness export of another run",
        )
    return classifier.eval(), description


def checked_weights(folder: Path, description: Description) -> Path:
    """Return the path of a checkpoint's weights.

    Raises CheckpointError if the file is missing, or has another SHA-256 than its description says.
    """
    weights_path = folder / WEIGHTS_FILE
    if not weights_path.is_file() or sha256_of(weights_path) != description.sha256:
        raise CheckpointError(
            f"{weights_path} is missing or damaged",
            expected=f"a file with the SHA-256 {description.sha256}",
            hint="harness export again, from the run that made it",
        )
    return weights_path


def _blank(spec: ModelSpec, architecture: Architecture) -> Classifier:
    inputs = len(architecture.columns)
    normalise = NORMALISERS[architecture.representation].blank(inputs, impute=architecture.impute)
    return build_classifier(
        spec, normalise, inputs, len(architecture.genres), architecture.hyperparameters, architecture.input_size
    )


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors and sync them to disk. Raises CheckpointError if the disk is full."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    # safetensors takes dense row-major tensors only, but weights of convolutions are channels last.
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # raised by safetensors if the disk is full
        raise CheckpointError(
            f"cannot write {path}: {error}",
            expected="a disk with room",
            hint="the same command again, once it has",
        ) from error
    path.chmod(mode)  # safetensors puts a file in its place that only the owner can read
    with path.open("rb") as written:
        os.fsync(written.fileno())
