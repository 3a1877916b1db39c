"""When rounds end, and which of them may be the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from alignment.policy_report import PolicyReport

if TYPE_CHECKING:
    from alignment.rounds import RoundsSettings

Stop = Literal["rounds", "converged", "kl_budget", "eos_collapse", "diversity_collapse"]


def fault(settings: RoundsSettings, now: PolicyReport, start: PolicyReport) -> Stop | None:
    """What makes a policy inadmissible beside the SFT model, whose report is `start`; None: nothing."""
    if now.eos_rate < settings.eos_floor:
        return "eos_collapse"
    if now.diversity < settings.diversity_floor * start.diversity:
        return "diversity_collapse"
    if settings.kl_budget is not None and now.kl > settings.kl_budget:
        return "kl_budget"
    return None


def stop_reason(settings: RoundsSettings, reports: Sequence[PolicyReport]) -> Stop | None:
    """Why the last of these rounds is the last; None: it is not. The first report is the SFT model's."""
    found = fault(settings, reports[-1], reports[0])
    if found is not None:
        return found
    best, waited = reports[0].heldout_reward, 0
    for one in reports[1:]:
        waited = 0 if one.heldout_reward > best + settings.least_rise else waited + 1
        best = max(best, one.heldout_reward)
    if waited >= settings.patience:
        return "converged"
    return "rounds" if len(reports) > settings.rounds else None
