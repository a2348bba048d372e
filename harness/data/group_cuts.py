"""Ways to cut groups of tracks, none of which may be torn apart, into folds that have every class."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.core.errors import DataError
from harness.core.names import derive_seed
from harness.data.tracks import Tracks

TRIES = 20  # to cut groups so that each part has every class
Cut = list[tuple[list[str], list[str]]]  # folds, each as the rest and the fold


def cuts_by_group(
    tracks: Tracks,
    groups: Mapping[str, tuple[str, ...]],
    drawn: Sequence[str],
    folds: int,
    seed: int,
    *,
    in_rest: int = 1,
) -> Iterator[tuple[Cut, list[bool]]]:
    """Yield TRIES ways to cut groups of tracks into folds, and which folds are whole.

    A fold is whole if it has every class, and the rest has every class in `in_rest` groups or more.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes 1.5 s

    if len(drawn) < folds:
        raise DataError(
            f"{tracks.folder} cannot be split by group: {len(drawn)} groups of {tracks.words.items} are to be cut "
            f"into {folds} folds",
            expected=f"{folds} groups or more",
            hint="a column with more groups, or lists (--split DIR)",
        )
    genre_of = genre_of_each(tracks)
    every = groups_of_classes((groups[first] for first in drawn), genre_of)
    members = [(place, track) for place, first in enumerate(drawn) for track in groups[first]]
    places = [place for place, _ in members]

    def counts(part: Sequence[str]) -> Counter[int]:
        return groups_of_classes((groups[first] for first in part), genre_of)

    for number in range(TRIES):
        state = seed if number == 0 else derive_seed(seed, "cut", number)
        by_group = StratifiedGroupKFold(folds, shuffle=True, random_state=state)
        with warnings.catch_warnings():
            # A class with fewer groups than folds is found later, and named.
            warnings.filterwarnings("ignore", "The least populated class")
            try:
                pairs = list(by_group.split(members, [genre_of[track] for _, track in members], places))
            except ValueError as error:
                raise DataError(
                    f"{tracks.folder} cannot be split by group: {error}",
                    expected=f"{folds} groups of each {tracks.words.class_}",
                ) from error
        cut: Cut = []
        for _, fold in pairs:
            chosen = {places[row] for row in fold}
            inside = [first for place, first in enumerate(drawn) if place in chosen]
            cut.append(([first for place, first in enumerate(drawn) if place not in chosen], inside))
        found = [(counts(rest), counts(inside)) for rest, inside in cut]
        yield (
            cut,
            [all(rest[label] >= in_rest and inside[label] >= 1 for label in every) for rest, inside in found],
        )


def groups_of_classes(groups: Iterable[Sequence[str]], genre_of: Mapping[str, int]) -> Counter[int]:
    """Return how many of the groups of tracks have each class."""
    return Counter(label for group in groups for label in {genre_of[track] for track in group})


def genre_of_each(tracks: Tracks) -> dict[str, int]:
    """Return the number of each track's class."""
    return dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))
