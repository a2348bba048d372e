"""The content of `model.json`: a network's architecture, training, metrics and origin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.core.errors import CheckpointError
from harness.core.files import regular
from harness.core.json_types import JsonObject
from harness.core.objective import ACCURACY, Objective
from harness.core.recorded import UNREADABLE, checked
from harness.core.records import MAX_MEMBERS, EpochMetrics, Representation, TrialConfig
from harness.core.space import Params
from harness.core.version import __version__
from harness.data import MAX_COLUMNS, MUSIC, PICTURE_SIZE, CropBox, Size
from harness.data.options import MAX_INPUT, MIN_INPUT

DESCRIPTION_FILE = "model.json"
FORMAT = 1
MUSIC_WORDS = (MUSIC.class_, MUSIC.item)
# A description of more would take gigabytes to build a network from. Ours have kilobytes.
MAX_BYTES, MAX_GENRES = 16 << 20, 2000


def _versions() -> dict[str, str]:
    import torch  # here: descriptions are read without it

    return {"harness": __version__, "torch": torch.__version__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """All that is needed to rebuild a network.

    `columns` are the input columns (empty for pictures). `hyperparameters` are those of the network.
    `source_digest` is the SHA-256 of the model's file, None for a model of the package. `box` is the crop box of
    each picture before the resize, None for no crop. `members` is the number of networks of an ensemble. `size` is
    the height and width of its pictures, () for the report's. `impute`: the network fills NaN among the features.
    `is_music`: sound files can become its input. `words` are those for a class and an item, `id_column` is the
    column of a table that names the items.
    `objective` is what the search looked for, as text.
    """

    model: str
    representation: Representation
    columns: tuple[str, ...]
    genres: tuple[str, ...]
    hyperparameters: Params = field(default_factory=dict)
    source_digest: str | None = None
    box: CropBox | None = None
    members: int = 1
    size: tuple[int, ...] = ()
    impute: bool = False
    is_music: bool = True
    words: tuple[str, ...] = MUSIC_WORDS
    id_column: str = MUSIC.id_column
    objective: str = str(ACCURACY)

    @property
    def is_classifier(self) -> bool:
        """Whether the network gives logits of classes; a network with a loss of its own gives what it will."""
        return Objective.of_text(self.objective).is_accuracy

    @property
    def input_size(self) -> Size:
        """The height and width of a picture."""
        return (self.size[0], self.size[1]) if self.size else PICTURE_SIZE

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Architecture:
        """Return the architecture of a JSON form; raises one of UNREADABLE if it is not valid."""
        box = recorded["box"]
        for name, most in (("columns", MAX_COLUMNS), ("genres", MAX_GENRES)):
            if len(recorded[name]) > most:
                raise ValueError(f"{len(recorded[name])} {name}, and at most {most} are read")
        if not 1 <= recorded.get("members", 1) <= MAX_MEMBERS:
            raise ValueError(f"{recorded['members']} members, and 1 to {MAX_MEMBERS} are read")
        size, words = (
            tuple(recorded.get(name, default)) for name, default in (("size", ()), ("words", MUSIC_WORDS))
        )
        if size and not (len(size) == 2 and all(MIN_INPUT <= side <= MAX_INPUT for side in size)):
            raise ValueError(f"size is {size}")
        if len(words) != 2:
            raise ValueError(f"words are {words}")
        sequences = {name: tuple(recorded[name]) for name in ("columns", "genres")} | {
            "size": size,
            "words": words,
        }
        crop = None if box is None else checked(CropBox(**box))
        return checked(cls(**{**recorded, **sequences, "box": crop}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The study, the trial and the data that a network comes from; `trial` is None for an ensemble."""

    study: str
    trial: int | None
    data_digest: str
    split_digest: str
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """Accuracy on the test part with its 95 % interval (see `accuracy_interval`).

    A network with a loss of its own has `figures` instead: its loss and its metrics, by name. `openings` is the
    number of times that the run opened the test part.
    """

    __test__ = False  # pytest collects classes of this name

    tracks: int
    correct: int | None
    accuracy: float | None
    low: float | None
    high: float | None
    openings: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatCheck:
    """The check of an exported file: it was read back and compared with the original on the test part.

    `largest_difference` is the largest difference of a probability, or of what else the network gives; `accuracy`
    is that of the file, None without classes.
    """

    format: str
    file: str
    sha256: str
    largest_difference: float
    accuracy: float | None

    def figures(self) -> str:
        """Return the figures as text."""
        if self.accuracy is None:
            return f"largest difference of an output {self.largest_difference:.1e}"
        return (
            f"test accuracy {self.accuracy:.3f}, largest difference of a probability {self.largest_difference:.1e}"
        )


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
    versions: Mapping[str, str] = field(default_factory=_versions)
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


def write_description(folder: Path, description: Description) -> None:
    """Write the `model.json` of a checkpoint folder."""
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description.as_json(), indent=2) + "\n", encoding="utf-8")


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
    except NotADirectoryError:
        raise CheckpointError(
            f"{folder} is a file",
            expected="a folder that harness export wrote",
            hint=f"its folder, {folder.parent}",
        ) from None
    except (OSError, *UNREADABLE) as error:
        raise CheckpointError(f"{path} is not a checkpoint's description: {error}") from error
