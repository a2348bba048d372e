"""The networks of the report, what normalises their input, and the registry that names them."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from harness.data import PICTURE_SIZE
from harness.errors import SettingsError
from harness.files import sha256_of
from harness.records import FloatRange, Representation, SearchSpace
from harness.search import parse_search


class GenreClassifierCNN(nn.Module):
    """The report's CNN on pictures: two 3x3 convolutions with max pooling, two fully connected layers.

    Takes float [n, 3, 216, 144], gives logits [n, classes].
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, stride=1, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(216 * 144 * 2, 128)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        # ReLU is monotonic, so it may follow the pooling (the same values and gradients) and sees a
        # quarter of the elements.
        if _blocks_pay(x):
            x = x.to_mkldnn()
        x = torch.relu(self.pool(self.conv1(x)))
        x = torch.relu(self.pool(self.conv2(x)))
        if x.is_mkldnn:
            x = x.to_dense()
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        logits: Tensor = self.fc2(x)
        return logits


def _blocks_pay(x: Tensor) -> bool:
    """Say whether to keep pictures in oneDNN's own blocked layout from the first convolution to the last pooling.

    The same arithmetic without reordering in between; pooling keeps 1 byte an index instead of 8.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and platform.machine() in ("x86_64", "AMD64")
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class GenreClassifierFCNN(nn.Module):
    """The report's FCNN on audio features: four fully connected layers, batch normalisation on the first two.

    Takes float [n, inputs], gives logits [n, classes].
    """

    def __init__(self, inputs: int = 58, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 256)
        self.bn1 = nn.BatchNorm1d(256)
        self.fc2 = nn.Linear(256, 128)
        self.bn2 = nn.BatchNorm1d(128)
        self.fc3 = nn.Linear(128, 64)
        self.fc4 = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = F.relu(self.bn1(self.fc1(x)))
        x = F.relu(self.bn2(self.fc2(x)))
        x = F.relu(self.fc3(x))
        logits: Tensor = self.fc4(x)
        return logits


class StandardizeFeatures(nn.Module):
    """Raw feature rows to zero mean and unit variance, by the mean and scale of the rows it was made from.

    Takes and gives float [n, inputs]. A column that never varies gets scale 1.
    """

    # The result is no larger than the input: a whole data set is normalised once, ahead of training.
    ahead_of_training = True
    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @classmethod
    def fit(cls, train_inputs: Tensor) -> StandardizeFeatures:
        """Fit on the train part's raw rows, float [n, inputs], with scikit-learn's StandardScaler."""
        scaler = StandardScaler().fit(train_inputs.double().cpu().numpy())
        return cls(torch.tensor(scaler.mean_).float(), torch.tensor(scaler.scale_).float())

    @classmethod
    def blank(cls, inputs: int) -> StandardizeFeatures:
        """Make one whose buffers are still to be loaded."""
        return cls(torch.zeros(inputs), torch.ones(inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised rows."""
        return (x - self.mean) / self.scale


class ScalePixels(nn.Module):
    """Pictures as stored, uint8 [n, height, width, 3], to float [n, 3, height, width] in [0, 1]."""

    # Four bytes a value instead of one: done batch by batch.
    ahead_of_training = False

    @classmethod
    def fit(cls, train_inputs: Tensor) -> ScalePixels:
        """Return the same for any train part: nothing is fitted."""
        return cls()

    @classmethod
    def blank(cls, inputs: int) -> ScalePixels:
        """Make one; there is nothing to load."""
        return cls()

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled pictures, channels last in memory."""
        return x.permute(0, 3, 1, 2).float().div_(255)


Normaliser = StandardizeFeatures | ScalePixels
NORMALISERS: dict[Representation, type[StandardizeFeatures] | type[ScalePixels]] = {
    "features": StandardizeFeatures,
    "pictures": ScalePixels,
}

# The report's own setting is among the choices, so that every study can begin with it.
DEFAULT_SEARCH = SearchSpace(lr=FloatRange(low=1e-5, high=1e-1, log=True), batch_size=(16, 32, 64, 128))
REPORT_SETTING: dict[str, Any] = {"lr": 0.001, "batch_size": 32}
EXTERNAL = (
    "a class Class(torch.nn.Module) made by Class(inputs, classes), with representation = 'features' or "
    "'pictures' and, if wanted, search = {'lr': {'low': ..., 'high': ...}, 'batch_size': [...]}; "
    "see experiments/residual_mlp.py"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as the harness knows it: `network(inputs, classes)` builds it, the rest is how to train it.

    `threads` is the number of intra-op threads of a trial: a policy of the model, not of the number of jobs,
    because it changes sums in the last digit. `jobs_per_gpu` is how many trials share a GPU by default: a small
    network leaves most of it idle. `source_digest` is the SHA-256 of the file that a model comes from, if it does.
    """

    name: str
    network: Callable[[int, int], nn.Module]
    representation: Representation
    search: SearchSpace = DEFAULT_SEARCH
    threads: int = 1
    jobs_per_gpu: int = 1
    source_digest: str | None = None

    @property
    def label(self) -> str:
        """The name to show: for a model from a file, that of its class."""
        return self.name.rpartition(":")[2]


MODELS: dict[str, ModelSpec] = {
    "cnn": ModelSpec(
        name="cnn",
        network=lambda inputs, classes: GenreClassifierCNN(classes),
        representation="pictures",
        threads=2,
    ),
    # A step of this network on two threads takes several times as long as on one.
    "fcnn": ModelSpec(name="fcnn", network=GenreClassifierFCNN, representation="features", jobs_per_gpu=4),
}


def model_spec(name: str) -> ModelSpec:
    """Return a registered model, or the one that `FILE.py:Class` names.

    Raises SettingsError where there is none of that name, or the file does not hold what it should.
    """
    if name in MODELS:
        return MODELS[name]
    path, separator, class_name = name.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise SettingsError(f"there is no model {name!r}", legal=f"{', '.join(sorted(MODELS))}, or FILE.py:Class")
    return _model_from_file(name, Path(path), class_name)


def _model_from_file(name: str, path: Path, class_name: str) -> ModelSpec:
    if not path.is_file():
        raise SettingsError(
            f"there is no file {path}, which model {name!r} comes from",
            legal="the file's path as seen from the current folder",
            run="the same command in the folder that the path starts from",
        )
    network = getattr(_module(path), class_name, None)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise SettingsError(f"{path} has no class {class_name!r} that is a torch.nn.Module", legal=EXTERNAL)
    representation = getattr(network, "representation", None)
    if representation not in NORMALISERS:
        raise SettingsError(f"{name}: representation is {representation!r}", legal=EXTERNAL)
    policy = {"threads": getattr(network, "threads", 1), "jobs_per_gpu": getattr(network, "jobs_per_gpu", 1)}
    for what, value in policy.items():
        if type(value) is not int or value < 1:
            raise SettingsError(f"{name}: {what} is {value!r}", legal="a whole number from 1")
    table = getattr(network, "search", {})
    if not isinstance(table, dict):
        raise SettingsError(f"{name}: search is {table!r}", legal=EXTERNAL)
    return ModelSpec(
        name=name,
        network=network,
        representation=representation,
        search=parse_search(table, f"{name}: search: ", DEFAULT_SEARCH),
        source_digest=sha256_of(path),
        **policy,
    )


def _module(path: Path) -> ModuleType:
    """Run a model's file, once for each content that it has had, and return it as a module."""
    module_name = f"harness_model_{sha256_of(path)}"
    if module_name not in sys.modules:
        found = importlib.util.spec_from_file_location(module_name, path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        try:
            found.loader.exec_module(module)
        except Exception as error:
            raise SettingsError(
                f"{path} cannot be run: {type(error).__name__}: {error}", legal=EXTERNAL
            ) from error
        sys.modules[module_name] = module
    return sys.modules[module_name]


def check_network(spec: ModelSpec, inputs: int, classes: int) -> None:
    """Build a network of a model from a file and push two rows through it, before a study is made of it.

    Raises SettingsError where it cannot be built, fails, or does not give logits [2, classes].
    """
    shape = (2, inputs) if spec.representation == "features" else (2, 3, *PICTURE_SIZE)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            found = tuple(spec.network(inputs, classes)(torch.zeros(shape)).shape)
    except Exception as error:
        what = f"{spec.name} fails on {shape}: {type(error).__name__}: {error}"
        raise SettingsError(what, legal=EXTERNAL) from error
    if found != (2, classes):
        raise SettingsError(f"{spec.name} gives {found} for {shape}", legal=f"logits of shape (2, {classes})")


class Classifier(nn.Module):
    """A network together with what normalises its input: raw rows or pictures in, logits [n, classes] out."""

    def __init__(self, normalise: Normaliser, network: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for raw inputs."""
        logits: Tensor = self.network(self.normalise(x))
        return logits


def build_classifier(spec: ModelSpec, normalise: Normaliser, inputs: int, classes: int) -> Classifier:
    """Build a classifier with fresh weights, drawn from torch's global random state."""
    return Classifier(normalise, spec.network(inputs, classes))
