"""The resize of `harness.data.resize` in two forms that can be traced for any size; both give the same bytes.

PyTorch resizes 8-bit pictures in fixed point, as Pillow-SIMD does: the weights are 16-bit integers; the first pass
is along the rows, the second along the columns, and each pass is rounded to 8 bits. Other runtimes round in other
places, so that their resize operators differ by a grey level in some pixels. For these runtimes the second form
computes the same with float64 products. All numbers in it are integers far below 2**53, so that the products are
exact and the order of the sums does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data import PICTURE_SIZE, CropBox, Size

WEIGHT_LIMIT = 2**15  # of a signed 16-bit integer
MAX_PRECISION = 22  # bits of the fraction


def resize_by_operator(pictures: Tensor, box: CropBox | None = None, size: Size = PICTURE_SIZE) -> Tensor:
    """Resize pictures, uint8 [n, height, width, 3], or a box of them, to uint8 [n, *size, 3].

    It calls the operator of PyTorch that `harness.data.resize` uses. torchvision itself cannot be traced: it first
    compares sizes in Python, which makes a size a constant of the trace. A test checks that both give the same
    bytes. With a box, it cannot be traced for any size, because a trace takes the sides of a slice as constants.
    """
    resized: Tensor = torch.ops.aten._upsample_bilinear2d_aa.default(
        (pictures if box is None else box.cut(pictures)).permute(0, 3, 1, 2), list(size), False, None, None
    )
    return resized.permute(0, 2, 3, 1)


def resize_by_arithmetic(pictures: Tensor, box: CropBox | None = None, size: Size = PICTURE_SIZE) -> Tensor:
    """Resize pictures, uint8 [n, height, width, 3], or a box of them, to uint8 [n, *size, 3].

    It computes with products of integers. Pixels outside the box have weight 0, so that a trace has no slice.
    """
    height, width = size
    rows = (0, 1, 1) if box is None else (box.top, box.bottom, box.height)
    columns = (0, 1, 1) if box is None else (box.left, box.right, box.width)
    pixels = pictures.permute(0, 3, 1, 2).double()
    pixels = _along(pixels, *_weights(pixels.shape[3], width, columns))
    pixels = _along(pixels.transpose(2, 3), *_weights(pixels.shape[2], height, rows)).transpose(2, 3)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8)


def _along(pixels: Tensor, weights: Tensor, one: Tensor) -> Tensor:
    """Resample the last dimension of pixels [..., old] by integer weights [new, old], in which `one` means 1."""
    return ((pixels @ weights.T + one / 2) / one).floor().clamp(0, 255)


def _weights(old: int, new: int, part: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the weights [new, old], integers, and the power of 2 that means 1 in them.

    `part` is the first pixel to resize and the end (excluded), on a side with as many pixels as its third number.
    """
    positions = torch.arange(old, dtype=torch.float64)
    size = positions[-1] + 1  # `old`, but as a tensor: a trace must not take it for a constant
    # As in `CropBox.cut`: the rounding error of the quotients is far below their distance to the next integer.
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
    # The highest precision in which the largest weight is still a 16-bit integer.
    powers = 2.0 ** torch.arange(1, MAX_PRECISION + 1, dtype=torch.float64)
    fits = (shares.max() * powers + 0.5).floor() < WEIGHT_LIMIT
    one = 2.0 ** fits.sum().double()
    return (shares * one + 0.5).floor(), one
