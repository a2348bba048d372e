"""Self-describing checkpoints: weights as safetensors, and a JSON file with all that rebuilds the network.

No file is a pickle, so reading a file from elsewhere cannot run code.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
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
from harness.core.files import new_folder, regular, sha256_of
from harness.core.json_types import JsonObject
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import EpochMetrics, Representation, TrialConfig
from harness.core.space import Params
from harness.data import MAX_COLUMNS, CropBox
from harness.models.classifier import Classifier, build_classifier
from harness.models.normalise import NORMALISERS
from harness.models.registry import recorded_model

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
FORMAT = 1
# A description of more would take gigabytes to build a network from. Ours have kilobytes.
MAX_BYTES, MAX_GENRES = 16 << 20, 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """All that is needed to rebuild a network.

    `columns` are the input columns (empty for pictures). `hyperparameters` are those of the network.
    `source_digest` is the SHA-256 of the model's file, None for a model of the package. `box` is the crop box of
    each picture before the resize, None for no crop.
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
        """Return the architecture of a JSON form; raises one of UNREADABLE if it is not valid."""
        box = recorded["box"]
        for name, most in (("columns", MAX_COLUMNS), ("genres", MAX_GENRES)):
            if len(recorded[name]) > most:
                raise ValueError(f"{len(recorded[name])} {name}, and at most {most} are read")
        sequences = {name: tuple(recorded[name]) for name in ("columns", "genres")}
        crop = None if box is None else checked(CropBox(**box))
        return checked(cls(**{**recorded, **sequences, "box": crop}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The study, the trial and the data that a network comes from."""

    study: str
    trial: int
    data_digest: str
    split_digest: str
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """Accuracy on the test part with its 95 % Wilson interval.

    `openings` is the number of times that the run opened the test part.
    """

    __test__ = False  # pytest collects classes of this name

    tracks: int
    correct: int
    accuracy: float
    low: float
    high: float
    openings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatCheck:
    """The check of an exported file: it was read back and compared with the original on the test part.

    `largest_difference` is the largest difference of a probability; `accuracy` is that of the file.
    """

    format: str
    file: str
    sha256: str
    largest_difference: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The part of `model.json` that `harness export` adds: run, split, sizes of its parts, test result, files."""

    run_id: str
    split: str
    parts: Mapping[str, int]
    test: TestResult | None = None
    formats: tuple[FormatCheck, ...] = ()
    registered: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The content of `model.json`: a network's architecture, training, metrics and origin.

    `metrics` are those of the best epoch, which the weights come from. `origin` is None for a network that is not
    from a study. `exported` is None for a network that was not exported. `sha256` is that of the weights; it is
    empty until they are written. No other module knows the JSON form.
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
        """Whether the network is known to be trained on synthetic data."""
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
        """Return the description of a JSON form; raises one of UNREADABLE if it is not valid."""
        metrics = dict(recorded["metrics"])
        test = metrics.pop("test", None)
        exported = None
        if "run_id" in recorded:
            formats = tuple(checked(FormatCheck(**check)) for check in recorded["formats"])
            exported = Exported(
                run_id=recorded["run_id"],
                split=recorded["split"],
                parts=recorded["parts"],
                test=None if test is None else checked(TestResult(**test)),
                formats=formats,
                registered=recorded["registered"],
            )
            checked(exported)
        origin = None
        if "study" in recorded:
            origin = checked(Origin(**{each.name: recorded[each.name] for each in fields(Origin)}))
        found = cls(
            architecture=Architecture.of(recorded["architecture"]),
            config=TrialConfig.of(recorded["config"]),
            metrics=checked(EpochMetrics(**metrics)),
            origin=origin,
            exported=exported,
            versions=recorded["versions"],
            sha256=recorded["sha256"],
        )
        return checked(found)


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


def write_description(folder: Path, description: Description) -> None:
    """Write the `model.json` of a checkpoint folder."""
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description.as_json(), indent=2) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path, *, trust_code: bool = False) -> tuple[Classifier, Description]:
    """Return the classifier of a checkpoint (on the CPU, in evaluation mode) and its description.

    `trust_code`: see `require_trust`; it matters for a model from a file only.

    Raises CheckpointError if a file is missing, damaged (by its SHA-256) or of another format, and SettingsError
    if the file that the model comes from is missing or is another now, and UntrustedCode if the user has not
    agreed to run it.
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
    spec = recorded_model(architecture.model, architecture.source_digest, str(folder), trust_code=trust_code)
    inputs = len(architecture.columns)
    normalise = NORMALISERS[architecture.representation].blank(inputs)
    classifier = build_classifier(spec, normalise, inputs, len(architecture.genres), architecture.hyperparameters)
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


def read_description(folder: Path) -> Description:
    """Return the description in a checkpoint folder.

    Raises CheckpointError if there is none, or if it has another format.
    """
    path = folder / DESCRIPTION_FILE
    try:
        if regular(path).stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} is too large", expected=f"at most {MAX_BYTES >> 20} MiB")
        recorded = json.loads(path.read_text(encoding="utf-8"))
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
    except (OSError, *UNREADABLE) as error:
        raise CheckpointError(f"{path} is not a checkpoint's description: {error}") from error


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
