"""Learning rates against closed forms and the schedulers of torch and transformers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler
from transformers import get_wsd_schedule

from alignment.schedule import ScheduleName, factor


def rates(steps: int, name: ScheduleName, warmup: float = 0.0, decay: float = 0.0, final: float = 0.0) -> list[float]:
    return [factor(step, steps, name, warmup, decay, final) for step in range(steps)]


def of_scheduler(scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return found


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_cosine_is_torchs_and_ends_on_the_final_rate() -> None:
    found = rates(50, "cosine", final=0.1)

    assert found == pytest.approx(of_scheduler(CosineAnnealingLR(sgd(), T_max=49, eta_min=0.1), 50))
    assert (found[0], found[-1]) == (1.0, pytest.approx(0.1))


def test_linear_is_torchs() -> None:
    expected = of_scheduler(LinearLR(sgd(), start_factor=1.0, end_factor=0.25, total_iters=49), 50)
    assert rates(50, "linear", final=0.25) == pytest.approx(expected)


def test_wsd_is_the_one_of_transformers_a_step_later() -> None:
    scheduler = get_wsd_schedule(
        sgd(), num_warmup_steps=5, num_decay_steps=10, num_stable_steps=35, decay_type="linear", min_lr_ratio=0.1
    )
    theirs = of_scheduler(scheduler, 51)  # its first step has a rate of 0, ours of a fifth
    found = rates(50, "wsd", warmup=0.1, decay=0.2, final=0.1)

    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])  # theirs begins at the final rate, not at 0
    assert found[4:] == pytest.approx(theirs[5:])


def test_warmup_rises_by_equal_parts_to_the_peak() -> None:
    found = rates(40, "cosine", warmup=0.1, final=0.1)

    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[5] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 35)))
    assert found[-1] == pytest.approx(0.1)


def test_constant_stays_after_its_warmup() -> None:
    assert rates(6, "constant", warmup=0.5, final=0.1) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


def test_a_share_too_small_for_a_step_is_one_step() -> None:
    assert rates(10, "linear", warmup=0.001)[:2] == [1.0, 1.0]
    assert rates(10, "wsd", decay=0.001, final=0.5)[-2:] == [1.0, 0.5]


@given(
    st.integers(1, 300),
    st.sampled_from(["constant", "linear", "cosine", "wsd"]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_no_rate_is_above_the_peak_or_below_both_final_and_warmup(
    steps: int, name: ScheduleName, warmup: float, decay: float, final: float
) -> None:
    rising = max(1, round(warmup * steps)) if warmup > 0 else 0
    for step, rate in enumerate(rates(steps, name, warmup, decay, final)):
        assert (0 if step < rising else final) - 1e-9 <= rate <= 1 + 1e-9
