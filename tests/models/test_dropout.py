"""The factors of dropout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.models.dropout import LEVELS, factors_of
from harness.models.fcnn import GenreClassifierFCNN


@given(
    rows=st.integers(0, 40),
    units=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    dropout=st.floats(0, 1, exclude_min=True, exclude_max=True),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_factor_is_nothing_or_what_makes_the_mean_one(
    rows: int, units: list[int], dropout: float, dtype: torch.dtype
) -> None:
    found = factors_of(torch.zeros(rows, 3, dtype=dtype), tuple(units), dropout)
    assert [None if part is None else tuple(part.shape) for part in found] == [(rows, each) for each in units]
    kept = min(max(round((1 - dropout) * LEVELS), 1), LEVELS - 1) / LEVELS
    assert abs(kept - (1 - dropout)) <= 1 / LEVELS
    scale = torch.tensor(1 / kept, dtype=dtype)
    for part in found:
        assert part is not None
        assert part.dtype == dtype
        assert ((part == 0) | (part == scale)).all()


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.93])
def test_the_share_that_is_dropped(dropout: float) -> None:
    torch.manual_seed(0)
    rows, units = 1000, (256, 128, 64)
    for part in factors_of(torch.zeros(rows, 1), units, dropout):
        assert part is not None
        share = (part == 0).double()
        error = (dropout * (1 - dropout)) ** 0.5
        assert abs(share.mean() - dropout) < 5 * error / part.numel() ** 0.5
        # each unit and each row by itself, and neighbours do not go together
        assert (share.mean(0) - dropout).abs().max() < 5 * error / rows**0.5
        assert (share.mean(1) - dropout).abs().max() < 5.5 * error / part.shape[1] ** 0.5
        together = ((share[:, 1:] - dropout) * (share[:, :-1] - dropout)).mean() / error**2
        assert abs(together) < 5 / part.numel() ** 0.5


def test_nothing_is_drawn_without_dropout_or_out_of_training() -> None:
    x = torch.randn(6, 5)
    for dropout, training in ((0.0, True), (0.4, False)):
        network = GenreClassifierFCNN(5, 3, dropout=dropout).train(training)
        before = torch.get_rng_state()
        network(x)
        assert torch.equal(before, torch.get_rng_state())
