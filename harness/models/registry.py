"""The registry of models by name."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import SettingsError
from harness.core.trust import require_trust
from harness.models.both import GenreClassifierBoth
from harness.models.cnn import GenreClassifierCNN
from harness.models.external import digest_of_code, model_from_code, read_model_file
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.spec import ModelSpec

MODELS: dict[str, ModelSpec] = {
    "cnn": ModelSpec(
        name="cnn",
        network=lambda inputs, classes, **params: GenreClassifierCNN(classes, **params),
        representation="pictures",
        hyperparameters=GenreClassifierCNN.hyperparameters,
        takes_size=True,
        threads=2,
    ),
    "both": ModelSpec(
        name="both",
        network=GenreClassifierBoth,
        representation="both",
        hyperparameters=GenreClassifierBoth.hyperparameters,
        takes_size=True,
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
