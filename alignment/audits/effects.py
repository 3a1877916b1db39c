"""Swap effects: how much a reward model's reward changes with one attribute, and how often its choice does.

    effect     D = mean[r(second) − r(first)] / SD, over all responses that the swap applies to
    SD         √(Σ (r − mean of the prompt)² / Σ (n − 1)) over the given responses: what a response can gain or lose
               within a prompt; taken as known in the interval
    flip rate  over all (response, rival) of a prompt: the share in which first and second version fare differently
               against the rival; a tie against a decision counts as half

Intervals resample prompts, since responses to one prompt hang together (`alignment/statistics/bootstrap.py`, BCa).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alignment.audits.scoring import Group, Judge
from alignment.audits.swaps import Swap
from alignment.statistics.bootstrap import DRAWS, prompt_interval
from alignment.statistics.contrast import Cells, Contrast, Term
from curation.errors import DataContractError, Problem

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SwapEffect:
    """What one swap does to the rewards. Numbers are None where the swap applies to nothing."""

    swap: str
    first: str
    second: str
    responses: int  # that the swap applies to and whose versions can be scored
    prompts: int
    unscored: int  # that it applies to, but a version or the response cannot be scored
    effect: float | None  # reward of second − first, in within-prompt SDs
    low: float | None
    high: float | None
    pairs: int  # of a response and a rival
    flip_rate: float | None
    flip_low: float | None
    flip_high: float | None


def within_prompt_sd(rewards: Sequence[F64]) -> float:
    """The pooled standard deviation of rewards around the mean of their prompt.

    Args:
        rewards: one array a prompt; NaN for what was not scored.

    Raises:
        DataContractError: no prompt has two responses with different rewards.
    """
    squares, freedom, largest = 0.0, 0, 0.0
    for one in rewards:
        known = one[~np.isnan(one)]
        if len(known) > 1:
            squares += float(((known - known.mean()) ** 2).sum())
            freedom += len(known) - 1
            largest = max(largest, float(np.abs(known).max()))
    sd = math.sqrt(squares / freedom) if freedom else 0.0
    if sd <= largest * 2.0**-22:  # fp32 keeps 24 bits: what is smaller is rounding
        hint = "give prompts with two responses or more; effects are in units of how their rewards differ"
        message = f"{freedom} responses beyond the first of a prompt, and rewards that do not differ within a prompt"
        raise DataContractError(Problem("no-spread", message, "rows", "rewards that differ within a prompt", hint))
    return sd


def clustered_mean(
    totals: F64, weights: F64, seed: int, draws: int = DRAWS
) -> tuple[float | None, float | None, float | None]:
    """Σ totals / Σ weights with its 95 % interval, clusters resampled; None for what has no value.

    Args:
        totals, weights: shape (clusters,); those of weight 0 are left out.
    """
    has = weights > 0
    if not has.any():
        return None, None, None
    cells = Cells(weights[None, has], totals[None, has], totals[None, has] ** 2)
    found = prompt_interval(Contrast((Term(1, cells),)), seed, 0.95, draws)
    return found.effect, found.low, found.high


def swap_effect(judge: Judge, groups: Sequence[Group], swap: Swap, seed: int = 0, draws: int = DRAWS) -> SwapEffect:
    """The effect of one swap on a judge.

    Args:
        groups: prompts with their responses.
        seed: of the bootstrap.

    Raises:
        DataContractError: rewards do not differ within a prompt, so there is no unit.
    """
    rewards = [judge.rewards([(group.prompt, one) for one in group.responses]) for group in groups]
    sd = within_prompt_sd(rewards)
    change, applied, flips, pairs = np.zeros((4, len(groups)))
    unscored = 0
    for at, (group, own) in enumerate(zip(groups, rewards, strict=True)):
        both = [swap.versions(response) for response in group.responses]
        items = [(group.prompt, version) for versions in both if versions is not None for version in versions]
        if not items:
            continue
        scores = iter(judge.rewards(items).reshape(-1, 2))
        for place, versions in enumerate(both):
            if versions is None:
                continue
            first, second = next(scores)
            if math.isnan(first) or math.isnan(second):
                unscored += 1
                continue
            change[at] += (second - first) / sd
            applied[at] += 1
            rivals = np.delete(own, place)
            rivals = rivals[~np.isnan(rivals)]
            flips[at] += float(np.abs(np.sign(first - rivals) - np.sign(second - rivals)).sum()) / 2
            pairs[at] += len(rivals)
    effect, low, high = clustered_mean(change, applied, seed, draws)
    flip, flip_low, flip_high = clustered_mean(flips, pairs, seed, draws)
    return SwapEffect(
        swap=swap.name,
        first=swap.first,
        second=swap.second,
        responses=int(applied.sum()),
        prompts=int((applied > 0).sum()),
        unscored=unscored,
        effect=effect,
        low=low,
        high=high,
        pairs=int(pairs.sum()),
        flip_rate=flip,
        flip_low=flip_low,
        flip_high=flip_high,
    )
