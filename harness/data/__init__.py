"""Data sets: files in a folder become tracks, a split cuts them by track, a view gives its parts as tensors."""

from harness.data.cache import Pictures, open_pictures
from harness.data.cropping import CROP, CropBox
from harness.data.demo import DEMO_FOLDER, demo_data_folder, make_demo
from harness.data.features import FEATURE_COLUMNS, FEATURES_FILE
from harness.data.images import (
    LARGEST,
    PICTURE_SIZE,
    PICTURES_FOLDER,
    SMALLEST,
    find_pictures,
    resize,
)
from harness.data.importing import fetch_data, import_data
from harness.data.parts import Part, TrainingData, View, used_columns
from harness.data.splits import read_split, stratified_split
from harness.data.tracks import MARKER_FILE, Tracks, load_tracks, prepare_crop, with_crop

__all__ = [
    "CROP",
    "DEMO_FOLDER",
    "FEATURES_FILE",
    "FEATURE_COLUMNS",
    "LARGEST",
    "MARKER_FILE",
    "PICTURES_FOLDER",
    "PICTURE_SIZE",
    "SMALLEST",
    "CropBox",
    "Part",
    "Pictures",
    "Tracks",
    "TrainingData",
    "View",
    "demo_data_folder",
    "fetch_data",
    "find_pictures",
    "import_data",
    "load_tracks",
    "make_demo",
    "open_pictures",
    "prepare_crop",
    "read_split",
    "resize",
    "stratified_split",
    "used_columns",
    "with_crop",
]
