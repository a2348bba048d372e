"""Crop the white frame of pictures: the box is fitted on the train part, and cut before the resize.

Kaggle's pictures have a white frame without information, 61 % of each picture. The hyperparameter `crop` removes
it. The box that is kept is fitted on the train part alone, as the scaler of the features is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

from harness.core.space import Accepted, Hyperparameter

WHITE = 255
# `frame` keeps the smallest box that contains every pixel of the train part's pictures that is not white.
CROP: Accepted = {"crop": Hyperparameter(str, "none", choices=("none", "frame"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class CropBox:
    """Rows `top` to `bottom` and columns `left` to `right` (ends excluded) of pictures of one size, in pixels.

    For a picture of another size the box is scaled, and rounded outwards so that no content is lost.
    """

    height: int
    width: int
    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the box."""
        return self.bottom - self.top, self.right - self.left

    @property
    def is_whole(self) -> bool:
        """Whether the box is the whole picture."""
        return self.size == (self.height, self.width)

    def scaled(self, height: int, width: int) -> CropBox:
        """Return this box of a picture that is resized to `height` and `width`, rounded outwards."""
        return CropBox(
            height=height,
            width=width,
            top=self.top * height // self.height,
            bottom=(self.bottom * height + self.height - 1) // self.height,
            left=self.left * width // self.width,
            right=(self.right * width + self.width - 1) // self.width,
        )

    def cut(self, pictures: Tensor) -> Tensor:
        """Return this box of pictures [..., height, width, channels] of any size."""
        box = self.scaled(pictures.shape[-3], pictures.shape[-2])
        return pictures[..., box.top : box.bottom, box.left : box.right, :]

    def framed(self, content: np.ndarray) -> np.ndarray:
        """Return a white picture, uint8 [height, width, 3], with `content`, uint8 [*size, 3], in the box."""
        picture = np.full((self.height, self.width, 3), WHITE, dtype=np.uint8)
        picture[self.top : self.bottom, self.left : self.right] = content
        return picture


def content_bounds(picture: Tensor) -> tuple[int, int, int, int, int, int]:
    """Return the bounds of a picture, uint8 [3, height, width]: height, width, then its content's bounds.

    The content is every pixel that is not white; its bounds are top, bottom, left and right, ends excluded. The
    bounds of a white picture widen no box: top and left are the picture's size, bottom and right are 0.
    """
    height, width = picture.shape[1:]
    inked = (picture != WHITE).any(0)
    rows, columns = (inked.any(side).nonzero().flatten().tolist() for side in (1, 0))
    if not rows:
        return height, width, height, 0, width, 0
    return height, width, rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def fit_box(bounds: np.ndarray) -> CropBox:
    """Return the smallest box that contains the content of pictures with these bounds, int32 [n, 6].

    If all pictures are white, the box is the whole picture.
    """
    height, width = (int(side) for side in bounds[0, :2])
    top, left = (int(end) for end in bounds[:, [2, 4]].min(0))
    bottom, right = (int(end) for end in bounds[:, [3, 5]].max(0))
    if bottom == 0:
        top, bottom, left, right = 0, height, 0, width
    return CropBox(height=height, width=width, top=top, bottom=bottom, left=left, right=right)
