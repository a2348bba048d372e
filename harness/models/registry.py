"""The registry of models by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import SettingsError
from harness.core.records import MAX_STACK
from harness.core.space import Accepted, Hyperparameter
from harness.core.trust import require_trust
from harness.models.external import digest_of_code, model_from_code, read_model_file
from harness.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

OF_CNN: Accepted = {"dropout": Hyperparameter(float, 0.0, at_least=0, below=1)}
OF_FCNN: Accepted = {**OF_CNN, "width": Hyperparameter(float, 1.0, above=0, at_most=64)}


# PyTorch is imported when a network is built: a command that has workers build them does without it.
def _cnn(inputs: int, classes: int, **params: Any) -> nn.Module:
    from harness.models.cnn import GenreClassifierCNN

    return GenreClassifierCNN(classes, **params)


def _fcnn(inputs: int, classes: int, **params: Any) -> nn.Module:
    from harness.models.fcnn import GenreClassifierFCNN

    return GenreClassifierFCNN(inputs, classes, **params)


def _both(inputs: int, classes: int, **params: Any) -> nn.Module:
    from harness.models.both import GenreClassifierBoth

    return GenreClassifierBoth(inputs, classes, **params)


# A step of the FCNN on two threads takes several times as long. One of the CNN takes 0.6 of the time: less of the
# machine than two trials at once (docs/performance.md).
MODELS: dict[str, ModelSpec] = {
    "cnn": ModelSpec(
        name="cnn",
        network=_cnn,
        representation="pictures",
        hyperparameters=OF_CNN,
        takes_size=True,
        most_threads=2,
        most_stacked=1,
    ),
    "both": ModelSpec(
        name="both",
        network=_both,
        representation="both",
        hyperparameters=OF_FCNN,
        takes_size=True,
        most_threads=2,
    ),
    "fcnn": ModelSpec(
        name="fcnn",
        network=_fcnn,
        representation="features",
        hyperparameters=OF_FCNN,
        jobs_per_gpu=4,
        most_stacked=MAX_STACK,
    ),
}


def model_spec(name: str) -> ModelSpec:
    """Return a registered model, or the model from a file that `FILE.py:Class` names.

    Raises SettingsError if there is no model of that name, or if the file is wrong (see `model_from_code`).
    """
    if name in MODELS:
        return MODELS[name]
    path, class_name = _file_and_class(name)
    return model_from_code(name, path, class_name, read_model_file(name, path))


def recorded_model(name: str, digest: str | None, what: str, *, trust_code: bool) -> ModelSpec:
    """Return the model that `what`, a study or a checkpoint, was made with.

    `digest` is the recorded SHA-256 of the model's file, None for a model of the package. It is compared before
    the file is run. `trust_code`: see `require_trust`.

    Raises SettingsError if the file is another now, UntrustedCode if the user has not agreed to run it, and what
    `model_spec` raises.
    """
    if name in MODELS:
        return MODELS[name]
    path, _ = _file_and_class(name)
    return _model_of_record(name, read_model_file(name, path), digest, str(path), what, trust_code)


def model_of_source(name: str, source: str, digest: str | None, what: str, *, trust_code: bool) -> ModelSpec:
    """Return the model of a class in `source`, the code that a record has of the model `name`.

    `digest` and the errors are those of `recorded_model`.
    """
    where = f"model_source in context.json of {what}"
    return _model_of_record(name, source.encode(), digest, where, what, trust_code)


def _model_of_record(
    name: str, code: bytes, digest: str | None, where: str, what: str, trust_code: bool
) -> ModelSpec:
    """Return the model of code that was found at `where`, if it is the recorded code and may run."""
    path, class_name = _file_and_class(name)
    found = digest_of_code(code)
    if found != digest:
        raise SettingsError(
            f"{where} is not the code that {what} was made with "
            f"(SHA-256 {found[:12]}, recorded {str(digest)[:12]})",
            expected="the code as it was: a study's run has it in context.json, under model_source",
            hint="the same command with that code in its place, or harness sweep --study NEW with this one",
        )
    require_trust(where, found, what, trust_code)
    return model_from_code(name, path, class_name, code)


def _file_and_class(name: str) -> tuple[Path, str]:
    path, separator, class_name = name.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise SettingsError(
            f"there is no model {name!r}", expected=f"{', '.join(sorted(MODELS))}, or FILE.py:Class"
        )
    return Path(path), class_name
