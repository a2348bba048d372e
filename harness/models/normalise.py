"""Normalisers: from raw input to the input of a network."""

from __future__ import annotations

from typing import ClassVar

import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from harness.core.records import Representation
from harness.core.space import Accepted
from harness.data import CROP, Inputs, Joined


class StandardizeFeatures(nn.Module):
    """Standardises feature rows with the mean and the scale of the rows that it was fitted on.

    Takes and gives float [n, inputs]. A constant column gets scale 1.
    """

    # The result is not larger than the input: a whole data set is normalised once, before training.
    precompute = True
    hyperparameters: ClassVar[Accepted] = {}
    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, train_inputs: Inputs) -> StandardizeFeatures:
        """Fit on the train part's raw rows, float [n, inputs], with scikit-learn's StandardScaler."""
        assert isinstance(train_inputs, Tensor)
        scaler = StandardScaler().fit(train_inputs.double().cpu().numpy())
        return cls(torch.tensor(scaler.mean_).float(), torch.tensor(scaler.scale_).float())

    @classmethod
    def blank(cls, inputs: int) -> StandardizeFeatures:
        """Return a normaliser whose buffers must be loaded."""
        return cls(torch.zeros(inputs), torch.ones(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised rows."""
        return (x - self.mean) / self.scale


class ScalePixels(nn.Module):
    """Scales pictures, uint8 [n, height, width, 3], to float [n, 3, height, width] in [0, 1]."""

    # The result takes four bytes per value instead of one: each batch is scaled on its own.
    precompute = False
    hyperparameters: ClassVar[Accepted] = CROP  # the crop is applied when pictures are cached, before the resize

    @classmethod
    def fit(cls, train_inputs: Inputs) -> ScalePixels:
        """Return a normaliser; nothing is fitted."""
        return cls()

    @classmethod
    def blank(cls, inputs: int) -> ScalePixels:
        """Return a normaliser; it has no buffers."""
        return cls()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled pictures, channels last in memory."""
        return x.permute(0, 3, 1, 2).float().div_(255)


class NormaliseBoth(nn.Module):
    """Scales the pictures and standardises the feature rows of the same tracks, as the two others do."""

    precompute = False
    hyperparameters: ClassVar[Accepted] = CROP

    def __init__(self, rows: StandardizeFeatures) -> None:
        super().__init__()
        self.pixels = ScalePixels()
        self.rows = rows

    @classmethod
    def fit(cls, train_inputs: Inputs) -> NormaliseBoth:
        """Fit the scaler of the rows on the train part."""
        assert isinstance(train_inputs, Joined)
        return cls(StandardizeFeatures.fit(train_inputs.features))

    @classmethod
    def blank(cls, inputs: int) -> NormaliseBoth:
        """Return a normaliser whose buffers must be loaded."""
        return cls(StandardizeFeatures.blank(inputs))

    def forward(self, x: Joined) -> Joined:
        """Return the scaled pictures and the standardised rows."""
        return Joined(self.pixels(x.pictures), self.rows(x.features))


Normaliser = StandardizeFeatures | ScalePixels | NormaliseBoth


NORMALISERS: dict[Representation, type[StandardizeFeatures] | type[ScalePixels] | type[NormaliseBoth]] = {
    "features": StandardizeFeatures,
    "pictures": ScalePixels,
    "both": NormaliseBoth,
}
