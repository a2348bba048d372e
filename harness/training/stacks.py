"""The stacks of one process, by shape: its trainings, each in a thread of its own, train their epochs together.

A training takes a seat in the stack of its shape. Its weights are then views of the stack's tensors, so that it
reads, saves and loads them as ever. The last training of a stack to ask for its next epoch does it for all; a
training that ends or is pruned leaves its seat to the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harness.core.errors import Interrupted
from harness.core.names import derive_seed
from harness.core.records import EpochMetrics
from harness.data import Part, TrainingData
from harness.models.dropout import random_words, threshold_and_scale
from harness.models.fcnn import GenreClassifierFCNN
from harness.training.loop import TrainingState, advanced, fit, loop_params, lr_at
from harness.training.optimizers import SGD, Adam
from harness.training.stack import EpochFigures, FcnnStack, Shape
from harness.training.tasks import normalised, smoothed

KEPT_STACKS = 8  # of those that nobody sits in now: a shape may come again, and its graph is captured once


class Stacks:
    """The stacks of a process on one device, each with so many seats: as many as there are trainings at once."""

    def __init__(self, seats: int, device: torch.device) -> None:
        self.seats, self._device = seats, device
        self._lock = threading.Lock()
        # One epoch at a time: they share the device's stream, and one graph at most may be captured at a time.
        self._training = threading.Lock()
        self._groups: dict[Shape, _Group] = {}

    def fit(
        self, state: TrainingState, data: TrainingData, *, stop: Callable[[], bool] = lambda: False
    ) -> Generator[EpochMetrics, None, None]:
        """Train as `loop.fit` does: an FCNN in float32 with those of other threads, any other network by itself.

        On a GPU a step is a CUDA graph. The numbers are those of `fit` to rounding. They do not depend on the
        other trainings of the stack. `stop` ends no epoch of a stack.
        """
        if not isinstance(state.classifier.network, GenreClassifierFCNN) or state.config.precision != "fp32":
            if self.seats > 1:  # the generators of the process would be those of several trainings
                raise ValueError(f"{state.config.model} in {state.config.precision} is stacked by itself only")
            yield from fit(state, data, stop=stop, graphed=True)
            return
        train, valid = normalised(state.classifier, data.train), normalised(state.classifier, data.valid)
        network = state.classifier.network
        shape = Shape(
            batch_size=loop_params(state.config)["batch_size"],
            rows=len(train),
            valid=len(valid),
            inputs=train.tensor.shape[1],
            units=network.hidden,
            classes=len(data.genres),
            optimizer=type(state.optimizer),
        )
        group, seat = self._take(shape)
        member = _Member(state, network, group.stack, train, valid, seat)
        try:
            member.sit_down()
            while state.epoch < state.config.end:
                if stop():
                    raise Interrupted(f"stopped before epoch {state.epoch + 1}")
                started = time.perf_counter()
                member.lay_out(state.epoch + 1)
                laid_out = time.perf_counter() - started
                figures, seconds = group.epoch(seat)
                rows = len(valid)
                val_loss, val_accuracy = (figures.val_loss, figures.correct / rows) if rows else (None, None)
                yield advanced(state, figures.train_loss, val_loss, val_accuracy, {}, laid_out + seconds)
        finally:
            try:
                member.stand_up()
            finally:
                group.leave(seat)  # whatever happened: the others would wait for ever

    def _take(self, shape: Shape) -> tuple[_Group, int]:
        """Return the group of a shape with a seat in it. Beyond a few, stacks that nobody sits in are dropped."""
        with self._lock:
            if shape not in self._groups:
                for known in [each for each, group in self._groups.items() if group.is_empty]:
                    if len(self._groups) >= KEPT_STACKS:
                        with self._training:
                            self._groups.pop(known).stack.close()
                stack = FcnnStack(shape, self.seats, self._device)
                self._groups[shape] = _Group(stack, self._training)
            group = self._groups[shape]
            return group, group.take()


@dataclass(slots=True)
class _Group:
    """A stack with who sits in it, and who waits for the next epoch."""

    stack: FcnnStack
    _training: threading.Lock
    _present: set[int] = field(default_factory=set)
    _waiting: set[int] = field(default_factory=set)
    _done: dict[int, tuple[EpochFigures, float] | BaseException] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def is_empty(self) -> bool:
        """Whether nobody sits in it."""
        return not self._present

    def take(self) -> int:
        """Return a free seat, which is then taken; no epoch runs meanwhile."""
        with self._changed:
            seat = min(set(range(self.stack.seats)) - self._present)
            self._present.add(seat)
            return seat

    def leave(self, seat: int) -> None:
        """Give a seat back; those who wait go on without it."""
        with self._changed:
            self._present.discard(seat)
            self._changed.notify_all()

    def epoch(self, seat: int) -> tuple[EpochFigures, float]:
        """Wait until everybody asks for the next epoch; return the figures of this seat and the epoch's seconds.

        Raises what was raised in the epoch, to all of them.
        """
        with self._changed:
            self._waiting.add(seat)
            while seat not in self._done:
                if self._waiting == self._present:
                    self._run()
                else:
                    self._changed.wait()
            found = self._done.pop(seat)
        if isinstance(found, BaseException):
            raise found
        return found

    def _run(self) -> None:
        try:
            with self._training:
                began = time.perf_counter()
                found = self.stack.epoch()
                seconds = time.perf_counter() - began
            self._done |= {seat: (found[seat], seconds) for seat in self._waiting}
        except Exception as error:  # noqa: BLE001 - raised by all who wait
            self._done |= dict.fromkeys(self._waiting, error)
        self._waiting.clear()
        self._changed.notify_all()


class _Member:
    """A training in a seat: what it lays out for an epoch there, and its weights as views of the stack."""

    def __init__(
        self,
        state: TrainingState,
        network: GenreClassifierFCNN,
        stack: FcnnStack,
        train: Part,
        valid: Part,
        seat: int,
    ) -> None:
        self.seat = seat
        self._state, self._network, self._stack = state, network, stack
        self._train, self._valid = train, valid
        device = train.tensor.device
        self._order = torch.Generator()
        self._bits = self._order if device.type == "cpu" else torch.Generator(device)
        self._params = loop_params(state.config)
        self._wanted = smoothed(stack.shape.classes, self._params["label_smoothing"], device)

    @torch.no_grad()
    def sit_down(self) -> None:
        """Move the weights and the optimizer's tensors into the seat."""
        seat, stack, params = self.seat, self._stack, self._params
        optimizer = self._state.optimizer
        decay, is_decoupled = optimizer.weight_decay, isinstance(optimizer, Adam) and optimizer.decoupled
        stack.coupled[seat], stack.decoupled[seat] = (0.0, decay) if is_decoupled else (decay, 0.0)
        stack.momentum[seat] = params["momentum"] if isinstance(optimizer, SGD) else 0.0
        stack.kept_below[seat], stack.scale[seat] = threshold_and_scale(self._network.dropout)
        stack.valid_inputs[seat] = self._valid.tensor
        stack.valid_targets[seat] = self._valid.targets
        self._rebind(lambda own, view: view.copy_(own))

    @torch.no_grad()
    def stand_up(self) -> None:
        """Give the training tensors of its own again."""
        self._rebind(lambda own, _: own.clone())

    def _rebind(self, made: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace each tensor of the training by what is made of it and of the stack's."""
        stack, optimizer, seat = self._stack, self._state.optimizer, self.seat
        for own, view in zip(optimizer.parameters, stack.weights.of(seat), strict=True):
            own.data = made(own.data, view)
        statistics = iter(stack.statistics.of(seat))
        for number, norm in enumerate((self._network.bn1, self._network.bn2)):
            norm.running_mean = made(_held(norm.running_mean), next(statistics))
            norm.running_var = made(_held(norm.running_var), next(statistics))
            norm.num_batches_tracked = made(_held(norm.num_batches_tracked), stack.counts[seat, number])
        for slot, pool in stack.slots.items():
            pairs = zip(optimizer.state[slot], pool.of(seat), strict=True)
            optimizer.state[slot] = [made(own, view) for own, view in pairs]
        if isinstance(optimizer, Adam):
            optimizer.count_in(made(optimizer.steps, stack.steps[seat]))

    @torch.no_grad()
    def lay_out(self, epoch: int) -> None:
        """Lay out the rows of an epoch in its order, its random bits and learning rates: those of `loop.fit`."""
        stack, seat, config, rows = self._stack, self.seat, self._state.config, len(self._train)
        for generator in {self._order, self._bits}:
            generator.manual_seed(derive_seed(config.seed, "epoch", epoch))
        order = torch.randperm(rows, generator=self._order).to(self._train.tensor.device)
        stack.inputs[seat] = self._train.tensor[order]
        stack.wanted[seat] = self._wanted[self._train.targets[order]]
        if self._network.dropout:
            # Batch by batch, as the loop draws them: on a GPU one draw of all is another sequence.
            for bits in (*stack.bits[seat], stack.last_bits[seat]):
                bits.copy_(random_words(bits.numel(), bits.device, self._bits))
        lrs = [lr_at(config, self._params, epoch, index, rows) for index in range(len(stack.lrs))]
        stack.lrs[:, seat, 0] = torch.tensor(lrs, device=stack.lrs.device)


def _held(buffer: nn.Module | Tensor | None) -> Tensor:
    assert isinstance(buffer, Tensor)
    return buffer
