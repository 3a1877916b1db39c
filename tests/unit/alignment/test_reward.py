"""The reward stage: what it learns, what it writes, and that nothing but the data decides the result."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment import checkpoint
from alignment.annotators import Pool, PoolSettings, StatedPreference
from alignment.layers import shorten
from alignment.loop import LoopSettings, SliceOverError, accumulate, train
from alignment.lora import LoraSettings
from alignment.model import RewardModel, load_model, new_model, save_model, weights_sha256
from alignment.preferences import (
    Comparison,
    DemonstrationRow,
    PreferenceRow,
    RankedRow,
    read_comparisons,
    rows_sha256,
    write_rows,
)
from alignment.reward_scores import example_rewards, last_scores, normalise
from alignment.rows import Example, encode, pad
from alignment.stages.reward import Compared, RewardObjective, RewardSettings, encoded, micro, reward, start
from alignment.tokenizer import load_tokenizer, special_ids
from curation.errors import ConfigError, DataContractError, StageError
from tests.unit.alignment.tiny import SENTENCES, tiny_tokenizer

LOOP = LoopSettings(learning_rate=3e-3, precision="fp32", warmup=0.1, weight_decay=0.0)
SETTINGS = RewardSettings(loop=LOOP, batch=8, micro=8, held_out=0.25, keep_layers=1.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    tokenizer = tiny_tokenizer()
    save_model(new_model("160k", len(tokenizer), special_ids(tokenizer), seed=3), tokenizer, folder)
    return folder


def pairs(count: int = 60) -> list[PreferenceRow]:
    """Answers with "please" are preferred to others."""
    rows = []
    for k in range(count):
        one, two = SENTENCES[k % len(SENTENCES)], SENTENCES[(k * 7 + 3) % len(SENTENCES)]
        rows.append(PreferenceRow(f"Question {k}: {two[:20]}", "Please, " + one.lower(), one, source="made"))
    return rows


def examples_of(tokenizer: Any, count: int = 9) -> list[Example]:
    found = [encode(tokenizer, f"p{k}", SENTENCES[k % 10][: 9 + 7 * k], 100)[0] for k in range(count)]
    return [example for example in found if example is not None]


def compared(tokenizer: Any, rows: Sequence[Comparison] | None = None) -> list[Compared]:
    return encoded(tokenizer, pairs(24) if rows is None else rows, 64, 0.0)[0]


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# The stage


def test_a_reward_model_learns_what_a_pool_of_annotators_wants(backbone: Path, tmp_path: Path) -> None:
    polite = PoolSettings(
        name="polite", preferences=(StatedPreference(feature="politeness", weight=4.0),), temperature=1.0
    )
    pool = Pool(polite, seed=1)
    rows = [pool.choose(row.prompt, row.chosen, row.rejected) for row in pairs(240)]
    settings = SETTINGS.model_copy(update={"epochs": 3})
    result = reward(settings, backbone, rows, tmp_path / "rm", seed=0, arm="raw")
    m = result.metrics
    best = 1 / (1 + math.exp(-4.0))  # an annotator keeps to the stated taste this often
    assert m["accuracy"] > 0.9
    assert m["accuracy_low"] <= best <= m["accuracy_high"]
    assert m["log_loss"] < 0.3
    assert (result.stage, result.arm, result.seed, result.rows) == ("reward", "raw", 0, {"kept": 240})
    model, tokenizer = RewardModel.load(tmp_path / "rm"), load_tokenizer(tmp_path / "rm")
    polite_one, plain = (encode(tokenizer, "Hi", text, 64)[0] for text in ("Please, go on.", "Go on."))
    assert polite_one is not None
    assert plain is not None
    scored = example_rewards(model, [polite_one, plain], tokenizer.pad_token_id)
    assert scored[0] > scored[1] + 0.5  # in standard deviations of the reference set
    assert weights_sha256(model) == result.weights_sha256


def test_rewards_of_the_reference_set_have_mean_0_and_deviation_1(backbone: Path, tmp_path: Path) -> None:
    shared = [DemonstrationRow(f"Say {k}", SENTENCES[k % 10][: 20 + k]) for k in range(40)]
    result = reward(SETTINGS, backbone, pairs(), tmp_path / "rm", seed=0, reference=shared)
    model, tokenizer = RewardModel.load(tmp_path / "rm"), load_tokenizer(backbone)
    examples = [encode(tokenizer, row.prompt, row.response, 256)[0] for row in shared]
    scores = example_rewards(model, [e for e in examples if e is not None], tokenizer.pad_token_id).double()
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4)
    assert float(scores.std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert result.metrics["gain"] == pytest.approx(float(model.gain), rel=1e-6)
    assert result.metrics["reference_rows"] == 40


def test_a_stage_leaves_rows_calibration_and_numbers_beside_the_model(backbone: Path, tmp_path: Path) -> None:
    rows = pairs()
    result = reward(SETTINGS, backbone, rows, tmp_path / "rm", seed=0)
    folder = tmp_path / "rm"
    assert rows_sha256(read_comparisons(folder / "rows.jsonl.zst")) == rows_sha256(rows)
    stored = json.loads((folder / "stage.json").read_text())
    assert stored["metrics"] == dict(result.metrics)
    curve = json.loads((folder / "calibration.json").read_text())
    assert sum(part["pairs"] for part in curve["bins"]) == curve["pairs"] == result.metrics["held_out_pairs"] > 5
    svg = (folder / "calibration.svg").read_text()
    assert svg.startswith("<svg")
    assert svg.count("<circle") == len(curve["bins"])
    assert not (folder / "checkpoints").exists()


def test_pairs_lists_and_ratings_train_together_from_a_file(backbone: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    ranked = [RankedRow(f"List {k}", SENTENCES[: 3 + k % 3], tuple(range(1, 4 + k % 3))) for k in range(6)]
    write_rows(path, [*pairs(6), *ranked, PreferenceRow("p", "x", "x"), RankedRow("q", ("a", "b"), (2, 2))])
    result = reward(SETTINGS.model_copy(update={"held_out": 0.0}), backbone, path, tmp_path / "rm", seed=0)
    assert result.rows == {"kept": 12, "skipped_equal_responses": 1, "skipped_tie": 1}
    assert result.metrics["held_out_pairs"] == 0
    assert 0 < result.metrics["train_loss"] < 2


def test_a_finished_stage_is_not_repeated_and_another_is_refused(backbone: Path, tmp_path: Path) -> None:
    first = reward(SETTINGS, backbone, pairs(), tmp_path / "rm", seed=0)
    changed = (tmp_path / "rm" / "model.safetensors").stat().st_mtime_ns
    assert reward(SETTINGS, backbone, pairs(), tmp_path / "rm", seed=0) == first
    assert (tmp_path / "rm" / "model.safetensors").stat().st_mtime_ns == changed
    for settings, rows, seed in ((SETTINGS, pairs(59), 0), (SETTINGS, pairs(), 1), (RewardSettings(), pairs(), 0)):
        with pytest.raises(ConfigError, match="other settings or inputs"):
            reward(settings, backbone, rows, tmp_path / "rm", seed=seed)


def test_equal_inputs_give_equal_weights_whatever_the_arm_is_called(backbone: Path, tmp_path: Path) -> None:
    results = [reward(SETTINGS, backbone, pairs(), tmp_path / arm, seed=2, arm=arm) for arm in ("raw", "curated")]
    assert results[0].weights_sha256 == results[1].weights_sha256
    assert results[0].metrics == results[1].metrics


def test_the_next_round_goes_on_from_the_reward_model_of_the_one_before(backbone: Path, tmp_path: Path) -> None:
    first = reward(SETTINGS, backbone, pairs(), tmp_path / "one", seed=0)
    still = SETTINGS.model_copy(update={"loop": LOOP.model_copy(update={"learning_rate": 0.0}), "keep_layers": 0.5})
    second = reward(still, tmp_path / "one", pairs(), tmp_path / "two", seed=0)
    assert second.weights_sha256 == first.weights_sha256  # nothing was learnt, cut, or normalised twice
    assert second.metrics["gain"] == first.metrics["gain"]


def test_rows_that_cannot_be_used_are_counted_by_name_and_none_left_is_an_error(backbone: Path, tmp_path: Path) -> None:
    bad = [
        PreferenceRow("p", "same", " same "),
        PreferenceRow("p", "a", "  "),
        PreferenceRow("word " * 400, "a", "b"),
        RankedRow("p", ("a", "b"), (1, 1)),
    ]
    fates = {
        "skipped_empty_response": 1,
        "skipped_equal_responses": 1,
        "skipped_long_prompt": 1,
        "skipped_tie": 1,
    }
    result = reward(SETTINGS, backbone, [*pairs(), *bad], tmp_path / "rm", seed=0)
    assert result.rows == {"kept": 60, **fates}
    with pytest.raises(DataContractError, match=r"0 rows are left to train on: skipped_empty_response 1"):
        reward(SETTINGS, backbone, bad, tmp_path / "none", seed=0)


def test_a_tokenizer_whose_padding_is_the_end_is_refused(backbone: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    tokenizer.pad_token = tokenizer.eos_token
    save_model(load_model(backbone), tokenizer, tmp_path / "bad")
    with pytest.raises(ConfigError, match="pad-is-eos"):
        reward(SETTINGS, tmp_path / "bad", pairs(), tmp_path / "rm", seed=0)


# A model smaller than the policy


def test_the_default_reward_model_is_the_lower_half_of_its_backbone(backbone: Path, tmp_path: Path) -> None:
    result = reward(SETTINGS.model_copy(update={"keep_layers": 0.5}), backbone, pairs(), tmp_path / "rm", seed=0)
    assert RewardSettings().keep_layers == 0.5
    model = RewardModel.load(tmp_path / "rm")
    assert model.backbone.config.num_hidden_layers == len(model.backbone.layers) == 1
    assert result.metrics["parameters"] == sum(p.numel() for p in model.parameters())
    uncut = start(SETTINGS, backbone, 0)
    assert sum(p.numel() for p in uncut.parameters()) > result.metrics["parameters"]


def test_a_decoder_cut_short_is_the_decoder_stopped_early(backbone: Path) -> None:
    whole, short = load_model(backbone).get_decoder(), load_model(backbone).get_decoder()
    shorten(short, 0.5, "here")
    ids = torch.arange(20, 40).unsqueeze(0)
    states = []
    whole.layers[0].register_forward_hook(lambda *args: states.append(args[-1]))
    with torch.no_grad():
        whole(input_ids=ids)
        found = short(input_ids=ids).last_hidden_state
    expected = whole.norm(states[0][0] if isinstance(states[0], tuple) else states[0])
    assert torch.equal(found, expected.view_as(found))


def test_lora_trains_the_adapter_and_the_head_and_is_merged_on_save(backbone: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4)})
    reward(settings, backbone, pairs(), tmp_path / "rm", seed=0)
    model, before = RewardModel.load(tmp_path / "rm"), load_model(backbone).get_decoder()
    after = dict(model.backbone.named_parameters())
    moved = {name for name, p in before.named_parameters() if not torch.equal(p, after[name])}
    assert moved == {name for name in after if "proj" in name}
    assert (tmp_path / "rm" / "adapter" / "adapter_model.safetensors").is_file()


# Invariances


def test_one_batch_of_8_and_four_of_2_are_the_same_step(backbone: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    lists = [RankedRow(f"List {k}", SENTENCES[:4], (2, 1, 3, 3)) for k in range(4)]
    rows = compared(tokenizer, [*pairs(4), *lists])
    found = []
    for size in (64, 8, 2):
        settings = SETTINGS.model_copy(update={"micro": size, "centring": 0.01})
        objective = RewardObjective(settings, rows, tokenizer.pad_token_id, seed=0)
        model = start(SETTINGS, backbone, 0)
        micros = objective.batch(0)
        means = accumulate(objective, model, micros, LOOP, CPU)
        found.append((len(micros), means, gradients(model)))
    assert [count for count, _, _ in found] == [2, 3, 8]
    for _, means, grads in found[1:]:
        assert means == pytest.approx(found[0][1], abs=1e-6)
        for name, value in grads.items():
            assert torch.allclose(value, found[0][2][name], atol=1e-6), name


def test_the_order_of_rows_in_a_batch_and_of_responses_in_a_list_do_not_matter(backbone: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    model = start(SETTINGS, backbone, 0)
    one = [RankedRow(f"L{k}", SENTENCES[k : k + 4], (2, 1, 3, 4)) for k in range(4)]
    two = [RankedRow(row.prompt, row.responses[::-1], row.ranks[::-1]) for row in one[::-1]]
    losses = []
    for rows in (one, two):
        objective = RewardObjective(SETTINGS, compared(tokenizer, rows), tokenizer.pad_token_id, seed=0)
        loss, _ = objective.loss(model, micro(objective.rows, tokenizer.pad_token_id))
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_scores_do_not_depend_on_padding_side_or_batch_size(backbone: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    model = start(SETTINGS, backbone, 0).eval()
    examples = examples_of(tokenizer)
    assert len({len(example) for example in examples}) == len(examples)
    with torch.no_grad():
        alone = torch.cat([model.raw(b.ids, b.mask) for b in (pad([example], 0) for example in examples)])
        for side in ("left", "right"):
            for multiple in (1, 64):
                batch = pad(examples, tokenizer.pad_token_id, side, multiple)  # type: ignore[arg-type]
                assert torch.allclose(model.raw(batch.ids, batch.mask), alone, atol=2e-6)
                assert torch.allclose(last_scores(model, batch.ids, batch.mask), alone, atol=2e-6)
    assert torch.allclose(example_rewards(model, examples, tokenizer.pad_token_id), alone, atol=2e-6)


def test_a_killed_stage_ends_with_the_weights_of_one_that_was_not(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reward(SETTINGS, backbone, pairs(), tmp_path / "whole", seed=0)
    every = LOOP.model_copy(update={"checkpoint_every_s": 0.0})
    settings = SETTINGS.model_copy(update={"loop": every})
    save = checkpoint.save

    def kill(folder: Path, step: int, state: dict[str, Any]) -> Path:
        path = save(folder, step, state)
        if step == 3:
            raise KeyboardInterrupt
        return path

    monkeypatch.setattr(checkpoint, "save", kill)
    with pytest.raises(KeyboardInterrupt):
        reward(settings, backbone, pairs(), tmp_path / "cut", seed=0)
    monkeypatch.undo()
    torch.manual_seed(99)
    resumed = reward(settings, backbone, pairs(), tmp_path / "cut", seed=0)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert {**resumed.metrics} == {**whole.metrics}
    sliced = settings.model_copy(update={"loop": every.model_copy(update={"stop_after_s": 1e-9})})
    for _ in range(whole.steps - 1):
        with pytest.raises(SliceOverError):
            reward(sliced, backbone, pairs(), tmp_path / "slices", seed=0)
    assert reward(sliced, backbone, pairs(), tmp_path / "slices", seed=0).weights_sha256 == whole.weights_sha256


def test_held_out_prompts_are_the_same_for_every_seed_and_order_and_never_learnt(backbone: Path) -> None:
    tokenizer = load_tokenizer(backbone)
    rows = pairs()
    learnt, held, _ = encoded(tokenizer, rows, 64, 0.25)
    backwards = encoded(tokenizer, rows[::-1], 64, 0.25)
    assert {row.key for row in held} == {row.key for row in backwards[1]}
    assert not {row.key for row in held} & {row.key for row in learnt}
    assert len(held) + len(learnt) == 60


# What must not pass


class Broken(torch.nn.Module):
    """A reward model that returns the same number for every response."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.gain, self.bias = torch.ones(()), torch.zeros(())

    def raw(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.full((len(ids),), self.value)


def test_nan_from_a_reward_model_is_an_error_that_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = examples_of(tiny_tokenizer())
    monkeypatch.setattr("alignment.reward_scores.last_scores", lambda model, ids, mask: model.raw(ids, mask))
    with pytest.raises(StageError, match=r"reward of 9 of 9 responses is not finite, the first is nan"):
        example_rewards(Broken(float("nan")), examples, 0)  # type: ignore[arg-type]
    with pytest.raises(StageError, match=r"rewards of 9 reference responses are all 0\.5"):
        normalise(Broken(0.5), examples, 0)  # type: ignore[arg-type]


def test_a_backbone_with_a_nan_weight_stops_the_stage_before_a_weight_moves(backbone: Path, tmp_path: Path) -> None:
    model = load_model(backbone)
    with torch.no_grad():
        model.get_decoder().layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    save_model(model, load_tokenizer(backbone), tmp_path / "nan")
    with pytest.raises(StageError, match="the loss is nan"):
        reward(SETTINGS, tmp_path / "nan", pairs(), tmp_path / "rm", seed=0)
    assert not (tmp_path / "rm" / "stage.json").exists()


# The analytic optimum


class TabularReward(torch.nn.Module):
    """One reward for each response, called as a reward model is."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(actions))

    def raw(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.table[ids[:, 1]]


def test_rewards_of_a_bandit_are_recovered_up_to_a_constant_and_lead_to_the_best_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.alignment.bandit import Bandit

    bandit = Bandit(beta=0.5)
    rows = [
        Compared("p", (bandit.example(x, chosen), bandit.example(x, rejected)), (1, 2), 0.0)
        for x, chosen, rejected in bandit.pairs(40_000)
    ]
    loop = LoopSettings(learning_rate=0.05, schedule="cosine", final=0.01, weight_decay=0.0, precision="fp32")
    settings = RewardSettings(loop=loop, batch=1000, micro=2000, epochs=4)
    monkeypatch.setattr("alignment.stages.reward.last_scores", lambda model, ids, mask: model.raw(ids, mask))
    model = TabularReward(bandit.actions)
    train(model, RewardObjective(settings, rows, 0, seed=0), loop, tmp_path, seed=0)
    learnt = model.table.detach() - model.table.detach().mean()
    true = bandit.rewards[0] - bandit.rewards[0].mean()
    assert float((learnt - true).abs().max()) < 0.1
    policy = (bandit.reference + model.table.detach() / bandit.beta).softmax(1)
    assert bandit.total_variation(policy) < 0.03
    assert np.corrcoef(learnt.numpy(), true.numpy())[0, 1] > 0.999
