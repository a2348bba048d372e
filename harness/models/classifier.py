"""A classifier: a network with the normaliser of its input."""

from __future__ import annotations

from torch import Tensor, nn

from harness.core.space import Params
from harness.models.normalise import Normaliser
from harness.models.spec import ModelSpec


class Classifier(nn.Module):
    """A network with the normaliser of its input. Takes raw rows or pictures, gives logits [n, classes]."""

    def __init__(self, normalise: Normaliser, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for raw inputs."""
        logits: Tensor = self.network(self.normalise(x))
        return logits


def build_classifier(
    spec: ModelSpec, normalise: Normaliser, inputs: int, classes: int, params: Params | None = None
) -> Classifier:
    """Return a classifier with new weights, drawn from torch's global random state.

    `params` are the hyperparameters of the network.
    """
    return Classifier(normalise, spec.network(inputs, classes, **(params or {})))
