"""The audio rooms: sound files become features and pictures, and whole data sets. librosa is imported on use."""

from harness.data.audio.extract import Extraction, extract
from harness.data.audio.recipe import SUFFIXES, check_audio_extra, clip_features, clip_picture, load_clip

__all__ = [
    "SUFFIXES",
    "Extraction",
    "check_audio_extra",
    "clip_features",
    "clip_picture",
    "extract",
    "load_clip",
]
