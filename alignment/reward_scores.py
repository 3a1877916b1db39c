"""What a reward model says of responses: scores of many, and the constants that normalise them.

PPO and audits use `example_rewards` of a stage's directory; the reward stage makes that directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignment.loop import LoopSettings
from alignment.model import RewardModel
from alignment.reference import over_examples
from alignment.rows import Example, Padded
from curation.errors import Problem, StageError


def last_scores(model: RewardModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(rows,) scores before normalisation at the last real token, as `RewardModel.raw` gives them, but faster.

    Padding on the right lies behind every real token, where the causal mask hides it: no attention mask is needed, and
    the head sees one position a row. The head runs in fp32 even under bf16 autocast: of a score near 8, bf16 keeps
    steps of 1/32.

    Args:
        ids: (rows, tokens) int64.
        mask: (rows, tokens) bool, False on padding, on either side.
    """
    if not bool(mask[:, 0].all()):
        return model.raw(ids, mask)
    hidden = model.backbone(input_ids=ids, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
    with torch.autocast(ids.device.type, enabled=False):
        return torch.as_tensor(model.head(last.to(model.head.weight.dtype))).squeeze(-1)


def example_rewards(
    model: RewardModel, examples: Sequence[Example], pad_id: int, normalised: bool = True, precision: Any = "fp32"
) -> Tensor:
    """(examples,) rewards on the CPU, in the order given. In fp32 they do not depend on what else is scored.

    Args:
        normalised: with gain and bias; else as the loss saw them.

    Raises:
        StageError: a reward is not finite.
    """

    def score(model: RewardModel, batch: Padded) -> Tensor:
        raw = last_scores(model, batch.ids, batch.mask)
        return raw * model.gain + model.bias if normalised else raw

    found = over_examples(model, examples, pad_id, LoopSettings(precision=precision), score)
    bad = (~torch.isfinite(found)).nonzero().flatten().tolist()
    if bad:
        hint = "its weights or its normalisation constants are damaged, or it was trained with too high a rate"
        message = f"the reward of {len(bad)} of {len(examples)} responses is not finite, the first is {found[bad[0]]}"
        raise StageError(Problem("not-finite", message, f"response {bad[0]}", "finite rewards", hint))
    return found


def normalise(model: RewardModel, examples: Sequence[Example], pad_id: int) -> dict[str, float]:
    """Set gain and bias so that the rewards of `examples` have mean 0 and (population) standard deviation 1.

    Without it β of PPO's KL penalty means something else in every arm (Ziegler 2019, arXiv 1909.08593, section 2.2).

    Returns:
        `gain`, `bias`, and `reference_rows`: how many examples they come from.

    Raises:
        StageError: fewer than two examples, a reward that is not finite, or all rewards alike.
    """
    raw = example_rewards(model, examples, pad_id, normalised=False).double()
    spread = float(raw.std(correction=0)) if len(raw) > 1 else 0.0
    mean = float(raw.mean()) if len(raw) else 0.0
    # fp32 keeps 24 bits: a spread below that share of the mean is rounding.
    if spread <= abs(mean) * 2.0**-22 or spread == 0.0:
        hint = "give at least two different responses to normalise on, or train longer"
        message = f"the rewards of {len(raw)} reference responses are all {mean:.6g}"
        raise StageError(Problem("flat-reward", message, "normalisation", "rewards that differ", hint))
    with torch.no_grad():
        model.gain.fill_(1 / spread)
        model.bias.fill_(-mean / spread)
    return {"gain": 1 / spread, "bias": -mean / spread, "reference_rows": float(len(raw))}
