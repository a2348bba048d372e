"""The package's resize of pictures in two forms that can be traced for any size, to the same bytes.

PyTorch resizes 8-bit pictures in fixed point, as Pillow-SIMD does: weights as 16-bit integers, first along the
rows, then along the columns, each pass rounded to 8 bits. Other runtimes round elsewhere, so an operator of the
same name differs by a grey level here and there. Every number below is a whole one and far below 2**53, so that
float64 products are exact and their order does not matter: that form is for runtimes other than PyTorch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data import PICTURE_SIZE, CropBox

WEIGHT_LIMIT = 2**15  # of a signed 16-bit integer
LARGEST_PRECISION = 22  # bits of the fraction


def resize_by_operator(pictures: Tensor, box: CropBox | None = None) -> Tensor:
    """Resize pictures, uint8 [n, height, width, 3], or a box of them, to uint8 [n, 216, 144, 3].

    By PyTorch's operator, the one that `harness.data.resize` comes down to, called by name: torchvision first
    compares sizes in Python, which would make one size a constant of the trace. A test holds the two to the same
    bytes. With a box it cannot be traced for any size: a trace takes the sides of a slice for constants.
    """
    resized: Tensor = torch.ops.aten._upsample_bilinear2d_aa.default(
        (pictures if box is None else box.cut(pictures)).permute(0, 3, 1, 2), list(PICTURE_SIZE), False, None, None
    )
    return resized.permute(0, 2, 3, 1)


def resize_by_arithmetic(pictures: Tensor, box: CropBox | None = None) -> Tensor:
    """Resize pictures, uint8 [n, height, width, 3], or a box of them, to uint8 [n, 216, 144, 3].

    By products of whole numbers. Pixels outside the box have weight 0, so that a trace needs no slice.
    """
    height, width = PICTURE_SIZE
    rows = (0, 1, 1) if box is None else (box.top, box.bottom, box.height)
    columns = (0, 1, 1) if box is None else (box.left, box.right, box.width)
    pixels = pictures.permute(0, 3, 1, 2).double()
    pixels = _along(pixels, *_weights(pixels.shape[3], width, columns))
    pixels = _along(pixels.transpose(2, 3), *_weights(pixels.shape[2], height, rows)).transpose(2, 3)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8)


def _along(pixels: Tensor, weights: Tensor, one: Tensor) -> Tensor:
    """Resample the last side of pixels [..., old] by weights [new, old], of which `one` stands for 1."""
    return ((pixels @ weights.T + one / 2) / one).floor().clamp(0, 255)


def _weights(old: int, new: int, part: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the weights [new, old], whole numbers, and what stands for 1 among them, a power of 2.

    `part` are the first pixel to resize and the end, where a side has the third number of pixels.
    """
    positions = torch.arange(old, dtype=torch.float64)
    size = positions[-1] + 1  # `old`, but as a tensor: a trace must not take it for a constant
    # As `CropBox.cut` has it: the quotients are exact to far less than the distance to the next whole number.
    start, end = (size * part[0] / part[2]).floor(), (size * part[1] / part[2]).ceil()
    positions = positions - start
    scale = (end - start) / new
    support = scale.clamp(min=1)
    centres = (torch.arange(new, dtype=torch.float64) + 0.5)[:, None] * scale
    first = (centres - support + 0.5).floor().clamp(min=0)
    last = (centres + support + 0.5).floor().clamp(max=end - start)
    triangle = (1 - ((positions - centres + 0.5) / support).abs()).clamp(min=0)
    triangle = torch.where((positions >= first) & (positions < last), triangle, 0.0)
    shares = triangle / triangle.sum(1, keepdim=True)
    # The finest fraction in which the largest weight still is a 16-bit integer.
    powers = 2.0 ** torch.arange(1, LARGEST_PRECISION + 1, dtype=torch.float64)
    fits = (shares.max() * powers + 0.5).floor() < WEIGHT_LIMIT
    one = 2.0 ** fits.sum().double()
    return (shares * one + 0.5).floor(), one
