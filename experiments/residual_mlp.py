"""The report's closing question: can a richer network on the audio features come up to the CNN on pictures?

A model from outside the package: `harness sweep --model experiments/residual_mlp.py:ResidualMLP`.
"""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Adds to its input what two layers make of it.

    Source: He et al. (2016), Identity mappings in deep residual networks (the order of the layers), for vectors.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class ResidualMLP(nn.Module):
    """Features to a vector of 256, three residual blocks with dropout, logits."""

    representation = "features"
    # Its search space: what is left out here is as for the other networks.
    search = {"lr": {"low": 1e-5, "high": 1e-1, "log": True}, "batch_size": [16, 32, 64, 128]}  # noqa: RUF012

    def __init__(self, inputs: int, classes: int, width: int = 256, blocks: int = 3, dropout: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, dropout) for _ in range(blocks)))
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits
