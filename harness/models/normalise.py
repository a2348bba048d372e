"""Normalisers: from raw input to the input of a network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.records import Representation
from harness.data import Inputs, Joined


class StandardizeFeatures(nn.Module):
    """Standardises feature rows with the mean and the scale of the rows that it was fitted on.

    Takes and gives float [n, inputs]. A constant column gets scale 1. With `fill`, the medians of the rows that it
    was fitted on take the place of NaN first.
    """

    # The result is not larger than the input: a whole data set is normalised once, before training.
    precompute = True
    mean: Tensor
    scale: Tensor
    fill: Tensor | None

    def __init__(self, mean: Tensor, scale: Tensor, fill: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("fill", fill)

    @classmethod
    def fit(cls, train_inputs: Inputs, *, impute: bool = False) -> StandardizeFeatures:
        """Fit on the train part's raw rows, float [n, inputs]."""
        assert isinstance(train_inputs, Tensor)
        rows, fill = train_inputs.double().cpu(), None
        if impute:
            fill = torch.from_numpy(_medians(rows.numpy()))
            rows = torch.where(rows.isnan(), fill, rows)
        mean, scale = (torch.from_numpy(found).float() for found in mean_and_scale(rows.numpy()))
        return cls(mean, scale, None if fill is None else fill.float())

    @classmethod
    def blank(cls, inputs: int, *, impute: bool = False) -> StandardizeFeatures:
        """Return a normaliser whose buffers must be loaded."""
        return cls(torch.zeros(inputs), torch.ones(inputs), torch.zeros(inputs) if impute else None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised rows."""
        if self.fill is not None:
            x = torch.where(torch.isnan(x), self.fill, x)
        return (x - self.mean) / self.scale


def _medians(rows: np.ndarray) -> np.ndarray:
    """Return the median of what each column of float64 [n, inputs] has; 0 for a column of NaN alone."""
    found = np.zeros(rows.shape[1])
    known = ~np.isnan(rows).all(0)
    found[known] = np.nanmedian(rows[:, known], axis=0)
    return found


def mean_and_scale(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of each column of float64 [n, inputs]; 1 for a constant column.

    They are those of scikit-learn's StandardScaler, which a test holds them to. Each worker would spend 1.5 s on
    importing it. Source: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance.
    """
    count = len(rows)
    mean = rows.sum(0) / count
    deviations = rows - mean
    variance = ((deviations**2).sum(0) - deviations.sum(0) ** 2 / count) / count
    rounding = np.finfo(np.float64).eps * count
    is_constant = variance <= rounding * variance + (rounding * mean) ** 2
    return mean, np.where(is_constant, 1.0, np.sqrt(variance))


class ScalePixels(nn.Module):
    """Scales pictures, uint8 [n, height, width, 3], to float [n, 3, height, width] in [0, 1]."""

    # The result takes four bytes per value instead of one: each batch is scaled on its own.
    precompute = False

    @classmethod
    def fit(cls, train_inputs: Inputs, *, impute: bool = False) -> ScalePixels:
        """Return a normaliser; nothing is fitted."""
        return cls()

    @classmethod
    def blank(cls, inputs: int, *, impute: bool = False) -> ScalePixels:
        """Return a normaliser; it has no buffers."""
        return cls()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled pictures, channels last in memory."""
        return x.permute(0, 3, 1, 2).float().div_(255)


class NormaliseBoth(nn.Module):
    """Scales the pictures and standardises the feature rows of the same tracks, as the two others do."""

    precompute = False

    def __init__(self, rows: StandardizeFeatures) -> None:
        super().__init__()
        self.pixels = ScalePixels()
        self.rows = rows

    @classmethod
    def fit(cls, train_inputs: Inputs, *, impute: bool = False) -> NormaliseBoth:
        """Fit the scaler of the rows on the train part."""
        assert isinstance(train_inputs, Joined)
        return cls(StandardizeFeatures.fit(train_inputs.features, impute=impute))

    @classmethod
    def blank(cls, inputs: int, *, impute: bool = False) -> NormaliseBoth:
        """Return a normaliser whose buffers must be loaded."""
        return cls(StandardizeFeatures.blank(inputs, impute=impute))

    def forward(self, x: Joined) -> Joined:
        """Return the scaled pictures and the standardised rows."""
        return Joined(self.pixels(x.pictures), self.rows(x.features))


Normaliser = StandardizeFeatures | ScalePixels | NormaliseBoth


NORMALISERS: dict[Representation, type[StandardizeFeatures] | type[ScalePixels] | type[NormaliseBoth]] = {
    "features": StandardizeFeatures,
    "pictures": ScalePixels,
    "both": NormaliseBoth,
}
