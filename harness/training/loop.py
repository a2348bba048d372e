"""The training loop: optimizer, seeds, epochs, evaluation. Knows neither Optuna nor MLflow."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.core.errors import Diverged, Interrupted
from harness.core.names import derive_seed
from harness.core.objective import ACCURACY, Objective
from harness.core.records import EpochMetrics, TrialConfig
from harness.data import Inputs, Part, TrainingData
from harness.models.classifier import Classifier, build_classifier
from harness.models.normalise import NORMALISERS
from harness.models.spec import ModelSpec
from harness.training.devices import gpu_figures
from harness.training.graphs import Graph
from harness.training.hyperparameters import HYPERPARAMETERS, network_params
from harness.training.optimizers import SGD, Adam, Optimizer
from harness.training.tasks import logits_of, normalised, task_of

ONE_CYCLE_RISE = 0.3  # share of the training in which the learning rate rises
_DRAWING = threading.Lock()  # PyTorch's generators are of the process; the trainings of a stack begin in threads


def make_optimizer(parameters: Iterable[Tensor], config: TrialConfig) -> Optimizer:
    """Return the optimizer of a configuration."""
    value = loop_params(config)
    lr, weight_decay = value["lr"], value["weight_decay"]
    if value["optimizer"] == "sgd":
        return SGD(parameters, lr, weight_decay, value["momentum"])
    return Adam(parameters, lr, weight_decay, decoupled=value["optimizer"] == "adamw")


def lr_factor(schedule: str, progress: float) -> float:
    """Return the factor of the learning rate at `progress`, a share of the training in [0, 1].

    `cosine` falls from 1 to 0. `one-cycle` rises from 1/25 to 1 in the first 30 % and falls to 4e-6.
    Source: Loshchilov and Hutter (2017), SGDR; Smith and Topin (2019), Super-convergence, as
    PyTorch's OneCycleLR has it.
    """

    def cosine(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    if schedule == "cosine":
        return cosine(1.0, 0.0, progress)
    if schedule == "one-cycle":
        if progress < ONE_CYCLE_RISE:
            return cosine(1 / 25, 1.0, progress / ONE_CYCLE_RISE)
        return cosine(1.0, 1 / 25e4, (progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))
    return 1.0


def loop_params(config: TrialConfig) -> dict[str, Any]:
    """Return the hyperparameters of the loop, those that are not given with their defaults."""
    return {name: config.params.get(name, known.default) for name, known in HYPERPARAMETERS.items()}


def lr_at(config: TrialConfig, params: Mapping[str, Any], epoch: int, index: int, rows: int) -> float:
    """Return the learning rate of a batch, from 0, in an epoch, from 1, over so many rows.

    `params` are the `loop_params` of the configuration.
    """
    if params["schedule"] == "constant":
        return float(params["lr"])
    progress = (epoch - 1 + index * params["batch_size"] / rows) / config.schedule_epochs
    return float(params["lr"] * lr_factor(params["schedule"], progress))


@dataclass(slots=True)
class TrainingState:
    """The state of a training run at the end of an epoch: all that is needed to continue to the same numbers.

    It has no random state, because the random numbers of an epoch follow from the trial's seed and the epoch's
    number. `best_weights` are the weights of the epoch `best`; `curve` has the metrics of every epoch so far.
    """

    config: TrialConfig
    classifier: Classifier
    optimizer: Optimizer
    epoch: int = 0
    best: EpochMetrics | None = None
    best_weights: dict[str, Tensor] | None = None
    curve: tuple[EpochMetrics, ...] = ()
    objective: Objective = ACCURACY


class Fit(Protocol):
    """What trains epochs, as `fit` does."""

    def __call__(
        self, state: TrainingState, data: TrainingData, *, stop: Callable[[], bool] = ...
    ) -> Generator[EpochMetrics, None, None]:
        """Train from `state` to the configured last epoch; yield the metrics at the end of each epoch."""


def start_training(
    config: TrialConfig, spec: ModelSpec, data: TrainingData, device: torch.device
) -> TrainingState:
    """Return the state before the first epoch: new weights, the normaliser fitted on the train part."""
    normalise = NORMALISERS[spec.representation].fit(data.train.inputs, impute=data.impute)
    with _DRAWING:
        seed_everything(derive_seed(config.seed, "weights"), device)
        classifier = build_classifier(
            spec, normalise, len(data.columns), len(data.genres), network_params(spec, config), data.size
        )
    # Convolutions run fastest in the channels-last layout. Tensors without channels stay as they are.
    classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(classifier.network.parameters(), config)
    return TrainingState(config, classifier, optimizer, objective=spec.objective)


def seed_everything(seed: int, device: torch.device) -> None:
    """Seed PyTorch's random generators of the CPU and of the device in use.

    `torch.manual_seed` also queues the seeding of unused GPUs, which takes half a millisecond per call.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def fit(
    state: TrainingState,
    data: TrainingData,
    *,
    stop: Callable[[], bool] = lambda: False,
    graphed: bool = False,
) -> Generator[EpochMetrics, None, None]:
    """Train from `state` to the configured last epoch; yield the metrics at the end of each epoch.

    `graphed`: on a GPU the step of a whole batch is a CUDA graph; the inputs are one tensor then. At each yield
    `state` is that at the end of the epoch. `data` is on the device of the classifier. The consumer logs, saves
    and prunes; it may stop iterating at any time.

    Raises Diverged if a loss is not finite, and Interrupted if `stop`, which is called before each batch, returns
    True. After either, `state` is in the middle of an epoch: only `best` and `best_weights` are valid.
    """
    config, network = state.config, state.classifier.network
    train, valid = normalised(state.classifier, data.train), normalised(state.classifier, data.valid)
    device = train.inputs.device
    precision = autocast(config.precision, device)
    params = loop_params(config)
    smoothing, classes = params["label_smoothing"], len(data.genres)
    task = task_of(state.classifier, state.objective, precision, smoothing, classes, device)
    total = torch.zeros((), device=device)  # summed on the device: reading each loss would wait for it

    def step(inputs: Inputs, targets: Tensor) -> None:
        state.optimizer.zero_grad()
        loss = task.backward(inputs, targets)
        state.optimizer.step()
        total.add_(loss, alpha=len(targets))

    with ExitStack() as stack:
        run: Callable[[Inputs, Tensor], None] = step
        if graphed and device.type == "cuda":
            run = graph = _GraphedStep(step, state, total, params["batch_size"])
            stack.callback(graph.close)
        while state.epoch < config.end:
            epoch, started = state.epoch + 1, time.perf_counter()
            seed_everything(derive_seed(config.seed, "epoch", epoch), device)
            order = torch.randperm(len(train)).to(device)
            network.train()
            total.zero_()
            batches = _batches(train.inputs[order], train.targets[order], params["batch_size"])
            for index, (inputs, targets) in enumerate(batches):
                if stop():
                    raise Interrupted(f"stopped in epoch {epoch}")
                if params["schedule"] != "constant":
                    state.optimizer.lr = lr_at(config, params, epoch, index, len(train))
                run(inputs, targets)
            train_loss = total.item() / len(train)
            # A refit has no validation part.
            val_loss, val_accuracy, own = task.figures(valid) if len(valid) else (None, None, {})
            yield advanced(state, train_loss, val_loss, val_accuracy, own, time.perf_counter() - started)


class _GraphedStep:
    """A step that is a CUDA graph for whole batches, which is captured at the first of them."""

    def __init__(
        self, step: Callable[[Inputs, Tensor], None], state: TrainingState, total: Tensor, size: int
    ) -> None:
        self._step, self._state, self._total, self._size = step, state, total, size
        self._graph: Graph | None = None
        state.optimizer.keep_lr_on(total.device)

    def __call__(self, inputs: Inputs, targets: Tensor) -> None:
        """Do the step on a batch."""
        assert isinstance(inputs, Tensor)
        optimizer = self._state.optimizer
        if len(targets) != self._size:
            self._step(inputs, targets)
            optimizer.zero_grad()  # they are large, and it is an epoch until the next batch of another size
            return
        if self._graph is None:
            changed = [*self._state.classifier.state_dict().values(), *optimizer.tensors().values(), self._total]
            self._graph = Graph(self._step, [inputs, targets], changed)
        self._graph.replay(inputs, targets)

    def close(self) -> None:
        """Free the graph."""
        if self._graph is not None:
            self._graph.close()


def advanced(
    state: TrainingState,
    train_loss: float,
    val_loss: float | None,
    val_accuracy: float | None,
    own: Mapping[str, float],
    seconds: float,
) -> EpochMetrics:
    """Take the figures of the next epoch into the state, whose weights are those at its end; return its metrics.

    Raises Diverged if a loss is not finite.
    """
    epoch = state.epoch + 1
    for name, value in (("train", train_loss), ("validation", val_loss)):
        if value is not None and not math.isfinite(value):
            raise Diverged(f"the {name} loss of epoch {epoch} is {value}")
    gpu = gpu_figures(next(state.classifier.parameters()).device)
    metrics = EpochMetrics(epoch, train_loss, val_loss, val_accuracy, seconds, own, gpu)
    state.epoch, state.curve = epoch, (*state.curve, metrics)
    if metrics.better_than(state.best, state.objective):
        state.best = metrics
        state.best_weights = {name: value.clone() for name, value in state.classifier.state_dict().items()}
    return metrics


def evaluate(classifier: torch.nn.Module, part: Part, precision: str = "fp32") -> Tensor:
    """Return the logits [n, classes] (float32) of a part on the device of the classifier or ensemble."""
    context = autocast(precision, part.inputs.device)
    return logits_of(classifier, classifier, part.inputs, context)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context for a forward pass in a precision, `fp32` or `bf16`."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _batches(inputs: Inputs, targets: Tensor, size: int) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield batches of `size`; a last batch of a single row is joined to the batch before it.

    Batch normalisation needs a variance, which a batch of one row does not have.
    """
    count = len(targets)
    starts = list(range(0, count, size))
    if count % size == 1 and len(starts) > 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        yield inputs[start:end], targets[start:end]
