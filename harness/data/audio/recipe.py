"""One clip of sound to one row of features, and to one mel picture, by recipes that are fixed and versioned.

Both are described in docs/audio.md. Whoever changes what comes out raises the recipe's number there and here.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.core.errors import DataError
from harness.data.features import FEATURE_COLUMNS, LARGEST

FEATURE_RECIPE, PICTURE_RECIPE = 1, 1
SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".au")  # GTZAN's first edition was .au
RATE = 22050  # samples a second
SHORTEST, LONGEST = 3.0, 600.0  # seconds; hpss holds a dozen copies of the spectrogram
RATES = (8000, 192000)  # samples a second, as stored
MOST_CHANNELS = 8
# A clip that moves less than one step of 16 bits from end to end is taken for silent.
SILENCE = 2.0**-15
MFCCS = 20
# librosa's default before 0.10, with which Kaggle's file was made; with today's, MFCCs come out up to 3 % off.
PAD_MODE: Final = "reflect"
PICTURE_WIDTH, PICTURE_HEIGHT = 432, 288  # pixels, as Kaggle's
MELS, DECIBELS = 128, 80.0
COLOURS = "magma"
LIBRARIES = ("librosa", "soundfile")


def check_audio_extra() -> None:
    """Raise DataError where what reads sound is not installed."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(
            f"reading audio needs the package {' and '.join(missing)}",
            expected="the extra [audio]",
            hint="pip install -e '.[audio]'",
        )


def load_clip(path: Path) -> np.ndarray:
    """Decode a whole file to one channel at 22050 Hz: float32 [samples].

    Raises DataError for what cannot be decoded, for a clip too short, too long, silent or with samples that are
    no numbers, and where the extra [audio] is missing.
    """
    check_audio_extra()
    import librosa
    import soundfile

    try:
        # Opened here, because librosa would try other decoders, and other rounding, on what this one refuses.
        with soundfile.SoundFile(path) as file:
            _check_header(path, file.frames, file.samplerate, file.channels)
            clip, _ = librosa.load(file, sr=RATE, mono=True)
    except (soundfile.SoundFileError, librosa.LibrosaError, OSError) as error:
        reason = getattr(error, "error_string", error)  # the library's own words, without the path again
        raise DataError(f"{path} cannot be decoded: {reason}", expected=_legal()) from error
    if len(clip) < SHORTEST * RATE:  # the header may promise more than there is
        raise DataError(f"{path} decodes to {len(clip) / RATE:.2f} s", expected=_legal())
    if np.ptp(clip) < SILENCE:
        raise DataError(f"{path} is silent", expected=_legal())
    found: np.ndarray = clip
    return found


def _check_header(path: Path, frames: int, rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{path} has {rate} samples a second", expected=_legal())
    if channels > MOST_CHANNELS:
        raise DataError(f"{path} has {channels} channels", expected=_legal())
    seconds = frames / rate
    if not SHORTEST <= seconds <= LONGEST:
        raise DataError(f"{path} is {seconds:.2f} s long", expected=_legal())


def _legal() -> str:
    kinds = ", ".join(suffix.removeprefix(".").upper() for suffix in SUFFIXES)
    return (
        f"{kinds} of {SHORTEST:g} to {LONGEST:g} s with sound in it, {RATES[0]} to {RATES[1]} Hz, "
        f"up to {MOST_CHANNELS} channels"
    )


def clip_features(path: Path, clip: np.ndarray) -> np.ndarray:
    """Return the features of a clip, in the order of FEATURE_COLUMNS: float64 [58].

    The recipe of Kaggle's `features_30_sec.csv`, found by recomputing its rows. `path` is for messages.

    Raises DataError naming the columns whose value is not finite.
    """
    import librosa

    try:
        # What overflows is told by the values; a clip without a pitch has its chroma by concert pitch.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="librosa")
            row = _features(clip)
    except librosa.LibrosaError as error:
        raise DataError(f"{path} gives no features: {error}", expected=_legal()) from error
    # Written so that NaN, which no comparison holds for, counts as bad too.
    bad = [name for name, value in zip(FEATURE_COLUMNS, row, strict=True) if not abs(value) <= LARGEST]
    if bad:
        raise DataError(
            f"{path} has features that are not finite: {', '.join(bad[:6])}{' and others' if bad[6:] else ''}",
            expected=_legal(),
        )
    return row


def _features(clip: np.ndarray) -> np.ndarray:
    import librosa

    spectral: dict[str, Any] = {"y": clip, "sr": RATE, "pad_mode": PAD_MODE}
    series = {
        "chroma_stft": librosa.feature.chroma_stft(**spectral),
        "rms": librosa.feature.rms(y=clip, pad_mode=PAD_MODE),
        "spectral_centroid": librosa.feature.spectral_centroid(**spectral),
        "spectral_bandwidth": librosa.feature.spectral_bandwidth(**spectral),
        "rolloff": librosa.feature.spectral_rolloff(**spectral),
        "zero_crossing_rate": librosa.feature.zero_crossing_rate(clip),
    }
    series["harmony"], series["perceptr"] = _harmonic_and_percussive(clip)
    coefficients = librosa.feature.mfcc(n_mfcc=MFCCS, **spectral)
    tempo, _ = librosa.beat.beat_track(y=clip, sr=RATE)
    series |= {f"mfcc{number}": values for number, values in enumerate(coefficients, start=1)}
    found = {"length": float(len(clip)), "tempo": float(np.atleast_1d(tempo)[0])}
    for name, values in series.items():
        found[f"{name}_mean"], found[f"{name}_var"] = float(np.mean(values)), float(np.var(values))
    return np.array([found[name] for name in FEATURE_COLUMNS])


def _harmonic_and_percussive(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate a clip as librosa's `effects.hpss` did when Kaggle's file was made.

    Whatever follows the last whole hop is silent, where today's gives the window's end there. It decides the two
    means, which hover about 0, and shows in the variances.
    """
    import librosa

    parts = librosa.decompose.hpss(librosa.stft(clip, pad_mode=PAD_MODE))
    harmonic, percussive = (librosa.util.fix_length(librosa.istft(part), size=len(clip)) for part in parts)
    return harmonic, percussive


def clip_picture(clip: np.ndarray, size: tuple[int, int] = (PICTURE_HEIGHT, PICTURE_WIDTH)) -> np.ndarray:
    """Draw the mel spectrogram of a clip: uint8 [*size, 3], low pitch at the bottom, no border, no axes.

    128 mel bands in decibels below the loudest, down to -80, the whole clip over the whole width, through the
    colour map magma.
    """
    import librosa
    from matplotlib import colormaps
    from PIL import Image

    power = librosa.feature.melspectrogram(y=clip, sr=RATE, n_mels=MELS, pad_mode=PAD_MODE)
    level = librosa.power_to_db(power, ref=np.max, top_db=DECIBELS)
    # Scaled before it is coloured: a mean of two colours of the map need not be one of its colours.
    scaled = Image.fromarray(level[::-1].astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    shade = np.clip(1 + np.asarray(scaled) / DECIBELS, 0, 1)
    picture: np.ndarray = colormaps[COLOURS](shade, bytes=True)[..., :3]
    return picture
