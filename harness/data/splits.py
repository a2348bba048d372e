"""Splits into train, validation and test part: drawn by track and stratified, or read from lists."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from sklearn.model_selection import StratifiedKFold, train_test_split

from harness.core.errors import DataError
from harness.core.files import regular
from harness.core.names import digest_of
from harness.core.records import Split
from harness.data.tracks import Tracks

PARTS = ("train", "valid", "test")
FRACTIONS = (0.64, 0.16, 0.20)
FOLDS = 5  # of a comparison's round: a fifth is tested on, as FRACTIONS has it
LINE = re.compile(r"(?:(?P<folder>[^/]+)/)?(?P<track>(?P<genre>[^/]+)\.\d+)\.wav")


def stratified_split(tracks: Tracks, *, seed: int, fractions: tuple[float, float, float] = FRACTIONS) -> Split:
    """Split by track into train, validation and test parts, with the same proportions of genres in each.

    Tracks with identical content go to the same part: such a group is drawn as one track with the genre of its
    first. The split depends only on the ids, the genres, the duplicates and the arguments.

    Raises DataError if a genre has too few tracks to be in every part, and ValueError if the fractions are not
    positive or do not sum to 1.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be positive and sum to 1, not {fractions}")
    drawn = list(_groups(tracks))
    rest, test = _draw(tracks, drawn, math.ceil(fractions[2] * len(drawn)), seed)
    train, valid = _draw(tracks, rest, fractions[1] / (fractions[0] + fractions[1]), seed)
    return _drawn_split(tracks, f"stratified, seed {seed}", train, valid, test)


def fold_splits(tracks: Tracks, *, seed: int, never_test: Collection[str] = ()) -> tuple[Split, ...]:
    """Return the splits of one round: each track that may be tested on is in the test part of exactly one.

    There are FOLDS splits, stratified, with identical tracks in the same part. `never_test` names tracks that were
    used for model selection: they and their duplicates are in no test part. What is not tested on is drawn into
    train and validation part, in the proportion that FRACTIONS has.

    Raises DataError if fewer than FOLDS tracks of a genre may be tested on.
    """
    groups, excluded = _groups(tracks), set(never_test)
    judges = [first for first, group in groups.items() if not excluded.intersection(group)]
    others = [first for first in groups if first not in set(judges)]
    genre_of = _genre_of(tracks)
    counts = Counter(genre_of[track] for track in judges)
    for index, genre in enumerate(tracks.genres):
        if counts[index] < FOLDS:
            raise DataError(
                f"{tracks.folder}: {counts[index]} tracks of genre {genre!r} may be tested on "
                "(those of the validation part, and their duplicates, may not)",
                expected=f"{FOLDS} tracks of every genre, one for each fold",
                hint="add tracks of that genre, or sweep on split lists (harness sweep --split DIR)",
            )
    kept_out = f", {len(excluded)} tracks kept out of test" if excluded else ""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    found = []
    for number, (rest, test) in enumerate(folds.split(judges, [genre_of[track] for track in judges]), start=1):
        trained = [judges[row] for row in rest] + others
        train, valid = _draw(tracks, trained, FRACTIONS[1] / (FRACTIONS[0] + FRACTIONS[1]), seed)
        name = f"fold {number} of {FOLDS}, seed {seed}{kept_out}"
        found.append(_drawn_split(tracks, name, train, valid, [judges[row] for row in test]))
    return tuple(found)


def _groups(tracks: Tracks) -> dict[str, tuple[str, ...]]:
    """Return the tracks that are drawn, each with the group of identical tracks that goes where it goes."""
    group_of = {group[0]: group for group in tracks.duplicates}
    followers = {track for group in tracks.duplicates for track in group[1:]}
    return {track: group_of.get(track, (track,)) for track in tracks.ids if track not in followers}


def _genre_of(tracks: Tracks) -> dict[str, int]:
    return dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))


def _draw(tracks: Tracks, candidates: list[str], size: int | float, seed: int) -> tuple[list[str], list[str]]:
    """Draw a stratified part of this size, a number or a share; return the rest and the part."""
    genre_of = _genre_of(tracks)
    try:
        rest, part = train_test_split(
            candidates, test_size=size, random_state=seed, stratify=[genre_of[track] for track in candidates]
        )
    except ValueError as error:
        raise DataError(
            f"{tracks.folder} cannot be split: {error}", expected="more tracks in each genre"
        ) from error
    return rest, part


def _drawn_split(
    tracks: Tracks, name: str, train: Sequence[str], valid: Sequence[str], test: Sequence[str]
) -> Split:
    """Return the split of these drawn tracks, with their groups; raise DataError if a part lacks a genre."""
    groups, genre_of = _groups(tracks), _genre_of(tracks)
    parts = [tuple(sorted(t for first in part for t in groups[first])) for part in (train, valid, test)]
    for what, part in zip(PARTS, parts, strict=True):
        _check_all_genres(tracks, what, part, genre_of)
    return Split(name=name, drawn=True, train=parts[0], valid=parts[1], test=parts[2])


def validation_folds(tracks: Tracks, split: Split, folds: int, number: int = 0) -> tuple[Split, ...]:
    """Cut the train and validation part of a split together into folds that validate in turn.

    The folds are stratified, and identical tracks are in the same one. They depend on the tracks, on the number of
    folds and on the `number` of the cut only, so that all studies on a split have the same. The test part of the
    result is empty.

    Raises DataError if a genre has fewer tracks than folds.
    """
    pool, genre_of = set(split.train + split.valid), _genre_of(tracks)
    groups = [sorted(pool.intersection(group)) for group in _groups(tracks).values() if pool.intersection(group)]
    seed = int(digest_of([sorted(pool), folds, *([number] if number else [])])[:8], 16)
    genres = [genre_of[group[0]] for group in groups]
    for index, genre in enumerate(tracks.genres):
        if genres.count(index) < folds:
            raise DataError(
                f"{tracks.folder}: the train and validation parts have {genres.count(index)} different tracks of "
                f"genre {genre!r}, and {folds} folds were requested",
                expected="a track of every genre in each fold",
                hint=f"--folds {max(1, genres.count(index))}, or more tracks",
            )
    found = []
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed).split(genres, genres)
    for fold, (_, rows) in enumerate(cut, start=1):
        chosen = {track for row in rows for track in groups[row]}
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


def _check_all_genres(tracks: Tracks, name: str, part: Sequence[str], genre_of: dict[str, int]) -> None:
    present = {genre_of[track] for track in part}
    for index, genre in enumerate(tracks.genres):
        if index not in present:
            raise DataError(
                f"{tracks.folder}: genre {genre!r} has too few tracks: none is in the {name} part",
                expected="a track of every genre in every part",
                hint="add tracks of that genre, or remove it",
            )


def read_split(folder: Path, tracks: Tracks) -> Split:
    """Read a split from lists: `train*.txt`, `valid*.txt` and `test*.txt`, one `genre/genre.NNNNN.wav` a line.

    A listed track that the data set excludes (it has no features or no picture) is excluded from the split too.

    Raises DataError, with the file and the line, if a list is missing or empty, if a line is not the name of a
    track, if a track is not in the data set, or if it is listed twice. Raises DataError also if a genre of the
    validation or test list is not in the train list.
    """
    listed_at: dict[str, str] = {}
    excluded: list[str] = []
    parts: dict[str, tuple[str, ...]] = {}
    for part in PARTS:
        path = _list_file(folder, part)
        listed = []
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            track = _listed_track(where, line.strip())
            if track in listed_at:
                raise DataError(
                    f"{where}: {track} is already listed in {listed_at[track]}",
                    expected="each track once, in one list",
                )
            listed_at[track] = where
            if track in tracks.excluded:
                excluded.append(f"{track}: in {path.name}, {tracks.excluded[track]}")
                continue
            listed.append(track)
        parts[part] = tuple(sorted(listed))
        if not listed:
            raise DataError(f"{path} lists no usable track", expected="one genre/genre.NNNNN.wav a line")
    genre_of = dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))
    for track, where in listed_at.items():
        if track not in genre_of and track not in tracks.excluded:
            raise DataError(
                f"{where}: {track} is not in {tracks.folder}",
                expected="tracks that the data folder has",
                hint="harness data check DIR, to see which tracks it has",
            )
    _check_trained(_list_file(folder, "train"), tracks, parts, genre_of)
    return Split(name=f"lists, {folder.resolve().name}", drawn=False, excluded=tuple(excluded), **parts)


def _check_trained(
    path: Path, tracks: Tracks, parts: dict[str, tuple[str, ...]], genre_of: dict[str, int]
) -> None:
    trained = {genre_of[track] for track in parts["train"]}
    for part in ("valid", "test"):
        for track in parts[part]:
            if genre_of[track] not in trained:
                genre = tracks.genres[genre_of[track]]
                raise DataError(
                    f"{path}: genre {genre!r} has no track in the train part, but {track} is in the {part} part",
                    expected="a train list with every genre of the other lists",
                )


def _list_file(folder: Path, part: str) -> Path:
    if not folder.is_dir():
        raise DataError(
            f"there is no folder of split lists {folder}",
            expected="train*.txt, valid*.txt and test*.txt in a folder",
        )
    files = sorted(folder.glob(f"{part}*.txt"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{folder} has {len(files)} lists {part}*.txt ({found})", expected="exactly one")
    return files[0]


def _lines(path: Path) -> list[str]:
    try:
        return regular(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", expected="a UTF-8 text file") from error


def _listed_track(where: str, line: str) -> str:
    match = LINE.fullmatch(line)
    if match is None or match["folder"] not in (None, match["genre"]):
        raise DataError(f"{where}: {line!r} is not the name of a track", expected="GENRE/GENRE.NNNNN.wav")
    return match["track"]
