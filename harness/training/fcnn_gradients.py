"""The gradients of the FCNN without autograd, whose records take longer than the arithmetic of small layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.models.dropout import factors_of, scaled
from harness.models.fcnn import GenreClassifierFCNN

Losses = Callable[[Tensor], tuple[Tensor, Tensor]]  # from the logits to the loss and its gradient by them
of_relu = torch.ops.aten.threshold_backward.default
_of_batch_norm = torch.ops.aten.native_batch_norm_backward.default
_ALL = [True, True, True]  # the gradients by the input, the weight and the bias


class _Norm:
    """The tensors of a batch normalisation, read from the module once: that takes long."""

    def __init__(self, layer: nn.BatchNorm1d) -> None:
        assert layer.momentum is not None
        self.weight, self.bias, self.momentum, self.eps = layer.weight, layer.bias, layer.momentum, layer.eps
        self.mean, self.variance, self.count = layer.running_mean, layer.running_var, layer.num_batches_tracked

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output with the mean and the inverse deviation of the batch."""
        assert self.count is not None
        self.count.add_(1)
        return torch.native_batch_norm(
            x, self.weight, self.bias, self.mean, self.variance, True, self.momentum, self.eps
        )

    def backward(self, grad: Tensor, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Set the gradients of weight and bias; return that by the input."""
        by_input, self.weight.grad, self.bias.grad = _of_batch_norm(
            grad, x, self.weight, self.mean, self.variance, mean, deviation, True, self.eps, _ALL
        )
        return by_input  # type: ignore[no-any-return]


class _Linear:
    """The tensors of a fully connected layer."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.Linear)
        self.weight, self.bias = layer.weight, layer.bias
        self.transposed = layer.weight.detach().t()  # a view: it follows the weights

    def forward(self, x: Tensor) -> Tensor:
        """Return the output."""
        return torch.addmm(self.bias, x, self.transposed)

    def backward(self, grad: Tensor, x: Tensor) -> None:
        """Set the gradients of weight and bias."""
        self.weight.grad, self.bias.grad = grad.t().mm(x), grad.sum(0)


@dataclass(slots=True)
class _Passed:
    """What the backward pass needs of a hidden layer; `factors` are those of dropout."""

    inputs: Tensor
    linear: Tensor
    batch: tuple[Tensor, Tensor] | None
    positive: Tensor
    factors: Tensor | None


class FcnnGradients:
    """Sets the gradients of an FCNN: the kernels of autograd in its order, called directly.

    The network is in training mode, its weights are float32 on the CPU, and stay the same tensors.
    """

    def __init__(self, network: GenreClassifierFCNN) -> None:
        self._hidden = [
            (_Linear(network.fc1), _Norm(network.bn1)),
            (_Linear(network.fc2), _Norm(network.bn2)),
            (_Linear(network.fc3), None),
        ]
        self._last = _Linear(network.fc4)
        self._units, self._dropout = network.hidden, network.dropout

    @torch.no_grad()
    def set(self, x: Tensor, losses: Losses) -> Tensor:
        """Set the gradients of a batch of inputs, float32 [n, inputs]; return the loss."""
        passed = []
        dropped = factors_of(x, self._units, self._dropout)
        for (linear, norm), factors in zip(self._hidden, dropped, strict=True):
            inputs, x = x, linear.forward(x)
            before, batch = x, None
            if norm is not None:
                x, mean, deviation = norm.forward(x)
                batch = mean, deviation
            x = positive = x.relu_()
            x = scaled(x, factors)
            passed.append(_Passed(inputs, before, batch, positive, factors))
        loss, grad = losses(self._last.forward(x))
        self._last.backward(grad, x)
        grad = grad.mm(self._last.weight)
        for (linear, norm), layer in zip(reversed(self._hidden), reversed(passed), strict=True):
            if layer.factors is not None:
                grad.mul_(layer.factors)
            grad = of_relu(grad, layer.positive, 0)
            if norm is not None and layer.batch is not None:
                grad = norm.backward(grad, layer.linear, *layer.batch)
            linear.backward(grad, layer.inputs)
            if layer is not passed[0]:
                grad = grad.mm(linear.weight)
        return loss
