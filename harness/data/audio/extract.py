"""Make a data set from sound files, in several processes; an extraction that was stopped can be continued."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from harness.core.errors import DataError
from harness.core.files import FileLock, replacing
from harness.core.version import __version__
from harness.data.audio.clips import Clip, find_clips
from harness.data.audio.compiled import LIBRARIES, check_libraries, prepare_audio
from harness.data.audio.recipe import (
    FEATURE_RECIPE,
    PICTURE_RECIPE,
    clip_features,
    clip_picture,
    load_clip,
)
from harness.data.features import write_features
from harness.data.layout import FEATURES_FILE, PICTURES_FOLDER, FileProgress
from harness.data.tracks import load_tracks
from harness.workers.pool import work_through

WORK_FOLDER = ".extract"
TRACKS_FILE, ABOUT_FILE = "tracks.csv", "extraction.json"
# In the order in which they are moved to the data folder. The CSV is last: before it the data set is incomplete.
OUTPUTS = (ABOUT_FILE, TRACKS_FILE, PICTURES_FOLDER, FEATURES_FILE)
# What librosa imports only when it is used: imported once, before the processes are forked.
PRELOAD = ("librosa.feature", "librosa.beat", "librosa.decompose", "soundfile", "matplotlib.colors")


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of an extraction.

    `tracks` is the number of tracks, `skipped` maps the names of files that cannot be used to the reasons, and
    `ignored` has a line for each entry that is not a sound file of a genre.
    """

    tracks: int
    skipped: dict[str, str]
    ignored: list[str]


def extract(audio: Path, out: Path, *, jobs: int = 1, progress: FileProgress = lambda *_: None) -> Extraction:
    """Make the data set `out` from the sound files of `audio`, in `jobs` processes.

    The results of each clip are kept in `out/.extract` until all are done: the same call after a kill computes
    only the rest. The whole data set is checked before it is moved to `out`, the CSV last. Files that cannot be
    used are skipped. `progress` is called after each file.

    Raises DataError if no file can be used, if `out` already has a data set, if another process extracts to `out`,
    or if the extra [audio] is missing. Raises OSError if `out` cannot be written.
    """
    check_libraries()
    work, ready = out / WORK_FOLDER, out / WORK_FOLDER / "ready"
    _check_folders(audio, out, resumed=ready.exists())
    clips, ignored = find_clips(audio)
    lock = FileLock(work / "lock")
    if not lock.acquire(wait=False, patience=0.1):
        raise DataError(f"another process extracts to {out}", expected="one process at a time", hint="--out OTHER")
    try:
        if not ready.exists():
            prepare_audio()
            _assemble(audio, work, clips, *_analyse_all(clips, work, jobs, progress))
        for name in OUTPUTS:
            if (ready / name).exists():
                (ready / name).rename(out / name)
        about = json.loads((out / ABOUT_FILE).read_text(encoding="utf-8"))
        shutil.rmtree(work)
    finally:
        lock.release()
    return Extraction(about["tracks"], about["skipped"], ignored)


def _check_folders(audio: Path, out: Path, *, resumed: bool) -> None:
    if out.resolve().is_relative_to(audio.resolve()):
        raise DataError(
            f"{out} lies inside the folder of sound files {audio}",
            expected="a folder outside of it",
            hint="--out OTHER",
        )
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is not a folder", expected="a folder, or a new name", hint="--out OTHER")
    # A call that was killed while it moved the data set to `out` has left a part of it there.
    for name in () if resumed else reversed(OUTPUTS):
        if (out / name).exists():
            raise DataError(
                f"{out / name} is there already",
                expected="a folder without a data set",
                hint="move it away first, or --out OTHER",
            )


@dataclass(frozen=True, slots=True)
class Job:
    """A clip and the folder for its results; `key` stands for the file, the recipes and the library versions."""

    clip: Clip
    work: Path
    key: str

    @property
    def row(self) -> Path:
        """The file of the clip's features. It is written last: if it exists, the clip is done."""
        return self.work / "rows" / self.clip.genre / f"{self.clip.track}.json"

    @property
    def picture(self) -> Path:
        """The file of the clip's picture."""
        number = self.clip.track.rpartition(".")[2]
        return self.work / "set" / PICTURES_FOLDER / self.clip.genre / f"{self.clip.genre}{number}.png"

    def features(self) -> list[float] | None:
        """Return the features that an earlier call has computed, or None if there are none for this key."""
        if not self.row.exists() or not self.picture.exists():
            return None
        known = json.loads(self.row.read_text(encoding="utf-8"))
        features: list[float] = known["features"]
        return features if known["key"] == self.key else None


def analyse(job: Job) -> str | OSError | None:
    """Compute and write the features and the picture of a clip.

    Return None, or the reason why the clip cannot be used, or the OSError if the results cannot be written.
    """
    try:
        clip = load_clip(job.clip.path)
        features = clip_features(job.clip.path, clip).tolist()
        picture = clip_picture(clip)
    except DataError as error:
        return error.found
    except MemoryError:
        return f"{job.clip.path} does not fit into memory"
    try:
        with replacing(job.picture) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        with replacing(job.row) as temporary:
            temporary.write_text(json.dumps({"key": job.key, "features": features}), encoding="utf-8")
    except OSError as error:
        return error
    return None


def _analyse_all(
    clips: Sequence[Clip], work: Path, jobs: int, progress: FileProgress
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the features by track id, and the reasons by the name of a file that cannot be used."""
    recipe = [FEATURE_RECIPE, PICTURE_RECIPE, *(version(name) for name in LIBRARIES)]
    every = [Job(clip, work, json.dumps([*recipe, *_identity(clip.path)])) for clip in clips]
    rows = {job.clip.track: features for job in every if (features := job.features()) is not None}
    left = [job for job in every if job.clip.track not in rows]
    skipped: dict[str, str] = {}
    with closing(work_through(left, analyse, jobs, preload=PRELOAD)) as results:
        for job, result in results:
            if isinstance(result, OSError):
                raise result
            error = None if result is None else str(result)
            if error is None:
                features = job.features()
                assert features is not None
                rows[job.clip.track] = features
            else:
                skipped[job.clip.name] = error
            progress(job.clip.name, len(rows) + len(skipped), len(every), error)
    return rows, dict(sorted(skipped.items()))


def _identity(path: Path) -> list[str | int]:
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _assemble(
    audio: Path, work: Path, clips: Sequence[Clip], rows: dict[str, list[float]], skipped: dict[str, str]
) -> None:
    """Write and check the data set; the folder `work/ready` exists only when both are done."""
    used = [clip for clip in clips if clip.track in rows]
    if not used:
        reason = next(iter(skipped.values()))
        raise DataError(f"none of the {len(clips)} sound files in {audio} can be used: {reason}")
    folder = work / "set"
    _keep_only(folder / PICTURES_FOLDER, {Job(clip, work, "").picture for clip in used})
    ids, genres = [clip.track for clip in used], [clip.genre for clip in used]
    write_features(folder / FEATURES_FILE, ids, genres, np.array([rows[track] for track in ids]))
    with (folder / TRACKS_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "track"])
        writer.writerows([clip.name, clip.track] for clip in used)
    about = {
        "feature_recipe": FEATURE_RECIPE,
        "picture_recipe": PICTURE_RECIPE,
        "versions": {"harness": __version__, **{name: version(name) for name in LIBRARIES}},
        "tracks": len(used),
        "skipped": skipped,
    }
    (folder / ABOUT_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    try:
        load_tracks(folder, enough=False)
    except DataError as error:
        raise DataError(
            error.found.replace(str(folder.absolute()), str(audio)),
            expected=error.expected,
            hint="correct it, then the same command again: finished clips are kept",
        ) from error
    folder.rename(work / "ready")


def _keep_only(folder: Path, pictures: set[Path]) -> None:
    """Remove other files: pictures of clips that no longer exist, and incomplete files that a kill has left."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in pictures:
            path.unlink()
