"""The registry of models by name."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import SettingsError
from harness.models.cnn import GenreClassifierCNN
from harness.models.external import model_from_file
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.spec import ModelSpec

MODELS: dict[str, ModelSpec] = {
    "cnn": ModelSpec(
        name="cnn",
        network=lambda inputs, classes, **params: GenreClassifierCNN(classes, **params),
        representation="pictures",
        hyperparameters=GenreClassifierCNN.hyperparameters,
        threads=2,
    ),
    # One thread (the default): a step on two threads takes several times as long.
    "fcnn": ModelSpec(
        name="fcnn",
        network=GenreClassifierFCNN,
        representation="features",
        hyperparameters=GenreClassifierFCNN.hyperparameters,
        jobs_per_gpu=4,
    ),
}


def model_spec(name: str) -> ModelSpec:
    """Return a registered model, or the model from a file that `FILE.py:Class` names.

    Raises SettingsError if there is no model of that name, or if the file is wrong (see `model_from_file`).
    """
    if name in MODELS:
        return MODELS[name]
    path, separator, class_name = name.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise SettingsError(
            f"there is no model {name!r}", expected=f"{', '.join(sorted(MODELS))}, or FILE.py:Class"
        )
    return model_from_file(name, Path(path), class_name)
