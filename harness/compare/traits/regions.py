"""The regions of pictures: bands of their height and quarters of their width, and the trainings that judge them.

In mel pictures these are bands of frequency and quarters of the time.

The keys of a repeat's trainings:

- `whole`, `whole/1`: the whole picture, with the seed of the others and with another, which is the control;
- `none`: all regions masked;
- `without/INDEX`, `alone/INDEX`: one region masked, or all else;
- `uses/INDEX`: no training: the whole network, with a region of the test tracks swapped between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log

from harness.core.json_types import JsonObject
from harness.data import CropBox

BANDS = 8
QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
WHOLE, OTHER_SEED = "whole", "whole/1"  # the keys of the whole picture with the repeat's seed, and of the control
TOP_HERTZ = 11025.0  # the highest pitch of a clip at 22050 Hz
LINEAR_MELS, HERTZ_PER_MEL, LOG_STEP = 15.0, 200 / 3, log(6.4) / 27


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A part of a picture's content. The ends are fractions of its height (0 is the top) and of its width."""

    name: str
    rows: tuple[float, float] = (0.0, 1.0)
    columns: tuple[float, float] = (0.0, 1.0)

    def slices(self, content: CropBox) -> tuple[slice, slice]:
        """Return the rows and columns of the region in a picture with this box of content, in pixels."""
        height, width = content.size
        top, bottom = (content.top + round(end * height) for end in self.rows)
        left, right = (content.left + round(end * width) for end in self.columns)
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True, slots=True)
class RegionGame:
    """The bands and quarters of a study's pictures, and all trainings of one repeat."""

    regions: tuple[Region, ...]
    is_music: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the regions."""
        return tuple(region.name for region in self.regions)

    @property
    def kinds(self) -> str:
        """What the players are, with their number."""
        of = ("frequency", "the time") if self.is_music else ("the height", "the width")
        return f"{BANDS} bands of {of[0]} and {len(QUARTERS)} quarters of {of[1]}"

    @property
    def players(self) -> str:
        """What the players are, in the plural."""
        return "regions"

    @property
    def first(self) -> str:
        """The key of the training with the whole picture."""
        return WHOLE

    def trainings(self) -> Iterator[str]:
        """Yield the keys of all trainings of a repeat, those of the whole picture first."""
        yield from (WHOLE, OTHER_SEED, "none")
        for index in range(len(self.regions)):
            yield from (f"without/{index}", f"alone/{index}")

    def seed_number(self, key: str) -> int:
        """Return which of the seeds a training has."""
        return 1 if key == OTHER_SEED else 0

    def identity(self) -> list[object]:
        """Return the names of the regions with their ends."""
        return [[[region.name, *region.rows, *region.columns] for region in self.regions]]

    def as_json(self) -> JsonObject:
        """Return the regions with their ends, as fractions of the content."""
        regions = {
            region.name: {"rows": list(region.rows), "columns": list(region.columns)} for region in self.regions
        }
        return {"regions": regions}


def regions_of_mel_pictures() -> tuple[Region, ...]:
    """Return the bands from the lowest to the highest, then the quarters of the time.

    The names assume that the picture's height is linear in mel from 0 Hz at the bottom to TOP_HERTZ at the top, as
    that of the pictures of `harness data extract`. Kaggle does not say how its pictures were made.
    """
    bands = []
    for low, high in _steps(BANDS):
        hertz = [f"{_hertz(end * _mels(TOP_HERTZ)):.0f}" for end in (low, high)]
        bands.append(Region(name=f"{hertz[0]} to {hertz[1]} Hz", rows=(1 - high, 1 - low)))
    quarters = zip(QUARTERS, _steps(len(QUARTERS)), strict=True)
    return (*bands, *(Region(name=name, columns=columns) for name, columns in quarters))


def regions_of_pictures() -> tuple[Region, ...]:
    """Return the same regions of pictures that show no sound, named by their place from the top and the left."""
    bands = [Region(name=f"rows {_percent(ends)}", rows=ends) for ends in _steps(BANDS)]
    quarters = [Region(name=f"columns {_percent(ends)}", columns=ends) for ends in _steps(len(QUARTERS))]
    return (*bands, *quarters)


def _steps(count: int) -> list[tuple[float, float]]:
    return [(step / count, (step + 1) / count) for step in range(count)]


def _percent(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:g} to {100 * ends[1]:g} %"


def _mels(hertz: float) -> float:
    """Return a frequency above 1000 Hz in mels.

    Source: Slaney (1998), Auditory Toolbox, whose scale librosa uses: linear to 1000 Hz, logarithmic above.
    """
    return LINEAR_MELS + log(hertz / 1000) / LOG_STEP


def _hertz(mels: float) -> float:
    """Return a frequency in Hz; the inverse of Slaney's scale."""
    return mels * HERTZ_PER_MEL if mels < LINEAR_MELS else 1000 * exp(LOG_STEP * (mels - LINEAR_MELS))
