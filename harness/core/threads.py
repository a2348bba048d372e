"""The number of threads that PyTorch uses within an operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def intra_op_threads(number: int) -> Iterator[None]:
    """Let PyTorch use so many threads within an operation inside the block."""
    import torch  # takes seconds

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
