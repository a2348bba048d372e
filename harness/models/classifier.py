"""A classifier: a network with the normaliser of its input; and an ensemble of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.core.space import Params
from harness.data import PICTURE_SIZE, Inputs, Size
from harness.models.normalise import Normaliser
from harness.models.spec import ModelSpec


class Classifier(nn.Module):
    """A network with the normaliser of its input. Takes raw rows, pictures or both, gives logits [n, classes]."""

    def __init__(self, normalise: Normaliser, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, x: Inputs) -> Tensor:
        """Return logits for raw inputs."""
        logits: Tensor = self.network(self.normalise(x))
        return logits


class Ensemble(nn.Module):
    """Several classifiers as one, whose probabilities are the mean of theirs.

    It gives the logarithms of these probabilities, so that softmax returns them: what takes the logits of a
    classifier takes these.
    """

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Inputs) -> Tensor:
        """Return the logarithms of the mean probabilities for raw inputs."""
        logs = torch.stack([torch.log_softmax(member(x), 1) for member in self.members])
        return torch.logsumexp(logs, 0) - torch.log(torch.tensor(float(len(logs)), device=logs.device))


def combined(members: Sequence[Classifier]) -> nn.Module:
    """Return one classifier as it is, and several as an ensemble."""
    return members[0] if len(members) == 1 else Ensemble(members)


def ensemble_weights(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the weights of an ensemble of classifiers with these weights."""
    return {
        f"members.{number}.{name}": tensor
        for number, weights in enumerate(members)
        for name, tensor in weights.items()
    }


def build_classifier(
    spec: ModelSpec,
    normalise: Normaliser,
    inputs: int,
    classes: int,
    params: Params | None = None,
    size: Size = PICTURE_SIZE,
) -> Classifier:
    """Return a classifier with new weights, drawn from torch's global random state.

    `params` are the hyperparameters of the network, `size` is the height and width of its pictures.
    """
    return Classifier(normalise, build_network(spec, inputs, classes, params or {}, size))


def build_network(spec: ModelSpec, inputs: int, classes: int, params: Params, size: Size) -> nn.Module:
    """Return a network with new weights."""
    return spec.network(inputs, classes, **params, **({"size": size} if spec.takes_size else {}))
