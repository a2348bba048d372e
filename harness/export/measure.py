"""Measure an exported network on the test part, and check that each of its files has the same outputs.

Only `export` and `compare` open the test part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness.core.files import sha256_of
from harness.core.records import Split
from harness.core.stats import accuracy_interval
from harness.data import Inputs, Joined, Part, View, batches_of
from harness.export.formats import BATCH, FILES, compare_outputs, read_format
from harness.models.classifier import Classifier
from harness.training.description import FormatCheck, TestResult, read_description
from harness.training.loop import evaluate
from harness.training.tasks import OwnLoss, normalised


def measure(
    folder: Path,
    formats: tuple[str, ...],
    classifier: nn.Module,
    view: View,
    split: Split,
    openings: int,
) -> tuple[TestResult, tuple[FormatCheck, ...]]:
    """Open the test part of a split; return the network's result there, and the check of each file in `folder`.

    The network runs in float32, as its files do, also if it was trained in bfloat16. The caller records this use
    of the test part first; `openings` counts the uses by this run. The files of `formats` get the pictures as they
    are in the data folder, the network gets those of the picture cache.

    Raises CheckpointError if the outputs of a file differ from those of the network.
    """
    part = view.open_test(split)
    given = evaluate(classifier, part)
    if read_description(folder).architecture.is_classifier:
        given = torch.softmax(given, 1)
        units = view.tracks.units[view.tracks.indices(part.ids)]
        result = _test_result(given, part, openings, units)
    else:
        assert isinstance(classifier, Classifier)
        found = OwnLoss(classifier, nullcontext()).means(normalised(classifier, part))
        figures = {f"test_{name}": value for name, value in found.items()}
        nothing = dict.fromkeys(("correct", "accuracy", "low", "high"))
        result = TestResult(tracks=len(part), openings=openings, figures=figures, **nothing)
    return result, tuple(_check(folder, name, _raw(view, split, part), given, part) for name in formats)


def _raw(view: View, split: Split, part: Part) -> Iterable[Inputs]:
    """Return the inputs of the files, in batches."""
    if isinstance(part.inputs, Joined):
        return _joined(view.open_test_pictures(split), part.inputs.features)
    return batches_of(part.inputs, BATCH) if view.representation == "features" else view.open_test_pictures(split)


def _joined(batches: Iterable[Tensor], features: Tensor) -> Iterator[Joined]:
    """Yield batches of pictures with the rows of the same tracks."""
    done = 0
    for pictures in batches:
        yield Joined(pictures, features[done : done + len(pictures)])
        done += len(pictures)


def _test_result(expected: Tensor, part: Part, openings: int, units: np.ndarray) -> TestResult:
    """Return the accuracy of these outputs; `units` are those of the part's tracks (see `Tracks.units`)."""
    flags = (expected.argmax(1) == part.targets).numpy()
    correct = int(flags.sum())
    low, high = accuracy_interval(flags, units)
    return TestResult(
        tracks=len(part),
        correct=correct,
        accuracy=correct / len(part),
        low=low,
        high=high,
        openings=openings,
    )


def _check(folder: Path, name: str, raw: Iterable[Inputs], expected: Tensor, part: Part) -> FormatCheck:
    architecture = read_description(folder).architecture
    probabilities = read_format(folder, name, architecture, trust_code=True)
    is_classifier = architecture.is_classifier
    difference, guesses = compare_outputs(FILES[name], probabilities, raw, expected, is_classifier=is_classifier)
    return FormatCheck(
        format=name,
        file=FILES[name],
        sha256=sha256_of(folder / FILES[name]),
        largest_difference=difference,
        accuracy=None if guesses is None else int((guesses == part.targets).sum()) / len(part),
    )
