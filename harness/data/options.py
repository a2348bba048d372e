"""How a data folder is read: the content of its `dataset.toml`, and what a command line says instead."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.core.errors import DataError
from harness.core.files import regular
from harness.core.json_types import JsonObject

DATASET_FILE = "dataset.toml"
MIN_INPUT, MAX_INPUT = 4, 1024  # pixels a side of a network's input
WORD = r"[^\W\d_][\w -]{0,29}"


@dataclass(frozen=True, slots=True)
class Words:
    """What a data set calls its classes, its items and the column of their ids.

    For music these are genre, track and filename.
    """

    class_: str = "class"
    item: str = "item"
    id_column: str = "id"

    @property
    def classes(self) -> str:
        """The plural of the word for a class."""
        return plural(self.class_)

    @property
    def items(self) -> str:
        """The plural of the word for an item."""
        return plural(self.item)


MUSIC = Words("genre", "track", "filename")


def plural(word: str) -> str:
    """Return the plural of an English word, by the regular rules."""
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"


class DatasetOptions(BaseModel):
    """The keys of `dataset.toml`; each has a default, so that most folders need no such file.

    `table` and `pictures` are names in the data folder; None looks for what is there. `group` is a column whose
    equal values no split tears apart. `size` is the height and width of a network's input, None for the pictures'
    own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)

    table: str | None = None
    pictures: str | None = None
    id_column: Annotated[str, Field(alias="id", min_length=1)] = "id"
    label_column: Annotated[str, Field(alias="label", min_length=1)] = "label"
    group: Annotated[str | None, Field(min_length=1)] = None
    class_: Annotated[str, Field(alias="class", pattern=f"^{WORD}$")] = "class"
    item: Annotated[str, Field(pattern=f"^{WORD}$")] = "item"
    size: (
        Annotated[
            tuple[
                Annotated[int, Field(ge=MIN_INPUT, le=MAX_INPUT)],
                Annotated[int, Field(ge=MIN_INPUT, le=MAX_INPUT)],
            ],
            Field(strict=False),
        ]
        | None
    ) = None
    categorical: Literal["refuse", "one-hot"] = "refuse"
    impute: Literal["refuse", "median"] = "refuse"

    @property
    def words(self) -> Words:
        """What the data set calls its classes and items."""
        return Words(self.class_, self.item, self.id_column)

    def as_toml(self) -> str:
        """Return the content of a `dataset.toml` with what is not the default."""
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in self.as_json().items()]
        return "".join(lines)

    def as_json(self) -> JsonObject:
        """Return what is not the default, by the keys of the file."""
        return self.model_dump(by_alias=True, exclude_defaults=True)


KEYS = ", ".join(field.alias or name for name, field in DatasetOptions.model_fields.items())


def read_options(folder: Path, given: Mapping[str, str]) -> DatasetOptions | None:
    """Return the options of a data folder; None if it has no `dataset.toml` and nothing is `given`.

    `given` are keys of the file with values from a command line or a record, which go before those of the file.

    Raises DataError if the file cannot be read, for an unknown key, and for a wrong value.
    """
    path = folder / DATASET_FILE
    if not path.exists() and not given:
        return None
    try:
        table = tomllib.loads(regular(path).read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as TOML: {error}", expected=f"the keys {KEYS}") from error
    try:
        return DatasetOptions.model_validate({**table, **given})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        where = "" if key in given else f"{path}: "
        what = f"there is no key {key!r}" if first["type"] == "extra_forbidden" else f"{key} is {first['input']!r}"
        expected = KEYS if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Input should be ")
        raise DataError(f"{where}{what}", expected=expected) from None
