"""The hyperparameters of training: what the loop takes, with defaults, and what a model adds."""

from __future__ import annotations

from harness.core.errors import SettingsError
from harness.core.records import CONFIG_FIELDS, SCHEDULE_LENGTH, TAKEN_NAMES, TrialConfig
from harness.core.space import Condition, Distribution, Hyperparameter, Value
from harness.core.space_parsing import parse_space
from harness.models.spec import INPUT_HYPERPARAMETERS, ModelSpec

ONLY_SGD = Condition("optimizer", ("sgd",))
ONLY_FALLING = Condition("schedule", ("cosine", "one-cycle"))

# The loop's hyperparameters. The defaults are the report's. A new one is an entry here and its use in the loop.
HYPERPARAMETERS: dict[str, Hyperparameter] = {
    "lr": Hyperparameter(float, 1e-3, above=0, log=True),
    "batch_size": Hyperparameter(int, 32, at_least=2),
    "optimizer": Hyperparameter(str, "adam", choices=("adam", "adamw", "sgd")),
    "momentum": Hyperparameter(float, 0.9, at_least=0, below=1, when=ONLY_SGD),
    "weight_decay": Hyperparameter(float, 0.0, at_least=0, log=True),
    "schedule": Hyperparameter(str, "constant", choices=("constant", "cosine", "one-cycle")),
    SCHEDULE_LENGTH: Hyperparameter(float, 1.0, above=0, at_most=1, when=ONLY_FALLING),
    "label_smoothing": Hyperparameter(float, 0.0, at_least=0, below=1),
}
OF_CLASSES = ("label_smoothing",)  # of the cross-entropy, which a network with a loss of its own does not have
DEFAULT_SEARCH: dict[str, object] = {
    "lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "batch_size": [16, 32, 64, 128],
}


def accepted_by(model: ModelSpec) -> dict[str, Hyperparameter]:
    """Return all hyperparameters of training a model: those of the loop, of its input and of its network.

    Raises SettingsError if two have the same name, or one has a name that a trial uses for something else.
    """
    found: dict[str, Hyperparameter] = {}
    unused = () if model.objective.is_accuracy else OF_CLASSES
    loop = {name: each for name, each in HYPERPARAMETERS.items() if name not in unused}
    for declared in (loop, INPUT_HYPERPARAMETERS[model.representation], model.hyperparameters):
        twice = sorted({*found, *CONFIG_FIELDS, *TAKEN_NAMES} & set(declared))
        if twice:
            raise SettingsError(f"{model.name}: hyperparameter {twice[0]!r} has a name that is already used")
        found |= declared
    return found


def default_space(model: ModelSpec) -> dict[str, Distribution]:
    """Return the default search space of a model: `DEFAULT_SEARCH`, updated with the model's table.

    Raises SettingsError if the model's table is not legal.
    """
    return parse_space({**DEFAULT_SEARCH, **model.search}, accepted_by(model), f"{model.name}: search: ")


def network_params(model: ModelSpec, config: TrialConfig) -> dict[str, Value]:
    """Return the parameters of a configuration that belong to the network."""
    return {name: value for name, value in config.params.items() if name in model.hyperparameters}
