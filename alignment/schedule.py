"""Learning rate over a stage: a factor of the peak for every step."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine", "wsd"]


def factor(step: int, steps: int, name: ScheduleName, warmup: float, decay: float, final: float) -> float:
    """The learning rate of step `step` (from 0) as a share of its peak.

    Args:
        warmup: share of the steps in which it rises linearly; at least one step when above 0.
        decay: share of the steps in which `wsd` (warm-up, stable, decay: Hu 2024, arXiv 2404.06395) falls linearly.
        final: the share of the peak at which it ends.
    """
    rising = max(1, round(warmup * steps)) if warmup > 0 else 0
    if step < rising:
        return (step + 1) / rising
    if name == "constant":
        return 1.0
    if name == "wsd":
        falling = max(1, round(decay * steps))
        done = max(0, step + 1 - (steps - falling)) / falling
        return 1.0 - (1.0 - final) * min(1.0, done)
    done = (step - rising) / max(1, steps - 1 - rising)
    if name == "linear":
        return 1.0 - (1.0 - final) * min(1.0, done)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
