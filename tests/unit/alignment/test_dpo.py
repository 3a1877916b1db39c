"""The DPO stage: what it starts from, what it learns, what it writes, what it refuses."""

from __future__ import annotations

import gc
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from direct_cases import CONTEXT, FAST, assert_same, gradients, in_slices, metrics, pairs, start  # noqa: E402
from tiny import tiny_tokenizer  # noqa: E402
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM  # noqa: E402

from alignment.loop import LoopSettings  # noqa: E402
from alignment.lora import LoraSettings  # noqa: E402
from alignment.model import load_model, save_model, weights_sha256  # noqa: E402
from alignment.preferences import PreferenceRow, write_rows  # noqa: E402
from alignment.reference import example_log_probs  # noqa: E402
from alignment.rows import encode_responses, pad  # noqa: E402
from alignment.stage import StageResult  # noqa: E402
from alignment.stages.dpo import DpoObjective, DpoSettings, dpo, held_out_metrics  # noqa: E402
from alignment.stages.kto import KtoSettings  # noqa: E402
from curation.errors import ConfigError, DataContractError, StageError  # noqa: E402
from curation.settings import parse  # noqa: E402

SETTINGS = DpoSettings(loop=FAST, batch=8, micro=4, epochs=2, held_out=0.2)


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("sft"))


def encoded(number: int) -> list[Any]:
    tokenizer = tiny_tokenizer()
    return [
        tuple(encode_responses(tokenizer, row.prompt, (row.chosen, row.rejected), CONTEXT)[0] or ())
        for row in pairs(number)
    ]


def objective(sft: Path, settings: DpoSettings, rows: list[Any], same: bool = False) -> DpoObjective:
    flat = [example for pair in rows for example in pair]
    pad_id = int(tiny_tokenizer().pad_token_id)
    reference = example_log_probs(load_model(sft), flat, pad_id, FAST).view(-1, 2)
    return DpoObjective(settings, rows, reference, pad_id, seed=0, same=same)


def moved(sft: Path) -> Any:
    """A policy away from its reference."""
    model = load_model(sft)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=draw)
    return model


def test_dpo_starts_at_ln2_and_raises_the_margin_of_prompts_it_never_saw(sft: Path, tmp_path: Path) -> None:
    result = dpo(SETTINGS, sft, pairs(40), tmp_path / "dpo", seed=0, arm="raw")
    log = metrics(tmp_path / "dpo")
    assert abs(log[0]["loss"] - math.log(2)) < 1e-6
    assert log[0]["margin"] == pytest.approx(0.0, abs=1e-5)
    assert [row["step"] for row in log] == list(range(1, result.steps + 1))
    numbers = result.metrics
    assert numbers["pairs"] + numbers["held_out"] == 40
    assert result.steps == 2 * math.ceil(numbers["pairs"] / 8)
    assert numbers["margin_gain"] == pytest.approx(numbers["margin_after"] - numbers["margin_before"])
    assert 0 < numbers["margin_gain_low"] < numbers["margin_gain"] < numbers["margin_gain_high"]
    assert numbers["reward_accuracy"] > 0.9
    assert numbers["reward_chosen"] - numbers["reward_rejected"] == pytest.approx(0.1 * numbers["margin_gain"], 1e-4)
    assert 0 < numbers["kl_per_token"] < 1
    assert (result.stage, result.arm, result.seed, result.rows) == ("dpo", "raw", 0, {"kept": 40})


def test_what_it_writes_is_a_hugging_face_model_with_its_tokenizer(sft: Path, tmp_path: Path) -> None:
    result = dpo(SETTINGS, sft, pairs(20), tmp_path / "dpo", seed=0)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "dpo")
    assert weights_sha256(model) == result.weights_sha256 != weights_sha256(load_model(sft))
    kept = {path.name for path in (tmp_path / "dpo").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "reference.safetensors", "metrics.jsonl", "stage.json"} <= kept
    assert "checkpoints" not in kept


def test_a_finished_stage_is_not_run_again_and_other_settings_are_refused(
    sft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dpo(SETTINGS, sft, pairs(20), tmp_path, seed=0)
    monkeypatch.setattr("alignment.direct.train", lambda *_: pytest.fail("trained again"))
    often = SETTINGS.model_copy(update={"loop": FAST.model_copy(update={"log_every": 3, "stop_after_s": 60.0})})
    assert dpo(often, sft, pairs(20), tmp_path, seed=0) == first
    for settings, rows, seed in (
        (SETTINGS.model_copy(update={"beta": 0.2}), pairs(20), 0),
        (SETTINGS, pairs(21), 0),
        (SETTINGS, pairs(20), 1),
    ):
        with pytest.raises(ConfigError, match="other-stage"):
            dpo(settings, sft, rows, tmp_path, seed=seed)


def test_a_stage_stopped_after_every_step_ends_bit_for_bit_as_one_that_was_not(sft: Path, tmp_path: Path) -> None:
    whole = dpo(SETTINGS, sft, pairs(30), tmp_path / "whole", seed=0)
    loop = FAST.model_copy(update={"stop_after_s": 1e-9, "checkpoint_every_s": 0.0})
    settings = SETTINGS.model_copy(update={"loop": loop})
    again, stops = in_slices(lambda folder: dpo(settings, sft, pairs(30), folder, seed=0), tmp_path / "slices")
    assert stops == whole.steps - 1
    assert replace(again, path=whole.path, wall_s=whole.wall_s) == whole
    for name in ("model.safetensors", "reference.safetensors"):
        assert (tmp_path / "slices" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_identical_rows_in_two_arms_give_identical_weights(sft: Path, tmp_path: Path) -> None:
    arms = [dpo(SETTINGS, sft, pairs(20), tmp_path / arm, seed=3, arm=arm) for arm in ("raw", "curated")]
    assert arms[0].weights_sha256 == arms[1].weights_sha256
    assert arms[0].metrics == arms[1].metrics
    other = dpo(SETTINGS, sft, pairs(20), tmp_path / "other", seed=4)
    assert other.weights_sha256 != arms[0].weights_sha256


# Invariances of the objective


@pytest.mark.parametrize("kind", ["dpo", "ipo"])
def test_one_batch_of_eight_is_four_of_two(sft: Path, kind: str) -> None:
    rows, model = encoded(8), moved(sft)
    found = []
    for micro in (8, 2):
        settings = DpoSettings(loop=FAST, batch=8, micro=micro, kind=kind)
        one = objective(sft, settings, rows)
        assert len(one.batch(0)) == 8 // micro
        found.append(gradients(one, model))
    # IPO's target is 1 / (2 β) = 5 nats a token away: its gradients are tens, so the tolerance is relative.
    largest = max(float(value.abs().max()) for value in found[0].values())
    assert_same(found[1], found[0], 1e-6 * max(1.0, largest))


def test_the_side_of_the_padding_does_not_matter(sft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, model = objective(sft, DpoSettings(loop=FAST, batch=8, micro=4), encoded(8)), moved(sft)
    right = gradients(one, model)
    monkeypatch.setattr("alignment.stages.dpo.pad", partial(pad, side="left"))
    assert not bool(one.batch(0)[0].tensors["mask"][:, 0].all())
    assert_same(gradients(one, model), right)


def test_the_order_of_pairs_within_a_step_does_not_matter(sft: Path) -> None:
    rows, model = encoded(8), moved(sft)
    settings = DpoSettings(loop=FAST, batch=8, micro=3)
    assert_same(
        gradients(objective(sft, settings, rows[::-1]), model), gradients(objective(sft, settings, rows), model)
    )


def test_every_pair_is_seen_once_an_epoch_in_an_order_that_hangs_on_the_seed_alone() -> None:
    rows, zero = encoded(13), torch.zeros(13, 2)
    settings = DpoSettings(loop=FAST, batch=4, epochs=2)
    orders = [DpoObjective(settings, rows, zero, 0, seed, same=False).order for seed in (0, 0, 1)]
    assert [sorted(torch.cat([torch.from_numpy(s) for s in orders[0][e * 4 :][:4]]).tolist()) for e in (0, 1)] == [
        list(range(13))
    ] * 2
    assert {len(step) for step in orders[0]} == {3, 4}
    first, same, other = ([step.tolist() for step in order] for order in orders)
    assert first == same != other
    assert first[:4] != first[4:]


# The reference


def test_a_reference_that_is_not_the_policy_is_used_and_named(sft: Path, tmp_path: Path) -> None:
    base = start(tmp_path / "base", seed=9)
    result = dpo(SETTINGS, sft, pairs(30), tmp_path / "dpo", seed=0, reference=base)
    assert abs(metrics(tmp_path / "dpo")[0]["loss"] - math.log(2)) > 1e-2
    from safetensors import safe_open

    with safe_open(str(tmp_path / "dpo" / "reference.safetensors"), framework="pt") as stream:
        made_of = json.loads(stream.metadata()["made_of"])
    assert made_of["path"] == str(base)
    assert made_of["weights_sha256"] == weights_sha256(load_model(base))
    assert result.metrics["kl_per_token"] > 1e-3


def test_no_reference_model_is_in_memory_while_the_policy_trains(
    sft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, counts = start(tmp_path / "base", seed=9), []
    plain = DpoObjective.loss

    def counting(self: DpoObjective, model: Any, micro: Any) -> Any:
        gc.collect()
        mine = [one for one in gc.get_objects() if type(one) is LlamaForCausalLM]
        counts.append(len(mine) - before)
        return plain(self, model, micro)

    gc.collect()
    before = sum(type(one) is LlamaForCausalLM for one in gc.get_objects())
    monkeypatch.setattr(DpoObjective, "loss", counting)
    dpo(SETTINGS.model_copy(update={"epochs": 1}), sft, pairs(10), tmp_path / "dpo", seed=0, reference=base)
    assert set(counts) == {1}


@pytest.mark.parametrize("kind", ["dpo", "ipo"])
def test_log_probabilities_that_are_not_the_policys_own_are_refused_at_the_first_step(sft: Path, kind: str) -> None:
    settings = DpoSettings(loop=FAST, batch=8, kind=kind)
    right = objective(sft, settings, encoded(8), same=True)
    gradients(right, load_model(sft))
    right.reference = right.reference + torch.tensor([[0.5, 0.0]])
    with pytest.raises(StageError, match="wrong-reference"):
        gradients(right, load_model(sft))


def test_bf16_starts_within_its_tolerance_and_learns(sft: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"loop": FAST.model_copy(update={"precision": "bf16"})})
    result = dpo(settings, sft, pairs(40), tmp_path, seed=0)
    assert abs(metrics(tmp_path)[0]["loss"] - math.log(2)) < 0.02
    assert result.metrics["margin_gain_low"] > 0


def test_a_reference_file_of_other_rows_is_refused(sft: Path, tmp_path: Path) -> None:
    dpo(SETTINGS, sft, pairs(20), tmp_path / "one", seed=0)
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "reference.safetensors").rename(tmp_path / "two" / "reference.safetensors")
    with pytest.raises(DataContractError, match="stale-reference"):
        dpo(SETTINGS, sft, pairs(24), tmp_path / "two", seed=0)


def test_dropout_of_a_models_own_config_is_off(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2,
        resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5,
    )  # fmt: skip
    save_model(GPT2LMHeadModel(config), tokenizer, tmp_path / "gpt2")
    dpo(SETTINGS, tmp_path / "gpt2", pairs(20), tmp_path / "dpo", seed=0)
    assert abs(metrics(tmp_path / "dpo")[0]["loss"] - math.log(2)) < 1e-6


# LoRA


def test_with_lora_the_adapter_is_kept_and_the_merged_model_is_what_was_measured(sft: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    settings = SETTINGS.model_copy(update={"lora": LoraSettings(rank=4)})
    result = dpo(settings, sft, pairs(40), tmp_path / "dpo", seed=0)
    assert result.metrics["margin_gain_low"] > 0
    base, model = load_model(sft), load_model(tmp_path / "dpo")
    same = {name: torch.equal(value, model.state_dict()[name]) for name, value in base.state_dict().items()}
    assert not any(same[name] for name in same if name.endswith("_proj.weight"))
    assert all(same[name] for name in same if not name.endswith("_proj.weight"))
    again = peft.PeftModel.from_pretrained(base, tmp_path / "dpo" / "adapter")
    ids = torch.arange(10, 30).unsqueeze(0)
    torch.testing.assert_close(again(ids).logits, model(ids).logits, atol=2e-6, rtol=0)


# Bad input


def test_bad_rows_are_skipped_by_name_and_counted(sft: Path, tmp_path: Path) -> None:
    bad = [
        PreferenceRow("Equal?", "Yes.", "Yes."),
        PreferenceRow("Equal but for spaces?", "Yes.", " Yes. "),
        PreferenceRow("Empty?", "", "No."),
        PreferenceRow("Empty?", "Yes.", "  \n"),
        PreferenceRow("Long? " * 200, "Yes.", "No."),
        PreferenceRow("Cut?", "Yes.", "No, " * 200),
    ]
    clean = dpo(SETTINGS, sft, pairs(20), tmp_path / "clean", seed=0)
    result = dpo(SETTINGS, sft, [*pairs(20), *bad[:5]], tmp_path / "bad", seed=0)
    assert result.rows == {
        "kept": 20,
        "skipped_empty_response": 2,
        "skipped_equal_responses": 2,
        "skipped_long_prompt": 1,
    }
    assert result.weights_sha256 == clean.weights_sha256  # they cost nobody else's data
    assert dpo(SETTINGS, sft, [*pairs(20), bad[5]], tmp_path / "cut", seed=0).rows == {"kept": 20, "truncated": 1}


def test_lines_of_a_file_are_counted_with_the_rows(sft: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    write_rows(file, pairs(20))
    tie = {"prompt": "Tie?", "chosen": "a", "rejected": "b", "tie": True}
    long = {"prompt": "Long? " * 200, "chosen": "a", "rejected": "b"}
    with file.open("a", encoding="utf-8") as stream:
        stream.write("not json\n" + json.dumps(tie) + "\n" + json.dumps(long) + "\n")
    result = dpo(SETTINGS, sft, file, tmp_path / "dpo", seed=0)
    assert result.rows == {"kept": 20, "skipped_bad_line": 1, "skipped_long_prompt": 1, "skipped_tie": 1}


def test_no_row_left_is_an_error_that_says_why(sft: Path, tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="skipped_empty_response 2"):
        dpo(SETTINGS, sft, [PreferenceRow("a", "", "b"), PreferenceRow("c", "d", "")], tmp_path, seed=0)


def test_padding_that_is_the_end_of_text_is_refused(tmp_path: Path) -> None:
    folder = start(tmp_path / "sft")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["pad_token"] = config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match="pad-is-eos"):
        dpo(SETTINGS, folder, pairs(20), tmp_path / "dpo", seed=0)


def test_label_smoothing_is_refused_for_ipo(sft: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="label_smoothing"):
        dpo(DpoSettings(kind="ipo", label_smoothing=0.1), sft, pairs(20), tmp_path, seed=0)


def test_a_job_files_loop_changes_what_it_names_and_keeps_the_stages_other_defaults() -> None:
    for settings_type in (DpoSettings, KtoSettings):
        found = parse(settings_type, {"loop": {"learning_rate": 1e-4}}, "job.yaml", "this stage")
        default = settings_type().loop
        assert found.loop == default.model_copy(update={"learning_rate": 1e-4})
        assert found.loop != LoopSettings(learning_rate=1e-4)
        with pytest.raises(ConfigError, match=r"loop\.learning_rat"):
            parse(settings_type, {"loop": {"learning_rat": 1e-4}}, "job.yaml", "this stage")


# Held-out numbers


def test_a_policy_that_does_not_move_gains_nothing(sft: Path, tmp_path: Path) -> None:
    still = SETTINGS.model_copy(update={"loop": LoopSettings(precision="fp32", learning_rate=0.0)})
    result = dpo(still, sft, pairs(30), tmp_path, seed=0)
    for name in ("margin_gain", "margin_gain_low", "margin_gain_high", "reward_chosen", "kl_per_token"):
        assert result.metrics[name] == pytest.approx(0.0, abs=1e-6), name
    assert result.weights_sha256 == weights_sha256(load_model(sft))


def test_held_out_numbers_are_those_of_a_hand_made_table() -> None:
    before = torch.tensor([[-2.0, -3.0], [-5.0, -4.0], [-1.0, -1.5]])
    after = torch.tensor([[-1.0, -4.0], [-5.0, -6.0], [-2.0, -1.5]])
    found = held_out_metrics(before, after, before, 0.5, ["a", "b", "b"])
    # Gains 2, 2, −1; clusters a: {2}, b: {2, −1}. Mean 1; residual sums 1 and −1; error √(2 · 2) / 3, t(1) = 12.706.
    assert found == pytest.approx(
        {
            "margin_before": (1.0 - 1.0 + 0.5) / 3,
            "margin_after": (3.0 + 1.0 - 0.5) / 3,
            "margin_gain": 1.0,
            "margin_gain_low": 1.0 - 12.7062 * 2 / 3,
            "margin_gain_high": 1.0 + 12.7062 * 2 / 3,
            "accuracy_before": 2 / 3,
            "accuracy_after": 2 / 3,
            "reward_accuracy": 2 / 3,
            "reward_accuracy_low": 2 / 3 - 12.7062 * math.sqrt(2 * 2 / 9) / 3,
            "reward_accuracy_high": 2 / 3 + 12.7062 * math.sqrt(2 * 2 / 9) / 3,
            "reward_chosen": 0.5 * (1.0 + 0.0 - 1.0) / 3,
            "reward_rejected": 0.5 * (-1.0 - 2.0 + 0.0) / 3,
        },
        rel=1e-4,
    )


def test_results_are_plain_stage_results(sft: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"held_out": 0.0, "epochs": 1})
    result = dpo(settings, sft, pairs(8), tmp_path, seed=0)
    assert result.metrics == {"pairs": 8.0, "held_out": 0.0}
    assert StageResult(**json.loads((tmp_path / "stage.json").read_text(encoding="utf-8"))) == result
