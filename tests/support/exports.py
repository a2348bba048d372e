"""An export and what its network gives, computed by hand."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.data import Inputs, Joined
from harness.data.images import decode_pictures
from harness.export.result import ExportResult
from harness.sweep.summary import StudySummary
from harness.training.checkpoint import load_checkpoint

ALL = ("safetensors", "pt2", "onnx")


@dataclass(frozen=True)
class Export:
    """A study's best, exported in every format and registered."""

    data: Path
    place: Path
    study: StudySummary
    bundle: ExportResult

    @property
    def uri(self) -> str:
        return self.study.tracking_uri

    def sample(self) -> tuple[Path, str]:
        """A picture of the data set and the track's name in the CSV."""
        picture = sorted((self.data / "images_original").glob("*/*.png"))[7]
        with (self.data / "features_30_sec.csv").open() as file:
            names = {row["filename"].replace(".", ""): row["filename"] for row in csv.DictReader(file)}
        return picture, names[f"{picture.stem.replace('.', '')}wav"]


def by_hand(exported: Export) -> dict[str, Any]:
    """What the exported network gives for the sample, as the registered model words it."""
    classifier, about = load_checkpoint(exported.bundle.folder)
    picture, track = exported.sample()
    genres, columns = about.architecture.genres, about.architecture.columns
    with torch.inference_mode():
        with (exported.data / "features_30_sec.csv").open() as file:
            row = next(row for row in csv.DictReader(file) if row["filename"] == track)
        features = torch.tensor([[float(row[column]) for column in columns]])
        inputs: Inputs = features
        if about.architecture.representation != "features":
            pixels = torch.from_numpy(decode_pictures([picture]))
            inputs = Joined(pixels, features) if columns else pixels
        (probabilities,) = torch.softmax(classifier(inputs), 1).tolist()
    best = max(range(len(genres)), key=probabilities.__getitem__)
    return {"genre": genres[best], **dict(zip(genres, probabilities, strict=True))}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Two answers of a registered model are equal, in their order of columns too."""
    assert list(found) == list(wanted)
    assert found["genre"] == wanted["genre"]
    numbers = [{name: value for name, value in row.items() if name != "genre"} for row in (found, wanted)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
