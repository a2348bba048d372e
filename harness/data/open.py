"""Open data folders by name, or by the folder and the digest that a study has recorded."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import DataError
from harness.core.study_record import StudyContext
from harness.data import Tracks, demo_data_folder, load_tracks


def load_data(name: str) -> Tracks:
    """Read a data folder by name; `demo` is the synthetic set, which the first use makes."""
    return load_tracks(demo_data_folder() if name == "demo" else Path(name))


def recorded_folder(context: StudyContext) -> str:
    """Return the data folder that a study recorded, or `demo` if it was a synthetic set that no longer exists."""
    folder = context.dataset.folder
    return "demo" if context.synthetic and not Path(folder).exists() else folder


def load_recorded_data(name: str, digest: str) -> Tracks:
    """Read a data folder by name, with the digest that a study recorded.

    Raises DataError if the folder has other data.
    """
    return check_recorded(load_data(name), digest)


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
    """Return the default experiment for runs on a data set: `demo` for synthetic data, else `gtzan`."""
    return "demo" if tracks.synthetic else "gtzan"
