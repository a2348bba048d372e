"""The specification of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.core.halving import HALVING
from harness.core.objective import ACCURACY, Objective
from harness.core.records import Representation
from harness.core.space import Accepted
from harness.data import CROP

if TYPE_CHECKING:
    from torch import nn

# The hyperparameters of what is made of a network's input, by its kind.
INPUT_HYPERPARAMETERS: dict[Representation, Accepted] = {"features": {}, "pictures": CROP, "both": CROP}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How a model is built and trained.

    `network(inputs, classes, **params)` builds the network; where it `takes_size`, it gets the height and width
    of pictures as `size` as well. `hyperparameters` are those of the network, besides the training loop's.
    `search` is the network's search space as a table, which is added to the default space. `threads` is the
    number of intra-op threads of a trial while others use the other cores, `most_threads` the number that it has
    a use for where cores are left. The number changes the last digits of sums. `jobs_per_gpu` is the default
    number of trials that share a GPU: a small network leaves most of it idle. `most_stacked` is the size of a
    stack at most: 1 if a step can be a CUDA graph, more if several can be trained as one (training/stacks.py).
    `objective` is validation accuracy for a classifier, and another one for a network with a loss of its own.
    `source` is the code of the model's file and `source_digest` its SHA-256; both are None for a model of the
    package.
    """

    name: str
    network: Callable[..., nn.Module]
    representation: Representation
    hyperparameters: Accepted = field(default_factory=dict)
    search: Mapping[str, object] = field(default_factory=dict)
    takes_size: bool = False
    threads: int = 1
    most_threads: int = 1
    jobs_per_gpu: int = 1
    most_stacked: int = 0
    objective: Objective = ACCURACY
    source: str | None = None
    source_digest: str | None = None

    def threads_of(self, jobs: int, cores: int) -> int:
        """Return the number of intra-op threads of a training, so many of which share the cores."""
        return min(cores, max(self.threads, min(self.most_threads, cores // jobs)))

    def largest_stack(self, precision: str) -> int:
        """Return the size of a stack at most: several are trained as one in float32 only."""
        return self.most_stacked if precision == "fp32" or self.most_stacked == 1 else 0

    @property
    def pruner(self) -> str:
        """The default pruner: halving for pictures, whose epochs are expensive (docs/performance.md)."""
        return "median" if self.representation == "features" else HALVING

    @property
    def label(self) -> str:
        """The display name: for a model from a file, the name of its class."""
        return self.name.rpartition(":")[2]
