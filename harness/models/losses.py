"""The loss that a network declares itself: what it is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from harness.core.errors import SettingsError
from harness.data import Inputs

LOSS = "loss"  # the key of what training minimises


class Batch(NamedTuple):
    """What `loss` is called with: normalised inputs, and the classes (indices, int64 [n]) of the same items."""

    inputs: Inputs
    targets: Tensor


def losses_of(network: nn.Module, inputs: Inputs, targets: Tensor) -> dict[str, Tensor]:
    """Return what the network's `loss` gives for normalised inputs, each the mean over the items, float32 [].

    Raises SettingsError if it gives something else.
    """
    given = cast(Callable[[Batch], Any], network.loss)(Batch(inputs, targets))
    found = {LOSS: given} if isinstance(given, Tensor) else given
    if not isinstance(found, Mapping) or LOSS not in found:
        raise SettingsError(f"loss gives {type(given).__name__}", expected=f"a tensor, or a dict with {LOSS!r}")
    for name, value in found.items():
        if not isinstance(value, Tensor) or value.dim():
            raise SettingsError(f"loss gives {value!r:.60} for {name!r}", expected="a tensor without dimensions")
    return {str(name): value.float() for name, value in found.items()}
