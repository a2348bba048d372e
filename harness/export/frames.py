"""Predictions for a table or for pictures in memory, as a table: what notebooks and scripts ask for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.core.errors import CheckpointError, DataError
from harness.data import Inputs, Joined
from harness.data.images import raw_pictures
from harness.data.layout import MISSING
from harness.data.rows import IS, categories_of, raw_name
from harness.training.description import Architecture

PICTURE = "picture"  # the column of a table that names each row's picture file
Items: TypeAlias = "pd.DataFrame | Sequence[str | Path]"


def predict_items(
    probabilities: Callable[[Inputs], Tensor], architecture: Architecture, items: Items
) -> pd.DataFrame:
    """Return the likeliest class of each item in the column `prediction`, and a column of probabilities for each.

    Where a class is called `prediction`, the first column is `prediction_`.

    `items` is a table with the network's columns, or paths of pictures; for a network of both inputs a table that
    names each row's picture in the column `picture`. `probabilities` takes raw inputs. The index is that of the
    table, or the paths.

    Raises DataError if a column is missing, a value is not a number, or a picture cannot be read; CheckpointError
    for a network that predicts no classes.
    """
    require_classes(architecture)
    if architecture.representation == "pictures":
        paths = list(items[PICTURE]) if isinstance(items, pd.DataFrame) else list(items)
        found = _each(probabilities, [_picture(path) for path in paths])
        return _table(architecture, found, items.index if isinstance(items, pd.DataFrame) else pd.Index(paths))
    if not isinstance(items, pd.DataFrame):
        raise DataError("the network takes features, and no table was given", expected="a pandas DataFrame")
    rows = _rows(architecture, items)
    if architecture.representation == "features":
        return _table(architecture, probabilities(rows), items.index)
    if PICTURE not in items:
        raise DataError(f"the table has no column {PICTURE!r}", expected="the path of each row's picture in it")
    pictures = [_picture(path) for path in items[PICTURE]]
    joined: list[Inputs] = [Joined(each, rows[n : n + 1]) for n, each in enumerate(pictures)]
    return _table(architecture, _each(probabilities, joined), items.index)


def require_classes(architecture: Architecture) -> None:
    """Raise CheckpointError for a network with a loss of its own, which predicts no classes."""
    if not architecture.is_classifier:
        raise CheckpointError(
            f"{architecture.model} has a loss of its own: what it gives are no classes",
            expected="a classifier",
            hint="load_bundle(DIR).probabilities(inputs), or the pt2 file: they give what its forward gives",
        )


def _rows(architecture: Architecture, table: pd.DataFrame) -> Tensor:
    columns: dict[str, pd.Series] = {}
    missing = []
    table = table.rename(columns=str)  # as in a data set that was made of it
    _warn_of_unknown(architecture, table)
    for name in architecture.columns:
        base, _, value = name.partition(IS)
        if name in table:
            columns[name] = table[name]
        elif value and base in table:
            columns[name] = (table[base].astype(str).str.strip() == value).astype(float)
        else:
            missing.append(base)
    if missing:
        missing = list(dict.fromkeys(missing))
        shown = ", ".join(map(repr, missing[:6])) + (" and others" if missing[6:] else "")
        raise DataError(
            f"the table lacks column {shown}",
            expected=", ".join(dict.fromkeys(map(raw_name, architecture.columns))),
        )
    try:
        values = np.stack([column.to_numpy(dtype=np.float32) for column in columns.values()], axis=1)
    except (ValueError, TypeError) as error:
        raise DataError(f"the table has a value that is not a number: {error}", expected="numbers") from error
    wrong = np.isinf(values) if architecture.impute else ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"row {row}, column {architecture.columns[column]}: not a finite number", expected="numbers"
        )
    return torch.from_numpy(values)


def _warn_of_unknown(architecture: Architecture, table: pd.DataFrame) -> None:
    """Warn of values of a column of categories that the data set did not have."""
    made = categories_of(name for name in architecture.columns if name not in table)
    for base, known in made.items():
        if base not in table:
            continue
        values = table[base]
        strange = ~values.astype(str).str.strip().isin(known) & ~(
            (values.isna() | values.isin(MISSING)) & architecture.impute
        )
        if strange.any():
            warnings.warn(
                f"column {base!r} has {values[strange].iloc[0]!r} in {int(strange.sum())} row(s), and the network "
                f"knows {', '.join(known)}: do not trust those predictions",
                stacklevel=2,
            )


def _picture(path: object) -> Tensor:
    return raw_pictures([Path(str(path))])


def _each(probabilities: Callable[[Inputs], Tensor], inputs: Sequence[Inputs]) -> Tensor:
    """Predict one by one: pictures may have different sizes."""
    return torch.cat([probabilities(each) for each in inputs]) if inputs else torch.zeros(0)


def _table(architecture: Architecture, found: Tensor, index: pd.Index) -> pd.DataFrame:
    classes = list(architecture.genres)
    values = found.reshape(-1, len(classes)).double().numpy()
    table = pd.DataFrame(values, index=index, columns=classes)
    name = "prediction_" if "prediction" in classes else "prediction"
    table.insert(0, name, [classes[best] for best in values.argmax(1)])
    return table
