"""What the tests of training share: two small configurations and how their results are compared."""

from dataclasses import replace

import torch

from harness.core.records import EpochMetrics, TrialConfig
from harness.data import Part

CPU = torch.device("cpu")
FCNN = TrialConfig(model="fcnn", params={"lr": 0.001, "batch_size": 32}, epochs=6, seed=3, threads=1)
CNN = replace(FCNN, model="cnn", epochs=2, threads=2)


# Three columns of made-up numbers in two genres, and a training on them.
SMALL = TrialConfig(model="fcnn", params={"lr": 0.01, "batch_size": 8}, epochs=3, seed=0, threads=1)
COLUMNS, GENRES = ("a", "b", "c"), ("x", "y")


def numbers(epochs: list[EpochMetrics]) -> list[EpochMetrics]:
    """The metrics without the times, which no two runs share."""
    return [replace(metrics, seconds=0.0) for metrics in epochs]


def some_of(part: Part, count: int) -> Part:
    """So many rows of a part, drawn at random but always the same ones."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:count]
    return Part(tuple(part.ids[i] for i in order.tolist()), part.inputs[order], part.targets[order])
