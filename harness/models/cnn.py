"""The report's CNN on pictures."""

from __future__ import annotations

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data import PICTURE_SIZE, Size
from harness.models.dropout import factors_of, scaled

HIDDEN = 128  # outputs of the first fully connected layer, as published


class GenreClassifierCNN(nn.Module):
    """The report's CNN on pictures: two 3x3 convolutions with max pooling, two fully connected layers.

    Takes float [n, 3, *size], gives logits [n, classes]. `dropout` is the share of the first fully connected
    layer's outputs that training sets to zero; by default none, as published. `size` is the height and width of
    the pictures, by default those of the report.
    """

    def __init__(self, classes: int = 10, *, dropout: float = 0.0, size: Size = PICTURE_SIZE) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=1, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        height, width = size
        self.fc1 = nn.Linear(32 * (height // 4) * (width // 4), HIDDEN)
        self.fc2: nn.Module = nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        # ReLU is monotonic, so it can follow the pooling: same values and gradients, a quarter of the elements.
        if _use_mkldnn_layout(x):
            x = x.to_mkldnn()
        x = torch.relu(self.pool(self.conv1(x)))
        x = torch.relu(self.pool(self.conv2(x)))
        if x.is_mkldnn:
            x = x.to_dense()
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        (factors,) = factors_of(x, (HIDDEN,), self.dropout if self.training else 0.0)
        logits: Tensor = self.fc2(scaled(x, factors))
        return logits


def _use_mkldnn_layout(x: Tensor) -> bool:
    """Return True if pictures should have oneDNN's blocked layout from the first convolution to the last pooling.

    The arithmetic is the same, without reordering in between; pooling stores 1 byte per index instead of 8.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and platform.machine() in ("x86_64", "AMD64")
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
