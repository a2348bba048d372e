"""Splits into train, validation and test part: drawn by track and stratified, or read from lists."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from harness.core.errors import DataError
from harness.core.files import replacing
from harness.core.names import digest_of
from harness.core.records import Split
from harness.data.cache import cache_folder
from harness.data.group_cuts import Cut, cuts_by_group, genre_of_each, groups_of_classes
from harness.data.tracks import Tracks

SPLIT_FORMAT = 2  # to be raised when the same tracks and seed would give other parts
FRACTIONS = (0.64, 0.16, 0.20)
FOLDS = 5  # of a comparison's round: a fifth is tested on, as FRACTIONS has it


def stratified_split(tracks: Tracks, *, seed: int) -> Split:
    """Split by track into train, validation and test parts, with the same proportions of genres in each.

    Tracks with identical content go to the same part: such a group is drawn as one track with the genre of its
    first. The split depends only on the ids, the genres, the groups, the duplicates and the seed.

    Raises DataError if a genre has too few tracks to be in every part.
    """
    drawn, name, file = list(tracks.inseparable), f"stratified, seed {seed}", _split_file(tracks, seed)
    known = _known_parts(file, drawn)
    if known is not None:
        return _drawn_split(tracks, name, *known)
    _check_enough(tracks)
    rest, test = _draw(tracks, drawn, math.ceil(FRACTIONS[2] * len(drawn)), seed, parts_left=2)
    train, valid = _draw(tracks, rest, FRACTIONS[1] / (FRACTIONS[0] + FRACTIONS[1]), seed)
    split = _drawn_split(tracks, name, train, valid, test)
    if file is not None:
        with suppress(OSError), replacing(file) as temporary:  # where it cannot be written, it is drawn again
            temporary.write_text(json.dumps([train, valid, test]), encoding="utf-8")
    return split


def _check_enough(tracks: Tracks) -> None:
    """Raise DataError if a class has not one drawn track, or group of tracks, for each of the three parts."""
    genre_of, words = genre_of_each(tracks), tracks.words
    counts = groups_of_classes(tracks.inseparable.values(), genre_of)
    for index, genre in enumerate(tracks.genres):
        if counts[index] < len(FRACTIONS):
            count, one = counts[index], words.item if tracks.groups is None else f"group of {words.items}"
            raise DataError(
                f"{tracks.folder}: {words.class_} {genre!r} has {count} {one if count == 1 else _units(tracks)}"
                + (" that differ from one another" if tracks.groups is None else ""),
                expected=f"{len(FRACTIONS)} or more of every {words.class_}, one for each part of a split",
                hint=f"add {_units(tracks)} of that {words.class_}, or remove it",
            )


def _split_file(tracks: Tracks, seed: int) -> Path | None:
    """Return the cache file of a split. scikit-learn, which draws it, takes 1.5 s to import."""
    drawn_from = [tracks.ids, tracks.labels.tolist(), tracks.groups, tracks.duplicates, seed, FRACTIONS]
    key = digest_of([SPLIT_FORMAT, version("scikit-learn"), *drawn_from])
    try:
        return cache_folder() / f"split-{key[:32]}.json"
    except DataError:  # there is no folder for caches
        return None


def _known_parts(file: Path | None, drawn: Sequence[str]) -> list[list[str]] | None:
    """Return the parts in a cache file, None if it is missing or has not each drawn track in one part."""
    if file is None:
        return None
    try:
        parts: list[list[str]] = json.loads(file.read_text(encoding="utf-8"))
        is_whole = len(parts) == 3 and sorted(track for part in parts for track in part) == sorted(drawn)
    except (OSError, ValueError, TypeError):
        return None
    return parts if is_whole else None


def fold_splits(tracks: Tracks, *, seed: int, never_test: Collection[str] = ()) -> tuple[Split, ...]:
    """Return the splits of one round: each track that may be tested on is in the test part of exactly one.

    There are FOLDS splits, stratified, with identical tracks in the same part. `never_test` names tracks that were
    used for model selection: they and their duplicates are in no test part. What is not tested on is drawn into
    train and validation part, in the proportion that FRACTIONS has.

    Raises DataError if fewer than FOLDS tracks of a genre may be tested on.
    """
    groups, excluded = tracks.inseparable, set(never_test)
    judges = [first for first, group in groups.items() if not excluded.intersection(group)]
    others = [first for first in groups if first not in set(judges)]
    genre_of, words = genre_of_each(tracks), tracks.words
    counts = groups_of_classes((groups[first] for first in judges), genre_of)
    for index, genre in enumerate(tracks.genres):
        if counts[index] < FOLDS:
            raise DataError(
                f"{tracks.folder}: {counts[index]} {_units(tracks)} of {words.class_} {genre!r} may be tested on "
                "(those of the validation part, and their duplicates, may not)",
                expected=f"{FOLDS} {_units(tracks)} of every {words.class_}, one for each fold",
                hint=f"add {words.items} of that {words.class_}, or sweep on split lists (--split DIR)",
            )
    kept_out = f", {len(excluded)} tracks kept out of test" if excluded else ""
    found = []
    for number, (rest, test) in enumerate(_folds_of(tracks, groups, judges, FOLDS, seed), start=1):
        train, valid = _draw(tracks, rest + others, FRACTIONS[1] / (FRACTIONS[0] + FRACTIONS[1]), seed)
        name = f"fold {number} of {FOLDS}, seed {seed}{kept_out}"
        found.append(_drawn_split(tracks, name, train, valid, test))
    return tuple(found)


def _folds_of(
    tracks: Tracks, groups: Mapping[str, tuple[str, ...]], drawn: Sequence[str], folds: int, seed: int
) -> Cut:
    """Return folds of the drawn tracks, as the rest and the fold; stratified as well as groups allow.

    Without groups each drawn track counts once. With them a fold is balanced by all tracks of its groups, and the
    folds are drawn up to TRIES times, until each fold and each rest has every class.
    """
    if tracks.groups is None:
        from sklearn.model_selection import StratifiedKFold  # takes 1.5 s

        genre_of = genre_of_each(tracks)
        cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
        pairs = cut.split(drawn, [genre_of[track] for track in drawn])
        return [([drawn[row] for row in rest], [drawn[row] for row in fold]) for rest, fold in pairs]
    cuts = []
    for cut, is_whole in cuts_by_group(tracks, groups, drawn, folds, seed):
        if all(is_whole):
            return cut
        cuts.append(cut)
    return cuts[0]


def _draw(
    tracks: Tracks, candidates: list[str], size: int | float, seed: int, *, parts_left: int = 1
) -> tuple[list[str], list[str]]:
    """Draw a stratified part of this size, a number or a share; return the rest and the part.

    With groups the size is that of the nearest number of equal folds, and the part is the first fold that has
    every class and leaves it `parts_left` groups, one for each part that is drawn from the rest; where there is
    none, it is that of fewer, larger folds.
    """
    genre_of = genre_of_each(tracks)
    if tracks.groups is not None:
        share = size / len(candidates) if isinstance(size, int) else size
        groups, wanted = tracks.inseparable, max(2, round(1 / share))
        for folds in range(min(wanted, len(candidates)), 1, -1):
            for cut, is_whole in cuts_by_group(tracks, groups, candidates, folds, seed, in_rest=parts_left):
                if any(is_whole):
                    return cut[is_whole.index(True)]
        return next(cuts_by_group(tracks, groups, candidates, wanted, seed))[0][0]
    from sklearn.model_selection import train_test_split

    if isinstance(size, float):  # as train_test_split rounds it, and one of each class at least
        size = math.ceil(size * len(candidates))
    size = max(size, len(tracks.genres))
    try:
        rest, part = train_test_split(
            candidates, test_size=size, random_state=seed, stratify=[genre_of[track] for track in candidates]
        )
    except ValueError as error:
        raise DataError(
            f"{tracks.folder} cannot be split: {error}",
            expected=f"more {tracks.words.items} in each {tracks.words.class_}",
        ) from error
    return rest, part


def _drawn_split(
    tracks: Tracks, name: str, train: Sequence[str], valid: Sequence[str], test: Sequence[str]
) -> Split:
    """Return the split of these drawn tracks, with their groups; raise DataError if a part lacks a genre."""
    groups, genre_of = tracks.inseparable, genre_of_each(tracks)
    parts = [tuple(sorted(t for first in part for t in groups[first])) for part in (train, valid, test)]
    for what, part in zip(("train", "valid", "test"), parts, strict=True):
        _check_all_genres(tracks, what, part, genre_of)
    return Split(name=name, drawn=True, train=parts[0], valid=parts[1], test=parts[2])


def validation_folds(tracks: Tracks, split: Split, folds: int, number: int = 0) -> tuple[Split, ...]:
    """Cut the train and validation part of a split together into folds that validate in turn.

    The folds are stratified, and identical tracks are in the same one. They depend on the tracks, on the number of
    folds and on the `number` of the cut only, so that all studies on a split have the same. The test part of the
    result is empty.

    Raises DataError if a genre has fewer tracks than folds.
    """
    pool, genre_of, words = set(split.train + split.valid), genre_of_each(tracks), tracks.words
    inside = [tuple(sorted(pool.intersection(group))) for group in tracks.inseparable.values()]
    groups = {group[0]: group for group in inside if group}
    seed = int(digest_of([sorted(pool), folds, *([number] if number else [])])[:8], 16)
    counts = groups_of_classes(groups.values(), genre_of)
    for index, genre in enumerate(tracks.genres):
        if counts[index] < folds:
            raise DataError(
                f"{tracks.folder}: the train and validation parts have {counts[index]} different {_units(tracks)} "
                f"of {words.class_} {genre!r}, and {folds} folds were requested",
                expected=f"every {words.class_} in each fold",
                hint=f"--folds {max(1, counts[index])}, or more {words.items}",
            )
    found = []
    for fold, (_, firsts) in enumerate(_folds_of(tracks, groups, list(groups), folds, seed), start=1):
        chosen = {track for first in firsts for track in groups[first]}
        found.append(
            Split(
                name=f"{split.name}, fold {fold} of {folds}",
                drawn=split.drawn,
                train=tuple(sorted(pool - chosen)),
                valid=tuple(sorted(chosen)),
                test=(),
            )
        )
    return tuple(found)


def _units(tracks: Tracks) -> str:
    """Return the word for what is drawn."""
    return tracks.words.items if tracks.groups is None else f"groups of {tracks.words.items}"


def _check_all_genres(tracks: Tracks, name: str, part: Sequence[str], genre_of: dict[str, int]) -> None:
    present, words = {genre_of[track] for track in part}, tracks.words
    for index, genre in enumerate(tracks.genres):
        if index not in present:
            raise DataError(
                f"{tracks.folder}: {words.class_} {genre!r} has too few {_units(tracks)}: "
                f"none is in the {name} part",
                expected=f"every {words.class_} in every part",
                hint=f"add {_units(tracks)} of that {words.class_}, or remove it; or another seed of the split",
            )
