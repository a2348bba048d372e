"""A data set made from sound: features and pictures of every clip, in processes, taken up again after any end."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from harness import __version__
from harness.core.errors import DataError
from harness.core.files import FileLock, replacing
from harness.data.audio.clips import Clip, find_clips
from harness.data.audio.recipe import (
    FEATURE_RECIPE,
    LIBRARIES,
    PICTURE_RECIPE,
    check_audio_extra,
    clip_features,
    clip_picture,
    load_clip,
)
from harness.data.features import FEATURES_FILE, write_features
from harness.data.images import PICTURES_FOLDER
from harness.data.tracks import load_tracks
from harness.workers.pool import work_through

WORK_FOLDER = ".extract"
TRACKS_FILE, ABOUT_FILE = "tracks.csv", "extraction.json"
# In the order in which they are put in place: the pictures and the CSV together are the data set, the CSV is last.
LAID_OUT = (ABOUT_FILE, TRACKS_FILE, PICTURES_FOLDER, FEATURES_FILE)
# What librosa imports only when it is used.
PRELOAD = ("librosa.feature", "librosa.beat", "librosa.decompose", "soundfile", "matplotlib.colors")
# Told of each file: its name, how many are done, of how many, and why it is left out (None where it is not).
Told = Callable[[str, int, int, str | None], None]


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came of a folder of sound: `skipped` maps a file's name to the reason why it is no track."""

    folder: Path
    tracks: int
    skipped: dict[str, str]
    ignored: list[str]


def extract(audio: Path, out: Path, *, jobs: int = 1, told: Told = lambda *_: None) -> Extraction:
    """Make the data set `out` from the sound files of `audio`, in `jobs` processes; `told` hears of each.

    What is done of each clip is kept in `out/.extract` until all are, so that the same call after a kill does the
    rest. The data set is checked as a whole, then put in place, its CSV in one step. Files that cannot be used
    are skipped.

    Raises DataError where no file can be used, `out` holds a data set already or is at work for another, and
    where the extra [audio] is missing; OSError where `out` cannot be written.
    """
    check_audio_extra()
    work, ready = out / WORK_FOLDER, out / WORK_FOLDER / "ready"
    _check_place(audio, out, begun=ready.exists())
    clips, ignored = find_clips(audio)
    lock = FileLock(work / "lock")
    if not lock.acquire(wait=False):
        raise DataError(f"another process extracts to {out}", expected="one at a time", hint="--out OTHER")
    try:
        if not ready.exists():
            _assemble(audio, work, clips, *_analyse_all(clips, work, jobs, told))
        for name in LAID_OUT:
            if (ready / name).exists():
                (ready / name).rename(out / name)
        about = json.loads((out / ABOUT_FILE).read_text())
        shutil.rmtree(work)
    finally:
        lock.release()
    return Extraction(out, about["tracks"], about["skipped"], ignored)


def _check_place(audio: Path, out: Path, *, begun: bool) -> None:
    if out.resolve().is_relative_to(audio.resolve()):
        raise DataError(
            f"{out} lies inside the folder of sound files {audio}",
            expected="a folder elsewhere",
            hint="--out OTHER",
        )
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is not a folder", expected="a folder to lay out", hint="--out OTHER")
    # A call that was killed while it put the data set in place has left a part of it there.
    for name in () if begun else reversed(LAID_OUT):
        if (out / name).exists():
            raise DataError(
                f"{out / name} is there already",
                expected="a folder without a data set",
                hint="move it away first, or --out OTHER",
            )


@dataclass(frozen=True, slots=True)
class Job:
    """A clip and where its results go; `key` names all that they follow from."""

    clip: Clip
    work: Path
    key: str

    @property
    def row(self) -> Path:
        """The file of the clip's features, written last: where it is, the clip is done."""
        return self.work / "rows" / self.clip.genre / f"{self.clip.track}.json"

    @property
    def picture(self) -> Path:
        """The file of the clip's picture."""
        number = self.clip.track.rpartition(".")[2]
        return self.work / "set" / PICTURES_FOLDER / self.clip.genre / f"{self.clip.genre}{number}.png"

    def features(self) -> list[float] | None:
        """Return what an earlier call has found, if it is of the same file by the same recipe."""
        if not self.row.exists() or not self.picture.exists():
            return None
        known = json.loads(self.row.read_text())
        features: list[float] = known["features"]
        return features if known["key"] == self.key else None


def analyse(job: Job) -> str | OSError | None:
    """Compute and write what is wanted of one clip; return why it cannot be used, or what refuses the writing."""
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
            temporary.write_text(json.dumps({"key": job.key, "features": features}))
    except OSError as error:
        return error
    return None


def _analyse_all(
    clips: Sequence[Clip], work: Path, jobs: int, told: Told
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the features by track id, and the files that cannot be used with the reasons."""
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
            told(job.clip.name, len(rows) + len(skipped), len(every), error)
    return rows, dict(sorted(skipped.items()))


def _identity(path: Path) -> list[str | int]:
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _assemble(
    audio: Path, work: Path, clips: Sequence[Clip], rows: dict[str, list[float]], skipped: dict[str, str]
) -> None:
    """Write the data set to `work/ready`, which appears when it is whole and sound."""
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
    (folder / ABOUT_FILE).write_text(json.dumps(about, indent=2) + "\n")
    try:
        load_tracks(folder, enough=False)
    except DataError as error:
        raise DataError(
            error.found.replace(str(folder.absolute()), str(audio)),
            expected=error.expected,
            hint="the same command again, once it is mended: what is done is kept",
        ) from error
    folder.rename(work / "ready")


def _keep_only(folder: Path, pictures: set[Path]) -> None:
    """Remove pictures of files that have gone since an earlier call, and what a kill has left half-written."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in pictures:
            path.unlink()
