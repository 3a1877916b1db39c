"""One update of PPO: a rollout → advantages → epochs of minibatches over policy and critic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from alignment import policy_gradient as pg
from alignment.attention import short_attention
from alignment.loop import LoopSettings, Micro, Objective, Optimiser, accumulate, wants_bf16
from alignment.losses import taken_log_probs
from alignment.reference import by_length, response_logits
from alignment.rollout import Rollout, places, tempered_logits, token_values, with_next
from alignment.rows import Example, pad
from curation.errors import Problem, StageError
from curation.seeding import derive_seed
from curation.settings import Settings

# How far |π/π_old − 1| may be from 0 before anything was updated. Other row counts in a matrix product move the last
# digits of fp32 (measured 2e-5 on the named sizes); bf16 has 8 bits of mantissa.
RATIO_TOLERANCE = {"fp32": 1e-3, "bf16": 0.25}


class UpdateSettings(Settings):
    """What one update does with one rollout."""

    epochs: int = Field(default=4, ge=1)  # lm-human-preferences, N+; InstructGPT 1
    minibatches: int = Field(default=1, ge=1)  # optimiser steps an epoch: N+ 1, InstructGPT 8
    rows_per_micro: int = Field(default=16, ge=1)  # sequences through a model at once; see `rows_per_forward`
    clip: float = Field(default=0.2, gt=0)  # of the ratio (Schulman 2017, table 3)
    value_clip: float = Field(default=0.2, gt=0)  # of the value's change (lm-human-preferences)
    value_coefficient: float = Field(default=0.1, gt=0)  # lm-human-preferences, N+
    entropy_coefficient: float = Field(default=0.0, ge=0)  # none in lm-human-preferences, N+, InstructGPT
    gamma: float = Field(default=1.0, gt=0, le=1)  # lm-human-preferences, N+
    lam: float = Field(default=0.95, ge=0, le=1)  # lm-human-preferences, N+
    whiten_rewards: bool = False  # variance only; lm-human-preferences does, N+ does not
    ptx_coefficient: float = Field(default=0.0, ge=0)  # γ of PPO-ptx (Ouyang 2022, eq. 2: 27.8), on a mean over tokens
    ptx_rows: int = Field(default=32, ge=1)  # rows of the mix-in an optimiser step
    approx_kl_limit: float | None = None  # the update ends before a step whose ½(log ρ)² is above it; none: never
    # TRL and N+ give the score to the slot after the end of text and let the value loss see it; with γ = 1 that shifts
    # values, with λ < 1 advantages too. On the end of text, the reward meets the token that earned it.
    score_at: Literal["eos", "after_eos"] = "eos"
    bessel: bool = False  # whitening's variance over n − 1 (TRL) and not n (lm-human-preferences)


@dataclass(frozen=True)
class Episodes:
    """A rollout with what policy and critic are to learn from it, all (rows, T)."""

    rollout: Rollout
    rewards: Tensor
    advantages: Tensor  # whitened
    returns: Tensor
    value_mask: Tensor  # bool: where the critic learns


def judge(rollout: Rollout, settings: UpdateSettings, coefficient: float) -> Episodes:
    """Token rewards −β·k1 with the score at the end, whitened advantages, and returns taken before whitening."""
    last = rollout.lengths - 1
    if settings.score_at == "after_eos":
        slot = (last + 1).clamp(max=rollout.width - 1)
        value_mask = with_next(rollout.response)
    else:
        slot, value_mask = last, rollout.response
    kl = pg.kl_estimate(rollout.log_probs, rollout.reference)  # both 0 outside the response
    rewards = pg.token_rewards(rollout.score, kl, slot, coefficient)
    if settings.whiten_rewards:
        rewards = pg.whiten(rewards, value_mask, shift_mean=False, bessel=settings.bessel)
    advantages, returns = pg.gae(rewards, rollout.values, value_mask, settings.gamma, settings.lam)
    advantages = pg.whiten(advantages, rollout.response, bessel=settings.bessel)
    return Episodes(rollout, rewards, advantages, returns, value_mask)


class Minibatches:
    """The optimiser steps of one update: `batch(k)` is minibatch k mod `minibatches` of epoch k div `minibatches`.

    Which rows meet in a minibatch depends on the seed, the round, the update and the epoch alone.
    """

    def __init__(self, episodes: Episodes, settings: UpdateSettings, key: Sequence[object], seed: int) -> None:
        self.episodes, self.settings, self.key, self.seed = episodes, settings, key, seed
        self.steps = settings.epochs * settings.minibatches

    def counts(self) -> Tensor:
        """(rows, T) bool: the tokens whose losses are summed."""
        raise NotImplementedError

    def batch(self, step: int) -> list[Micro]:
        """The minibatch of step `step` in micro-batches."""
        epoch, part = divmod(step, self.settings.minibatches)
        rows = len(self.episodes.advantages)
        order = np.random.default_rng(derive_seed(self.seed, "ppo", "minibatches", *map(str, self.key), str(epoch)))
        chosen = np.array_split(order.permutation(rows), self.settings.minibatches)[part]
        counts = self.counts()
        micros = []
        e = self.episodes
        lengths = e.rollout.mask.sum(1)[torch.from_numpy(chosen).to(counts.device)].tolist()
        for group in by_length(lengths, self.settings.rows_per_micro):
            index = torch.from_numpy(chosen[group]).to(counts.device)
            tensors = {
                **e.rollout.rows(index),
                "advantages": e.advantages[index],
                "returns": e.returns[index],
                "value_mask": e.value_mask[index],
            }
            micros.append(Micro(tensors, int(counts[index].sum()), int(tensors["mask"].sum())))
        return micros


class PolicyObjective(Minibatches):
    """The clipped policy loss over response tokens, less the entropy bonus."""

    def __init__(
        self, episodes: Episodes, settings: UpdateSettings, temperature: float, key: Sequence[object], seed: int
    ) -> None:
        super().__init__(episodes, settings, key, seed)
        self.temperature = temperature
        self.ratio_gap = torch.zeros(())  # largest |ρ − 1| that was seen

    def counts(self) -> Tensor:
        return self.episodes.rollout.response

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed over the response tokens of a micro-batch."""
        t, s = micro.tensors, self.settings
        real = t["response"]
        at = places(t["start"], real, t["ids"].shape[1])
        logits = tempered_logits(model, t["ids"], t["mask"], at, self.temperature)
        new, old, advantages = taken_log_probs(logits, t["ids"][at]), t["log_probs"][real], t["advantages"][real]
        loss = pg.policy_loss(new, old, advantages, s.clip).sum()
        total = loss
        if s.entropy_coefficient:
            total = loss - s.entropy_coefficient * pg.entropy(logits).sum()
        with torch.no_grad():
            ratio = pg.log_ratio(new, old).exp()
            if len(ratio):
                self.ratio_gap = torch.maximum(self.ratio_gap.to(ratio.device), (ratio - 1).abs().max())
            logged = {
                "policy_loss": loss,
                "clip_fraction": pg.policy_clipped(new, old, advantages, s.clip).sum(),
                "approx_kl": (0.5 * pg.log_ratio(new, old) ** 2).sum(),
                "ratio": ratio.sum(),
            }
        return total, logged


class CriticObjective(Minibatches):
    """The clipped value loss, times its coefficient."""

    def counts(self) -> Tensor:
        return self.episodes.value_mask

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed over the tokens of a micro-batch at which the critic learns."""
        t, s = micro.tensors, self.settings
        real = t["value_mask"]
        new = token_values(model, t["ids"], t["start"], real)
        old, returns = t["values"][real], t["returns"][real]
        loss = pg.value_loss(new, old, returns, s.value_clip).sum()
        clipped = pg.value_clipped(new.detach(), old, returns, s.value_clip).sum()
        return s.value_coefficient * loss, {"value_loss": loss, "value_clip_fraction": clipped}


class PtxObjective:
    """The language-model loss of the mix-in, times its coefficient: what keeps a policy from forgetting."""

    def __init__(self, examples: Sequence[Example], settings: UpdateSettings, pad_id: int, seed: int) -> None:
        self.examples, self.settings, self.pad_id, self.seed = examples, settings, pad_id, seed
        self.steps = -(-len(examples) // settings.ptx_rows)  # of one pass over the examples

    def batch(self, step: int) -> list[Micro]:
        """The rows of optimiser step `step` of the whole stage; each pass over the examples has its own order."""
        n, size = len(self.examples), self.settings.ptx_rows
        chosen = [self.examples[int(k)] for k in endless(n, step * size, size, self.seed, "ptx")]
        micros = []
        for start in range(0, size, self.settings.rows_per_micro):
            padded = pad(chosen[start : start + self.settings.rows_per_micro], self.pad_id)
            tensors = {"ids": padded.ids, "mask": padded.mask, "response": padded.response}
            micros.append(Micro(tensors, int(padded.response[:, 1:].sum()), int(padded.mask.sum())))
        return micros

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        """Summed over response tokens; of plain text every token but the first is one."""
        t = micro.tensors
        predicted = t["response"].clone()
        predicted[:, 0] = False
        logits = response_logits(model, t["ids"], t["mask"], predicted)
        loss = -taken_log_probs(logits, t["ids"][predicted]).sum()
        return self.settings.ptx_coefficient * loss, {"ptx_loss": loss}


def endless(n: int, start: int, count: int, seed: int, purpose: str) -> np.ndarray[Any, Any]:
    """(count,) items `start`, `start + 1`, … of an endless walk over n things, each pass in an order of its own."""
    found = []
    while count > 0:
        epoch, at = divmod(start, n)
        order = np.random.default_rng(derive_seed(seed, "ppo", purpose, "order", str(epoch))).permutation(n)
        part = order[at : at + count]
        found.append(part)
        start, count = start + len(part), count - len(part)
    return np.concatenate(found)


def update(
    policy: Optimiser,
    critic: Optimiser,
    actor_steps: PolicyObjective,
    critic_steps: CriticObjective,
    ptx: PtxObjective | None,
    number: int,
) -> dict[str, float]:
    """All epochs of update `number` (from 0) of the stage.

    Returns:
        means over its optimiser steps of losses, clip fractions, approximate KL, ratio and gradient norms; `tokens`
        that went through the policy with a gradient; and `optimiser_steps` done.

    Raises:
        StageError: the ratio is not 1 before the first step, or a loss or gradient is not finite.
    """
    rows: list[dict[str, float]] = []
    tokens = 0
    for step in range(actor_steps.steps):
        micros = actor_steps.batch(step)
        where = micros[0].tensors["ids"].device
        means = _mean(actor_steps, policy, micros, where)
        if step == 0:
            _check_ratio(float(actor_steps.ratio_gap), policy.settings, where, number)
        limit = actor_steps.settings.approx_kl_limit
        if limit is not None and means["approx_kl"] > limit:
            policy.adam.zero_grad(set_to_none=True)
            break
        if ptx is not None:
            mixed = ptx.batch(number * actor_steps.steps + step)
            means |= _mean(ptx, policy, mixed, where)
            tokens += sum(micro.tokens for micro in mixed)
        done = policy.step(number)
        means |= _mean(critic_steps, critic, critic_steps.batch(step), where)
        value_done = critic.step(number)
        means |= {"gradient_norm": done["gradient_norm"], "value_gradient_norm": value_done["gradient_norm"]}
        means |= {"learning_rate": done["learning_rate"]}
        rows.append(means)
        tokens += sum(micro.tokens for micro in micros)
    names = rows[0]
    return {
        **{name: sum(row[name] for row in rows) / len(rows) for name in names},
        "tokens": tokens,
        "optimiser_steps": len(rows),
    }


def _mean(objective: Objective, optimiser: Optimiser, micros: Sequence[Micro], where: torch.device) -> dict[str, float]:
    width = max(micro.tensors["ids"].shape[1] for micro in micros)
    with short_attention(wants_bf16(optimiser.settings.precision, where), where, width):
        means = accumulate(objective, optimiser.model, micros, optimiser.settings, where)
    del means["loss"]  # each objective logs its own under its own name, before coefficients
    return means


def _check_ratio(gap: float, settings: LoopSettings, where: torch.device, number: int) -> None:
    limit = RATIO_TOLERANCE["bf16" if wants_bf16(settings.precision, where) else "fp32"]
    if not gap <= limit:
        raise StageError(
            Problem(
                "ratio-not-one",
                f"before the first step of an update a token's probability is off by {gap:.3g} of itself",
                f"update {number}",
                f"at most {limit}: nothing has been updated since it was sampled",
                "the model draws random numbers in its forward pass (dropout), or depends on its neighbours in a batch",
            )
        )


def summary(episodes: Episodes) -> dict[str, float]:
    """What to log of a batch of episodes: means over sequences or tokens, as the names say.

    `kl` and `kl_k3` are sums over a sequence's tokens in nats, averaged over sequences.
    """
    r = episodes.rollout
    kl = {kind: pg.kl_estimate(r.log_probs, r.reference, kind).sum(1).mean() for kind in ("k1", "k2", "k3")}
    numbers: Mapping[str, Tensor] = {
        "reward": r.reward.mean(),
        "score": r.score.mean(),
        "score_std": r.score.std(correction=0),
        "kl": kl["k1"],
        "kl_k2": kl["k2"],
        "kl_k3": kl["k3"],
        "rlhf_reward": episodes.rewards.sum(1).mean(),
        "entropy": pg.masked_mean(r.entropy, r.response),
        "value": pg.masked_mean(r.values, episodes.value_mask),
        "explained_variance": pg.explained_variance(r.values, episodes.returns, episodes.value_mask),
        "length": r.lengths.float().mean(),
        "eos_rate": r.ended.float().mean(),
    }
    return {name: float(value) for name, value in numbers.items()}
