"""Data sets that come with scikit-learn, written as data folders: something to try without a download.

    .venv/bin/python experiments/package_sets.py --out sets

`wine` and `breast-cancer` are tables, `digits` is a table with pictures, and `digit-pictures` is a folder of
pictures alone. Sources: the UCI repository's Wine, Breast Cancer Wisconsin and Optical Recognition of Handwritten
Digits, as `sklearn.datasets` has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

import harness

INK = 255 / 16  # a pixel of the digits has 17 levels


def table_of(found: dict[str, object], name: str, item: str) -> harness.Dataset:
    """Return a data set of scikit-learn as a table, its classes by their names."""
    names = np.asarray(found["target_names"])
    return harness.Dataset(
        features=found["data"], labels=names[np.asarray(found["target"])], name=name, item_word=item
    )


def digits(*, features: bool) -> harness.Dataset:
    """Return the 1797 digits, 8 x 8 pixels each: as pictures, and with `features` as columns too."""
    found = load_digits(as_frame=True)
    pictures = np.rint(found.images * INK).astype(np.uint8)
    return harness.Dataset(
        features=found.data if features else None,
        pictures=pictures,
        labels=[str(label) for label in found.target],
        name="digits" if features else "digit-pictures",
        class_word="digit",
        item_word="scan",
    )


SETS: dict[str, Callable[[], harness.Dataset]] = {
    "wine": lambda: table_of(load_wine(as_frame=True), "wine", "bottle"),
    "breast-cancer": lambda: table_of(load_breast_cancer(as_frame=True), "breast-cancer", "sample"),
    "digits": lambda: digits(features=True),
    "digit-pictures": lambda: digits(features=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder in which the data folders are made")
    wanted = parser.parse_args()
    for name, make in SETS.items():
        if (wanted.out / name).exists():
            print(f"{wanted.out / name} is there already")
            continue
        print(make().save(wanted.out / name))


if __name__ == "__main__":
    main()
