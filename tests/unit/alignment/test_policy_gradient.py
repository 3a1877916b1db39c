"""PPO's formulas against closed forms, finite differences in float64, and loops written from the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from alignment import policy_gradient as pg  # noqa: E402

ROWS, TOKENS = 3, 5


@st.composite
def batches(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Random rectangles with right-padded masks; every row has at least one token."""
    lengths = draw(st.lists(st.integers(1, TOKENS), min_size=ROWS, max_size=ROWS))
    seed = draw(st.integers(0, 2**31 - 1))
    generator = torch.Generator().manual_seed(seed)
    found = {
        name: torch.randn(ROWS, TOKENS, generator=generator, dtype=torch.float64)
        for name in ("rewards", "values", "new", "old", "returns", "advantages")
    }
    found["mask"] = torch.arange(TOKENS).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    return found


@given(batches(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_advantages_equal_the_double_sum_of_the_paper(batch, gamma, lam):
    advantages, returns = pg.gae(batch["rewards"], batch["values"], batch["mask"], gamma, lam)
    expected = np.zeros((ROWS, TOKENS))
    for row in range(ROWS):
        length = int(batch["mask"][row].sum())
        r, v = batch["rewards"][row].tolist(), [*batch["values"][row, :length].tolist(), 0.0]
        for t in range(length):
            expected[row, t] = sum(
                (gamma * lam) ** (k - t) * (r[k] + gamma * v[k + 1] - v[k]) for k in range(t, length)
            )
    np.testing.assert_allclose(advantages.numpy(), expected, atol=1e-12)
    kept = np.where(batch["mask"].numpy(), expected + batch["values"].numpy(), 0)
    np.testing.assert_allclose(returns.numpy(), kept, atol=1e-12)


def test_lambda_0_gives_the_one_step_error_and_lambda_1_the_reward_to_go():
    rewards = torch.tensor([[1.0, 2.0, 3.0, 9.0]])
    mask = torch.tensor([[True, True, True, False]])
    values = torch.tensor([[0.5, 0.25, 0.125, 7.0]])
    advantages, _ = pg.gae(rewards, values, mask, gamma=1.0, lam=0.0)
    torch.testing.assert_close(advantages, torch.tensor([[1 + 0.25 - 0.5, 2 + 0.125 - 0.25, 3 - 0.125, 0]]))
    advantages, returns = pg.gae(rewards, torch.zeros_like(values), mask, gamma=1.0, lam=1.0)
    torch.testing.assert_close(advantages, torch.tensor([[6.0, 5, 3, 0]]))
    torch.testing.assert_close(returns, advantages)


@given(batches(), st.booleans(), st.booleans())
@settings(max_examples=50, deadline=None)
def test_whitening_equals_numpys_and_never_reads_padding(batch, shift_mean, bessel):
    values, mask = batch["values"], batch["mask"]
    kept = values[mask].numpy()
    if bessel and len(kept) == 1:
        return
    expected = (kept - kept.mean()) / np.sqrt(kept.var(ddof=int(bessel)) + 1e-8) + (0 if shift_mean else kept.mean())
    found = pg.whiten(values, mask, shift_mean, bessel)
    np.testing.assert_allclose(found[mask].numpy(), expected, atol=1e-9)
    spoiled = torch.where(mask, values, float("nan"))
    torch.testing.assert_close(pg.whiten(spoiled, mask, shift_mean, bessel), found, rtol=0, atol=0)
    assert (found[~mask] == 0).all()


def test_whitened_advantages_have_mean_0_and_variance_1():
    values = torch.randn(8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 2
    mask = torch.arange(9).unsqueeze(0) < torch.tensor([9, 1, 4, 5, 9, 2, 7, 3]).unsqueeze(1)
    whitened = pg.whiten(values, mask)[mask]
    assert whitened.mean().item() == pytest.approx(0, abs=1e-12)
    assert whitened.var(correction=0).item() == pytest.approx(1, abs=1e-7)


@given(batches())
@settings(max_examples=50, deadline=None)
def test_policy_and_value_losses_equal_a_slow_loop(batch):
    policy = pg.policy_loss(batch["new"], batch["old"], batch["advantages"], 0.2)
    clipped = pg.policy_clipped(batch["new"], batch["old"], batch["advantages"], 0.2)
    value = pg.value_loss(batch["new"], batch["old"], batch["returns"], 0.3)
    value_clipped = pg.value_clipped(batch["new"], batch["old"], batch["returns"], 0.3)
    for row in range(ROWS):
        for t in range(TOKENS):
            new, old, a, target = (float(batch[name][row, t]) for name in ("new", "old", "advantages", "returns"))
            ratio = math.exp(new - old)
            plain, cut = a * ratio, a * min(max(ratio, 0.8), 1.2)
            assert policy[row, t].item() == pytest.approx(-min(plain, cut), abs=1e-12)
            assert bool(clipped[row, t]) == (cut < plain)
            near = old + min(max(new - old, -0.3), 0.3)
            assert value[row, t].item() == pytest.approx(max((new - target) ** 2, (near - target) ** 2) / 2, abs=1e-12)
            assert bool(value_clipped[row, t]) == ((near - target) ** 2 > (new - target) ** 2)


@pytest.mark.parametrize(
    ("advantage", "ratio", "has_gradient"),
    [(1, 1.3, False), (1, 0.7, True), (-1, 1.3, True), (-1, 0.7, False), (1, 1.1, True), (-1, 0.9, True)],
)
def test_only_steps_that_go_too_far_for_the_better_lose_their_gradient(advantage, ratio, has_gradient):
    new = torch.tensor(math.log(ratio), dtype=torch.float64, requires_grad=True)
    pg.policy_loss(new, torch.zeros_like(new), torch.tensor(float(advantage)), 0.2).backward()
    expected = -advantage * ratio if has_gradient else 0.0  # d/dlogπ of −A ρ
    assert new.grad.item() == pytest.approx(expected, abs=1e-12)


def test_before_any_update_the_loss_is_minus_the_mean_advantage():
    old = -torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    advantages = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(pg.policy_loss(old, old, advantages, 0.2), -advantages)
    assert not pg.policy_clipped(old, old, advantages, 0.2).any()
    assert pg.kl_estimate(old, old, "k3").abs().max() == 0


def test_gradients_of_all_losses_equal_finite_differences():
    generator = torch.Generator().manual_seed(3)
    shape = (3, 4)
    new, old, advantages, returns = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4))
    new = (old + 0.15 * new).requires_grad_()  # some tokens inside the clip, some outside
    logits = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pg.policy_loss(x, old, advantages, 0.1), new)
    assert torch.autograd.gradcheck(lambda x: pg.value_loss(x, old, returns, 0.1), new)
    assert torch.autograd.gradcheck(pg.entropy, logits)
    for kind in ("k1", "k2", "k3"):
        assert torch.autograd.gradcheck(lambda x, kind=kind: pg.kl_estimate(x, old, kind), new)


def test_k1_and_k3_average_to_the_exact_kl():
    generator = torch.Generator().manual_seed(4)
    p, q = (torch.randn(7, generator=generator, dtype=torch.float64).log_softmax(0) for _ in range(2))
    exact = (p.exp() * (p - q)).sum()
    for kind in ("k1", "k3"):
        torch.testing.assert_close((p.exp() * pg.kl_estimate(p, q, kind)).sum(), exact)
    assert (pg.kl_estimate(p, q, "k3") >= 0).all()
    torch.testing.assert_close(pg.kl_estimate(p, q, "k2"), (p - q) ** 2 / 2)


def test_entropy_is_scipys():
    entropy = pytest.importorskip("scipy.stats").entropy
    logits = torch.randn(5, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    np.testing.assert_allclose(pg.entropy(logits).numpy(), entropy(logits.softmax(1).numpy(), axis=1), atol=1e-12)
    assert pg.entropy(torch.zeros(2, 8)).tolist() == pytest.approx([math.log(8)] * 2)


def test_token_rewards_are_the_penalty_everywhere_and_the_score_once():
    kl = torch.tensor([[0.5, -0.25, 0.0], [1.0, 2.0, 3.0]])
    rewards = pg.token_rewards(torch.tensor([10.0, 20.0]), kl, torch.tensor([1, 2]), 0.1)
    torch.testing.assert_close(rewards, torch.tensor([[-0.05, 10.025, 0.0], [-0.1, -0.2, 19.7]]))


def test_a_broken_log_ratio_stays_finite():
    old, new = torch.tensor([0.0, 0.0]), torch.tensor([-500.0, 500.0])
    assert torch.isfinite(pg.policy_loss(new, old, torch.tensor([1.0, -1.0]), 0.2)).all()
    assert torch.isfinite(pg.kl_estimate(new, old, "k3")).all()


def test_explained_variance_is_1_for_a_perfect_critic_and_0_for_a_constant_one():
    returns = torch.tensor([[1.0, 2.0, 3.0, 99.0]])
    mask = torch.tensor([[True, True, True, False]])
    assert pg.explained_variance(returns, returns, mask).item() == pytest.approx(1)
    assert pg.explained_variance(torch.full_like(returns, 5), returns, mask).item() == pytest.approx(0)
    assert pg.explained_variance(returns, torch.ones_like(returns), mask).item() == 0


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(6.0, 1), (6.6, 1 + 0.1 * 512 / 10_000), (600.0, 1 + 0.2 * 512 / 10_000), (-50.0, 1 - 0.2 * 512 / 10_000)],
)
def test_the_adaptive_coefficient_moves_as_ziegler_says_and_saturates_at_a_fifth(kl, factor):
    control = pg.AdaptiveKl(0.15)
    control.update(kl, 512)
    assert control.value == pytest.approx(0.15 * factor, rel=1e-12)


def test_a_fixed_coefficient_stays():
    control = pg.FixedKl(0.05)
    control.update(100.0, 512)
    assert control.value == 0.05
