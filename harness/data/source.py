"""What a data folder holds, in either layout: Kaggle's GTZAN, or any table and any folder of pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.errors import DataError
from harness.data.cache import cache_folder
from harness.data.features import FEATURE_COLUMNS, read_features
from harness.data.folders import find_class_pictures, is_folder_of_classes
from harness.data.images import PICTURE_SIZE, Size, find_pictures
from harness.data.layout import CHECK_HINT, FEATURES_FILE, PICTURES_FOLDER
from harness.data.options import DATASET_FILE, MUSIC, DatasetOptions, Words, read_options
from harness.data.tables import ItemTable, read_table

TABLES = ("features.csv", "features.parquet")
PICTURES = "pictures"
GET_DATA = "harness data fetch, harness data import PATH, or --data demo for a synthetic set"
LAYOUTS = (
    f"{' or '.join(TABLES)} with columns id and label, {PICTURES}/CLASS/ID.png (or .jpg), or both; or GTZAN as "
    f"Kaggle has it: {FEATURES_FILE}, {PICTURES_FOLDER}/GENRE/GENRENNNNN.png, or both"
)
Files = dict[str, tuple[str, Path]]  # class and file by id


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """The table and the pictures of a data folder; None for what it lacks. `size` None: the pictures' own."""

    table: ItemTable | None
    files: Files | None
    size: Size | None
    words: Words
    impute: bool
    is_music: bool

    @property
    def own_size(self) -> Size | None:
        """The size that `dataset.toml` gives; None if the data themselves say it."""
        return None if self.is_music else self.size

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns; none without a table."""
        return () if self.table is None else self.table.columns

    def classes(self, folder: Path) -> dict[str, str]:
        """Return the class of each item that has every representation.

        Raises DataError if no item has both, or if both disagree on an item's class.
        """
        of_table = None if self.table is None else dict(zip(self.table.ids, self.table.labels, strict=True))
        of_pictures = None if self.files is None else {item: label for item, (label, _) in self.files.items()}
        if of_table is None or of_pictures is None:
            return of_table or of_pictures or {}
        both = {item: label for item, label in of_table.items() if item in of_pictures}
        if not both:
            raise DataError(
                f"{folder}: no {self.words.item} has both features and a picture "
                f"(features: {next(iter(of_table))} ..., pictures: {next(iter(of_pictures))} ...)",
                expected="the same ids in both"
                + (", as blues.00000.wav and blues00000.png" if self.is_music else ""),
            )
        for item, label in both.items():
            if of_pictures[item] != label:
                raise DataError(
                    f"{folder}: {self.words.item} {item!r} is {label!r} in the table, and its picture is in the "
                    f"folder {of_pictures[item]!r}",
                    expected=f"one {self.words.class_}",
                    hint=CHECK_HINT,
                )
        return both

    def rows(self, ids: Sequence[str]) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
        """Return the features and the groups of these items, None without a table."""
        if self.table is None:
            return None, None
        row_of = {item: row for row, item in enumerate(self.table.ids)}
        chosen = [row_of[item] for item in ids]
        groups = self.table.groups
        return self.table.values[chosen], None if groups is None else tuple(groups[row] for row in chosen)

    def excluded(self) -> dict[str, str]:
        """Return the items that lack a representation, with the reasons."""
        if self.table is None or self.files is None:
            return {}
        reasons = {item: "features but no picture" for item in self.table.ids if item not in self.files}
        have_features = set(self.table.ids)
        reasons |= {item: "picture but no features" for item in self.files if item not in have_features}
        return dict(sorted(reasons.items()))


def read_source(folder: Path, given: Mapping[str, str]) -> Source:
    """Read a data folder. `given` are keys of `dataset.toml` that go before those of the file.

    Raises DataError for every fault of the table and of the pictures' names.
    """
    if folder.is_file():
        raise DataError(
            f"{folder} is a file", expected=f"a folder with {LAYOUTS}", hint=f"its folder, {folder.parent}"
        )
    if not folder.is_dir():
        raise DataError(f"there is no data folder {folder}", expected=f"a folder with {LAYOUTS}", hint=GET_DATA)
    options = read_options(folder, given)
    source = (
        _music(folder) if options is None and _is_music(folder) else _general(folder, options or DatasetOptions())
    )
    if source.files is not None and cache_folder().resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"the picture cache {cache_folder()} lies inside the data folder {folder}",
            expected="a folder elsewhere: data folders are only read",
            hint="the same command with HARNESS_CACHE=FOLDER in the environment",
        )
    return source


def picture_files(folder: Path, given: Mapping[str, str]) -> Files:
    """Return `{id: (class, file)}` for every picture of a data folder that has pictures."""
    options = read_options(folder, given)
    if options is None and _is_music(folder):
        return find_pictures(folder / PICTURES_FOLDER)
    place = _picture_folder(folder, options or DatasetOptions(), has_table=True)
    assert place is not None or is_folder_of_classes(folder)
    return find_class_pictures(place or folder)


def _is_music(folder: Path) -> bool:
    return (folder / FEATURES_FILE).exists() or (folder / PICTURES_FOLDER).exists()


def _music(folder: Path) -> Source:
    csv_file, picture_folder = folder / FEATURES_FILE, folder / PICTURES_FOLDER
    table = read_features(csv_file) if csv_file.exists() else None
    found = find_pictures(picture_folder) if picture_folder.exists() else None
    if found is not None and not found:
        raise DataError(f"{picture_folder} holds no pictures", expected=f"a folder with {LAYOUTS}", hint=GET_DATA)
    return Source(
        table=None
        if table is None
        else ItemTable(
            ids=table.ids, labels=table.genres, columns=FEATURE_COLUMNS, values=table.values, groups=None
        ),
        files=found,
        size=PICTURE_SIZE,
        words=MUSIC,
        impute=False,
        is_music=True,
    )


def _general(folder: Path, options: DatasetOptions) -> Source:
    path = table_file(folder, options)
    pictures = _picture_folder(folder, options, has_table=path is not None)
    if path is None and pictures is None and _is_music(folder):
        raise DataError(
            f"{folder} is laid out as Kaggle's GTZAN: its columns are fixed, and no options of a table apply",
            expected="options of a table of one's own (features.csv)",
            hint="the same command without them; --split LISTS keeps the artists apart",
        )
    if path is None and pictures is None:
        raise DataError(f"{folder} holds no data set", expected=f"a folder with {LAYOUTS}", hint=GET_DATA)
    found = None if path is None else read_table(path, options)
    files = None if pictures is None else find_class_pictures(pictures)
    if files is not None and not files:
        raise DataError(f"{pictures} holds no pictures", expected=f"a folder with {LAYOUTS}", hint=GET_DATA)
    if found is None and options.group is not None:
        raise DataError(
            f"{folder} has no table, and group is {options.group!r}", expected="a table with that column"
        )
    return Source(
        table=found,
        files=files,
        size=options.size,
        words=options.words,
        impute=options.impute == "median",
        is_music=False,
    )


def table_file(folder: Path, options: DatasetOptions) -> Path | None:
    """Return the table of a data folder: the one that is named or there; None if there is none."""
    if options.table is not None:
        return _named(folder, options.table, "table", Path.is_file, "a CSV or Parquet file")
    found = [folder / name for name in TABLES if (folder / name).exists()]
    if len(found) > 1:
        raise DataError(
            f"{folder} has {' and '.join(path.name for path in found)}",
            expected="one table",
            hint=f'table = "{found[0].name}" in {DATASET_FILE}',
        )
    return found[0] if found else None


def _picture_folder(folder: Path, options: DatasetOptions, *, has_table: bool) -> Path | None:
    """Return the folder of the classes' folders: the one that is named, `pictures/`, or the data folder itself."""
    if options.pictures is not None:
        return _named(folder, options.pictures, "pictures", Path.is_dir, "a folder of classes")
    if (folder / PICTURES).is_dir():
        return folder / PICTURES
    return folder if not has_table and is_folder_of_classes(folder) else None


def _named(folder: Path, name: str, key: str, is_there: Callable[[Path], bool], expected: str) -> Path:
    """Return what a key of `dataset.toml` names; raise DataError if it is outside of the folder, or not there."""
    path, noun = folder / name, {"table": "table", "pictures": "folder"}[key]
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder / DATASET_FILE}: {key} is {name!r}", expected="a name inside the data folder")
    if not is_there(path):
        raise DataError(f"{folder / DATASET_FILE}: there is no {noun} {name!r}", expected=expected)
    return path
