"""Audio: Kaggle's rows are reproduced, bad files are refused, and a killed extraction can be continued."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from harness.core.errors import DataError
from harness.data import FEATURE_COLUMNS, load_tracks
from harness.data.audio import clip_features, clip_picture, compiled, extract, load_clip, prepare_audio
from harness.data.audio.clips import find_clips
from harness.data.features import read_features
from tests.support.commands import Harness, command

pytestmark = pytest.mark.usefixtures("own_fork_server")
RATE = 22050


def tune(seconds: float = 3.5, *, pitch: float = 220.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A pulsing tone with a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    return 0.3 * np.sin(2 * np.pi * pitch * time) * (np.sin(4 * np.pi * time) > 0) + 0.01 * noise


def write(path: Path, sound: np.ndarray, rate: int = RATE, **options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, **options)
    return path


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Two genres of six clips each: FLAC files with names of the user, and WAV files with names as in GTZAN."""
    for index in range(6):
        write(tmp_path / "music" / "hip hop" / f"song {index}.flac", tune(pitch=200 + 10 * index, seed=index))
        write(tmp_path / "music" / "rock" / f"rock.{index + 2:05d}.wav", tune(pitch=400 + 20 * index, seed=index))
    return tmp_path / "music"


@pytest.mark.long
def test_what_numba_compiles_is_in_a_folder_that_is_complete_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are damaged by processes that are killed, or write them at once: later calls ended in SIGSEGV."""
    write(tmp_path / "a.wav", tune())
    code = (
        "from pathlib import Path\n"
        "from harness.data.audio import clip_features, clip_picture, load_clip\n"
        "clip = load_clip(Path('a.wav'))\n"
        "clip_picture(clip), clip_features(Path('a.wav'), clip)\n"
    )
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True)

    def kinds() -> set[str]:
        return {path.name[0] for path in (tmp_path / "cache" / "numba").glob("*librosa-*") if path.is_dir()}

    first = start()
    made: list[Path] = []
    while len(made) < 3:
        assert first.poll() is None
        made = list((tmp_path / "cache" / "numba").rglob("*.nbc"))
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert kinds() == {"."}  # a temporary folder alone
    processes = [start() for _ in range(3)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    assert kinds() == {"l"}
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert start().wait(timeout=300) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == files


def test_numba_has_a_folder_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside librosa it has none in a read-only installation; the import of librosa would fail then."""
    monkeypatch.setattr(compiled, "_start_making", Path.mkdir)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))
    prepare_audio()
    used = Path(os.environ["NUMBA_CACHE_DIR"])
    assert used.parent == tmp_path / "own"
    prepare_audio()
    assert os.environ["NUMBA_CACHE_DIR"] == str(used)
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    prepare_audio()
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "cache" / "numba" / used.name)
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    prepare_audio()
    private = Path(os.environ["NUMBA_CACHE_DIR"]).parent
    assert private.stat().st_mode & 0o777 == 0o700
    assert private.stat().st_uid == os.getuid()


def test_a_librosa_that_cannot_be_used_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "COMPILE", "raise SystemExit('no such library')")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with pytest.raises(DataError, match="librosa cannot be used here: no such library"):
        prepare_audio()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("genre", ["blues", "jazz", "metal", "pop"])
def test_the_recipe_gives_kaggles_rows(gtzan: Path, genre: str) -> None:
    table = read_features(gtzan / "features_30_sec.csv")
    path = gtzan / "genres_original" / genre / f"{genre}.00000.wav"
    found = clip_features(path, load_clip(path))
    expected = table.values[table.ids.index(f"{genre}.00000")]
    far = {
        name: (value, wanted)
        for name, value, wanted in zip(FEATURE_COLUMNS, found, expected, strict=True)
        if abs(value - wanted) > 1e-4 * abs(wanted)
    }
    assert far == {}


@pytest.mark.long
def test_a_picture_is_drawn_and_reproduced(tmp_path: Path) -> None:
    clip = load_clip(write(tmp_path / "a.wav", tune()))
    picture = clip_picture(clip)
    assert picture.shape == (288, 432, 3)
    assert picture.dtype == np.uint8
    assert (picture == clip_picture(clip)).all()
    # Low pitch is at the bottom: the tone of 220 Hz is the brightest part.
    assert picture.mean((1, 2)).argmax() > 250


@pytest.mark.long
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "au"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", tune())
    found = clip_features(path, load_clip(path))
    plain = clip_features(path, load_clip(write(tmp_path / "plain.wav", tune())))
    centroid = FEATURE_COLUMNS.index("spectral_centroid_mean")
    assert found[centroid] == pytest.approx(plain[centroid], rel=0.3)


@pytest.mark.long
def test_channels_are_mixed_and_rates_converted(tmp_path: Path) -> None:
    mono = load_clip(write(tmp_path / "mono.wav", tune()))
    stereo = load_clip(write(tmp_path / "stereo.wav", np.stack([tune(), tune()], axis=1)))
    assert (mono == stereo).all()
    fast = load_clip(write(tmp_path / "fast.wav", tune(rate=44100), 44100))
    assert len(fast) == len(mono)
    low, high = (clip_features(tmp_path, clip)[FEATURE_COLUMNS.index("chroma_stft_mean")] for clip in (mono, fast))
    assert high == pytest.approx(low, rel=0.3)


def nonsense(path: Path) -> None:
    path.write_bytes(b"RIFF, or so it says" * 50)


def nothing(path: Path) -> None:
    path.touch()


def half_a_header(path: Path) -> None:
    write(path, tune())
    path.write_bytes(path.read_bytes()[:30])


def not_numbers(path: Path) -> None:
    sound = tune()
    sound[1000] = np.nan
    write(path, sound, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (nonsense, "cannot be decoded"),
        (nothing, "cannot be decoded"),
        (half_a_header, "cannot be decoded|0.00 s"),
        pytest.param(
            not_numbers, "not finite", marks=pytest.mark.long
        ),  # decoded, which compiles on a new machine
        (lambda path: write(path, tune(1.0)), "is 1.00 s long"),
        (lambda path: write(path, np.zeros(601 * 8000), 8000), "is 601.00 s long"),
        pytest.param(lambda path: write(path, np.zeros(4 * RATE)), "is silent", marks=pytest.mark.long),
        pytest.param(lambda path: write(path, np.full(4 * RATE, 0.5)), "is silent", marks=pytest.mark.long),
        (lambda path: write(path, tune(rate=4000), 4000), "4000 samples a second"),
        (lambda path: write(path, np.zeros((RATE * 4, 9))), "9 channels"),
        (os.mkfifo, "not a regular file"),
        pytest.param(
            lambda path: write(path, 1e30 * tune(), subtype="FLOAT"), "no features", marks=pytest.mark.long
        ),
        (lambda path: path.mkdir(), "cannot be decoded"),
        (lambda path: None, "cannot be decoded"),
    ],
)
def test_a_clip_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, make: Callable[[Path], object], found: str
) -> None:
    path = tmp_path / "clip.wav"
    make(path)
    with pytest.raises(DataError, match=found) as refusal:
        clip_features(path, load_clip(path))
    assert str(path) in refusal.value.found
    assert refusal.value.expected


def test_a_small_file_with_gigabytes_of_silence_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600 s of 8 channels at 192 kHz are within each limit, and take 5 GB."""
    path = write(tmp_path / "bomb.flac", np.zeros((4 * 192_000, 8)), 192_000)
    content = bytearray(path.read_bytes())
    assert content[:4] == b"fLaC"
    samples = 600 * 192_000  # the number of samples: 36 bits at the end of 8 bytes of the first block
    content[21:26] = bytes([content[21] & 0xF0]) + samples.to_bytes(4)
    path.write_bytes(content)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"has 921600000 samples in 8 channels\nexpected: .*57600000 samples"):
        load_clip(path)


def test_clips_are_numbered(tmp_path: Path) -> None:
    for name in ("b.wav", "a.mp3", "rock.00001.wav", "rock.7.wav", "pop.00000.wav", "c.wav"):
        write(tmp_path / "rock" / name, tune())
    for index in range(5):
        write(tmp_path / "80s" / f"80s{index}.WAV", tune())
    (tmp_path / "rock" / "cover.jpg").touch()
    (tmp_path / "rock" / ".hidden.wav").touch()
    (tmp_path / "rock" / "album").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "readme.txt").touch()
    clips, ignored = find_clips(tmp_path)
    assert {clip.name: clip.track for clip in clips if clip.genre == "rock"} == {
        "rock/a.mp3": "rock.00000",
        "rock/rock.00001.wav": "rock.00001",
        "rock/b.wav": "rock.00002",
        "rock/c.wav": "rock.00003",
        "rock/pop.00000.wav": "rock.00004",
        "rock/rock.7.wav": "rock.00005",
    }
    assert [clip.track for clip in clips] == sorted(clip.track for clip in clips)
    assert [line.split(":")[0] for line in ignored] == ["empty", "readme.txt", "rock/album", "rock/cover.jpg"]


def test_bad_folders_are_refused(music: Path, tmp_path: Path) -> None:
    def refused(found: str, audio: Path = music, out: Path = tmp_path / "out") -> None:
        with pytest.raises(DataError, match=found):
            extract(audio, out)
        assert not (tmp_path / "out").exists()

    refused("no folder", tmp_path / "nowhere")
    refused("has no folder with sound files", music / "rock")
    refused("lies inside", out=music / "out")
    shutil.copy(music / "rock" / "rock.00002.wav", music / "rock" / "rock.00002.mp3")
    refused("are both named as track rock.00002")


@pytest.mark.long
def test_extract_makes_a_data_set(music: Path, tmp_path: Path, inside: Harness) -> None:
    (music / "rock" / "bad.mp3").write_bytes(b"nonsense")
    (music / "notes.txt").touch()
    out = tmp_path / "out"
    done = inside("data", "extract", str(music), "--out", str(out), "--jobs", "2", code=1)
    assert "12 with 58 feature columns and pictures" in done.stdout
    assert "left out: rock/bad.mp3" in done.stderr
    assert "ignored: notes.txt" in done.stderr
    assert "1 of 13 files" in done.stderr
    assert "13/13" in done.stderr
    assert "\x1b" not in done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "extraction.json",
        "features_30_sec.csv",
        "images_original",
        "tracks.csv",
    ]
    assert "genres     2: hip hop 6, rock 6" in inside("data", "check", str(out)).stdout
    tracks = load_tracks(out)
    assert not tracks.synthetic
    with (out / "tracks.csv").open() as file:
        assert {"file": "hip hop/song 0.flac", "track": "hip hop.00000"} in list(csv.DictReader(file))
    assert "decoded" in json.loads((out / "extraction.json").read_text())["skipped"]["rock/bad.mp3"]
    # This process computes exactly what the other one has written.
    path = music / "rock" / "rock.00004.wav"
    clip = load_clip(path)
    assert tracks.features is not None
    row = tracks.features[tracks.ids.index("rock.00004")]
    assert row == pytest.approx(clip_features(path, clip), rel=1e-6)
    with Image.open(out / "images_original" / "rock" / "rock00004.png") as picture:
        assert (np.asarray(picture) == clip_picture(clip)).all()
    assert "is there already" in inside("data", "extract", str(music), "--out", str(out), code=1).stderr


@pytest.mark.process
def test_a_killed_extraction_continues(music: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    extract(music, whole, jobs=2)
    rows = out / ".extract" / "rows"
    arguments = command("data", "extract", str(music), "--out", str(out), "--jobs", "1")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while len(list(rows.rglob("*.json"))) < 3 and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert not (out / "features_30_sec.csv").exists()
    first = {path: path.stat().st_mtime_ns for path in rows.rglob("*.json")}
    assert 3 <= len(first) < 12
    pictures = out / ".extract" / "set" / "images_original"
    (pictures / "hip hop" / ".hip hop00009.png.half").touch()
    # One file has changed since then, and one was removed.
    changed, gone = music / "hip hop" / "song 1.flac", music / "hip hop" / "song 5.flac"
    write(changed, tune(pitch=777))
    gone.unlink()
    heard: list[str] = []
    done = extract(music, out, jobs=1, progress=lambda name, *_: heard.append(name))
    assert done.tracks == 11
    assert "hip hop/song 1.flac" in heard
    assert len(heard) <= 12 - len(first) + 1
    before, after = load_tracks(whole), load_tracks(out)
    assert before.features is not None
    assert after.features is not None
    assert set(before.ids) - set(after.ids) == {"hip hop.00005"}
    for row, track in enumerate(after.ids):
        same = (after.features[row] == before.features[before.ids.index(track)]).all()
        assert same == (track != "hip hop.00001"), track
    assert not (out / ".extract").exists()
    names = sorted(path.name for path in (out / "images_original" / "hip hop").iterdir())
    assert names == [f"hip hop{number:05d}.png" for number in range(5)]
    assert not list(out.rglob(".*"))


@pytest.mark.long
def test_an_extraction_killed_while_it_moves_the_results_continues(music: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extract(music, out, jobs=2)
    digest = load_tracks(out).digest
    (out / ".extract" / "ready").mkdir(parents=True)
    (out / "features_30_sec.csv").rename(out / ".extract" / "ready" / "features_30_sec.csv")
    assert extract(music, out).tracks == 12
    assert load_tracks(out).digest == digest
    assert not (out / ".extract").exists()


@pytest.mark.long
def test_a_data_set_too_small_for_a_sweep_is_extracted_with_a_warning(music: Path, tmp_path: Path) -> None:
    for path in sorted(music.glob("rock/*"))[:2]:
        path.write_bytes(b"spoilt")
    out = tmp_path / "out"
    arguments = command("data", "extract", str(music), "--out", str(out))
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1  # two files could not be used
    assert "warning" in done.stderr
    assert "too few usable tracks: 4 of 'rock'; a sweep needs at least 2 genres" in done.stderr
    assert len(load_tracks(out, enough=False).ids) == 10
    with pytest.raises(DataError, match="4 of 'rock'"):
        load_tracks(out)


@pytest.mark.long
def test_extract_without_the_extra_says_what_to_install(music: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['librosa'] = None\n"
        f"sys.argv[1:] = ['data', 'extract', {str(music)!r}, '--out', 'out']\n"
        "from harness.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "needs the package librosa" in done.stderr
    assert "pip install -e '.[audio]'" in done.stderr
    assert not (tmp_path / "out").exists()
