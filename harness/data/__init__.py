"""Data sets: the checked tracks of a data folder, splits of them, and views that give the parts as tensors.

A track has features (a row of the CSV), a picture, or both. No module here changes a data folder that it
reads, but that `harness data check` writes its guesses into a `dataset.toml` where there is none.
"""

from harness.data.cache import Pictures, open_pictures
from harness.data.cropping import CROP, CropBox
from harness.data.demo import DEMO_FOLDER, demo_data_folder, make_demo
from harness.data.features import FEATURE_COLUMNS
from harness.data.images import (
    MAX_SIDE,
    MIN_SIDE,
    PICTURE_SIZE,
    Size,
    find_pictures,
    resize,
)
from harness.data.importing import fetch_data, import_data
from harness.data.layout import FEATURES_FILE, MARKER_FILE, MAX_COLUMNS, PICTURES_FOLDER
from harness.data.lists import read_split
from harness.data.options import MUSIC, Words
from harness.data.parts import Inputs, Joined, Part, TrainingData, View, batches_of, tensors_of, used_columns
from harness.data.source import picture_files
from harness.data.splits import FOLDS, fold_splits, stratified_split, validation_folds
from harness.data.tracks import Tracks, holding, load_tracks, prepare_crop, with_bounds, with_crop

__all__ = [
    "CROP",
    "DEMO_FOLDER",
    "FEATURES_FILE",
    "FEATURE_COLUMNS",
    "FOLDS",
    "MARKER_FILE",
    "MAX_COLUMNS",
    "MAX_SIDE",
    "MIN_SIDE",
    "MUSIC",
    "PICTURES_FOLDER",
    "PICTURE_SIZE",
    "CropBox",
    "Inputs",
    "Joined",
    "Part",
    "Pictures",
    "Size",
    "Tracks",
    "TrainingData",
    "View",
    "Words",
    "batches_of",
    "demo_data_folder",
    "fetch_data",
    "find_pictures",
    "fold_splits",
    "holding",
    "import_data",
    "load_tracks",
    "make_demo",
    "open_pictures",
    "picture_files",
    "prepare_crop",
    "read_split",
    "resize",
    "stratified_split",
    "tensors_of",
    "used_columns",
    "validation_folds",
    "with_bounds",
    "with_crop",
]
