"""Tracks that are there twice: with identical features, or with identical picture files."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.records import Split
from harness.data.images import picture_digests
from harness.data.source import picture_files
from harness.data.tracks import Tracks, equal_groups

UNLISTED = "in no list"


@dataclass(frozen=True, slots=True)
class Identical:
    """Tracks of one content; `alike` says in what, and `parts` are the parts of the split that they are in.

    `genres` are their genres: several if the same recording has different labels.
    """

    tracks: tuple[str, ...]
    alike: tuple[str, ...]
    parts: tuple[str, ...]
    genres: tuple[str, ...]


def identical_tracks(tracks: Tracks, split: Split) -> tuple[Identical, ...]:
    """Return the groups of tracks with identical features or identical picture files, of the whole data set.

    The test part is compared too, byte by byte, as `load_tracks` does; nothing of it is read as a value.
    """
    groups: dict[tuple[str, ...], list[str]] = {}
    if tracks.features is not None:
        groups |= {group: ["features"] for group in tracks.duplicates}
    if tracks.pictures is not None:
        found = picture_files(tracks.folder, tracks.options)
        for group in equal_groups(tracks.ids, picture_digests([found[track][1] for track in tracks.ids])):
            groups.setdefault(group, []).append("pictures")
    named = {"train": split.train, "validation": split.valid, "test": split.test}
    part_of = {track: part for part, members in named.items() for track in members}
    genre_of = {track: tracks.genres[label] for track, label in zip(tracks.ids, tracks.labels, strict=True)}
    return tuple(
        Identical(
            tracks=group,
            alike=tuple(alike),
            parts=tuple(dict.fromkeys(part_of.get(track, UNLISTED) for track in group)),
            genres=tuple(dict.fromkeys(genre_of[track] for track in group)),
        )
        for group, alike in sorted(groups.items())
    )
