"""The gradients of the FCNN by hand, against autograd's."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from harness.core.objective import ACCURACY
from harness.models.classifier import Classifier
from harness.models.fcnn import GenreClassifierFCNN
from harness.models.normalise import StandardizeFeatures
from harness.training.loop import autocast
from harness.training.tasks import Classes, ClassesOfFcnn, cross_entropy, smoothed, task_of

CPU = torch.device("cpu")


def classifier(network: GenreClassifierFCNN, inputs: int = 7) -> Classifier:
    return Classifier(StandardizeFeatures(torch.zeros(inputs), torch.ones(inputs)), network)


@given(
    rows=st.integers(2, 40),
    inputs=st.integers(1, 60),
    classes=st.integers(2, 12),
    width=st.floats(0.02, 1.5),
    dropout=st.sampled_from([0.0, 0.3, 0.9]),
    smoothing=st.sampled_from([0.0, 0.15, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradients_loss_and_statistics_are_autograds(
    rows: int, inputs: int, classes: int, width: float, dropout: float, smoothing: float, seed: int
) -> None:
    torch.manual_seed(seed)
    by_hand = GenreClassifierFCNN(inputs, classes, dropout=dropout, width=width)
    with torch.no_grad():
        for weights in (by_hand.bn1.weight, by_hand.bn2.weight, by_hand.bn1.bias, by_hand.bn2.bias):
            weights.uniform_(-2, 2)
    by_autograd = copy.deepcopy(by_hand)
    x, targets = torch.randn(rows, inputs), torch.randint(0, classes, (rows,))
    task = task_of(classifier(by_hand, inputs), ACCURACY, nullcontext(), smoothing, classes, CPU)
    assert isinstance(task, ClassesOfFcnn)
    for _ in range(2):  # the second batch has other running statistics
        state = torch.get_rng_state()
        found = task.backward(x, targets)
        after = torch.get_rng_state()
        torch.set_rng_state(state)
        by_autograd.zero_grad()
        loss = F.cross_entropy(by_autograd(x), targets, label_smoothing=smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.equal(after, torch.get_rng_state())  # dropout draws the same numbers
        assert not found.requires_grad
        assert found.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)
        for (name, own), other in zip(by_hand.named_parameters(), by_autograd.parameters(), strict=True):
            assert own.grad is not None
            assert other.grad is not None
            scale = float(other.grad.abs().max())
            assert torch.allclose(own.grad, other.grad, rtol=1e-3, atol=1e-4 * scale + 1e-5), name
    for (name, kept), expected in zip(by_hand.named_buffers(), by_autograd.buffers(), strict=True):
        assert torch.allclose(kept, expected, rtol=1e-5, atol=1e-6), name


@given(rows=st.integers(1, 20), classes=st.integers(2, 12), smoothing=st.floats(0, 0.99), seed=st.integers(0, 999))
def test_cross_entropy_is_pytorchs(rows: int, classes: int, smoothing: float, seed: int) -> None:
    torch.manual_seed(seed)
    logits = (5 * torch.randn(rows, classes)).requires_grad_()
    targets = torch.randint(0, classes, (rows,))
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    (gradient,) = torch.autograd.grad(expected, logits)
    loss, own = cross_entropy(logits.detach(), smoothed(classes, smoothing)[targets])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    assert torch.allclose(own, gradient, rtol=1e-4, atol=1e-6)


def test_only_the_fcnn_itself_in_float32_goes_without_autograd() -> None:
    class Other(GenreClassifierFCNN):
        pass

    for network, precision in ((Other(7), "fp32"), (GenreClassifierFCNN(7), "bf16")):
        task = task_of(classifier(network), ACCURACY, autocast(precision, CPU), 0.0, 10, CPU)
        assert type(task) is Classes
