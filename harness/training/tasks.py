"""What a network is trained for: classification, or a loss that the network declares itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.core.objective import PREFIX, Objective
from harness.data import Inputs, Part, batches_of
from harness.models.classifier import Classifier
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.losses import LOSS, losses_of
from harness.training.fcnn_gradients import FcnnGradients

EVALUATION_BATCH = 64  # the CNN's activations take about 150 MB at this size


@torch.inference_mode()
def own_figures(
    losses: Callable[[Inputs, Tensor], dict[str, Tensor]],
    network: nn.Module,
    part: Part,
    precision: AbstractContextManager[object],
) -> dict[str, float]:
    """Return the figures of a part, each the mean over its items: LOSS, and the network's own metrics."""
    network.eval()
    totals: dict[str, float] = {}
    for start in range(0, len(part), EVALUATION_BATCH):
        batch = slice(start, start + EVALUATION_BATCH)
        inputs, targets = part.inputs[batch], part.targets[batch]
        with precision:
            found = losses(inputs, targets)
        for name, value in found.items():
            totals[name] = totals.get(name, 0.0) + value.item() * len(targets)
    return {name: total / len(part) for name, total in totals.items()}


def recorded(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures besides the loss by their names in the record."""
    return {f"{PREFIX}{name}": value for name, value in figures.items() if name != LOSS}


Figures = tuple[float | None, float | None, dict[str, float]]  # validation loss, validation accuracy, own metrics


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is trained for: its loss, and its figures on a part."""

    classifier: Classifier
    precision: AbstractContextManager[object]

    def loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch of normalised inputs, float32 []."""
        raise NotImplementedError

    def backward(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Add the gradients of a batch's loss to those of the network, which are None; return the loss."""
        loss = self.loss(inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def figures(self, part: Part) -> Figures:
        """Return the figures of a part with normalised inputs."""
        raise NotImplementedError


def smoothed(classes: int, smoothing: float, device: torch.device | None = None) -> Tensor:
    """Return the probabilities that a target of each class stands for, float32 [classes, classes].

    Source: Szegedy et al. (2016), Rethinking the Inception architecture for computer vision.
    """
    return torch.eye(classes, device=device).mul_(1 - smoothing).add_(smoothing / classes)


def cross_entropy(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of a batch, and its gradient by the logits.

    `wanted` are the probabilities of the targets, float32 [n, classes]: rows of `smoothed`. It takes half the
    operations of PyTorch's.
    """
    rows = len(logits)
    logs = torch.log_softmax(logits, 1)
    loss = torch.dot(logs.flatten(), wanted.flatten()).div_(-rows)
    return loss, logs.exp().sub_(wanted).div_(rows)


class _CrossEntropy(torch.autograd.Function):
    """`cross_entropy` for autograd."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, wanted: Tensor) -> Tensor:
        loss, gradient = cross_entropy(logits, wanted)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None


@dataclass(frozen=True, slots=True)
class Classes(Task):
    """Classification, by cross-entropy."""

    label_smoothing: float
    wanted: Tensor  # those of `smoothed`

    def loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch of normalised inputs, float32 []."""
        with self.precision:
            logits = _forward(self.classifier)(inputs)
        if not self.label_smoothing:
            return F.cross_entropy(logits.float(), targets)
        loss: Tensor = _CrossEntropy.apply(logits.float(), self.wanted.index_select(0, targets))
        return loss

    def figures(self, part: Part) -> Figures:
        """Return the figures of a part with normalised inputs."""
        logits = logits_of(_forward(self.classifier), self.classifier.network, part.inputs, self.precision)
        return (*_loss_and_accuracy(logits, part), {})


@dataclass(frozen=True, slots=True)
class ClassesOfFcnn(Classes):
    """Classification by the FCNN, whose gradients need no autograd."""

    gradients: FcnnGradients

    def backward(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Set the gradients of a batch's loss; return the loss."""
        assert isinstance(inputs, Tensor)
        wanted = self.wanted.index_select(0, targets)
        return self.gradients.set(inputs, lambda logits: cross_entropy(logits, wanted))


@dataclass(frozen=True, slots=True)
class OwnLoss(Task):
    """A network with a loss of its own."""

    def loss(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch of normalised inputs, float32 []."""
        with self.precision:
            return self._losses(inputs, targets)[LOSS]

    def figures(self, part: Part) -> Figures:
        """Return the figures of a part with normalised inputs."""
        found = self.means(part)
        return found[LOSS], None, recorded(found)

    def means(self, part: Part) -> dict[str, float]:
        """Return the mean of LOSS and of the network's own metrics over a part with normalised inputs."""
        return own_figures(self._losses, self.classifier.network, part, self.precision)

    def _losses(self, inputs: Inputs, targets: Tensor) -> dict[str, Tensor]:
        normalise = self.classifier.normalise
        given = inputs if normalise.precompute else normalise(inputs)
        return losses_of(self.classifier.network, given, targets)


def task_of(
    classifier: Classifier,
    objective: Objective,
    precision: AbstractContextManager[object],
    label_smoothing: float,
    classes: int,
    device: torch.device,
) -> Task:
    """Return what a network is trained for, with so many classes, on a device."""
    if objective.is_accuracy:
        network = classifier.network
        wanted = smoothed(classes, label_smoothing, device)
        is_plain = isinstance(precision, nullcontext) and device.type == "cpu"
        if is_plain and type(network) is GenreClassifierFCNN:
            return ClassesOfFcnn(classifier, precision, label_smoothing, wanted, FcnnGradients(network))
        return Classes(classifier, precision, label_smoothing, wanted)
    return OwnLoss(classifier, precision)


def normalised(classifier: Classifier, part: Part) -> Part:
    """Return a part with normalised inputs, or as it is where the normaliser runs batch by batch."""
    if not classifier.normalise.precompute:
        return part
    return Part(part.ids, classifier.normalise(part.inputs), part.targets)


def _forward(classifier: Classifier) -> Callable[[Inputs], Tensor]:
    return classifier.network if classifier.normalise.precompute else classifier


@torch.inference_mode()
def logits_of(
    forward: Callable[[Inputs], Tensor],
    network: torch.nn.Module,
    inputs: Inputs,
    precision: AbstractContextManager[object],
) -> Tensor:
    """Return the logits [n, classes] (float32) of inputs, in evaluation mode."""
    network.eval()
    with precision:
        return torch.cat([forward(batch).float() for batch in batches_of(inputs, EVALUATION_BATCH)])


def _loss_and_accuracy(logits: Tensor, part: Part) -> tuple[float, float]:
    loss = F.cross_entropy(logits, part.targets).item()
    return loss, (logits.argmax(1) == part.targets).sum().item() / len(part)
