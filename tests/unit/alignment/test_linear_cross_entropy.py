"""The fused last layer and loss against torch's own, taken apart."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alignment import linear_cross_entropy as module
from alignment.linear_cross_entropy import linear_cross_entropy


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 16, generator=generator, dtype=dtype)
    weight = torch.randn(50, 16, generator=generator, dtype=dtype)
    return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(50, (37,), generator=generator)


@pytest.mark.parametrize("rows_at_once", [1, 5, 37, 100])
def test_loss_and_gradients_are_those_of_torch_however_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(module, "PIECE", rows_at_once * 50)
    hidden, weight, targets = inputs()
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    expected_gradients = torch.autograd.grad(expected * 0.3, (hidden, weight))

    loss = linear_cross_entropy(hidden, weight, targets)
    gradients = torch.autograd.grad(loss * 0.3, (hidden, weight))

    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    hidden, weight, targets = inputs(torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, targets), (hidden, weight))


def test_a_frozen_side_gets_no_gradient_and_changes_nothing() -> None:
    hidden, weight, targets = inputs()
    both = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), (hidden, weight))

    only_hidden = torch.autograd.grad(linear_cross_entropy(hidden, weight.detach(), targets), hidden)
    only_weight = torch.autograd.grad(linear_cross_entropy(hidden.detach(), weight, targets), weight)
    with torch.no_grad():
        neither = linear_cross_entropy(hidden, weight, targets)

    assert torch.equal(only_hidden[0], both[0])
    assert torch.equal(only_weight[0], both[1])
    assert not neither.requires_grad


def test_under_autocast_it_is_as_near_to_fp32_as_torch_is() -> None:
    hidden, weight, targets = inputs()
    exact = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    exact_gradients = torch.autograd.grad(exact, (hidden, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = F.cross_entropy(F.linear(hidden, weight).float(), targets, reduction="sum")
        ours = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(loss, (hidden, weight)) for loss in (ours, theirs)]

    for mine, others, truth in zip(*gradients, exact_gradients, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - truth).norm() <= 1.05 * (others - truth).norm()
