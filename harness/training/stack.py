"""Several FCNNs of one shape trained together: each operation of a step is one for all of them.

A step of one FCNN on a GPU is launches of kernels, which take longer than their arithmetic. Here a kernel works on
all members, and on a GPU the kernels of a step are launched as one CUDA graph. A stack has a fixed number of
seats. What is in the others does not change the numbers of a member: the shapes, and so the kernels, are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from harness.models.dropout import words_of
from harness.training.fcnn_gradients import of_relu
from harness.training.graphs import Graph
from harness.training.optimizers import ADAM_BETAS, ADAM_EPS, SGD, Optimizer

ALIGNED = 64  # floats: a member's tensors begin where each kernel may read whole lines, in every seat alike
NORMS = 2  # the layers with batch normalisation, the first of the hidden ones
BATCH_NORM_EPS, BATCH_NORM_MOMENTUM = 1e-5, 0.1  # those of PyTorch's layers, which the FCNN leaves as they are


def _products(left: Tensor, right: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Return the matrix product of each member, [seats, n, m], plus its bias [seats, m].

    On a CPU it multiplies copies, one member at a time: MKL's kernels of AVX-512 add up in another order where a
    matrix begins elsewhere within a line of the cache, so that the numbers would depend on the seat.
    """
    if left.is_cuda:
        if bias is not None:
            return torch.baddbmm(bias.unsqueeze(1), left, right, out=out)
        return torch.bmm(left, right, out=out)
    found = torch.stack([a.clone() @ b.clone() for a, b in zip(left, right, strict=True)], out=out)
    return found if bias is None else found.add_(bias.unsqueeze(1))


@dataclass(frozen=True, slots=True)
class Shape:
    """What the members of a stack have in common: what the shapes of their tensors depend on, and the optimizer.

    `rows` and `valid` are the sizes of the train and validation part, `units` those of the hidden layers.
    """

    batch_size: int
    rows: int
    valid: int
    inputs: int
    units: tuple[int, ...]
    classes: int
    optimizer: type[Optimizer]

    @property
    def layers(self) -> list[tuple[int, int]]:
        """The inputs and outputs of each fully connected layer."""
        sizes = [self.inputs, *self.units, self.classes]
        return list(pairwise(sizes))


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """The figures of a member's epoch: mean losses, and how many validation rows are right."""

    train_loss: float
    val_loss: float
    correct: int


class _Pool:
    """One tensor of each seat cut out of a flat one, [seats, ...]: whole operations on it are one kernel."""

    def __init__(self, seats: int, shapes: Sequence[tuple[int, ...]], device: torch.device) -> None:
        sizes = [torch.Size(shape).numel() for shape in shapes]
        starts = [0, *accumulate(-(-size // ALIGNED) * ALIGNED for size in sizes)]
        self.flat = torch.zeros(seats, starts[-1], device=device)
        self.parts = [
            self.flat[:, start : start + size].view(seats, *shape)
            for start, size, shape in zip(starts, sizes, shapes, strict=False)
        ]

    def of(self, seat: int) -> list[Tensor]:
        """Return the tensors of a seat, as views."""
        return [part[seat] for part in self.parts]


class FcnnStack:
    """The tensors of a stack, and an epoch of all its members.

    A seat that nobody has is trained along: that costs nothing on a GPU, and the shapes stay.
    """

    def __init__(self, shape: Shape, seats: int, device: torch.device) -> None:
        self.shape, self.seats, self._device = shape, seats, device
        weights: list[tuple[int, ...]] = []
        for place, (inputs, outputs) in enumerate(shape.layers):  # in the order of the network's parameters
            weights += [(outputs, inputs), (outputs,)] + [(outputs,), (outputs,)] * (place < NORMS)
        self.weights, self._grads = _Pool(seats, weights, device), _Pool(seats, weights, device)
        self.slots = {slot: _Pool(seats, weights, device) for slot in shape.optimizer.slots if slot != "step"}
        self.steps = torch.zeros(seats, len(weights), device=device)
        self.statistics = _Pool(seats, [(size,) for size in shape.units[:NORMS] for _ in range(2)], device)
        self.counts = torch.zeros(seats, NORMS, dtype=torch.int64, device=device)

        def number(dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(seats, 1, dtype=dtype, device=device)

        self.lr, self.coupled, self.decoupled, self.momentum = number(), number(), number(), number()
        self.kept_below, self.scale = number(torch.int32), number()
        whole, rest = divmod(shape.rows, shape.batch_size)
        if rest == 1 and whole:  # a single row has no variance: it is joined to the batch before it
            whole, rest = whole - 1, rest + shape.batch_size
        self.whole, self.rest = whole, rest
        self.lrs = torch.zeros(whole + bool(rest), seats, 1, device=device)
        self.inputs = torch.zeros(seats, shape.rows, shape.inputs, device=device)
        self.wanted = torch.zeros(seats, shape.rows, shape.classes, device=device)
        words, last_words = (words_of(count, shape.units) for count in (shape.batch_size, rest))
        self.bits = torch.zeros(seats, whole, words, dtype=torch.int64, device=device)
        self.last_bits = torch.zeros(seats, last_words, dtype=torch.int64, device=device)
        self.valid_inputs = torch.zeros(seats, shape.valid, shape.inputs, device=device)
        self.valid_targets = torch.zeros(seats, shape.valid, dtype=torch.int64, device=device)
        self._totals = torch.zeros(seats, device=device)
        self._graph: Graph | None = None

    @torch.no_grad()
    def epoch(self) -> list[EpochFigures]:
        """Train all members for an epoch on what was laid out for it; return their figures."""
        shape, size = self.shape, self.shape.batch_size
        self._totals.zero_()
        for index in range(self.whole):
            rows = slice(index * size, (index + 1) * size)
            self.lr.copy_(self.lrs[index])
            self._whole_step(self.inputs[:, rows], self.wanted[:, rows], self.bits[:, index])
        if self.rest:
            rows = slice(shape.rows - self.rest, shape.rows)
            self.lr.copy_(self.lrs[self.whole])
            self._step(self.inputs[:, rows], self.wanted[:, rows], self.last_bits)
        self.counts.add_(self.whole + bool(self.rest))
        losses, correct = self._validate()
        figures = torch.stack([self._totals / shape.rows, losses, correct]).tolist()  # waits for the device, once
        return [EpochFigures(loss, val_loss, int(right)) for loss, val_loss, right in zip(*figures, strict=True)]

    def close(self) -> None:
        """Free its graph."""
        if self._graph is not None:
            self._graph.close()

    def _whole_step(self, x: Tensor, wanted: Tensor, bits: Tensor) -> None:
        """Do the step of a whole batch, on a GPU as a graph."""
        if self._device.type != "cuda":
            self._step(x, wanted, bits)
            return
        if self._graph is None:
            changed = [self.weights.flat, self.steps, self.statistics.flat, self._totals]
            changed += [pool.flat for pool in self.slots.values()]
            self._graph = Graph(self._step, [x, wanted, bits.contiguous()], changed)
        self._graph.replay(x, wanted, bits)

    def _step(self, x: Tensor, wanted: Tensor, bits: Tensor) -> None:
        """Update the weights by a batch, x [seats, n, inputs] and wanted [seats, n, classes]."""
        rows = x.shape[1]
        factors = self._factors(bits, rows)
        passed: list[tuple[Tensor, Tensor, Tensor]] = []  # of a hidden layer: inputs, normalised values, outputs
        deviations: list[Tensor] = []
        layers = list(self._layers(self.weights))
        for place, (weight, bias, *norm) in enumerate(layers[:-1]):
            inputs, x = x, _products(x, weight.transpose(1, 2), bias)
            normalised = x
            if norm:
                variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
                self._note(place, mean, variance, rows)
                deviations.append((variance + BATCH_NORM_EPS).rsqrt())
                normalised = (x - mean).mul_(deviations[-1])
                x = torch.addcmul(norm[1].unsqueeze(1), normalised, norm[0].unsqueeze(1))
            outputs = x.relu()
            passed.append((inputs, normalised, outputs))
            x = outputs * factors[place]
        weight, bias = layers[-1]
        logs = torch.log_softmax(_products(x, weight.transpose(1, 2), bias), 2)
        self._totals.sub_((logs * wanted).sum((1, 2)))
        grad = logs.exp().sub_(wanted).div_(rows)
        grads = list(self._layers(self._grads))
        for place in reversed(range(len(layers))):
            by_weight, by_bias, *by_norm = grads[place]
            if place < len(passed):
                inputs, normalised, outputs = passed[place]
                grad = of_relu(grad * factors[place], outputs, 0)
                if by_norm:
                    grad = self._back_through_norm(
                        grad, normalised, deviations[place], layers[place][2], by_norm[0], by_norm[1]
                    )
                x = inputs
            _products(grad.transpose(1, 2), x, out=by_weight)
            torch.sum(grad, 1, out=by_bias)
            if place:
                grad = _products(grad, layers[place][0])
        self._update()

    def _layers(self, pool: _Pool) -> Iterator[list[Tensor]]:
        """Yield the tensors of each layer: weight and bias, with batch normalisation also those of that."""
        parts = iter(pool.parts)
        for place in range(len(self.shape.layers)):
            yield [next(parts) for _ in range(4 if place < NORMS else 2)]

    def _factors(self, bits: Tensor, rows: int) -> list[Tensor]:
        """Return the factors of dropout of each hidden layer, [seats, rows, units]; see `factors_of`."""
        units = self.shape.units
        sizes = [rows * each for each in units]
        drawn = bits.contiguous().view(torch.int16)[:, : sum(sizes)]
        factors = torch.lt(drawn, self.kept_below).to(torch.float32).mul_(self.scale)
        parts = torch.split(factors, sizes, 1)
        return [part.reshape(self.seats, rows, each) for part, each in zip(parts, units, strict=True)]

    def _note(self, place: int, mean: Tensor, variance: Tensor, rows: int) -> None:
        """Let the running statistics of a layer follow those of a batch."""
        means, variances = self.statistics.parts[2 * place : 2 * place + 2]
        means.lerp_(mean.squeeze(1), BATCH_NORM_MOMENTUM)
        variances.lerp_(variance.squeeze(1) * (rows / (rows - 1)), BATCH_NORM_MOMENTUM)

    @staticmethod
    def _back_through_norm(
        grad: Tensor, normalised: Tensor, deviation: Tensor, scale: Tensor, by_scale: Tensor, by_shift: Tensor
    ) -> Tensor:
        """Set the gradients of a batch normalisation's scale and shift; return that by its input."""
        rows = grad.shape[1]
        torch.sum(grad * normalised, 1, out=by_scale)
        torch.sum(grad, 1, out=by_shift)
        mean = by_shift.unsqueeze(1) + normalised * by_scale.unsqueeze(1)
        return (grad - mean.div_(rows)).mul_(deviation * scale.unsqueeze(1))

    def _update(self) -> None:
        """Update the weights by the gradients in the way of `Adam` or `SGD`, with an lr for each member."""
        weights = self.weights.flat
        grad = torch.addcmul(self._grads.flat, weights, self.coupled)
        if self.shape.optimizer is SGD:
            buffer = self.slots["momentum_buffer"].flat
            buffer.mul_(self.momentum).add_(grad)
            weights.sub_(buffer * self.lr)
            return
        self.steps.add_(1)
        steps, (first, second) = self.steps[:, :1], ADAM_BETAS
        mean, square = (self.slots[slot].flat for slot in ("exp_avg", "exp_avg_sq"))
        weights.mul_(1 - self.lr * self.decoupled)
        mean.lerp_(grad, 1 - first)
        square.mul_(second).addcmul_(grad, grad, value=1 - second)
        corrections = [-torch.expm1(steps * math.log(beta)) for beta in ADAM_BETAS]  # 1 - beta^steps
        root = square.sqrt().div_(corrections[1].sqrt()).add_(ADAM_EPS)
        weights.sub_((mean * (self.lr / corrections[0])).div_(root))

    def _validate(self) -> tuple[Tensor, Tensor]:
        """Return the mean validation loss and the number of right rows of each member; zeros without rows."""
        if not self.shape.valid:
            return torch.zeros_like(self._totals), torch.zeros_like(self._totals)
        x = self.valid_inputs
        for place, (weight, bias, *norm) in enumerate(self._layers(self.weights)):
            x = _products(x, weight.transpose(1, 2), bias)
            if norm:
                mean, variance = (part.unsqueeze(1) for part in self.statistics.parts[2 * place : 2 * place + 2])
                x = (x - mean) * (variance + BATCH_NORM_EPS).rsqrt()
                x = torch.addcmul(norm[1].unsqueeze(1), x, norm[0].unsqueeze(1))
            if place < len(self.shape.units):
                x = x.relu_()
        logs = torch.log_softmax(x, 2).gather(2, self.valid_targets.unsqueeze(2))
        return -logs.mean((1, 2)), (x.argmax(2) == self.valid_targets).sum(1).float()
