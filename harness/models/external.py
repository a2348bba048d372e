"""Networks from files outside the package."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from harness.core.errors import SettingsError
from harness.core.objective import ACCURACY, DIRECTIONS, LOSS_NAME, PREFIX, Objective
from harness.core.space import Hyperparameter
from harness.data import PICTURE_SIZE, Inputs, Joined, Size, tensors_of
from harness.models.spec import INPUT_HYPERPARAMETERS, ModelSpec

if TYPE_CHECKING:
    from torch import nn

METRIC = re.compile(r"[a-z][a-z0-9_]{0,39}(?<!_)")
EXTERNAL = (
    "a class Class(torch.nn.Module) made by Class(inputs, classes) (and size=, if it has that argument), with "
    "representation = 'features', "
    "'pictures' or 'both' and, if wanted, hyperparameters = {'dropout': harness.Hyperparameter(float, 0.3, "
    "at_least=0, below=1)}, passed by name, and search = {'lr': {'low': ..., 'high': ...}, 'dropout': [...]}; "
    "see experiments/residual_mlp.py"
)
OWN_LOSS = (
    "loss(batch) of a model with a loss of its own: batch.inputs and batch.targets in; a tensor, the mean over "
    "the items, out, or a dict with it as 'loss' and other means; metrics = {'kl': 'minimise'} declares each of "
    "these, and objective = 'val_loss', or 'val_kl', is what a search looks for; see experiments/vae.py"
)


def read_model_file(name: str, path: Path) -> bytes:
    """Return the code of a model from a file, without running it.

    Raises SettingsError if there is no such file.
    """
    if not path.is_file():
        raise SettingsError(
            f"there is no file {path}, which model {name!r} comes from",
            expected="the file's path as seen from the current folder",
            hint="the same command in the folder that the path starts from (pt2 and ONNX need no code)",
        )
    return path.read_bytes()


def model_from_code(name: str, path: Path, class_name: str, code: bytes) -> ModelSpec:
    """Return the model of a class in the file `path`, whose content is `code`.

    Raises SettingsError if the code is not UTF-8 or cannot be run, or if the class is missing or is not as
    `EXTERNAL` says.
    """
    from torch import nn

    try:
        source = code.decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error}", expected="Python source in UTF-8") from error
    network = getattr(_module(path, code), class_name, None)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise SettingsError(f"{path} has no class {class_name!r} that is a torch.nn.Module", expected=EXTERNAL)
    representation = getattr(network, "representation", None)
    if representation not in INPUT_HYPERPARAMETERS:
        raise SettingsError(f"{name}: representation is {representation!r}", expected=EXTERNAL)
    policy = {"threads": getattr(network, "threads", 1), "jobs_per_gpu": getattr(network, "jobs_per_gpu", 1)}
    for what, value in policy.items():
        if type(value) is not int or value < 1:
            raise SettingsError(f"{name}: {what} is {value!r}", expected="a whole number from 1")
    tables = {what: getattr(network, what, {}) for what in ("search", "hyperparameters")}
    for what, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(key, str) for key in table):
            raise SettingsError(f"{name}: {what} is {table!r}", expected=EXTERNAL)
    for parameter, value in tables["hyperparameters"].items():
        if not isinstance(value, Hyperparameter):
            raise SettingsError(f"{name}: hyperparameter {parameter} is {value!r}", expected=EXTERNAL)
    return ModelSpec(
        name=name,
        objective=_objective(name, network),
        network=network,
        representation=representation,
        hyperparameters=tables["hyperparameters"],
        takes_size="size" in inspect.signature(network).parameters,
        search=tables["search"],
        threads=policy["threads"],
        jobs_per_gpu=policy["jobs_per_gpu"],
        source=source,
        source_digest=digest_of_code(code),
    )


def _objective(name: str, network: type[nn.Module]) -> Objective:
    """Return what a search of the model looks for: validation accuracy, or a figure of a loss of its own."""
    if not callable(getattr(network, "loss", None)):
        return ACCURACY
    metrics, wanted = getattr(network, "metrics", {}), getattr(network, "objective", LOSS_NAME)
    if not isinstance(metrics, dict) or not all(
        isinstance(metric, str) and METRIC.fullmatch(metric) and direction in DIRECTIONS
        for metric, direction in metrics.items()
    ):
        raise SettingsError(f"{name}: metrics is {metrics!r}", expected=OWN_LOSS)
    if wanted == LOSS_NAME:
        return Objective(LOSS_NAME, minimise=True)
    direction = metrics.get(str(wanted).removeprefix(PREFIX))
    if direction is None or not str(wanted).startswith(PREFIX):
        raise SettingsError(f"{name}: objective is {wanted!r}", expected=OWN_LOSS)
    return Objective(str(wanted), minimise=direction == DIRECTIONS[0])


def digest_of_code(code: bytes) -> str:
    """Return the SHA-256 of a model's code (64 hex digits)."""
    return hashlib.sha256(code).hexdigest()


def _module(path: Path, code: bytes) -> ModuleType:
    """Return a model's code as a module. It runs once for each version.

    What runs are the bytes that were digested, neither the file as it may be by now nor Python's cache of it.
    """
    module_name = f"harness_model_{digest_of_code(code)}"
    if module_name not in sys.modules:
        module = ModuleType(module_name)
        module.__file__ = str(path)
        try:
            exec(compile(code, path, "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            raise SettingsError(
                f"{path} cannot be run: {type(error).__name__}: {error}", expected=EXTERNAL
            ) from error
        sys.modules[module_name] = module
    return sys.modules[module_name]


def check_network(spec: ModelSpec, inputs: int, classes: int, size: Size = PICTURE_SIZE) -> None:
    """Build a network and pass two inputs through it, to check a model from a file before a study is made.

    Raises SettingsError if the network cannot be built, fails, or does not give logits [2, classes]; likewise for
    a loss of its own that fails or is not as declared.
    """
    import torch

    from harness.models.classifier import build_network

    rows, pictures = torch.zeros(2, inputs), torch.zeros(2, 3, *size)
    examples: dict[str, Inputs] = {"features": rows, "pictures": pictures, "both": Joined(pictures, rows)}
    example = examples[spec.representation]
    shape = " and ".join(str(tuple(tensor.shape)) for tensor in tensors_of(example))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = build_network(spec, inputs, classes, {}, size)
            found = tuple(network(example).shape)
    except (Exception, SystemExit) as error:
        what = f"{spec.name} fails on {shape}: {type(error).__name__}: {error}"
        raise SettingsError(what, expected=EXTERNAL) from error
    if not spec.objective.is_accuracy:
        _check_loss(spec, network, example, shape)
    elif found != (2, classes):
        raise SettingsError(f"{spec.name} gives {found} for {shape}", expected=f"logits of shape (2, {classes})")


def _check_loss(spec: ModelSpec, network: nn.Module, example: Inputs, shape: str) -> None:
    """Raise SettingsError if the loss of a network fails, or gives other metrics than the class declares."""
    import torch

    from harness.models.losses import LOSS, losses_of

    try:
        with torch.random.fork_rng(devices=[]):
            given = losses_of(network, example, torch.zeros(2, dtype=torch.int64))
    except (Exception, SystemExit) as error:
        what = f"the loss of {spec.name} fails on {shape}: {type(error).__name__}: {error}"
        raise SettingsError(what, expected=OWN_LOSS) from error
    declared = {LOSS, *getattr(network, "metrics", {})}
    if set(given) != declared:
        raise SettingsError(
            f"the loss of {spec.name} gives {', '.join(sorted(given))}, and metrics declares "
            f"{', '.join(sorted(declared - {LOSS})) or 'none'}",
            expected=OWN_LOSS,
        )
    if not given[LOSS].requires_grad:
        raise SettingsError(f"the loss of {spec.name} depends on none of its weights", expected=OWN_LOSS)
