"""The networks of the report, what normalises their input, and the registry that names them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from harness.errors import SettingsError
from harness.records import FloatRange, Representation, SearchSpace


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as the harness knows it: `network(inputs, classes)` builds it, the rest is how to train it.

    `threads` is the number of intra-op threads of a trial: a policy of the model, not of the number of jobs,
    because it changes sums in the last digit. `jobs_per_gpu` is how many trials share a GPU by default: a small
    network leaves most of it idle.
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
    """Return a registered model.

    Raises SettingsError where there is none of that name.
    """
    if name not in MODELS:
        raise SettingsError(f"there is no model {name!r}", legal=", ".join(sorted(MODELS)))
    return MODELS[name]


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
