"""Finds columns that leak the genre: a small decision tree predicts the genre well from one of them alone."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from harness.core.records import Split
from harness.data.tracks import Tracks

TOO_GOOD = 0.5  # no single property of the music predicts more than about 0.3 of ten genres (measured on GTZAN)
SIGNIFICANCE = 0.01
FOLDS = 5


def leak_warnings(tracks: Tracks, split: Split, columns: tuple[str, ...]) -> list[str]:
    """Return a warning for each column that alone predicts the genre better than a property of the music can.

    Accuracy is measured by cross-validation on the train part alone, with a tree of at most two leaves for each
    genre.
    """
    if tracks.features is None or not columns:
        return []
    row_of = {track: row for row, track in enumerate(tracks.ids)}
    rows = np.array([row_of[track] for track in split.train])
    labels = tracks.labels[rows]
    counts = np.bincount(labels)
    smallest = int(counts[counts > 0].min())
    if smallest < 2:
        return []  # cross-validation needs two tracks of each genre
    chance = float(counts.max() / len(labels))
    folds = StratifiedKFold(min(FOLDS, smallest), shuffle=True, random_state=0)
    tree = DecisionTreeClassifier(max_leaf_nodes=2 * len(tracks.genres), min_samples_leaf=2, random_state=0)
    found = []
    for name in columns:
        values = tracks.features[rows][:, [tracks.columns.index(name)]]
        correct = int((cross_val_predict(tree, values, labels, cv=folds) == labels).sum())
        accuracy = correct / len(rows)
        above_chance = binomtest(correct, len(rows), chance, alternative="greater").pvalue < SIGNIFICANCE
        if accuracy > max(TOO_GOOD, 2 * chance) or (name in tracks.not_music and above_chance):
            why = "it describes the file, not the music" if name in tracks.not_music else "suspiciously well"
            found.append(
                f"column {name!r} alone predicts the {tracks.words.class_} at {100 * accuracy:.0f} % "
                f"(chance {100 * chance:.0f} %): {why}; harness sweep --without {name} leaves it out"
            )
    return found
