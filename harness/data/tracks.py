"""Read and check a data folder: its usable tracks, the excluded tracks with reasons, and its digest."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.core.errors import DataError, listed
from harness.core.files import sha256_of
from harness.core.records import Split
from harness.core.space import Value
from harness.data.cache import Pictures, cache_crop, cached_bounds, cached_pictures
from harness.data.cropping import CropBox
from harness.data.features import NOT_MUSIC
from harness.data.images import PICTURE_SIZE, Size, input_size, pictures_digest
from harness.data.layout import MARKER_FILE
from harness.data.options import MUSIC, Words
from harness.data.source import picture_files, read_source

MINIMUM_GENRES, MINIMUM_TRACKS = 2, 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """The usable tracks of a data set, in the order of their ids.

    `labels` is int64 [n], the index of each track's genre in `genres`; `features` is float64 [n, columns] with the
    values of the CSV. `features` or `pictures` may be None; if the data set has both, so has each track.
    `excluded` maps the ids of unusable tracks to the reasons. `duplicates` are groups of ids with identical
    features or, without a CSV, identical picture files. `digest` is the SHA-256 of the content of the whole data
    set: ids, genres, features, pictures and groups. `groups` has for each track what no split tears apart, such as
    the artist; None if the data set has none. `impute` says that features may be NaN, for a network to fill.
    `options` are those that a command line gave, by the keys of `dataset.toml`.
    """

    folder: Path
    ids: tuple[str, ...]
    genres: tuple[str, ...]
    labels: np.ndarray
    columns: tuple[str, ...]
    features: np.ndarray | None
    pictures: Pictures | None
    excluded: Mapping[str, str]
    duplicates: tuple[tuple[str, ...], ...]
    digest: str
    synthetic: bool
    words: Words = MUSIC
    groups: tuple[str, ...] | None = None
    impute: bool = False
    is_music: bool = True  # laid out as Kaggle's GTZAN: sound files become its columns and pictures
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> Size:
        """The height and width of a network's picture."""
        return PICTURE_SIZE if self.pictures is None else self.pictures.size

    @property
    def not_music(self) -> tuple[str, ...]:
        """The columns of Kaggle's table that describe the file and not the music; none in other data."""
        return NOT_MUSIC if self.is_music else ()

    @property
    def lacking(self) -> str | None:
        """A sentence that says why the tracks are too few for a split, or None if they are enough."""
        found = _shortage((self.genres[label] for label in self.labels), self.words)
        return None if found is None else f"{self.folder} has {found}; a sweep needs {enough_of(self.words)}"

    @property
    def inseparable(self) -> dict[str, tuple[str, ...]]:
        """The tracks that no split tears apart, by the first of them: identical ones, and those of a group.

        Groups that share identical tracks are one.
        """
        together: dict[str, list[str]] = {track: [track] for track in self.ids}
        by_group: dict[str, list[str]] = {}
        for track, name in zip(self.ids, self.groups or (), strict=False):
            by_group.setdefault(name, []).append(track)
        for joined in (*by_group.values(), *self.duplicates):
            union = sorted({track for each in joined for track in together[each]})
            for track in union:
                together[track] = union
        return {track: tuple(union) for track, union in together.items() if track == union[0]}

    @property
    def units(self) -> np.ndarray:
        """A number for each track, int64 [n]; inseparable ones have the same: an interval takes them for one."""
        number_of = {track: n for n, joined in enumerate(self.inseparable.values()) for track in joined}
        return np.array([number_of[track] for track in self.ids], dtype=np.int64)

    def coarse_lines(self) -> list[str]:
        """Return a line for each column whose values a network cannot tell apart, as a time in seconds since 1970.

        A network takes float32, which has seven digits, and standardises the column afterwards.
        """
        if self.features is None:
            return []
        with warnings.catch_warnings(action="ignore"):  # of columns without a value
            middle, spread = np.nanmean(self.features, axis=0), np.nanstd(self.features, axis=0)
        lines = []
        for column in np.flatnonzero(spread < 1e-4 * np.abs(middle)):
            values = self.features[:, column][~np.isnan(self.features[:, column])]
            exact, told = len(np.unique(values)), len(np.unique(values.astype(np.float32)))
            if told < exact / 2:
                lines.append(
                    f"column {self.columns[column]!r}: of {exact} different values a network tells {told} apart, "
                    f"because they lie close together far from 0 ({values[0]:.10g}): subtract a constant"
                )
        return lines

    def excluded_lines(self) -> list[str]:
        """Return `id: reason` for each unusable track."""
        return [f"{track}: {reason}" for track, reason in self.excluded.items()]

    def indices(self, ids: Iterable[str]) -> np.ndarray:
        """Return the indices of these tracks, int64 [len(ids)]; raises KeyError for an unknown id."""
        index = {track: number for number, track in enumerate(self.ids)}
        return np.array([index[track] for track in ids], dtype=np.int64)

    def select(self, ids: Iterable[str]) -> Tracks:
        """Return these tracks only, in the same order; the result contains no data of other tracks.

        `genres` and `digest` remain those of the whole data set.
        """
        wanted = set(ids)
        kept = self.indices(track for track in self.ids if track in wanted)
        groups = (tuple(track for track in group if track in wanted) for group in self.duplicates)
        return replace(
            self,
            ids=tuple(self.ids[index] for index in kept),
            labels=self.labels[kept],
            features=None if self.features is None else self.features[kept],
            pictures=None if self.pictures is None else self.pictures.select(kept),
            excluded={},
            duplicates=tuple(group for group in groups if len(group) > 1),
            groups=None if self.groups is None else tuple(self.groups[index] for index in kept),
        )


def load_tracks(folder: Path, *, enough: bool = True, options: Mapping[str, str] | None = None) -> Tracks:
    """Read and check a data folder; the first call also decodes its pictures into the picture cache.

    `enough`: refuse a data set that is too small for a split. `options` are keys of `dataset.toml` that go before
    those of the file. Nothing but the picture cache is written.

    Raises DataError for every fault of the folder or its files.
    """
    folder, given = folder.absolute(), dict(options or {})
    source = read_source(folder, given)
    class_of = source.classes(folder)
    ids = tuple(sorted(class_of))
    classes = tuple(sorted(set(class_of.values())))
    lacking = _shortage(class_of.values(), source.words)
    if enough and lacking is not None:
        raise DataError(
            f"{folder} has {lacking}",
            expected=enough_of(source.words),
            hint=f"add {source.words.items} of that {source.words.class_}, or remove it",
        )
    features, groups = source.rows(ids)
    files = None if source.files is None else [source.files[item][1] for item in ids]
    of_pictures = None if files is None else pictures_digest(ids, files)
    pictures = None
    if files is not None and of_pictures is not None:
        size = source.size or input_size(files)
        pictures = Pictures(cached_pictures(files, of_pictures, size), np.arange(len(files)), size=size)
    return Tracks(
        folder=folder,
        ids=ids,
        genres=classes,
        labels=np.array([classes.index(class_of[item]) for item in ids], dtype=np.int64),
        columns=() if features is None else source.columns,
        features=features,
        pictures=pictures,
        excluded=source.excluded(),
        duplicates=equal_groups(ids, _contents(features, files)),
        digest=_digest(class_of, source.columns, features, of_pictures, groups, source.own_size),
        synthetic=(folder / MARKER_FILE).exists(),
        words=source.words,
        groups=groups,
        impute=source.impute,
        is_music=source.is_music,
        options=given,
    )


def with_crop(tracks: Tracks, splits: Iterable[Split], crops: Collection[Value]) -> Tracks:
    """Return the tracks prepared for these values of the hyperparameter `crop`; see `prepare_crop`."""
    return prepare_crop(tracks, splits) if "frame" in crops else tracks


def holding(tracks: Tracks, splits: Iterable[Split], representations: Collection[str]) -> Tracks:
    """Return the tracks with their pictures in memory, for a machine that has not the picture cache.

    They have what `View.training` reads on these splits, with any `crop` that they were prepared for. Networks of
    `features` alone need no pictures: there are none then.
    """
    if tracks.pictures is None or set(representations) <= {"features"}:
        return replace(tracks, pictures=None)
    boxes: list[CropBox | None] = [None]
    if tracks.pictures.bounds is not None:
        boxes += [tracks.pictures.box(tracks.indices(split.train)) for split in splits]
    return replace(tracks, pictures=tracks.pictures.holding(boxes))


def prepare_crop(tracks: Tracks, splits: Iterable[Split]) -> Tracks:
    """Return the tracks prepared for the crop `frame` on these splits; the first call fills the picture cache.

    The cache gets the bounds of each picture's content and, for the box of each split's train part, a file of the
    cropped pictures with 93 kB a picture. `tracks` are a whole data set with pictures.

    Raises DataError as `load_tracks` does.
    """
    files = _picture_files(tracks)
    bounded = _bounded(tracks, files)
    assert bounded.pictures is not None
    for box in {bounded.pictures.box(tracks.indices(split.train)) for split in splits}:
        cache_crop(bounded.pictures.path, files, box, bounded.pictures.size)
    return bounded


def with_bounds(tracks: Tracks) -> Tracks:
    """Return the tracks, a whole data set, with the bounds of each picture's content; they are cached.

    Raises DataError as `load_tracks` does.
    """
    return _bounded(tracks, _picture_files(tracks))


def _bounded(tracks: Tracks, files: Sequence[Path]) -> Tracks:
    assert tracks.pictures is not None
    bounds = cached_bounds(tracks.pictures.path, files)
    return replace(tracks, pictures=replace(tracks.pictures, bounds=bounds))


def _picture_files(tracks: Tracks) -> list[Path]:
    found = picture_files(tracks.folder, tracks.options)
    return [found[track][1] for track in tracks.ids]


def _digest(
    genre_of: Mapping[str, str],
    columns: Sequence[str],
    features: np.ndarray | None,
    of_pictures: str | None,
    groups: tuple[str, ...] | None,
    size: Size | None,
) -> str:
    """Return the SHA-256 over ids, classes, features [n, columns], the pictures' digest and groups, by id.

    So is the `size` of the network's input, where `dataset.toml` says it.
    """
    digest = hashlib.sha256()
    for track in sorted(genre_of):
        digest.update(f"{track} {genre_of[track]}\n".encode())
    if features is not None:
        digest.update("\n".join(columns).encode())
        digest.update(features.astype("<f8").tobytes())
    if of_pictures is not None:
        digest.update(of_pictures.encode())
    if groups is not None:
        digest.update("\n".join(groups).encode())
    if of_pictures is not None and size is not None:
        digest.update(f"size {size[0]} x {size[1]}\n".encode())
    return digest.hexdigest()


def _contents(features: np.ndarray | None, files: Sequence[Path] | None) -> list[bytes]:
    """Return bytes for each track that are equal if two tracks are the same recording."""
    if features is not None:
        return [row.tobytes() for row in features]
    return [sha256_of(file).encode() for file in files or ()]


def _shortage(classes: Iterable[str], words: Words) -> str | None:
    """Return what is too few for a split, given the class of each item, or None if they are enough."""
    counts = Counter(classes)
    if len(counts) < MINIMUM_GENRES:
        return f"one {words.class_} only, {next(iter(counts))!r}"
    few = [f"{count} of {name!r}" for name, count in sorted(counts.items()) if count < MINIMUM_TRACKS]
    return f"too few usable {words.items}: {listed(few)}" if few else None


def enough_of(words: Words) -> str:
    """Return how many classes and items a split needs."""
    return (
        f"at least {MINIMUM_GENRES} {words.classes}, at least {MINIMUM_TRACKS} {words.items} in each: "
        "a split needs them"
    )


def equal_groups(ids: Sequence[str], contents: Sequence[Hashable]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of two or more tracks with equal contents."""
    groups: dict[Hashable, list[str]] = {}
    for track, content in zip(ids, contents, strict=True):
        groups.setdefault(content, []).append(track)
    return tuple(sorted(tuple(group) for group in groups.values() if len(group) > 1))
