"""One network trained on one split: seeds, device, the loop, evaluation. Knows neither Optuna nor MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adam import adam

from harness.core.errors import Diverged, Interrupted
from harness.core.records import EpochMetrics, TrialConfig, derive_seed
from harness.data import Part, TrainingData
from harness.models.classifier import Classifier, build_classifier
from harness.models.normalise import NORMALISERS
from harness.models.spec import ModelSpec

EVALUATION_BATCH = 64  # activations of the CNN at this size stay near 150 MB


class Adam:
    """Adam as `torch.optim.Adam(fused=True)` computes it, by the same functional form.

    Without the optimiser class's own bookkeeping, which takes longer than the arithmetic for a small network.
    Source: Kingma and Ba (2015), Adam: a method for stochastic optimization; the defaults are theirs.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self.lr = lr
        self.parameters = list(parameters)
        # Like the parameters in memory too: the fused kernel walks all of them side by side.
        self.exp_avgs = [torch.zeros_like(p) for p in self.parameters]
        self.exp_avg_sqs = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), dtype=torch.float32, device=p.device) for p in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        used = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        adam(
            [self.parameters[i] for i in used],
            [cast(Tensor, self.parameters[i].grad) for i in used],
            [self.exp_avgs[i] for i in used],
            [self.exp_avg_sqs[i] for i in used],
            [],
            [self.steps[i] for i in used],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts by name, not copied."""
        named = {"exp_avg": self.exp_avgs, "exp_avg_sq": self.exp_avg_sqs, "step": self.steps}
        return {f"{index}.{name}": t for name, tensors in named.items() for index, t in enumerate(tensors)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a state that `state` gave for the same network."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


@dataclass(slots=True)
class TrainingState:
    """A training run at the end of an epoch: all that is needed to go on as if nothing had happened.

    The random state is not part of it: what is random in an epoch follows from the trial's seed and the
    epoch's number. `best_weights` are those of the epoch `best`.
    """

    config: TrialConfig
    classifier: Classifier
    optimizer: Adam
    epoch: int = 0
    best: EpochMetrics | None = None
    best_weights: dict[str, Tensor] | None = None


def start_training(
    config: TrialConfig, spec: ModelSpec, data: TrainingData, device: torch.device
) -> TrainingState:
    """Return the state before the first epoch: fresh weights, the normaliser fitted on the train part."""
    seed_everything(derive_seed(config.seed, "weights"), device)
    normalise = NORMALISERS[spec.representation].fit(data.train.inputs)
    classifier = build_classifier(spec, normalise, len(data.columns), len(data.genres))
    # Channels last is the layout in which convolutions run fastest; tensors without channels are untouched.
    classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainingState(config, classifier, Adam(classifier.network.parameters(), config.lr))


def seed_everything(seed: int, device: torch.device) -> None:
    """Set PyTorch's random state on the CPU and on the device in use.

    `torch.manual_seed` would also note, at half a millisecond a time, to seed GPUs that are never used.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def fit(
    state: TrainingState, data: TrainingData, *, stop: Callable[[], bool] = lambda: False
) -> Iterator[EpochMetrics]:
    """Train from `state` to the configured number of epochs, yielding each epoch's figures as it ends.

    At each yield `state` stands at the end of that epoch. `data` lies on the device of the classifier. The
    consumer logs, saves, asks whether to go on, and may simply stop.

    Raises Diverged when a loss is not finite, and Interrupted when `stop` (asked between batches) says so;
    after either, `state` is in the middle of an epoch and of no use but for its best weights.
    """
    config, network = state.config, state.classifier.network
    train, valid = _normalised(state.classifier, data.train), _normalised(state.classifier, data.valid)
    forward = _forward(state.classifier)
    device = train.inputs.device
    precision = autocast(config.precision, device)
    while state.epoch < config.epochs:
        epoch, started = state.epoch + 1, time.perf_counter()
        seed_everything(derive_seed(config.seed, "epoch", epoch), device)
        order = torch.randperm(len(train)).to(device)
        network.train()
        total = torch.zeros((), device=device)  # summed there: reading each loss would wait for it
        for inputs, targets in _batches(train.inputs[order], train.targets[order], config.batch_size):
            if stop():
                raise Interrupted(f"stopped in epoch {epoch}")
            with precision:
                logits = forward(inputs)
            loss = F.cross_entropy(logits.float(), targets)
            state.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
            total.add_(loss.detach(), alpha=len(targets))
        train_loss = total.item() / len(train)
        val_loss, val_accuracy = _loss_and_accuracy(_logits(forward, network, valid.inputs, precision), valid)
        for name, value in (("train", train_loss), ("validation", val_loss)):
            if not math.isfinite(value):
                raise Diverged(f"the {name} loss of epoch {epoch} is {value}")
        metrics = EpochMetrics(epoch, train_loss, val_loss, val_accuracy, time.perf_counter() - started)
        state.epoch = epoch
        if metrics.better_than(state.best):
            state.best = metrics
            state.best_weights = {name: value.clone() for name, value in state.classifier.state_dict().items()}
        yield metrics


def evaluate(classifier: Classifier, part: Part, precision: str = "fp32") -> Tensor:
    """Return the logits [n, classes] (float32) of a part that lies on the classifier's device."""
    context = autocast(precision, part.inputs.device)
    return _logits(classifier, classifier, part.inputs, context)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs in that precision, `fp32` or `bf16`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _normalised(classifier: Classifier, part: Part) -> Part:
    if not classifier.normalise.precompute:
        return part
    return Part(part.ids, classifier.normalise(part.inputs), part.targets)


def _forward(classifier: Classifier) -> Callable[[Tensor], Tensor]:
    return classifier.network if classifier.normalise.precompute else classifier


def _batches(inputs: Tensor, targets: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut into batches of `size`; a last one of a single row joins the batch before it.

    Batch normalisation has no variance to divide by in a batch of one.
    """
    count = len(targets)
    starts = list(range(0, count, size))
    if count % size == 1 and len(starts) > 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        yield inputs[start:end], targets[start:end]


@torch.inference_mode()
def _logits(
    forward: Callable[[Tensor], Tensor],
    network: torch.nn.Module,
    inputs: Tensor,
    precision: AbstractContextManager[object],
) -> Tensor:
    network.eval()
    with precision:
        return torch.cat([forward(batch).float() for batch in torch.split(inputs, EVALUATION_BATCH)])


def _loss_and_accuracy(logits: Tensor, part: Part) -> tuple[float, float]:
    loss = F.cross_entropy(logits, part.targets).item()
    return loss, (logits.argmax(1) == part.targets).sum().item() / len(part)
