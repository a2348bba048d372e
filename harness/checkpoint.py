"""Self-describing checkpoints: safetensors beside a JSON that alone suffices to rebuild the network.

Nothing here is a pickle, so nothing that comes from outside can run code when it is read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness import __version__
from harness.errors import CheckpointError
from harness.files import replacing, sha256_of
from harness.models import NORMALISERS, Classifier, build_classifier, model_spec
from harness.records import EpochMetrics, Representation, TrialConfig
from harness.training import TrainingState

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
RESUME_FILE = "resume.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What it takes to rebuild a network: the model's name, its input columns (none for pictures), its genres.

    `source_digest` is the SHA-256 of the file that the model comes from, None for those of the package.
    """

    model: str
    representation: Representation
    columns: tuple[str, ...]
    genres: tuple[str, ...]
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
        _save_tensors(weights, temporary / WEIGHTS_FILE)
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
            legal=f"a file with the SHA-256 {description['sha256']}",
            run="harness export again, from the run that made it",
        )
    architecture = Architecture(**description["architecture"])
    spec = model_spec(architecture.model)
    if spec.source_digest != architecture.source_digest:
        raise CheckpointError(
            f"{architecture.model} is not the code that {folder} was made with "
            f"(SHA-256 {spec.source_digest}, recorded {architecture.source_digest})",
            legal="the file as it was",
            run="git, to find that version of it",
        )
    inputs = len(architecture.columns)
    normalise = NORMALISERS[architecture.representation].blank(inputs)
    classifier = build_classifier(spec, normalise, inputs, len(architecture.genres))
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
            legal="a folder that harness export wrote",
            run="harness export --model MODEL --out DIR",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a checkpoint's description: {error}") from error
    if found != FORMAT:
        raise CheckpointError(f"{path} has format {found!r}", legal=str(FORMAT), run="a newer harness")
    return description


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A copy of a training state at the end of an epoch, which training goes on without touching."""

    config: TrialConfig
    epoch: int
    best: EpochMetrics | None
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, state: TrainingState) -> ResumePoint:
        """Copy a state that stands at the end of an epoch (the best epoch's weights are a copy already)."""
        tensors = {f"weights.{name}": t.clone() for name, t in state.classifier.state_dict().items()}
        tensors |= {f"optimizer.{name}": t.clone() for name, t in state.optimizer.state().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (state.best_weights or {}).items()}
        return cls(state.config, state.epoch, state.best, tensors)


def save_resume(folder: Path, point: ResumePoint) -> None:
    """Save where a training run stands, so that it can go on in another process.

    The tensors go into a file of their own name; `resume.json`, replaced in one step, then points to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"resume-{point.epoch:05d}.safetensors"
    with replacing(path) as temporary:
        _save_tensors(point.tensors, temporary)
    pointer = {
        "config": point.config.as_dict(),
        "epoch": point.epoch,
        "best": None if point.best is None else asdict(point.best),
        "file": path.name,
        "sha256": sha256_of(path),
    }
    with replacing(folder / RESUME_FILE) as temporary:
        temporary.write_text(json.dumps(pointer))
    for older in folder.glob("resume-*.safetensors"):
        if older != path:
            older.unlink()


def load_resume(folder: Path, state: TrainingState) -> bool:
    """Bring a fresh state to where `save_resume` left it; return False where there is nothing sound to load.

    A file that is damaged, or that belongs to another configuration, counts as none: the trial then starts
    again and reaches the same numbers.
    """
    try:
        pointer = json.loads((folder / RESUME_FILE).read_text())
        path = folder / pointer["file"]
        if pointer["config"] != state.config.as_dict() or sha256_of(path) != pointer["sha256"]:
            return False
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False
    state.classifier.load_state_dict(_under("weights", tensors))
    state.optimizer.load(_under("optimizer", tensors))
    state.epoch = pointer["epoch"]
    state.best = None if pointer["best"] is None else EpochMetrics(**pointer["best"])
    device = next(state.classifier.parameters()).device
    state.best_weights = {name: tensor.to(device) for name, tensor in _under("best", tensors).items()} or None
    return True


def clear_resume(folder: Path) -> None:
    """Remove what `save_resume` left, if anything, the pointer first."""
    if not folder.is_dir():
        return
    (folder / RESUME_FILE).unlink(missing_ok=True)
    for path in folder.glob("resume-*.safetensors"):
        path.unlink()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    # safetensors takes dense row-major tensors only; the convolutions' weights are channels last in memory.
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # how safetensors says that the disk is full
        raise CheckpointError(
            f"cannot write {path}: {error}", legal="a disk with room", run="the same command again, once it has"
        ) from error
    path.chmod(0o644)  # safetensors leaves it to its owner alone
    with path.open("rb") as written:
        os.fsync(written.fileno())
