"""Any folder of pictures: a folder for each class, with a PNG or JPEG file for each item."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import DataError
from harness.data.images import FORMATS, entries
from harness.data.layout import CHECK_HINT
from harness.data.options import DATASET_FILE
from harness.data.tables import IDS, ITEM_ID

EXPECTED = "CLASS/ID.png or CLASS/ID.jpg, one picture for each item"


def find_class_pictures(folder: Path) -> dict[str, tuple[str, Path]]:
    """Return `{id: (class, file)}` for every picture in the folders of a folder.

    Raises DataError for a file that is no PNG or JPEG, for a picture outside a class's folder, for a folder in a
    folder, and for an id with two pictures.
    """
    found: dict[str, tuple[str, Path]] = {}
    for inside in _classes(folder):
        if not inside.is_dir():
            raise DataError(f"{inside} is in no folder of a class", expected=EXPECTED, hint=CHECK_HINT)
        if not ITEM_ID.fullmatch(inside.name):
            raise DataError(f"{inside} is no name of a class", expected=IDS, hint=CHECK_HINT)
        for file in entries(inside):
            if file.suffix.lower() not in FORMATS or not file.is_file():
                raise DataError(f"{file} is not a PNG or JPEG file", expected=EXPECTED, hint=CHECK_HINT)
            if file.stem in found:
                raise DataError(
                    f"{file}: item {file.stem!r} already has a picture, {found[file.stem][1]}",
                    expected="one picture for each item, and each name in one class",
                    hint=CHECK_HINT,
                )
            found[file.stem] = (inside.name, file)
    return found


def _classes(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.name != DATASET_FILE]


def is_folder_of_classes(folder: Path) -> bool:
    """Return whether a folder has only folders, each with a picture first: it may be a folder of classes."""
    inside = _classes(folder)
    return bool(inside) and all(
        each.is_dir() and any(file.suffix.lower() in FORMATS for file in entries(each)[:1]) for each in inside
    )
