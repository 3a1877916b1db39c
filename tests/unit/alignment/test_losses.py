"""Losses against closed forms, finite differences and slow loops written from the papers' formulas."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from alignment import losses  # noqa: E402

LN2 = math.log(2)
F64 = torch.float64


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def numbers(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed)) * scale


def gradient(loss: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss.sum(), at)[0]


# Finite differences


def test_every_loss_passes_gradcheck_in_float64() -> None:
    ids = torch.tensor([[1, 3, 2, 0], [2, 2, 1, 4]])
    marked = torch.tensor([[False, False, True, True], [False, True, True, False]])
    logits = numbers(0, 2, 4, 5).requires_grad_()
    a, b = numbers(1, 6).requires_grad_(), numbers(2, 6).requires_grad_()
    scores = numbers(3, 2, 4).requires_grad_()
    ranks = torch.tensor([[1, 2, 3, 4], [2, 1, 1, 3]])
    present = torch.tensor([[True, True, True, True], [True, True, True, False]])
    label = torch.tensor([True, False, True, True, False, False])
    z = torch.tensor(0.3, dtype=F64)
    check = torch.autograd.gradcheck
    assert check(lambda x: losses.token_log_probs(x, ids), logits)
    assert check(lambda x: losses.response_log_prob(x, ids, marked), logits)
    assert check(lambda x: losses.taken_log_probs(x[0], ids[0]), logits)
    assert check(lambda x, y: losses.pair_loss(x, y, 0.25), (a, b))
    assert check(losses.centring, (a, b))
    assert check(lambda x: losses.list_loss(x, ranks, present), scores)
    assert check(lambda x, y: losses.dpo_loss(x, y, 0.1), (a, b))
    assert check(lambda x, y: losses.dpo_loss(x, y, 0.1, label_smoothing=0.2), (a, b))
    assert check(lambda x, y: losses.dpo_loss(x, y, 0.1, "ipo"), (a, b))
    assert check(lambda x: losses.kto_loss(x, label, z, 0.4, 1.3, 0.7), a)


# Closed forms


def test_equal_models_lose_ln2_and_pull_each_way_by_half_beta() -> None:
    for smoothing in (0.0, 0.1, 0.3):
        better, worse = torch.zeros(3, dtype=F64).requires_grad_(), torch.zeros(3, dtype=F64).requires_grad_()
        loss = losses.dpo_loss(better, worse, 0.2, label_smoothing=smoothing)
        expected = torch.full((3,), LN2, dtype=F64)
        torch.testing.assert_close(loss.detach(), expected)
        # dL/dh_w = −β [σ(−u) − ε]
        torch.testing.assert_close(gradient(loss, better), torch.full((3,), -0.2 * (0.5 - smoothing), dtype=F64))
        loss = losses.dpo_loss(better, worse, 0.2, label_smoothing=smoothing)
        torch.testing.assert_close(gradient(loss, worse), torch.full((3,), 0.2 * (0.5 - smoothing), dtype=F64))


def test_ipo_of_equal_models_is_its_target_squared_and_vanishes_at_its_target() -> None:
    zero = torch.zeros(1, dtype=F64)
    torch.testing.assert_close(losses.dpo_loss(zero, zero, 0.1, "ipo"), torch.tensor([25.0], dtype=F64))
    torch.testing.assert_close(losses.dpo_loss(zero + 5, zero, 0.1, "ipo"), zero)


def test_kto_of_equal_models_is_half_its_weight_with_a_quarter_of_beta_as_gradient() -> None:
    ratio = torch.zeros(2, dtype=F64).requires_grad_()
    loss = losses.kto_loss(ratio, torch.tensor([True, False]), torch.tensor(0.0), 0.2, 1.5, 0.5)
    torch.testing.assert_close(loss.detach(), torch.tensor([0.75, 0.25], dtype=F64))
    torch.testing.assert_close(gradient(loss, ratio), torch.tensor([-1.5 * 0.05, 0.5 * 0.05], dtype=F64))


def test_no_gradient_goes_through_the_reference_point() -> None:
    z = torch.tensor(0.5, dtype=F64).requires_grad_()
    ratio = torch.ones(2, dtype=F64).requires_grad_()
    losses.kto_loss(ratio, torch.tensor([True, False]), z * 1.0, 0.2, 1.0, 1.0).sum().backward()
    assert z.grad is None
    assert ratio.grad is not None


def test_equal_scores_lose_ln2_with_the_gradient_of_the_rank() -> None:
    for k in range(2, 8):
        scores = torch.zeros(1, k, dtype=F64).requires_grad_()
        loss = losses.list_loss(scores, torch.arange(1, k + 1).unsqueeze(0))
        torch.testing.assert_close(loss.detach(), torch.tensor([LN2], dtype=F64))
        count = k * (k - 1) / 2
        expected = torch.tensor([[-(k - 2 * i + 1) / (2 * count) for i in range(1, k + 1)]], dtype=F64)
        torch.testing.assert_close(gradient(loss, scores), expected)


def test_the_gradient_of_a_list_is_its_formula_and_sums_to_zero() -> None:
    for k in (2, 3, 5, 9):
        scores = numbers(k, 1, k, scale=2.0).requires_grad_()
        found = gradient(losses.list_loss(scores, torch.arange(1, k + 1).unsqueeze(0)), scores)[0]
        r, count = scores[0].tolist(), k * (k - 1) / 2
        expected = [
            -(sum(sigma(r[j] - r[i]) for j in range(i + 1, k)) - sum(sigma(r[i] - r[j]) for j in range(i))) / count
            for i in range(k)
        ]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=F64))
        assert abs(float(found.sum())) < 1e-15


def test_a_list_of_two_is_a_pair() -> None:
    a, b = numbers(1, 10), numbers(2, 10)
    ranks = torch.tensor([[1, 2]]).expand(10, 2)
    torch.testing.assert_close(losses.list_loss(torch.stack([a, b], 1), ranks), losses.pair_loss(a, b))


def test_a_constant_added_to_all_rewards_changes_nothing() -> None:
    a, b, ranks = numbers(1, 4, 5), numbers(2, 4), torch.tensor([[1, 2, 3, 4, 5]]).expand(4, 5)
    torch.testing.assert_close(losses.list_loss(a + 7, ranks), losses.list_loss(a, ranks))
    torch.testing.assert_close(losses.pair_loss(b + 7, a[:, 0] + 7), losses.pair_loss(b, a[:, 0]))


def test_a_list_of_ties_loses_nothing_and_moves_nothing() -> None:
    scores = numbers(0, 1, 3).requires_grad_()
    loss = losses.list_loss(scores, torch.tensor([[2, 2, 2]]))
    assert loss.tolist() == [0.0]
    assert gradient(loss, scores).tolist() == [[0.0, 0.0, 0.0]]


def test_garbage_in_an_empty_place_of_a_list_reaches_neither_loss_nor_gradient() -> None:
    scores = torch.tensor([[1.0, 0.0, math.nan]], dtype=F64).requires_grad_()
    loss = losses.list_loss(scores, torch.tensor([[1, 2, 3]]), torch.tensor([[True, True, False]]))
    torch.testing.assert_close(loss.detach(), torch.tensor([-math.log(sigma(1.0))], dtype=F64))
    torch.testing.assert_close(gradient(loss, scores), torch.tensor([[-sigma(-1.0), sigma(-1.0), 0.0]], dtype=F64))


def test_losses_stay_finite_where_exponentials_do_not() -> None:
    far = torch.tensor([1e4, -1e4], dtype=torch.float32).requires_grad_()
    near = torch.zeros(2)
    for loss in (
        losses.pair_loss(far, near),
        losses.dpo_loss(far, near, 0.5, label_smoothing=0.1),
        losses.kto_loss(far, torch.tensor([True, False]), torch.tensor(0.0), 0.5, 1.0, 1.0),
    ):
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient(loss, far)).all()
    torch.testing.assert_close(losses.pair_loss(far, near).detach(), torch.tensor([0.0, 1e4]))


def test_bf16_logits_are_normalised_in_fp32() -> None:
    logits = numbers(0, 1, 3, 50, scale=3.0).bfloat16()
    ids = torch.tensor([[1, 20, 30]])
    found = losses.token_log_probs(logits, ids)
    assert found.dtype == torch.float32
    exact = logits.double().log_softmax(-1)
    expected = torch.tensor([[0.0, exact[0, 0, 20], exact[0, 1, 30]]])
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=0)


# Slow loops on random input

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 4), st.integers(1, 7), st.integers(2, 9))
def test_response_log_probabilities_are_those_of_a_loop(seed: int, rows: int, tokens: int, vocabulary: int) -> None:
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(rows, tokens, vocabulary)) * 3
    ids = draw.integers(vocabulary, size=(rows, tokens))
    marked = draw.random((rows, tokens)) < 0.5
    expected = np.zeros(rows)
    for row in range(rows):
        for t in range(1, tokens):
            if marked[row, t]:
                weights = [math.exp(x) for x in logits[row, t - 1]]
                expected[row] += math.log(weights[ids[row, t]] / sum(weights))
    found = losses.response_log_prob(torch.from_numpy(logits), torch.from_numpy(ids), torch.from_numpy(marked))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


@given(seeds, st.integers(1, 5), st.integers(1, 6))
def test_list_losses_are_those_of_a_loop_over_pairs(seed: int, lists: int, k: int) -> None:
    draw = np.random.default_rng(seed)
    scores, ranks = draw.normal(size=(lists, k)) * 2, draw.integers(1, 4, size=(lists, k))
    present = draw.random((lists, k)) < 0.8
    expected = []
    for row in range(lists):
        terms = []
        for i, j in combinations(range(k), 2):
            if not (present[row, i] and present[row, j]) or ranks[row, i] == ranks[row, j]:
                continue
            up, down = (i, j) if ranks[row, i] < ranks[row, j] else (j, i)
            terms.append(-math.log(sigma(scores[row, up] - scores[row, down])))
        expected.append(sum(terms) / len(terms) if terms else 0.0)
    found = losses.list_loss(torch.from_numpy(scores), torch.from_numpy(ranks), torch.from_numpy(present))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@given(seeds, st.floats(0.01, 1.0), st.floats(0.0, 0.49), st.floats(-2.0, 2.0))
def test_pair_losses_are_those_of_a_loop(seed: int, beta: float, smoothing: float, margin: float) -> None:
    draw = np.random.default_rng(seed)
    better, worse = draw.normal(size=8) * 5, draw.normal(size=8) * 5
    first, second = torch.from_numpy(better), torch.from_numpy(worse)
    pair, centred, dpo, ipo = [], [], [], []
    for w, l in zip(better.tolist(), worse.tolist(), strict=True):  # noqa: E741
        pair.append(-math.log(sigma(w - l - margin)))
        centred.append((w + l) * (w + l))
        right, wrong = sigma(beta * (w - l)), sigma(beta * (l - w))
        dpo.append(-(1 - smoothing) * math.log(right) - smoothing * math.log(wrong))
        ipo.append((w - l - 1 / (2 * beta)) * (w - l - 1 / (2 * beta)))
    np.testing.assert_allclose(losses.pair_loss(first, second, margin).numpy(), pair, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(losses.centring(first, second).numpy(), centred, rtol=1e-12)
    found = losses.dpo_loss(first, second, beta, label_smoothing=smoothing)
    np.testing.assert_allclose(found.numpy(), dpo, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(losses.dpo_loss(first, second, beta, "ipo").numpy(), ipo, rtol=1e-10)


@given(seeds, st.floats(0.01, 1.0), st.floats(0.0, 5.0), st.floats(0.1, 3.0), st.floats(0.1, 3.0))
def test_kto_losses_are_those_of_a_loop(seed: int, beta: float, z: float, up: float, down: float) -> None:
    draw = np.random.default_rng(seed)
    ratio, good = draw.normal(size=8) * 5, draw.random(8) < 0.5
    expected = [
        up * (1 - sigma(beta * (r - z))) if g else down * (1 - sigma(beta * (z - r)))
        for r, g in zip(ratio.tolist(), good.tolist(), strict=True)
    ]
    point = torch.tensor(z, dtype=F64)
    found = losses.kto_loss(torch.from_numpy(ratio), torch.from_numpy(good), point, beta, up, down)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)
