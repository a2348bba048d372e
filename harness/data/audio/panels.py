"""What a clip looks like: its wave, and what the features are means and variances of, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.audio.compiled import prepare_audio
from harness.data.audio.recipe import DECIBELS, MELS, MFCCS, PAD_MODE, RATE, harmonic_and_percussive, mel_levels

WIDTH = 430  # columns of a panel: a clip of 30 s has three times as many frames
BINS = 8  # frequencies of the STFT that one line of its panel stands for


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipPanels:
    """Panels of a clip of `seconds`, each with at most WIDTH columns, which are means over frames.

    `wave`, `harmonic` and `percussive` are float32 [2, columns], the lowest and the highest sample. `stft` [128,
    columns] and `mel` [128, columns] are decibels below the loudest value; `mel_hertz` [128] are the bands'
    centres. `chroma` is [12, columns], from C to B; `mfcc` is [20, columns].
    """

    seconds: float
    wave: np.ndarray
    harmonic: np.ndarray
    percussive: np.ndarray
    stft: np.ndarray
    mel: np.ndarray
    mel_hertz: np.ndarray
    chroma: np.ndarray
    mfcc: np.ndarray

    @property
    def highest_hertz(self) -> float:
        """The highest frequency of `stft`."""
        return RATE / 2


def clip_panels(clip: np.ndarray) -> ClipPanels:
    """Compute the panels of a clip, float32 [samples] at 22050 Hz, with the settings of the features' recipe.

    Raises DataError if the extra [audio] is missing.
    """
    prepare_audio()
    import librosa

    power = np.abs(librosa.stft(clip, pad_mode=PAD_MODE)) ** 2
    levels = librosa.power_to_db(
        _pooled(_pooled(power, WIDTH).T, len(power) // BINS).T, ref=np.max, top_db=DECIBELS
    )
    harmonic, percussive = harmonic_and_percussive(clip)
    return ClipPanels(
        seconds=len(clip) / RATE,
        wave=_envelope(clip),
        harmonic=_envelope(harmonic),
        percussive=_envelope(percussive),
        stft=levels,
        mel=_pooled(mel_levels(clip), WIDTH),
        mel_hertz=librosa.mel_frequencies(n_mels=MELS, fmax=RATE / 2),
        chroma=_pooled(librosa.feature.chroma_stft(y=clip, sr=RATE, pad_mode=PAD_MODE), WIDTH),
        mfcc=_pooled(librosa.feature.mfcc(y=clip, sr=RATE, n_mfcc=MFCCS, pad_mode=PAD_MODE), WIDTH),
    )


def _pooled(values: np.ndarray, columns: int) -> np.ndarray:
    """Return the means of the columns of [n, frames] in at most so many groups of neighbours."""
    groups = np.array_split(values, min(columns, values.shape[1]), axis=1)
    return np.stack([group.mean(axis=1) for group in groups], axis=1)


def _envelope(samples: np.ndarray) -> np.ndarray:
    groups = np.array_split(samples, min(WIDTH, len(samples)))
    return np.array([[group.min() for group in groups], [group.max() for group in groups]])
