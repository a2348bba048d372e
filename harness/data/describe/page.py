"""Writes the page of a description: one HTML file that holds all its pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harness import __version__
from harness.core.errors import DataError, SettingsError
from harness.core.files import replacing
from harness.core.pages.page import Shown, data_url, embedded, environment
from harness.data.audio.panels import ClipPanels
from harness.data.describe.chosen import panels_or_reason
from harness.data.describe.columns import QUANTILES
from harness.data.describe.description import Description
from harness.data.describe.pictures import correlation_picture, explained_picture, plane_picture, tempo_picture
from harness.data.describe.points import FAR
from harness.data.describe.sound import sound_pictures
from harness.data.describe.strips import LEFT, LINE, RIGHT, show_value, strips_of
from harness.data.images import raw_pictures
from harness.data.source import picture_files

SUFFIX = ".html"
LARGEST_SIDE = 432  # pixels of the shown track's picture, as Kaggle's are wide
MOST_PICTURES = 12  # of genres: each has 40 kB
OPEN_COLUMNS = 8  # of a family that is not folded away
ROWS = {"excluded": 5, "pairs": 12, "differ": 12, "far": 25, "identical": 60, "components": 4}


@dataclass(frozen=True, slots=True)
class TrackPicture:
    """The picture file of a track, as a data URL."""

    track: str
    genre: str
    url: str


def check_page(path: Path, folder: Path) -> None:
    """Raise SettingsError if a page cannot have this path; `folder` is the data folder, which is only read."""
    expected = f"a file with a name that ends in {SUFFIX}, outside of the data folder"
    try:
        if path.is_dir():
            raise SettingsError(f"{path} is a folder", expected=expected, hint=f"--out {path}/report{SUFFIX}")
        parent = next(parent for parent in path.absolute().parents if parent.exists())
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a name that is too long, a link to itself
        raise SettingsError(f"{path} cannot be written: {error}", expected=expected) from error
    if path.suffix.lower() != SUFFIX:
        raise SettingsError(f"{path} does not end in {SUFFIX}", expected=expected)
    if not parent.is_dir():
        raise SettingsError(f"{parent} is not a folder", expected=expected, hint="--out OTHER")
    if is_inside:
        raise SettingsError(f"{path} lies in the data folder {folder}", expected=expected, hint="--out OTHER")


def write_page(found: Description, path: Path) -> str | None:
    """Write the page, whole or not at all; return the reason why it has no sound, or None.

    Raises DataError if it cannot be written, or if a picture cannot be read.
    """
    panels = panels_or_reason(found.chosen)
    # The name of a folder may hold bytes that are no text.
    text = render(found, panels).encode("utf-8", errors="replace")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(text)
    except OSError as error:
        raise DataError(
            f"the page cannot be written to {path}: {error}",
            expected="a folder with room where you may write",
            hint="--out OTHER",
        ) from error
    return panels if isinstance(panels, str) else None


def render(found: Description, panels: ClipPanels | str) -> str:
    """Return the page as HTML; `panels` are those of the shown track's sound, or why there are none."""
    columns, points, tempo = found.columns, found.points, tempo_picture(found)
    plane = None if points is None else points.plane
    return (
        environment("harness.data.describe")
        .get_template("page.html.jinja")
        .render(
            found=found,
            columns=columns,
            points=points,
            plane=plane,
            correlation=None if columns is None else embedded(correlation_picture(columns)),
            tempo=None if tempo is None else embedded(tempo),
            explained=None if plane is None else embedded(explained_picture(plane)),
            scatter=None if plane is None else embedded(plane_picture(found, plane)),
            strips={} if columns is None else strips_of(columns, found.train.genres, found.drawn),
            extremes=_extremes(found),
            first_pictures=_first_pictures(found),
            chosen_picture=_chosen_picture(found),
            sound=_sound(panels),
            no_sound=panels if isinstance(panels, str) else None,
            rows=ROWS,
            open_columns=OPEN_COLUMNS,
            far_from=FAR,
            geometry={"left": LEFT, "right": RIGHT, "line": LINE},
            show_value=show_value,
            version=__version__,
        )
    )


def _sound(panels: ClipPanels | str) -> list[Shown]:
    return [] if isinstance(panels, str) else [embedded(picture) for picture in sound_pictures(panels)]


def _extremes(found: Description) -> dict[str, tuple[str, float, str, float]]:
    """Return for each column the genres with the lowest and the highest median, and these medians."""
    columns, genres = found.columns, found.train.genres
    if columns is None:
        return {}
    middle = columns.quantiles[:, :, QUANTILES.index(0.5)].T
    ends = {
        name: (int(np.nanargmin(medians)), int(np.nanargmax(medians)), medians)
        for name, medians in zip(columns.names, middle, strict=True)
        if name not in columns.constant
    }
    return {
        name: (genres[low], float(medians[low]), genres[high], float(medians[high]))
        for name, (low, high, medians) in ends.items()
    }


def _first_pictures(found: Description) -> list[TrackPicture]:
    """Return the picture of the first train track of each drawn genre, as a network gets it."""
    train = found.train
    if train.pictures is None:
        return []
    first = np.array([int(np.flatnonzero(train.labels == genre)[0]) for genre in found.drawn[:MOST_PICTURES]])
    return [
        TrackPicture(train.ids[index], train.genres[train.labels[index]], _png(pixels))
        for index, pixels in zip(first, train.pictures.read(first, None), strict=True)
    ]


def _chosen_picture(found: Description) -> TrackPicture | None:
    if not found.has_pictures:
        return None
    chosen = found.chosen
    _, file = picture_files(found.train.folder, found.train.options)[chosen.track]
    return TrackPicture(chosen.track, chosen.genre, _png(raw_pictures([file])[0].numpy()))


def _png(pixels: np.ndarray) -> str:
    """Return a picture, uint8 [height, width, 3], as a data URL, not larger than LARGEST_SIDE."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    image.save(file, format="PNG", optimize=True)
    return data_url(file.getvalue())
