"""Compute the features and the mel picture of a clip, by two fixed recipes with version numbers.

docs/audio.md describes both. A change that changes the results raises the recipe's number, here and there.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np

from harness.core.errors import DataError
from harness.core.files import regular
from harness.data.audio.compiled import check_libraries, prepare_audio
from harness.data.features import FEATURE_COLUMNS, FLOAT32_MAX

FEATURE_RECIPE, PICTURE_RECIPE = 1, 1
SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".au")  # GTZAN's first edition was .au
RATE = 22050  # samples a second
# Seconds; hpss needs memory for a dozen copies of the spectrogram.
SHORTEST, LONGEST = 3.0, 600.0
RATES = (8000, 192000)  # lowest and highest sample rate of a file
MAX_CHANNELS = 8
# Of all channels together, as of 600 s in stereo at 48 kHz: silence packs 5 GB of samples into a small file.
MAX_SAMPLES = 600 * 48000 * 2
# A clip whose range of values is below one step of 16 bits counts as silent.
SILENCE = 2.0**-15
MFCCS = 20
# librosa's default before 0.10, with which Kaggle's file was made. Today's default changes MFCCs by up to 3 %.
PAD_MODE: Final = "reflect"
PICTURE_WIDTH, PICTURE_HEIGHT = 432, 288  # pixels, as Kaggle's
MELS, DECIBELS = 128, 80.0
COLOURS = "magma"


def load_clip(path: Path) -> np.ndarray:
    """Decode a whole file to one channel at 22050 Hz: float32 [samples].

    Raises DataError if the file cannot be decoded, if the clip is too short, too long, silent or has samples that
    are not finite, and if the extra [audio] is missing.
    """
    check_libraries()
    import soundfile

    try:
        # Opened with soundfile, because librosa would try other decoders, which round in another way, if it fails.
        with soundfile.SoundFile(regular(path)) as file:
            _check_header(path, file.frames, file.samplerate, file.channels)
            prepare_audio()  # only now: a file that cannot be used is refused at once, on a new machine too
            import librosa

            try:
                clip, _ = librosa.load(file, sr=RATE, mono=True)
            except librosa.LibrosaError as error:
                raise DataError(f"{path} cannot be decoded: {error}", expected=_expected()) from error
    except (soundfile.SoundFileError, OSError) as error:
        reason = getattr(error, "error_string", error)  # without the path, which our message has
        raise DataError(f"{path} cannot be decoded: {reason}", expected=_expected()) from error
    if len(clip) < SHORTEST * RATE:  # the header may state more samples than the file has
        raise DataError(f"{path} decodes to {len(clip) / RATE:.2f} s", expected=_expected())
    if np.ptp(clip) < SILENCE:
        raise DataError(f"{path} is silent", expected=_expected())
    found: np.ndarray = clip
    return found


def _check_header(path: Path, frames: int, rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{path} has {rate} samples a second", expected=_expected())
    if channels > MAX_CHANNELS:
        raise DataError(f"{path} has {channels} channels", expected=_expected())
    seconds = frames / rate
    if not SHORTEST <= seconds <= LONGEST:
        raise DataError(f"{path} is {seconds:.2f} s long", expected=_expected())
    if frames * channels > MAX_SAMPLES:
        raise DataError(f"{path} has {frames * channels} samples in {channels} channels", expected=_expected())


def _expected() -> str:
    kinds = ", ".join(suffix.removeprefix(".").upper() for suffix in SUFFIXES)
    return (
        f"{kinds} of {SHORTEST:g} to {LONGEST:g} s with sound in it, {RATES[0]} to {RATES[1]} Hz, "
        f"up to {MAX_CHANNELS} channels and {MAX_SAMPLES} samples in all of them"
    )


def clip_features(path: Path, clip: np.ndarray) -> np.ndarray:
    """Return the features of a clip, in the order of FEATURE_COLUMNS: float64 [58].

    The recipe is that of Kaggle's `features_30_sec.csv`; it was found by recomputing its rows. `path` is for
    messages.

    Raises DataError with the names of columns whose value is not finite.
    """
    prepare_audio()
    import librosa

    try:
        # An overflow shows in the values below. Without a pitch librosa warns, and tunes chroma to A = 440 Hz.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="librosa")
            row = _features(clip)
    except librosa.LibrosaError as error:
        raise DataError(f"{path} gives no features: {error}", expected=_expected()) from error
    # `not ... <=`, because every comparison with NaN is false.
    bad = [name for name, value in zip(FEATURE_COLUMNS, row, strict=True) if not abs(value) <= FLOAT32_MAX]
    if bad:
        raise DataError(
            f"{path} has features that are not finite: {', '.join(bad[:6])}{' and others' if bad[6:] else ''}",
            expected=_expected(),
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
    series["harmony"], series["perceptr"] = harmonic_and_percussive(clip)
    coefficients = librosa.feature.mfcc(n_mfcc=MFCCS, **spectral)
    tempo, _ = librosa.beat.beat_track(y=clip, sr=RATE)
    series |= {f"mfcc{number}": values for number, values in enumerate(coefficients, start=1)}
    found = {"length": float(len(clip)), "tempo": float(np.atleast_1d(tempo)[0])}
    for name, values in series.items():
        found[f"{name}_mean"], found[f"{name}_var"] = float(np.mean(values)), float(np.var(values))
    return np.array([found[name] for name in FEATURE_COLUMNS])


def harmonic_and_percussive(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separate the harmonic and the percussive part, as librosa's `effects.hpss` did for Kaggle's file.

    Samples after the last whole hop are 0 here; today's librosa has the end of the window there. The difference
    decides the two means, which are close to 0, and is visible in the variances.
    """
    import librosa

    parts = librosa.decompose.hpss(librosa.stft(clip, pad_mode=PAD_MODE))
    harmonic, percussive = (librosa.util.fix_length(librosa.istft(part), size=len(clip)) for part in parts)
    return harmonic, percussive


def clip_picture(clip: np.ndarray, size: tuple[int, int] = (PICTURE_HEIGHT, PICTURE_WIDTH)) -> np.ndarray:
    """Draw the mel spectrogram of a clip: uint8 [*size, 3], low pitch at the bottom, no border, no axes.

    128 mel bands, in decibels relative to the loudest value, down to -80. The whole clip fills the width. The
    colour map is magma.
    """
    from matplotlib import colormaps
    from PIL import Image

    prepare_audio()
    level = mel_levels(clip)
    # Resized before it is coloured: the mean of two colours of the map may not be a colour of the map.
    scaled = Image.fromarray(level[::-1].astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    shade = np.clip(1 + np.asarray(scaled) / DECIBELS, 0, 1)
    picture: np.ndarray = colormaps[COLOURS](shade, bytes=True)[..., :3]
    return picture


def mel_levels(clip: np.ndarray) -> np.ndarray:
    """Return the mel spectrogram in decibels below its loudest value: float32 [128, frames]."""
    import librosa

    power = librosa.feature.melspectrogram(y=clip, sr=RATE, n_mels=MELS, pad_mode=PAD_MODE)
    levels: np.ndarray = librosa.power_to_db(power, ref=np.max, top_db=DECIBELS)
    return levels


def compile_all() -> None:
    """Call once every function of librosa that the recipes use, on a noise; see `compiled.prepare_audio`."""
    import librosa
    import soundfile

    file = io.BytesIO()
    noise = np.random.default_rng(0).normal(scale=0.1, size=(round(2 * RATE * SHORTEST), 2))
    soundfile.write(file, noise, 2 * RATE, format="WAV")  # of another rate and in stereo, as many files are
    file.seek(0)
    clip, _ = librosa.load(file, sr=RATE, mono=True)
    _features(clip)
    mel_levels(clip)
