"""Audio: compute features and pictures from sound files, and make data sets from sound files.

librosa is imported only when a function here needs it.
"""

from harness.data.audio.compiled import prepare_audio
from harness.data.audio.extract import Extraction, extract
from harness.data.audio.recipe import SUFFIXES, clip_features, clip_picture, load_clip

__all__ = [
    "SUFFIXES",
    "Extraction",
    "clip_features",
    "clip_picture",
    "extract",
    "load_clip",
    "prepare_audio",
]
