"""Find the sound files of a folder, one folder for each genre, and number them as tracks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError
from harness.data.audio.recipe import SUFFIXES
from harness.data.layout import HIDDEN

EXPECTED = f"AUDIO_DIR/GENRE/*.wav (or {', '.join(SUFFIXES[1:])}), one folder for each genre"
NUMBERED = re.compile(r"\.(\d{5})", re.ASCII)
MAX_TRACKS = 100_000  # of one genre: the number has five digits


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound file and its track id, `GENRE.NNNNN`; `name` is the path of the file below the searched folder."""

    track: str
    genre: str
    name: str
    path: Path


def find_clips(folder: Path) -> tuple[list[Clip], list[str]]:
    """Return the clips of a folder, sorted by track id in each genre, and a line for each ignored entry.

    `GENRE.NNNNN.wav` in the folder GENRE keeps its number. The other files of a genre get the free numbers from 0,
    in the order of their names, so that the same folder always gives the same tracks.

    Raises DataError if there are no clips, if two files have the same number, or if a name has characters that
    cannot be printed.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", expected=EXPECTED)
    clips: list[Clip] = []
    ignored: list[str] = []
    for entry in _entries(folder):
        if not entry.is_dir():
            ignored.append(f"{entry.name}: not in the folder of a genre")
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
        raise DataError(f"{folder} has no folder with sound files", expected=EXPECTED)
    return clips, ignored


def _entries(folder: Path) -> list[Path]:
    try:
        entries = sorted(path for path in folder.iterdir() if not HIDDEN.fullmatch(path.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error}", expected=EXPECTED) from error
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
                f"{path} and {named[match[1]].name} are both named as track {genre}.{match[1]}",
                expected="each number once in a genre",
                hint="rename or remove one of them, then the same command again",
            )
        named[match[1]] = path
    kept = set(named.values())
    free = (number for number in (f"{count:05d}" for count in range(MAX_TRACKS)) if number not in named)
    others = [path for path in sounds if path not in kept]
    if len(sounds) > MAX_TRACKS:
        raise DataError(f"{sounds[0].parent} has {len(sounds)} files", expected=f"up to {MAX_TRACKS} a genre")
    numbered = named | dict(zip(free, others, strict=False))
    for number, path in sorted(numbered.items()):
        yield Clip(f"{genre}.{number}", genre, f"{genre}/{path.name}", path)
