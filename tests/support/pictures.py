"""A data set of pictures with a white frame, made in a moment."""

from pathlib import Path

import numpy as np
from PIL import Image

from harness.data import CropBox

BOX = CropBox(height=60, width=90, top=10, bottom=52, left=20, right=81)


def write_pictures(folder: Path, frame: CropBox, genres: int = 2, tracks: int = 10) -> Path:
    """Write a data set of pictures of noise, in the box of a white frame."""
    random = np.random.default_rng(0)
    for genre in (f"genre{number}" for number in range(genres)):
        (folder / "images_original" / genre).mkdir(parents=True)
        for number in range(tracks):
            content = random.integers(0, 255, (*frame.size, 3), dtype=np.uint8)
            file = folder / "images_original" / genre / f"{genre}{number:05d}.png"
            Image.fromarray(frame.framed(content)).save(file)
    return folder
