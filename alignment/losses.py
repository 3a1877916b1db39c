"""Losses as pure functions of logits or scores: formulas, no models, no batches. All return one value a unit.

Log-softmax is taken in fp32 even of bf16 logits: under bf16 a difference of log-probabilities is noise.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def token_log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """(rows, tokens) log-probability of each token given those before it; the first one's is 0.

    Args:
        logits: (rows, tokens, vocabulary).
        ids: (rows, tokens) int64.
    """
    log_p = taken_log_probs(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    return F.pad(log_p.view(ids.shape[0], -1), (1, 0))


def taken_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """(positions,) log-probability of `targets` (positions,) under `logits` (positions, vocabulary)."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return -F.cross_entropy(wide, targets, reduction="none")


def response_log_prob(logits: Tensor, ids: Tensor, response: Tensor) -> Tensor:
    """(rows,) summed log-probability of the tokens marked in `response` (rows, tokens; bool)."""
    return (token_log_probs(logits, ids) * response).sum(1)


def pair_loss(better: Tensor, worse: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """(pairs,) −log σ(r_w − r_l − m): Bradley–Terry with a margin (Touvron 2023, arXiv 2307.09288, eq. 2)."""
    return F.softplus(-(better - worse - margin))


def centring(better: Tensor, worse: Tensor) -> Tensor:
    """(pairs,) (r_w + r_l)², which keeps rewards around 0 (Eisenstein 2023, arXiv 2312.09244, §3)."""
    return (better + worse) ** 2


def list_loss(scores: Tensor, ranks: Tensor, present: Tensor | None = None) -> Tensor:
    """(lists,) mean of −log σ(r_i − r_j) over all pairs of a list with i ranked above j (Ouyang 2022, eq. 1).

    Args:
        scores: (lists, K).
        ranks: (lists, K), 1 is best. Tied pairs are skipped and the divisor reduced by them.
        present: (lists, K) bool, False where a list is shorter than K; None: all full.

    Returns:
        0 for a list without any ordered pair.
    """
    above = ranks.unsqueeze(2) < ranks.unsqueeze(1)  # [i, j]: i is ranked above j
    if present is not None:
        above = above & present.unsqueeze(2) & present.unsqueeze(1)
        scores = scores.masked_fill(~present, 0.0)  # a NaN in an empty place would spread through the zeros
    losses = F.softplus(-(scores.unsqueeze(2) - scores.unsqueeze(1)))
    return (losses * above).sum((1, 2)) / above.sum((1, 2)).clamp(min=1)


def dpo_loss(
    better: Tensor, worse: Tensor, beta: float, kind: Literal["dpo", "ipo"] = "dpo", label_smoothing: float = 0.0
) -> Tensor:
    """(pairs,) direct preference optimisation.

    Args:
        better: (pairs,) log π(y_w | x) − log π_ref(y_w | x), summed over tokens; for `ipo` divided by the tokens, as
            in the published code of Azar 2023.
        worse: the same of the rejected response.
        label_smoothing: ε of conservative DPO: the share of labels that may be wrong.

    Returns:
        `dpo`: −(1−ε) log σ(u) − ε log σ(−u), u = β (better − worse) (Rafailov 2023, arXiv 2305.18290, eq. 7).
        `ipo`: (better − worse − 1/(2β))² (Azar 2023, arXiv 2310.12036, eq. 17).
    """
    difference = better - worse
    if kind == "ipo":
        return (difference - 1 / (2 * beta)) ** 2
    u = beta * difference
    return -(1 - label_smoothing) * F.logsigmoid(u) - label_smoothing * F.logsigmoid(-u)


def kto_loss(
    ratio: Tensor, desirable: Tensor, kl: Tensor, beta: float, desirable_weight: float, undesirable_weight: float
) -> Tensor:
    """(rows,) Kahneman–Tversky optimisation (Ethayarajh 2024, arXiv 2402.01306, eq. 7 with λ as weights).

    Args:
        ratio: (rows,) log π(y | x) − log π_ref(y | x).
        desirable: (rows,) bool.
        kl: scalar ≥ 0, the reference point z; no gradient goes through it.
        desirable_weight: λ_D.
        undesirable_weight: λ_U.

    Returns:
        λ_D (1 − σ(β (ratio − z))) for desirable rows, λ_U (1 − σ(β (z − ratio))) for the others.
    """
    kl = kl.detach()
    good = desirable_weight * (1 - torch.sigmoid(beta * (ratio - kl)))
    bad = undesirable_weight * (1 - torch.sigmoid(beta * (kl - ratio)))
    return torch.where(desirable, good, bad)
