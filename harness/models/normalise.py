"""What turns raw input into what a network is trained on."""

from __future__ import annotations

from typing import ClassVar

import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from harness.core.records import Representation
from harness.core.space import Accepted
from harness.data import CROP


class StandardizeFeatures(nn.Module):
    """Raw feature rows to zero mean and unit variance, by the mean and scale of the rows it was made from.

    Takes and gives float [n, inputs]. A column that never varies gets scale 1.
    """

    # The result is no larger than the input: a whole data set is normalised once, ahead of training.
    precompute = True
    hyperparameters: ClassVar[Accepted] = {}
    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, train_inputs: Tensor) -> StandardizeFeatures:
        """Fit on the train part's raw rows, float [n, inputs], with scikit-learn's StandardScaler."""
        scaler = StandardScaler().fit(train_inputs.double().cpu().numpy())
        return cls(torch.tensor(scaler.mean_).float(), torch.tensor(scaler.scale_).float())

    @classmethod
    def blank(cls, inputs: int) -> StandardizeFeatures:
        """Make one whose buffers are still to be loaded."""
        return cls(torch.zeros(inputs), torch.ones(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised rows."""
        return (x - self.mean) / self.scale


class ScalePixels(nn.Module):
    """Pictures as stored, uint8 [n, height, width, 3], to float [n, 3, height, width] in [0, 1]."""

    # Four bytes a value instead of one: done batch by batch.
    precompute = False
    hyperparameters: ClassVar[Accepted] = CROP  # done when pictures are cached, before the resize

    @classmethod
    def fit(cls, train_inputs: Tensor) -> ScalePixels:
        """Return the same for any train part: nothing is fitted."""
        return cls()

    @classmethod
    def blank(cls, inputs: int) -> ScalePixels:
        """Make one; there is nothing to load."""
        return cls()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled pictures, channels last in memory."""
        return x.permute(0, 3, 1, 2).float().div_(255)


Normaliser = StandardizeFeatures | ScalePixels


NORMALISERS: dict[Representation, type[StandardizeFeatures] | type[ScalePixels]] = {
    "features": StandardizeFeatures,
    "pictures": ScalePixels,
}
