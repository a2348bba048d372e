"""The optimizers of the loop: Adam, AdamW and SGD by PyTorch's fused kernels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.sgd import sgd

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8  # the constants of Kingma and Ba


class Optimizer:
    """Updates parameters with one fused kernel; the numbers are those of the class of `torch.optim`.

    PyTorch's classes keep records at each step. For a small network they take longer than the arithmetic
    (docs/performance.md), so what is below them is called directly.

    `slots` names the tensors that the optimizer keeps for each parameter, in the parameter's shape and memory
    layout, because the fused kernel walks both together.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        self._lr: float | Tensor = lr
        self.weight_decay = weight_decay
        self.parameters = list(parameters)
        self.state = {slot: [torch.zeros_like(p) for p in self.parameters] for slot in self.slots}

    @property
    def lr(self) -> float | Tensor:
        """The learning rate of the next steps, a tensor after `keep_lr_on`."""
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        if isinstance(self._lr, Tensor):
            self._lr.fill_(lr)
        else:
            self._lr = lr

    def keep_lr_on(self, device: torch.device) -> None:
        """Keep the learning rate on a device: a step that was captured there reads it at each replay."""
        self._lr = torch.as_tensor(self._lr, dtype=torch.float32, device=device)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        grads = [p.grad for p in self.parameters if p.grad is not None]
        if len(grads) == len(self.parameters):
            self._update(self.parameters, grads, self.state)
            return
        used = [(i, p.grad) for i, p in enumerate(self.parameters) if p.grad is not None]
        parameters = [self.parameters[i] for i, _ in used]
        state = {slot: [tensors[i] for i, _ in used] for slot, tensors in self.state.items()}
        self._update(parameters, [grad for _, grad in used], state)

    def _update(self, parameters: list[Tensor], grads: list[Tensor], state: dict[str, list[Tensor]]) -> None:
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """Return the kept tensors, not copied; a key is `<index of the parameter>.<slot>`."""
        return {f"{i}.{slot}": t for slot, tensors in self.state.items() for i, t in enumerate(tensors)}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy in the tensors that `tensors` returned for the same network, whatever their device and layout."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])


class Adam(Optimizer):
    """Adam; with `decoupled` AdamW, whose weight decay is not part of the gradient.

    Sources: Kingma and Ba (2015), Adam: a method for stochastic optimization, whose constants are used; Loshchilov
    and Hutter (2019), Decoupled weight decay regularization.
    """

    slots = ("exp_avg", "exp_avg_sq", "step")

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, weight_decay: float, decoupled: bool = False
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.decoupled = decoupled
        device = self.parameters[0].device if self.parameters else None
        # A number for each parameter, counted in one operation: one for each takes longer than the update.
        self.count_in(torch.zeros(len(self.parameters), dtype=torch.float32, device=device))

    def count_in(self, steps: Tensor) -> None:
        """Count the steps in this tensor, float32 [parameters]."""
        self.steps = steps
        self.state["step"] = list(steps.unbind())

    def _update(self, parameters: list[Tensor], grads: list[Tensor], state: dict[str, list[Tensor]]) -> None:
        if len(parameters) == len(self.parameters):
            self.steps.add_(1)
        else:
            for step in state["step"]:
                step.add_(1)
        update = torch._fused_adamw_ if self.decoupled else torch._fused_adam_
        update(
            parameters,
            grads,
            state["exp_avg"],
            state["exp_avg_sq"],
            [],
            state["step"],
            amsgrad=False,
            beta1=ADAM_BETAS[0],
            beta2=ADAM_BETAS[1],
            lr=self.lr,
            weight_decay=self.weight_decay,
            eps=ADAM_EPS,
            maximize=False,
        )


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Source: Sutskever et al. (2013), On the importance of initialization and momentum in deep learning, in
    PyTorch's form. The buffer begins at zero, so that the first step is the gradient alone.
    """

    slots = ("momentum_buffer",)

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def _update(self, parameters: list[Tensor], grads: list[Tensor], state: dict[str, list[Tensor]]) -> None:
        sgd(
            parameters,
            grads,
            list[Tensor | None](state["momentum_buffer"]),
            fused=True,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
