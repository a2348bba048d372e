"""The sound files of a folder, one folder a genre, and the track that each of them becomes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError
from harness.data.audio.recipe import SUFFIXES
from harness.data.images import HIDDEN

LEGAL = f"AUDIO_DIR/GENRE/*.wav (or {', '.join(SUFFIXES[1:])}), one folder for each genre"
NUMBERED = re.compile(r"\.(\d{5})", re.ASCII)
MOST_TRACKS = 100_000  # of one genre, so that five digits number them


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound file and its track id, `GENRE.NNNNN`; `name` is its path below the folder."""

    track: str
    genre: str
    name: str
    path: Path


def find_clips(folder: Path) -> tuple[list[Clip], list[str]]:
    """Return the clips of a folder by track id, and a line for each entry that is passed over.

    `GENRE.NNNNN.wav` in the folder GENRE keeps its number. The other files of a genre get the free numbers from 0,
    in the order of their names, so that the same folder gives the same tracks each time.

    Raises DataError where there are no clips, a number is claimed twice, a name has characters that cannot be
    printed.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", expected=LEGAL)
    clips: list[Clip] = []
    ignored: list[str] = []
    for entry in _entries(folder):
        if not entry.is_dir():
            ignored.append(f"{entry.name}: lies in no genre's folder")
            continue
        sounds = []
        for path in _entries(entry):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                sounds.append(path)
            else:
                ignored.append(f"{entry.name}/{path.name}: not a file of {', '.join(SUFFIXES)}")
        if sounds:
            clips += _number(entry.name, sounds)
        else:
            ignored.append(f"{entry.name}: a folder without sound files")
    if not clips:
        raise DataError(f"{folder} has no folder with sound files", expected=LEGAL)
    return clips, ignored


def _entries(folder: Path) -> list[Path]:
    try:
        entries = sorted(path for path in folder.iterdir() if not HIDDEN.fullmatch(path.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error}", expected=LEGAL) from error
    for path in entries:
        if not path.name.isprintable():
            raise DataError(
                f"{folder} has an entry {path.name!r}, with characters that cannot be printed",
                expected="plain names",
            )
    return entries


def _number(genre: str, sounds: list[Path]) -> Iterator[Clip]:
    named: dict[str, Path] = {}
    for path in sounds:
        match = NUMBERED.fullmatch(path.stem.removeprefix(genre)) if path.stem.startswith(genre) else None
        if match is None:
            continue
        if match[1] in named:
            raise DataError(
                f"{path} and {named[match[1]].name} both claim to be track {genre}.{match[1]}",
                expected="each number once in a genre",
                hint="the same command, once one of them is renamed or removed",
            )
        named[match[1]] = path
    kept = set(named.values())
    free = (number for number in (f"{count:05d}" for count in range(MOST_TRACKS)) if number not in named)
    others = [path for path in sounds if path not in kept]
    if len(sounds) > MOST_TRACKS:
        raise DataError(f"{sounds[0].parent} has {len(sounds)} files", expected=f"up to {MOST_TRACKS} a genre")
    numbered = named | dict(zip(free, others, strict=False))
    for number, path in sorted(numbered.items()):
        yield Clip(f"{genre}.{number}", genre, f"{genre}/{path.name}", path)
