"""A data set in memory, as a data folder: what a notebook has becomes what every command reads."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from PIL import Image

from harness.core.errors import DataError
from harness.core.files import new_folder, sha256_of
from harness.core.names import digest_of
from harness.data.layout import MARKER_FILE
from harness.data.options import DATASET_FILE, DatasetOptions
from harness.data.tables import ITEM_ID

Pictures = np.ndarray | Sequence[str | Path]
Values: TypeAlias = Sequence[object] | pd.Series | np.ndarray
COLUMNS_OF_OURS = ("id", "label", "group")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Features, pictures or both, with a label for each item: lists, arrays or pandas Series.

    `features` is a pandas DataFrame or an array [n, columns]; `pictures` is uint8 [n, height, width] or
    [n, height, width, 3], or paths of PNG or JPEG files. `ids` are by default the table's index if it is unique
    text, else numbers. `groups` names for each item what no split tears apart. `impute` is `median` to fill
    missing values. `class_word` and `item_word` are what messages call a class and an item. `synthetic`
    data are called so wherever they show.
    """

    labels: Values
    features: pd.DataFrame | np.ndarray | None = None
    pictures: Pictures | None = None
    ids: Values | None = None
    groups: Values | None = None
    name: str = "data"
    impute: str = "refuse"
    categorical: str = "refuse"
    class_word: str = "class"
    item_word: str = "item"
    synthetic: bool = False

    def save(self, folder: str | Path) -> Path:
        """Write the data set to a new folder, which is complete or does not exist; return its path.

        Raises DataError if the parts have different lengths, if there are neither features nor pictures, or if the
        folder exists.
        """
        folder = Path(folder)
        if folder.exists():
            raise DataError(f"{folder} is there already", expected="a new folder")
        labels, ids, table = [str(label) for label in self.labels], self._ids(), self._table()
        self._check(labels, ids, table)
        folder.parent.mkdir(parents=True, exist_ok=True)
        working = new_folder(folder)
        try:
            if table is not None:
                self._write_table(working / "features.csv", table, labels, ids)
            if self.pictures is not None:
                self._write_pictures(working / "pictures", labels, ids)
            if self.synthetic:
                (working / MARKER_FILE).write_text("These data are synthetic.\n", encoding="utf-8")
            (working / DATASET_FILE).write_text(self._options().as_toml(), encoding="utf-8")
            working.rename(folder)
        finally:
            shutil.rmtree(working, ignore_errors=True)
        return folder

    def digest(self) -> str:
        """Return a digest of the content: the same data set is written once."""
        table = self._table()
        shown = None if self.pictures is None else [_digest_of_picture(picture) for picture in self.pictures]
        rows = None if table is None else table.to_csv(index=False)
        groups = None if self.groups is None else list(map(str, self.groups))
        parts = [list(map(str, self.labels)), self._ids(), rows, shown, groups]
        return digest_of([*parts, self._options().as_json(), self.synthetic])

    def _options(self) -> DatasetOptions:
        given = {
            "class": self.class_word,
            "item": self.item_word,
            "impute": self.impute,
            "categorical": self.categorical,
            **({} if self.groups is None else {"group": "group"}),
        }
        return DatasetOptions.model_validate(given)

    def _table(self) -> pd.DataFrame | None:
        if self.features is None:
            return None
        if isinstance(self.features, pd.DataFrame):
            return self.features.reset_index(drop=True)
        values = np.asarray(self.features)
        return pd.DataFrame(values, columns=[f"x{column}" for column in range(values.shape[1])])

    def _ids(self) -> list[str]:
        if self.ids is not None:
            return [str(each) for each in self.ids]
        if isinstance(self.features, pd.DataFrame):
            index = list(self.features.index)
            is_text = all(isinstance(each, str) and ITEM_ID.fullmatch(each) for each in index)
            if is_text and len({*index}) == len(index):
                return index
        width = len(str(max(0, len(self.labels) - 1)))
        return [f"{number:0{width}d}" for number in range(len(self.labels))]

    def _check(self, labels: list[str], ids: list[str], table: pd.DataFrame | None) -> None:
        if table is None and self.pictures is None:
            raise DataError(
                "the data set has neither features nor pictures", expected="features=, pictures=, or both"
            )
        lengths = {"labels": len(labels), "ids": len(ids)}
        lengths |= {} if table is None else {"features": len(table)}
        lengths |= {} if self.pictures is None else {"pictures": len(self.pictures)}
        lengths |= {} if self.groups is None else {"groups": len(self.groups)}
        if len({*lengths.values()}) > 1:
            shown = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise DataError(f"the data set has {shown}", expected="as many of each")
        odd = [each for each in (*ids, *labels) if not ITEM_ID.fullmatch(each)]
        if odd:
            raise DataError(f"{odd[0]!r} is no id or label", expected="1 to 200 characters without a slash")
        clash = [] if table is None else [name for name in COLUMNS_OF_OURS if name in table]
        if clash:
            raise DataError(
                f"the features have a column {clash[0]!r}", expected="other names: labels=, ids=, groups="
            )

    def _write_table(self, path: Path, table: pd.DataFrame, labels: list[str], ids: list[str]) -> None:
        found = table.copy()
        found.insert(0, "id", ids)
        found.insert(1, "label", labels)
        if self.groups is not None:
            found.insert(2, "group", [str(group) for group in self.groups])
        found.to_csv(path, index=False)

    def _write_pictures(self, folder: Path, labels: list[str], ids: list[str]) -> None:
        assert self.pictures is not None
        for picture, label, item in zip(self.pictures, labels, ids, strict=True):
            inside = folder / label
            inside.mkdir(parents=True, exist_ok=True)
            if isinstance(picture, np.ndarray):
                if picture.dtype != np.uint8:
                    raise DataError(f"the pictures are {picture.dtype}", expected="uint8, from 0 to 255")
                Image.fromarray(picture).save(inside / f"{item}.png")
            else:
                shutil.copyfile(picture, inside / f"{item}{Path(picture).suffix.lower()}")


def _digest_of_picture(picture: np.ndarray | str | Path) -> str:
    if isinstance(picture, np.ndarray):
        return digest_of([list(picture.shape), str(picture.dtype), sha256(picture.tobytes()).hexdigest()])
    return sha256_of(Path(picture))
