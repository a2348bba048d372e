"""The report's closing question: can a richer network on the audio features come up to the CNN on pictures?

A model from outside the package: `harness sweep --model experiments/residual_mlp.py:ResidualMLP`.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from harness import Hyperparameter


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
    # What can be set or searched: harness sweep --search dropout=0:0.6 --set blocks=2
    hyperparameters: ClassVar[dict[str, Hyperparameter]] = {
        "width": Hyperparameter(int, 256, at_least=1, at_most=4096),
        "blocks": Hyperparameter(int, 3, at_least=0, at_most=50),
        "dropout": Hyperparameter(float, 0.3, at_least=0, below=1),
    }
    # Its search space, written out: it is the same as that of the other networks.
    search: ClassVar[dict[str, object]] = {
        "lr": {"low": 1e-5, "high": 1e-1, "log": True},
        "batch_size": [16, 32, 64, 128],
    }

    def __init__(
        self, inputs: int, classes: int, *, width: int = 256, blocks: int = 3, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, dropout) for _ in range(blocks)))
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits
