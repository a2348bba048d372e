"""Steps as CUDA graphs: the kernels of a step are launched at once, where launches take longer than kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UP_STEPS = 3  # before a capture, as PyTorch asks for: libraries allocate what they need in them
# PyTorch hands out 32 streams in turn, and a graph that ends takes the workspace of its stream with it. No two
# live graphs may share one, so those of graphs that have ended are used again.
_free_streams: dict[torch.device, list[torch.cuda.Stream]] = {}


class Graph:
    """A step as a CUDA graph, on copies of its inputs.

    `changed` are the tensors that the step changes: they and the random generator are as before when it is
    captured. The device is that of the inputs. One graph of a process at most may be captured at a time.
    """

    def __init__(self, step: Callable[..., None], inputs: Sequence[Tensor], changed: Sequence[Tensor]) -> None:
        self._device = inputs[0].device
        self._inputs = [each.clone(memory_format=torch.preserve_format) for each in inputs]
        before = [each.detach().clone() for each in changed]
        with torch.cuda.device(self._device):
            random_state = torch.cuda.get_rng_state()
            free = _free_streams.setdefault(self._device, [])
            self._stream = free.pop() if free else torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP_STEPS):
                    step(*self._inputs)
            torch.cuda.current_stream().wait_stream(self._stream)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads of the process may allocate meanwhile: their trainings are between two epochs.
            # The outer block leaves the side stream where a capture fails: PyTorch's own stays on it then.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                step(*self._inputs)
            torch.cuda.set_rng_state(random_state)
        with torch.no_grad():
            for each, value in zip(changed, before, strict=True):
                each.copy_(value)

    def replay(self, *inputs: Tensor) -> None:
        """Do the step on these inputs, which have the shapes of the first ones."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()

    def close(self) -> None:
        """Free the graph and its memory; it cannot be replayed any more."""
        torch.cuda.synchronize(self._device)
        self._graph.reset()
        _free_streams[self._device].append(self._stream)
