"""The track that a description shows: which it is, and the panels of its sound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DataError, SettingsError
from harness.core.records import Split
from harness.data.audio.panels import ClipPanels, clip_panels
from harness.data.audio.recipe import SUFFIXES, load_clip
from harness.data.layout import SOUND_FOLDER
from harness.data.tracks import Tracks


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The track that is shown; `sound` is its sound file, None if there is none."""

    track: str
    genre: str
    part: str
    sound: Path | None


def choose_track(tracks: Tracks, split: Split, wanted: str | None) -> Chosen:
    """Return the wanted track; without one the first with a sound file, of the train part if there is one.

    Raises SettingsError if the wanted track is not in the train or the validation part.
    """
    parts = dict.fromkeys(split.train, "train") | dict.fromkeys(split.valid, "validation")
    if wanted is not None and wanted not in parts:
        raise _not_shown(tracks, split, wanted)
    genre_of = {track: tracks.genres[label] for track, label in zip(tracks.ids, tracks.labels, strict=True)}
    sounds = {
        track: file
        for track in (parts if wanted is None else [wanted])
        if (file := _sound_file(tracks.folder, track, genre_of[track])) is not None
    }
    track = wanted or next(iter(sounds), split.train[0])
    return Chosen(track=track, genre=genre_of[track], part=parts[track], sound=sounds.get(track))


def panels_or_reason(chosen: Chosen) -> ClipPanels | str:
    """Return the panels of the track's sound, or the reason why there are none."""
    if chosen.sound is None:
        return f"there is no sound file {SOUND_FOLDER}/{chosen.genre}/{chosen.track}.wav in the data folder"
    try:
        return clip_panels(load_clip(chosen.sound))
    except DataError as error:  # the rest of the page is as good without it
        return str(error).replace("\n", "; ")


def _sound_file(folder: Path, track: str, genre: str) -> Path | None:
    paths = (folder / SOUND_FOLDER / genre / f"{track}{suffix}" for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _not_shown(tracks: Tracks, split: Split, wanted: str) -> SettingsError:
    some = f"a track of the train or validation part: {', '.join(split.train[:3])}, ..."
    if wanted in tracks.excluded:
        return SettingsError(f"track {wanted!r} is excluded: {tracks.excluded[wanted]}", expected=some)
    if wanted not in tracks.ids:
        return SettingsError(
            f"there is no track {wanted!r} in {tracks.folder}",
            expected=some,
            hint="harness data check DIR, to see what is there",
        )
    if wanted in split.test:
        return SettingsError(
            f"track {wanted!r} is in the test part ({split.name}), which a description leaves out", expected=some
        )
    return SettingsError(f"track {wanted!r} is in no list of the split ({split.name})", expected=some)
