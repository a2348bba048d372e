"""The FCNN of the report, on audio features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class GenreClassifierFCNN(nn.Module):
    """The report's FCNN on audio features: four fully connected layers, batch normalisation on the first two.

    Takes float [n, inputs], gives logits [n, classes].
    """

    def __init__(self, inputs: int = 58, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 256)
        self.bn1 = nn.BatchNorm1d(256)
        self.fc2 = nn.Linear(256, 128)
        self.bn2 = nn.BatchNorm1d(128)
        self.fc3 = nn.Linear(128, 64)
        self.fc4 = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = F.relu(self.bn1(self.fc1(x)))
        x = F.relu(self.bn2(self.fc2(x)))
        x = F.relu(self.fc3(x))
        logits: Tensor = self.fc4(x)
        return logits
