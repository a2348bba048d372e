"""The report's FCNN on audio features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.dropout import factors_of

LAYERS = (256, 128, 64)  # as published


def fcnn_layers(width: float) -> tuple[int, int, int]:
    """Return the sizes of the three hidden layers."""
    first, second, third = (max(1, round(width * size)) for size in LAYERS)
    return first, second, third


class GenreClassifierFCNN(nn.Module):
    """The report's FCNN on audio features: four fully connected layers, batch normalisation on the first two.

    Takes float [n, inputs], gives logits [n, classes]. `width` multiplies the sizes of the three hidden layers,
    `dropout` is the share of each hidden layer's outputs that training sets to zero. The defaults give the
    published network: width 1, no dropout.
    """

    def __init__(self, inputs: int = 58, classes: int = 10, *, dropout: float = 0.0, width: float = 1.0) -> None:
        super().__init__()
        first, second, third = self.hidden = fcnn_layers(width)
        self.fc1 = nn.Linear(inputs, first)
        self.bn1 = nn.BatchNorm1d(first)
        self.fc2 = nn.Linear(first, second)
        self.bn2 = nn.BatchNorm1d(second)
        self.fc3 = nn.Linear(second, third)
        self.fc4: nn.Module = nn.Linear(third, classes)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        # Without dropout nothing is drawn, as in the published network.
        factors = factors_of(x, self.hidden, self.dropout) if self.dropout and self.training else None
        x = F.relu(self.bn1(self.fc1(x)))
        x = x if factors is None else x * factors[0]
        x = F.relu(self.bn2(self.fc2(x)))
        x = x if factors is None else x * factors[1]
        x = F.relu(self.fc3(x))
        x = x if factors is None else x * factors[2]
        logits: Tensor = self.fc4(x)
        return logits
