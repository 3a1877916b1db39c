"""The engine against a plain loop written with torch alone, and what may not change a step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignment import checkpoint, loop
from alignment.loop import (
    LoopSettings,
    Micro,
    Optimiser,
    accumulate,
    adamw,
    autocast,
    train,
    wants_bf16,
)
from alignment.model import RewardModel, new_model
from curation.errors import ConfigError, StageError

CPU = torch.device("cpu")
FP32 = LoopSettings(precision="fp32", log_every=1)


def language_model() -> Any:
    return new_model("160k", 96, {"pad": 0, "bos": 1, "eos": 2}, seed=0)


class Tokens:
    """Rows of unequal length, padded; the units are real tokens."""

    def __init__(self, cut: Sequence[int], steps: int = 3) -> None:
        self.cut, self.steps = cut, steps  # rows of each micro-batch

    def batch(self, step: int) -> list[Micro]:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(3, 96, (8, 20), generator=generator)
        mask = torch.arange(20) < torch.randint(5, 21, (8, 1), generator=generator)
        found = []
        for part_ids, part_mask in zip(ids.split(list(self.cut)), mask.split(list(self.cut)), strict=True):
            units = int(part_mask[:, 1:].sum())
            found.append(Micro({"ids": part_ids, "mask": part_mask}, units, int(part_mask.sum())))
        return found

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        ids, mask = micro.tensors["ids"], micro.tensors["mask"]
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        kept = losses * mask[:, 1:].flatten()
        return kept.sum(), {"largest": kept.max() * micro.units}


def gradients(
    objective: Tokens, order: Callable[[list[Micro]], list[Micro]] = lambda m: m
) -> tuple[dict[str, float], list[Tensor]]:
    model = language_model()
    means = accumulate(objective, model, order(objective.batch(0)), FP32, CPU)
    return means, [p.grad for p in model.parameters()]


def trained(
    objective: Tokens, settings: LoopSettings, folder: Path, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    model = language_model().to(dtype)
    train(model, objective, settings, folder, seed=1)
    return [p.detach() for p in model.parameters()]


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor], atol: float) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


def test_training_is_the_plain_loop_of_torch(tmp_path: Path) -> None:
    """Whole batches, the mean over real tokens, clipping, torch's AdamW unfused, a cosine written out.

    In fp64: Adam divides by the size of a gradient, so the rounding of one that is nearly 0 can become a whole step.
    """
    settings = LoopSettings(precision="fp32", learning_rate=1e-2, warmup=0.2, clip=0.5, weight_decay=0.1, log_every=1)
    objective = Tokens((8,), steps=10)
    model = language_model().double()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    plain = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, fused=False, foreach=False)
    expected = []
    for step in range(10):
        (micro,) = objective.batch(step)
        loss = objective.loss(model, micro)[0] / micro.units
        plain.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        rate = 1e-2 * ((step + 1) / 2 if step < 2 else 0.1 + 0.45 * (1 + math.cos(math.pi * (step - 2) / 7)))
        for group in plain.param_groups:
            group["lr"] = rate
        plain.step()
        expected.append((float(loss.detach()), float(norm), rate))

    ours = trained(Tokens((2, 1, 5), steps=10), settings, tmp_path, torch.float64)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    assert_close(ours, [p.detach() for p in model.parameters()], 1e-9)
    for row, (loss_value, norm_value, rate) in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(loss_value, abs=1e-6)
        assert row["gradient_norm"] == pytest.approx(norm_value, rel=1e-5)
        assert row["learning_rate"] == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("cut", [(2, 2, 2, 2), (4, 4), (1,) * 8, (7, 1)])
def test_one_batch_of_eight_is_four_of_two(cut: tuple[int, ...]) -> None:
    means, whole = gradients(Tokens((8,)))
    means_cut, pieces = gradients(Tokens(cut))

    assert means_cut["loss"] == pytest.approx(means["loss"], abs=1e-6)
    assert_close(pieces, whole, 1e-6)


def test_the_order_of_micro_batches_within_a_step_does_not_matter() -> None:
    means, forward = gradients(Tokens((2, 3, 1, 2)))
    means_back, backward = gradients(Tokens((2, 3, 1, 2)), lambda micros: micros[::-1])

    assert means_back == pytest.approx(means, abs=1e-6)
    assert_close(backward, forward, 1e-6)


def test_the_order_of_rows_within_a_batch_does_not_matter() -> None:
    def shuffled(micros: list[Micro]) -> list[Micro]:
        order = torch.tensor([3, 0, 7, 5, 1, 2, 6, 4])
        return [Micro({k: v[order] for k, v in m.tensors.items()}, m.units, m.tokens) for m in micros]

    means, plain = gradients(Tokens((8,)))
    means_shuffled, other = gradients(Tokens((8,)), shuffled)

    assert means_shuffled == pytest.approx(means, abs=1e-6)
    assert_close(other, plain, 1e-6)


def test_ten_steps_of_one_batch_and_of_four_end_with_the_same_weights(tmp_path: Path) -> None:
    settings = LoopSettings(precision="fp32", learning_rate=1e-3)
    whole = trained(Tokens((8,), 10), settings, tmp_path / "whole", torch.float64)
    assert_close(trained(Tokens((2, 2, 2, 2), 10), settings, tmp_path / "cut", torch.float64), whole, 1e-9)


def test_what_an_objective_logs_is_averaged_over_the_units_of_the_step() -> None:
    micros = Tokens((2, 6)).batch(0)

    class Constant(Tokens):
        def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
            rows = torch.tensor(float(len(micro.tensors["ids"])))
            return super().loss(model, micro)[0], {"rows": rows * micro.units}

    means = accumulate(Constant((2, 6)), language_model(), micros, FP32, CPU)
    units = [micro.units for micro in micros]
    assert means["rows"] == pytest.approx((2 * units[0] + 6 * units[1]) / sum(units))


def test_fused_adamw_is_torchs_plain_one() -> None:
    def after(fused: bool) -> list[Tensor]:
        model = language_model()
        settings = LoopSettings(learning_rate=1e-2, weight_decay=0.3)
        adam = adamw(model, settings)
        if not fused:
            adam = torch.optim.AdamW(adam.param_groups, betas=(0.9, 0.95), fused=False, foreach=False)
            for group in adam.param_groups:
                group["fused"] = False
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            adam.step()
        return [p.detach() for p in model.parameters()]

    assert adamw(language_model(), FP32).param_groups[0]["fused"] is True
    assert_close(after(True), after(False), 1e-6)


def test_weight_decay_is_on_matrices_only() -> None:
    model = RewardModel.from_causal(language_model())
    decayed, free = adamw(model, FP32).param_groups

    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in free["params"]} == {1}
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("clip", [0.0, 0.1, 1e9])
def test_the_logged_norm_is_before_clipping_and_the_update_after(clip: float) -> None:
    model = nn.Linear(3, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 0.0, 4.0]])
    seen: list[Tensor] = []
    optimiser = Optimiser(model, LoopSettings(clip=clip), steps=10)
    optimiser.adam.register_step_pre_hook(lambda *_: seen.append(model.weight.grad.clone()))  # type: ignore[union-attr]
    numbers = optimiser.step(0)

    assert numbers["gradient_norm"] == pytest.approx(5.0)
    assert float(seen[0].norm()) == pytest.approx(0.1 if clip == 0.1 else 5.0, rel=1e-4)
    assert model.weight.grad is None


def test_frozen_weights_stay_and_have_no_state(tmp_path: Path) -> None:
    model = language_model()
    model.model.embed_tokens.weight.requires_grad_(False)
    before = model.model.embed_tokens.weight.clone()
    train(model, Tokens((8,)), FP32, tmp_path, seed=1)

    assert torch.equal(model.model.embed_tokens.weight, before)


def test_a_model_with_nothing_to_train_is_refused(tmp_path: Path) -> None:
    model = language_model().requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing-to-train"):
        train(model, Tokens((8,)), FP32, tmp_path, seed=1)


class Spoilt(Tokens):
    """Its second micro-batch of step 5 (index 4) has a loss, or a gradient, that is no number."""

    def __init__(self, what: str) -> None:
        super().__init__((4, 4), steps=8)
        self.what = what

    def batch(self, step: int) -> list[Micro]:
        self.step, self.seen = step, 0
        return super().batch(step)

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        loss, _ = super().loss(model, micro)
        self.seen += 1
        if (self.step, self.seen) != (4, 2):
            return loss, {}
        return (loss * float("nan") if self.what == "loss" else loss + (loss - loss.detach()).sqrt()), {}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_the_stage_names_the_step_and_changes_nothing(
    tmp_path: Path, what: str
) -> None:
    model = language_model()
    with pytest.raises(StageError, match="not-finite") as caught:
        train(model, Spoilt(what), LoopSettings(precision="fp32", log_every=1, checkpoint_every_s=0), tmp_path, seed=1)
    state = checkpoint.newest(tmp_path / "checkpoints")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    assert caught.value.problems[0].where == "step 5"
    assert what in caught.value.problems[0].message
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert state is not None
    assert state["progress"]["step"] == 4
    assert all(torch.equal(value, state["optimiser"]["model"][name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_step_in_which_nothing_counts_is_an_error_that_names_it() -> None:
    micro = Micro({"ids": torch.zeros(1, 4, dtype=torch.int64), "mask": torch.zeros(1, 4)}, units=0, tokens=4)
    with pytest.raises(StageError, match="empty-step") as caught:
        accumulate(Tokens((1,)), language_model(), [micro], FP32, CPU, step=6)
    assert caught.value.problems[0].where == "step 7"


def test_the_model_is_trained_in_training_mode_and_left_in_evaluation_mode(tmp_path: Path) -> None:
    modes = []

    class Watching(Tokens):
        def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
            modes.append(model.training)
            return super().loss(model, micro)

    model = language_model().eval()
    train(model, Watching((8,)), FP32, tmp_path, seed=1)
    assert (modes, model.training) == ([True] * 3, False)


@pytest.mark.parametrize(("speedup", "expected"), [(4.7, True), (1.5, True), (1.4, False), (0.56, False)])
def test_auto_is_bf16_where_the_cpu_is_measured_to_be_faster_in_it(
    monkeypatch: pytest.MonkeyPatch, speedup: float, expected: bool
) -> None:
    monkeypatch.setattr(loop, "bf16_speedup", lambda: speedup)

    assert wants_bf16("auto", CPU) is expected
    assert wants_bf16("bf16", CPU) is True
    assert wants_bf16("fp32", CPU) is False


def test_the_speed_of_bf16_is_measured_once_a_process() -> None:
    first = loop.bf16_speedup()

    assert 0.01 < first < 100
    assert loop.bf16_speedup() == first


def test_under_bf16_products_are_bf16_and_weights_stay_fp32(tmp_path: Path) -> None:
    kinds = []

    class Watching(Tokens):
        def loss(self, model: Any, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
            kinds.append(model(input_ids=micro.tensors["ids"]).logits.dtype)
            return super().loss(model, micro)

    model = language_model()
    settings = LoopSettings(precision="bf16", learning_rate=1e-3)
    train(model, Watching((8,)), settings, tmp_path / "bf16", seed=1)
    exact = trained(Tokens((8,)), settings.model_copy(update={"precision": "fp32"}), tmp_path / "fp32")

    assert set(kinds) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    # Adam moves each weight by about the rate a step: three steps of bf16 gradients stay within that of fp32 ones.
    assert_close([p.detach() for p in model.parameters()], exact, 6e-3)
    with autocast(settings, CPU):
        assert torch.is_autocast_enabled("cpu")
    with autocast(FP32, CPU):
        assert not torch.is_autocast_enabled("cpu")


def test_settings_out_of_range_are_refused() -> None:
    for change in ({"learning_rate": -1.0}, {"warmup": 1.5}, {"log_every": 0}, {"beta2": 1.0}, {"schedule": "step"}):
        with pytest.raises(ValueError, match=next(iter(change))):
            LoopSettings(**change)  # type: ignore[arg-type]


def test_what_changes_no_weight_is_no_part_of_the_settings_identity() -> None:
    often = LoopSettings(log_every=1, checkpoint_every_s=1.0, stop_after_s=60.0)
    assert often.model_dump() == LoopSettings().model_dump()
    assert often.log_every == 1
