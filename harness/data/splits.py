"""Which tracks train, which choose, which judge: drawn by track and stratified, or read from lists."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from sklearn.model_selection import train_test_split

from harness.core.errors import DataError
from harness.core.records import Split
from harness.data.tracks import Tracks

PARTS = ("train", "valid", "test")
FRACTIONS = (0.64, 0.16, 0.20)
LINE = re.compile(r"(?:(?P<folder>[^/]+)/)?(?P<track>(?P<genre>[^/]+)\.\d+)\.wav")


def stratified_split(
    tracks: Tracks,
    *,
    seed: int,
    fractions: tuple[float, float, float] = FRACTIONS,
    exclude_from_test: Collection[str] = (),
) -> Split:
    """Split by track into train, validation and test parts, each genre in the same proportions.

    Tracks with identical content fall on the same side: such a group is drawn as one track, in the genre of
    its first. The split follows from the ids, the genres, the duplicates and the arguments alone.
    `exclude_from_test` names tracks that were used for model selection: they and their duplicates go to train or
    valid, and the test part keeps its size.

    Raises DataError where a genre has too few tracks to be in every part, ValueError for fractions that are
    not positive or do not sum to 1.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be positive and sum to 1, not {fractions}")
    group_of = {group[0]: group for group in tracks.duplicates}
    repeats = {track for group in tracks.duplicates for track in group[1:]}
    genre_of = dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))
    drawn = [track for track in tracks.ids if track not in repeats]

    kept_out = set(exclude_from_test)
    held = [track for track in drawn if kept_out.intersection(group_of.get(track, (track,)))]

    def draw(candidates: list[str], size: int | float) -> tuple[list[str], list[str]]:
        try:
            rest, part = train_test_split(
                candidates,
                test_size=size,
                random_state=seed,
                stratify=[genre_of[track] for track in candidates],
            )
        except ValueError as error:
            raise DataError(
                f"{tracks.folder} cannot be split {fractions}: {error}", expected="more tracks in each genre"
            ) from error
        return rest, part

    judges = [track for track in drawn if track not in set(held)]
    rest, test = draw(judges, math.ceil(fractions[2] * len(drawn)))
    train, valid = draw(rest + held, fractions[1] / (fractions[0] + fractions[1]))
    sides = [
        tuple(sorted(t for first in side for t in group_of.get(first, (first,)))) for side in (train, valid, test)
    ]
    for name, side in zip(PARTS, sides, strict=True):
        _check_all_genres(tracks, name, side, genre_of)
    name = f"stratified, seed {seed}" + (f", {len(kept_out)} tracks kept out of test" if kept_out else "")
    return Split(name=name, drawn=True, train=sides[0], valid=sides[1], test=sides[2])


def _check_all_genres(tracks: Tracks, part: str, side: Sequence[str], genre_of: dict[str, int]) -> None:
    present = {genre_of[track] for track in side}
    for index, genre in enumerate(tracks.genres):
        if index not in present:
            raise DataError(
                f"{tracks.folder}: genre {genre!r} has too few tracks, none falls into the {part} part",
                expected="a track of every genre in every part",
                hint="add tracks of that genre, or remove it",
            )


def read_split(folder: Path, tracks: Tracks) -> Split:
    """Read a split from lists: `train*.txt`, `valid*.txt` and `test*.txt`, one `genre/genre.NNNNN.wav` a line.

    A listed track that the data set excludes (it lacks features or a picture) is excluded from the split too.

    Raises DataError for a list that is missing or empty, a line that is no track's, an id that the data do not
    know, and one that is listed twice, each with the file and the line; and for a genre that is to be judged
    and is not in the train list.
    """
    listed_at: dict[str, str] = {}
    excluded: list[str] = []
    sides = {}
    for part in PARTS:
        path = _list_file(folder, part)
        side = []
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            track = _listed_track(where, line.strip())
            if track in listed_at:
                raise DataError(
                    f"{where}: {track} stands in {listed_at[track]} already",
                    expected="each track once, on one list",
                )
            listed_at[track] = where
            if track in tracks.excluded:
                excluded.append(f"{track}: in {path.name}, {tracks.excluded[track]}")
                continue
            side.append(track)
        sides[part] = side
        if not side:
            raise DataError(f"{path} lists no usable track", expected="one genre/genre.NNNNN.wav a line")
    genre_of = dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))
    for track, where in listed_at.items():
        if track not in genre_of and track not in tracks.excluded:
            raise DataError(
                f"{where}: {track} is not in {tracks.folder}",
                expected="tracks that the data folder has",
                hint="harness data check DIR, to see what it has",
            )
    _check_trained(_list_file(folder, "train"), tracks, sides, genre_of)
    parts = {part: tuple(sorted(side)) for part, side in sides.items()}
    return Split(name=f"lists, {folder.resolve().name}", drawn=False, excluded=tuple(excluded), **parts)


def _check_trained(path: Path, tracks: Tracks, sides: dict[str, list[str]], genre_of: dict[str, int]) -> None:
    trained = {genre_of[track] for track in sides["train"]}
    for part in ("valid", "test"):
        for track in sides[part]:
            if genre_of[track] not in trained:
                genre = tracks.genres[genre_of[track]]
                raise DataError(
                    f"{path}: genre {genre!r} has no track in the train part, but {track} is in the {part} part",
                    expected="a train list with every genre that the other lists have",
                )


def _list_file(folder: Path, part: str) -> Path:
    if not folder.is_dir():
        raise DataError(
            f"there is no folder of split lists {folder}", expected="train*.txt, valid*.txt, test*.txt in it"
        )
    files = sorted(folder.glob(f"{part}*.txt"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{folder} has {len(files)} lists {part}*.txt ({found})", expected="exactly one")
    return files[0]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", expected="a UTF-8 text file") from error


def _listed_track(where: str, line: str) -> str:
    match = LINE.fullmatch(line)
    if match is None or match["folder"] not in (None, match["genre"]):
        raise DataError(f"{where}: {line!r} names no track", expected="GENRE/GENRE.NNNNN.wav")
    return match["track"]
