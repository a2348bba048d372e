"""The report's FCNN on audio features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.dropout import factors_of, scaled

LAYERS = (256, 128, 64)  # as published


class GenreClassifierFCNN(nn.Module):
    """The report's FCNN on audio features: four fully connected layers, batch normalisation on the first two.

    Takes float [n, inputs], gives logits [n, classes]. `width` multiplies the sizes of the three hidden layers,
    `dropout` is the share of each hidden layer's outputs that training sets to zero. The defaults give the
    published network: width 1, no dropout.
    """

    def __init__(self, inputs: int = 58, classes: int = 10, *, dropout: float = 0.0, width: float = 1.0) -> None:
        super().__init__()
        first, second, third = (max(1, round(width * size)) for size in LAYERS)
        self.hidden = first, second, third
        self.fc1 = nn.Linear(inputs, first)
        self.bn1 = nn.BatchNorm1d(first)
        self.fc2 = nn.Linear(first, second)
        self.bn2 = nn.BatchNorm1d(second)
        self.fc3 = nn.Linear(second, third)
        self.fc4: nn.Module = nn.Linear(third, classes)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        first, second, third = factors_of(x, self.hidden, self.dropout if self.training else 0.0)
        x = scaled(F.relu(self.bn1(self.fc1(x))), first)
        x = scaled(F.relu(self.bn2(self.fc2(x))), second)
        x = scaled(F.relu(self.fc3(x)), third)
        logits: Tensor = self.fc4(x)
        return logits
