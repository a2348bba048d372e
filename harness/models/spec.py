"""What the harness knows of a model, and the search space of one that names none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from harness.core.records import Representation
from harness.core.space import FloatRange, SearchSpace

# The report's own setting is among the choices, so that every study can begin with it.
DEFAULT_SEARCH = SearchSpace(lr=FloatRange(low=1e-5, high=1e-1, log=True), batch_size=(16, 32, 64, 128))
REPORT_SETTING: dict[str, Any] = {"lr": 0.001, "batch_size": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as the harness knows it: `network(inputs, classes)` builds it, the rest is how to train it.

    `threads` is the number of intra-op threads of a trial: a policy of the model, not of the number of jobs,
    because it changes sums in the last digit. `jobs_per_gpu` is how many trials share a GPU by default: a small
    network leaves most of it idle. `source_digest` is the SHA-256 of the file that a model comes from, if it does.
    """

    name: str
    network: Callable[[int, int], nn.Module]
    representation: Representation
    search: SearchSpace = DEFAULT_SEARCH
    threads: int = 1
    jobs_per_gpu: int = 1
    source_digest: str | None = None

    @property
    def label(self) -> str:
        """The name to show: for a model from a file, that of its class."""
        return self.name.rpartition(":")[2]
