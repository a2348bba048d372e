"""Read a split from lists of tracks."""

from __future__ import annotations

import re
from pathlib import Path

from harness.core.errors import DataError
from harness.core.files import regular
from harness.core.records import Split
from harness.data.tracks import Tracks

PARTS = ("train", "valid", "test")
LINE = re.compile(r"(?:(?P<folder>[^/]+)/)?(?P<track>(?P<genre>[^/]+)\.\d+)\.wav")
FILE = re.compile(r"(?:.*/)?(?P<item>[^/]+)\.(?:wav|mp3|flac|ogg|png|jpe?g)", re.IGNORECASE)


def read_split(folder: Path, tracks: Tracks) -> Split:
    """Read a split from lists: `train*.txt`, `valid*.txt` and `test*.txt`, one `genre/genre.NNNNN.wav` a line.

    For another data set than Kaggle's a line is the id of an item, or a file that is named after it, such as
    `folder/ID.wav`.

    A listed track that the data set excludes (it has no features or no picture) is excluded from the split too.

    Raises DataError, with the file and the line, if a list is missing or empty, if a line is not the name of a
    track, if a track is not in the data set, or if it is listed twice. Raises DataError also if a genre of the
    validation or test list is not in the train list.
    """
    listed_at: dict[str, str] = {}
    known = {*tracks.ids, *tracks.excluded}
    excluded: list[str] = []
    parts: dict[str, tuple[str, ...]] = {}
    for part in PARTS:
        path = _list_file(folder, part)
        listed = []
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            track = _listed_track(where, line.strip(), known, tracks.is_music)
            if track in listed_at:
                raise DataError(
                    f"{where}: {track} is already listed in {listed_at[track]}",
                    expected=f"each {tracks.words.item} once, in one list",
                )
            listed_at[track] = where
            if track in tracks.excluded:
                excluded.append(f"{track}: in {path.name}, {tracks.excluded[track]}")
                continue
            listed.append(track)
        parts[part] = tuple(sorted(listed))
        if not listed:
            raise DataError(f"{path} lists no usable {tracks.words.item}", expected="one a line")
    genre_of = dict(zip(tracks.ids, tracks.labels.tolist(), strict=True))
    for track, where in listed_at.items():
        if track not in known:
            raise DataError(
                f"{where}: {track} is not in {tracks.folder}",
                expected=f"{tracks.words.items} that the data folder has",
                hint="harness data check DIR, to see what it has",
            )
    _check_trained(_list_file(folder, "train"), tracks, parts, genre_of)
    return Split(name=f"lists, {folder.resolve().name}", drawn=False, excluded=tuple(excluded), **parts)


def _check_trained(
    path: Path, tracks: Tracks, parts: dict[str, tuple[str, ...]], genre_of: dict[str, int]
) -> None:
    trained, words = {genre_of[track] for track in parts["train"]}, tracks.words
    for part in ("valid", "test"):
        for track in parts[part]:
            if genre_of[track] not in trained:
                genre = tracks.genres[genre_of[track]]
                raise DataError(
                    f"{path}: {words.class_} {genre!r} has no {words.item} in the train part, "
                    f"but {track} is in the {part} part",
                    expected=f"a train list with every {words.class_} of the other lists",
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


def _listed_track(where: str, line: str, known: set[str], music: bool) -> str:
    if not music:
        named = None if line in known else FILE.fullmatch(line)
        return line if named is None else named["item"]
    match = LINE.fullmatch(line)
    if match is None or match["folder"] not in (None, match["genre"]):
        raise DataError(f"{where}: {line!r} is not the name of a track", expected="GENRE/GENRE.NNNNN.wav")
    return match["track"]
