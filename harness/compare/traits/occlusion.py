"""Occlusion maps of single tracks: an illustration of what a trained network looks at, and no evidence."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from harness.compare.plan import ComparisonPlan
from harness.compare.training import candidate_view
from harness.compare.traits.masked import mean_picture
from harness.data import Part
from harness.tracking import Tracker
from harness.training.checkpoint import load_checkpoint
from harness.training.loop import evaluate

TILES = 12, 9  # down and across: 18 x 16 pixels each in a picture of the report's size
MappedPart = Literal["validation", "train"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OcclusionMap:
    """A track's picture, uint8 [height, width, 3], and what masking each tile takes from its genre's probability.

    `probability` is that of its genre with the whole picture; `drops` is float [rows, columns] of tiles, TILES of
    them where the picture has as many pixels. `part` is the part of the split that has the track.
    """

    track: str
    genre: str
    part: MappedPart
    picture: NDArray[np.uint8]
    probability: float
    drops: NDArray[np.float64]


def occlusion_maps(plan: ComparisonPlan, tracker: Tracker) -> tuple[OcclusionMap, ...]:
    """Return the maps of the study's best network for the first track of each genre.

    These are validation tracks; of a network that was trained on these too, train tracks. A masked pixel has the
    mean of the train part at its place. The test part stays closed.

    Raises TrackingError or CheckpointError if the network is not there any more, UntrustedCode if the user has not
    agreed to run its file, and SettingsError if that has changed.
    Source: Zeiler and Fergus (2014), Visualizing and understanding convolutional networks.
    """
    (study,), candidate = plan.compared, plan.candidates[0]
    run = tracker.parts.network_run(study.spec.name, study.context.identity)
    tracker.studies.require_checkpoint(run)
    with tempfile.TemporaryDirectory() as name:
        folder = tracker.artifacts.download_checkpoint(run.run_id, Path(name))
        classifier, _ = load_checkpoint(folder, trust_code=plan.settings.trust_code)
    split = plan.split if run.refit_of is None else plan.split.merged()
    data = candidate_view(plan.tracks, candidate, candidate.config).training(split)
    part_name: MappedPart = "validation" if len(data.valid) else "train"
    part = data.valid if part_name == "validation" else data.train
    mean = torch.from_numpy(mean_picture(data.train.tensor.numpy()))
    first: dict[int, int] = {}
    for place, genre in enumerate(part.targets.tolist()):
        first.setdefault(genre, place)
    return tuple(
        _map(classifier, part, place, mean, genre=plan.tracks.genres[genre], part_name=part_name)
        for genre, place in sorted(first.items())
    )


def _map(
    classifier: torch.nn.Module, part: Part, place: int, mean: torch.Tensor, *, genre: str, part_name: MappedPart
) -> OcclusionMap:
    picture, target = part.tensor[place], int(part.targets[place])
    rows, columns = (_slices(side, count) for side, count in zip(picture.shape[:2], TILES, strict=True))
    tiles = list(product(rows, columns))
    masked = picture.repeat(len(tiles) + 1, 1, 1, 1)  # the last one stays whole
    for index, tile in enumerate(tiles):
        masked[index][tile] = mean[tile]
    inputs = Part(("",) * len(masked), masked, torch.zeros(len(masked), dtype=torch.int64))
    given = torch.softmax(evaluate(classifier, inputs), 1)[:, target].double().numpy()
    return OcclusionMap(
        track=part.ids[place],
        genre=genre,
        part=part_name,
        picture=picture.numpy(),
        probability=float(given[-1]),
        drops=(given[-1] - given[:-1]).reshape(len(rows), len(columns)),
    )


def _slices(side: int, count: int) -> list[slice]:
    """Cut a side of a picture into so many tiles, or one for each pixel if there are fewer."""
    count = min(side, count)
    ends = [round(step * side / count) for step in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]
