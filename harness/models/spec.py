"""What the harness knows of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from harness.core.records import Representation
from harness.core.space import Accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as the harness knows it: how it is built, and how to train it.

    `network(inputs, classes, **params)` builds it.
    `hyperparameters` are those that the network accepts besides the training loop's. `search` is its own search
    space as a table, empty for the default. `threads` is the number of intra-op threads of a trial: a policy of
    the model, not of the number of jobs, because it changes sums in the last digit. `jobs_per_gpu` is how many
    trials share a GPU by default: a small network leaves most of it idle. `source_digest` is the SHA-256 of the
    file that a model comes from, if it does.
    """

    name: str
    network: Callable[..., nn.Module]
    representation: Representation
    hyperparameters: Accepted = field(default_factory=dict)
    search: Mapping[str, object] = field(default_factory=dict)
    threads: int = 1
    jobs_per_gpu: int = 1
    source_digest: str | None = None

    @property
    def label(self) -> str:
        """The name to show: for a model from a file, that of its class."""
        return self.name.rpartition(":")[2]
