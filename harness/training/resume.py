"""Resume points: the saved state of a training run, from which another process can continue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harness.core.files import replacing, sha256_of
from harness.core.records import EpochMetrics, TrialConfig
from harness.core.space import Value
from harness.core.workspace import RESUME_FILE
from harness.training.checkpoint import save_tensors
from harness.training.loop import TrainingState


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A copy of a training state at the end of an epoch; further training does not change it."""

    config: TrialConfig
    epoch: int
    best: EpochMetrics | None
    curve: tuple[EpochMetrics, ...]
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, state: TrainingState) -> ResumePoint:
        """Copy a state at the end of an epoch (the weights of the best epoch are already a copy)."""
        tensors = {f"weights.{name}": t.clone() for name, t in state.classifier.state_dict().items()}
        tensors |= {f"optimizer.{name}": t.clone() for name, t in state.optimizer.tensors().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (state.best_weights or {}).items()}
        return cls(state.config, state.epoch, state.best, state.curve, tensors)


def resume_bytes(state: TrainingState) -> int:
    """Return the size of a resume point: the weights, those of the best epoch, and what the optimizer keeps."""
    weights = list(state.classifier.state_dict().values())
    kept = list(state.optimizer.tensors().values())
    return sum(tensor.numel() * tensor.element_size() for tensor in [*weights, *weights, *kept])


def save_resume(folder: Path, point: ResumePoint) -> None:
    """Save a resume point in a folder and remove older ones.

    The tensors go into a file with the epoch in its name. Then `resume.json`, which names this file, is atomically
    replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"resume-{point.epoch:05d}.safetensors"
    with replacing(path) as temporary:
        save_tensors(point.tensors, temporary)
    pointer = {
        "config": point.config.as_dict(),
        "epoch": point.epoch,
        "best": None if point.best is None else asdict(point.best),
        "curve": [asdict(metrics) for metrics in point.curve],
        "file": path.name,
        "sha256": sha256_of(path),
    }
    with replacing(folder / RESUME_FILE) as temporary:
        temporary.write_text(json.dumps(pointer), encoding="utf-8")
    for older in folder.glob("resume-*.safetensors"):
        if older != path:
            older.unlink()


def load_resume(folder: Path, state: TrainingState) -> bool:
    """Load the resume point of a folder into a new state; return False if there is no valid one.

    A resume point that is damaged, or of another configuration, is ignored: the trial then starts again and
    reaches the same numbers.
    """
    try:
        pointer = json.loads((folder / RESUME_FILE).read_text(encoding="utf-8"))
        path = folder / pointer["file"]
        # Another number of threads changes sums in the last digit; starting again would cost the whole training.
        if without_place(pointer["config"]) != without_place(state.config.as_dict()):
            return False
        if sha256_of(path) != pointer["sha256"]:
            return False
        tensors = load_file(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False
    optimizer = _under("optimizer", tensors)
    if optimizer.keys() != state.optimizer.tensors().keys():  # of a version that kept other tensors
        return False
    state.classifier.load_state_dict(_under("weights", tensors))
    state.optimizer.load(optimizer)
    state.epoch = pointer["epoch"]
    state.best = None if pointer["best"] is None else EpochMetrics(**pointer["best"])
    state.curve = tuple(EpochMetrics(**metrics) for metrics in pointer.get("curve", ()))
    device = next(state.classifier.parameters()).device
    state.best_weights = {name: tensor.to(device) for name, tensor in _under("best", tensors).items()} or None
    return True


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{prefix}.")
    }


def without_place(config: Mapping[str, Value]) -> dict[str, Value]:
    """Return the JSON form of a configuration without what says where it trains: its threads and its stack."""
    return {name: value for name, value in config.items() if name not in ("threads", "stack")}
