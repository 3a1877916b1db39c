"""What a policy answers to held-out prompts: reward, second opinion, distance from the reference, length, diversity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln

from alignment import policy_gradient as pg
from alignment.loop import LoopSettings, autocast, device
from alignment.rollout import Rollout, SamplingSettings, Scorer, collect, places, rewards_of


@dataclass(frozen=True)
class PolicyReport:
    """Means over held-out prompts, one response to each, drawn with the same seed whatever the policy."""

    prompts: int
    reward: float  # of the reward model PPO climbs
    heldout_reward: float  # of one of another seed or data half
    kl: float  # Σ k1 of a sequence to the reference, nats
    kl_k3: float
    entropy: float  # nats a token
    length: float  # tokens, the end of text included
    eos_rate: float
    diversity: float  # see `diversity`
    heldout_rewards: tuple[float, ...]  # of each prompt, to compare policies prompt by prompt


def report(
    policy: Any,
    reference: Any,
    scorer: Scorer,
    heldout: Scorer,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingSettings,
    loop: LoopSettings,
    ids: dict[str, int],
    seed: int,
) -> PolicyReport:
    """Answer the prompts and measure. Raises as `rollout.collect`."""
    where = device()
    for model in (policy, reference, scorer, heldout):
        if isinstance(model, torch.nn.Module):
            model.to(where).eval()
    with autocast(loop, where), torch.no_grad():
        rollout = collect(policy, reference, None, scorer, prompts, sampling, ids, seed)
        second = rewards_of(heldout, rollout.ids, rollout.mask)
    kl = {kind: pg.kl_estimate(rollout.log_probs, rollout.reference, kind).sum(1).mean() for kind in ("k1", "k3")}
    return PolicyReport(
        prompts=len(prompts),
        reward=float(rollout.reward.mean()),
        heldout_reward=float(second.mean()),
        kl=float(kl["k1"]),
        kl_k3=float(kl["k3"]),
        entropy=float(pg.masked_mean(rollout.entropy, rollout.response)),
        length=float(rollout.lengths.float().mean()),
        eos_rate=float(rollout.ended.float().mean()),
        diversity=diversity(answers(rollout)),
        heldout_rewards=tuple(second.tolist()),
    )


def diversity(responses: Sequence[Sequence[int]]) -> float:
    """Share of different ones among as many 2-grams of tokens, drawn from all responses, as there are responses.

    The expectation over all such draws (rarefaction: Hurlbert 1971, Ecology 52(4), p. 581), so that policies with other
    response lengths can be compared: plain distinct-2 falls when answers get longer. 0 when there is no 2-gram.
    """
    counts = Counter(pair for tokens in responses for pair in pairwise(tokens))
    n = np.array(list(counts.values()), dtype=np.float64)
    total, drawn = n.sum(), min(len(responses), n.sum())
    if not drawn:
        return 0.0

    def log_choose(size: Any) -> Any:
        return gammaln(size + 1) - gammaln(drawn + 1) - gammaln(size - drawn + 1)

    left = total - n  # 2-grams other than this one; fewer than are drawn: it is surely among them
    missed = np.where(left >= drawn, np.exp(log_choose(np.maximum(left, drawn)) - log_choose(total)), 0.0)
    return float((1 - missed).sum() / drawn)


def answers(rollout: Rollout) -> list[list[int]]:
    """The tokens of each response, its end of text included."""
    at = places(rollout.start, rollout.response, rollout.ids.shape[1])
    return [part.tolist() for part in torch.split(rollout.ids[at].cpu(), rollout.lengths.tolist())]
