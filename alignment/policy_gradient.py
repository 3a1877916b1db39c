"""PPO's arithmetic as pure functions of (rows, tokens) rectangles: no models, no batches.

A mask is True where a token of the response counts. It begins in column 0 and has no holes: responses are padded on the
right. What stands outside the mask is never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

# Logarithms of probability ratios are cut here before they go through exp: e^20 is 5e8, and past it fp32 squares
# overflow. No update of PPO's size comes near it; one broken row must not take the batch with it.
LOG_RATIO_LIMIT = 20.0
WHITEN_EPS = 1e-8  # under the root of the variance (lm-human-preferences, `whiten`)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Scalar: the mean over the True entries of `mask`; 0 when there are none."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor, bessel: bool = False) -> Tensor:
    """Scalar: the variance over the True entries, divided by n, or by n − 1 with `bessel` (0 for n = 1)."""
    n = mask.sum().clamp(min=1)
    squares = torch.where(mask, (values - masked_mean(values, mask)) ** 2, 0).sum()
    return squares / ((n - 1).clamp(min=1) if bessel else n)


def whiten(values: Tensor, mask: Tensor, shift_mean: bool = True, bessel: bool = False) -> Tensor:
    """(rows, tokens) values with variance 1 over the mask, and 0 outside it.

    Args:
        shift_mean: also bring the mean to 0 (advantages); False keeps the mean (rewards).
        bessel: divide the variance by n − 1, as TRL does; lm-human-preferences divides by n.
    """
    mean = masked_mean(values, mask)
    whitened = (values - mean) * torch.rsqrt(masked_variance(values, mask, bessel) + WHITEN_EPS)
    return torch.where(mask, whitened if shift_mean else whitened + mean, 0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates (Schulman 2016, arXiv 1506.02438, eq. 16) and the returns they imply.

    Args:
        rewards: (rows, tokens); column t is what the step that takes token t earns.
        values: (rows, tokens); column t is the value before token t is taken. After a row's last token it is 0:
            responses end there, whether the end of text or the limit ended them.

    Returns:
        advantages A_t = δ_t + γλ A_{t+1} with δ_t = r_t + γ V_{t+1} − V_t, and returns A_t + V_t, taken before any
        whitening; both 0 outside the mask.
    """
    values, rewards = torch.where(mask, values, 0), torch.where(mask, rewards, 0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    deltas = rewards + gamma * following - values
    columns = []
    running = torch.zeros_like(values[:, 0])
    for t in range(values.shape[1] - 1, -1, -1):
        running = deltas[:, t] + gamma * lam * running
        columns.append(running)
    advantages = torch.stack(columns[::-1], 1)
    return advantages, advantages + values


def token_rewards(score: Tensor, kl: Tensor, slot: Tensor, coefficient: float) -> Tensor:
    """(rows, tokens) −β·KL at every token, and the score of the whole response at `slot` (rows,)."""
    return (-coefficient * kl).scatter_add(1, slot.unsqueeze(1), score.unsqueeze(1).to(kl.dtype))


def log_ratio(new: Tensor, old: Tensor) -> Tensor:
    """log π − log π_old, cut at ±`LOG_RATIO_LIMIT`."""
    return (new - old).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Per token max(−A ρ, −A clip(ρ, 1 − ε, 1 + ε)), ρ = π/π_old (Schulman 2017, arXiv 1707.06347, eq. 7)."""
    ratio = log_ratio(new, old).exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def policy_clipped(new: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Per token bool: the clipped branch is the larger one, so the token has no gradient."""
    ratio = log_ratio(new, old).exp()
    return -advantages * ratio.clamp(1 - clip, 1 + clip) > -advantages * ratio


def value_loss(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Per token ½ max((V − R)², (V_old + clip(V − V_old, ±ε) − R)²) (lm-human-preferences, `train_policy.py`)."""
    clipped = old + (new - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((new - returns) ** 2, (clipped - returns) ** 2)


def value_clipped(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Per token bool: the clipped branch of `value_loss` is the larger one."""
    clipped = old + (new - old).clamp(-clip, clip)
    return (clipped - returns) ** 2 > (new - returns) ** 2


def kl_estimate(log_p: Tensor, log_q: Tensor, kind: Literal["k1", "k2", "k3"] = "k1") -> Tensor:
    """Per token an estimate of KL(p ‖ q) from tokens drawn from p (Schulman 2020, "Approximating KL Divergence").

    k1 = log p − log q: unbiased, may be negative. k2 = k1²/2: biased, low variance.
    k3 = e^(−k1) − 1 + k1: unbiased, never negative.
    """
    k1 = log_p - log_q
    if kind == "k1":
        return k1
    if kind == "k2":
        return k1**2 / 2
    return torch.expm1(-k1.clamp(min=-LOG_RATIO_LIMIT)) + k1


def entropy(logits: Tensor) -> Tensor:
    """(…,) entropy in nats of the distributions whose logits lie along the last axis."""
    log_p = torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, -1)
    return -(log_p.exp() * log_p).sum(-1)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Scalar 1 − Var(R − V)/Var(R): 1 for a perfect critic, 0 for a constant one, NaN never (0 when R is constant)."""
    spread = masked_variance(returns, mask)
    left = masked_variance(returns - values, mask)
    return torch.where(spread > 0, 1 - left / spread.clamp(min=torch.finfo(spread.dtype).tiny), 0.0)


class KlControl(Protocol):
    """The KL coefficient β, and how it answers to the KL that was measured."""

    value: float

    def update(self, kl: float, episodes: int) -> None:
        """`kl`: mean over sequences of Σ_t k1, in nats, of the last `episodes` sequences."""


@dataclass
class FixedKl:
    """β stays what it is."""

    value: float

    def update(self, kl: float, episodes: int) -> None:
        """Nothing to do."""


@dataclass
class AdaptiveKl:
    """β ← β (1 + clip(KL/target − 1, ±0.2) · n/horizon) (Ziegler 2019, arXiv 1909.08593, §2.2).

    The defaults are lm-human-preferences': a target of 6 nats a sequence and a horizon of 10,000 episodes.
    """

    value: float
    target: float = 6.0
    horizon: float = 10_000.0
    limit: float = 0.2

    def update(self, kl: float, episodes: int) -> None:
        """Move β by at most `limit · episodes / horizon` of itself."""
        error = min(max(kl / self.target - 1, -self.limit), self.limit)
        self.value *= 1 + error * episodes / self.horizon
