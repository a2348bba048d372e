"""Open data folders by name, or by the folder and the digest that a study has recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import DataError
from harness.core.study_record import StudyContext
from harness.data import Tracks, demo_data_folder, load_tracks

GTZAN = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip


def folder_of(name: str) -> Path:
    """Return the data folder of a name, its path; `demo` is the synthetic set, which the first use makes."""
    return demo_data_folder() if name == "demo" else Path(name)


def load_data(name: str, options: Mapping[str, str] | None = None) -> Tracks:
    """Read a data folder by name (see `folder_of`).

    `options` are keys of `dataset.toml` that go before those of the file.
    """
    return load_tracks(folder_of(name), options=options)


def recorded_folder(context: StudyContext) -> str:
    """Return the data folder that a study recorded, or `demo` if it was a synthetic set that no longer exists."""
    folder = context.dataset.folder
    return "demo" if context.synthetic and not Path(folder).exists() else folder


def load_recorded_data(context: StudyContext, digest: str, name: str | None = None) -> Tracks:
    """Read the data that a study recorded, with its options; from the folder `name`, if one is given.

    Raises DataError if the folder has other data.
    """
    return check_recorded(load_data(name or recorded_folder(context), context.dataset.options), digest)


def check_recorded(tracks: Tracks, digest: str) -> Tracks:
    """Return the tracks if their digest is the recorded one.

    Raises DataError if it is not.
    """
    if tracks.digest != digest:
        raise DataError(
            f"{tracks.folder} holds other data than the study was made on "
            f"(digest {tracks.digest[:12]}, recorded {digest[:12]})",
            expected="the data folder as it was, the same on every machine",
            hint="harness data check, or --data with the folder that was used",
        )
    return tracks


def default_experiment(tracks: Tracks) -> str:
    """Return the default experiment: `demo` for synthetic data, `gtzan` for GTZAN, else the folder's name.

    What a name of an experiment cannot have becomes a hyphen.
    """
    if tracks.synthetic:
        return "demo"
    if tracks.is_music and tracks.genres == GTZAN:
        return "gtzan"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", tracks.folder.name).strip("-.") or "data"
