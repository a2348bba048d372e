"""A network that takes pictures and audio features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.data import PICTURE_SIZE, Joined, Size
from harness.models.cnn import HIDDEN, GenreClassifierCNN
from harness.models.fcnn import GenreClassifierFCNN


class GenreClassifierBoth(nn.Module):
    """The report's CNN and FCNN up to their last hidden layers, which are joined; one linear layer follows.

    Takes pictures, float [n, 3, *size], with feature rows, float [n, inputs]; gives logits [n, classes].
    `dropout` is that of both networks, `width` that of the FCNN.
    """

    def __init__(
        self,
        inputs: int = 58,
        classes: int = 10,
        *,
        dropout: float = 0.0,
        width: float = 1.0,
        size: Size = PICTURE_SIZE,
    ) -> None:
        super().__init__()
        self.cnn = GenreClassifierCNN(classes, dropout=dropout, size=size)
        self.fcnn = GenreClassifierFCNN(inputs, classes, dropout=dropout, width=width)
        self.head = nn.Linear(HIDDEN + self.fcnn.fc3.out_features, classes)
        self.cnn.fc2 = nn.Identity()
        self.fcnn.fc4 = nn.Identity()

    def forward(self, x: Joined) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(torch.cat([self.cnn(x.pictures), self.fcnn(x.features)], 1))
        return logits
