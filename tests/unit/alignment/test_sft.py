"""The SFT stage: exact, resumable, the same whatever the batches look like; and it learns to end its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SENTENCES, some_examples, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM

from alignment.loop import LoopSettings, SliceOverError, accumulate
from alignment.lora import LoraSettings
from alignment.model import load_model, save_model, weights_sha256
from alignment.preference_rows import DemonstrationRow
from alignment.rows import pad
from alignment.stages.sft import SftObjective, SftSettings, response_loss, sft
from curation.errors import ConfigError, DataContractError

FP32 = LoopSettings(precision="fp32")
QUICK = SftSettings(
    loop=LoopSettings(learning_rate=1e-3, precision="fp32", log_every=1),
    epochs=2, batch=4, micro=2, held_out=0.25, response_tokens=8, prompts=4,
)  # fmt: skip
ROWS = [DemonstrationRow(f"Say number {i}.", SENTENCES[i % 10][: 10 + i].strip()) for i in range(16)]
CPU = torch.device("cpu")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    save_model(tiny_llama(), tiny_tokenizer(), tmp_path / "policy")
    return tmp_path / "policy"


def gradients(settings: SftSettings, examples: Any) -> tuple[float, dict[str, torch.Tensor]]:
    model = tiny_llama()
    objective = SftObjective(settings, examples, 0, 128, seed=0)
    loss = accumulate(objective, model, objective.batch(0), FP32, CPU)["loss"]
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def same(one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert one[0] == pytest.approx(other[0], abs=1e-6)
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("changed", [{"micro": 2}, {"micro": 1}, {"packing": True}, {"micro": 2, "packing": True}])
def test_one_batch_of_eight_is_four_of_two_is_packed_rows(changed: dict[str, Any]) -> None:
    examples = some_examples(8)
    whole = SftSettings(batch=8, micro=8)

    same(gradients(whole.model_copy(update=changed), examples), gradients(whole, examples))


def test_the_order_of_rows_in_a_step_changes_nothing() -> None:
    examples = some_examples(8)
    settings = SftSettings(batch=8, micro=3)

    same(gradients(settings, examples), gradients(settings, examples[::-1]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_of_padding_changes_nothing(side: Any) -> None:
    examples = some_examples(6)
    alone, padded = tiny_llama(), tiny_llama()
    for example in examples:
        batch = pad([example], 0)
        response_loss(alone, batch.ids, batch.mask, batch.response).backward()
    batch = pad(examples, 0, side, multiple=32)
    response_loss(padded, batch.ids, batch.mask, batch.response).backward()

    for (name, one), other in zip(alone.named_parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(one.grad / 100, other.grad / 100, atol=1e-6, rtol=0, msg=name)


def test_the_loss_is_that_of_the_models_own_logits_at_response_tokens_alone() -> None:
    class ScaledLlama(LlamaForCausalLM):  # an architecture whose head does more than multiply
        def forward(self, *args: Any, **how: Any) -> Any:
            found = super().forward(*args, **how)
            found.logits = 30 * torch.tanh(found.logits / 30)
            return found

    for model in (tiny_llama(), ScaledLlama(tiny_llama().config)):
        for batch in (pad(some_examples(5), 0), pad(some_examples(5), 0, "left")):
            logits = model(
                input_ids=batch.ids,
                attention_mask=batch.mask,
                position_ids=(batch.mask.long().cumsum(1) - 1).clamp(min=0),
            ).logits.detach()
            expected = 0.0
            for row in range(5):
                for t in range(1, batch.ids.shape[1]):
                    if batch.response[row, t]:
                        expected -= float(logits[row, t - 1].double().log_softmax(0)[batch.ids[row, t]])

            assert response_loss(model, batch.ids, batch.mask, batch.response).item() == pytest.approx(
                expected, rel=1e-6
            )


def test_each_epoch_sees_every_row_once_and_padding_stays_small() -> None:
    examples = some_examples(50, longest=60)
    objective = SftObjective(SftSettings(epochs=2, batch=16, micro=4), examples, 0, 128, seed=3)
    seen: list[tuple[int, ...]] = []
    slots = real = 0
    for step in range(objective.steps):
        for micro in objective.batch(step):
            seen += [
                tuple(ids[mask].tolist()) for ids, mask in zip(micro.tensors["ids"], micro.tensors["mask"], strict=True)
            ]
            slots, real = slots + micro.tensors["ids"].numel(), real + micro.tokens

    assert sorted(seen) == sorted((*example.prompt, *example.response) for example in examples * 2)
    assert real / slots > 0.8
    assert [micro.units for micro in objective.batch(2)] == [micro.units for micro in objective.batch(2)]


def test_the_stage_writes_a_model_its_numbers_and_every_rows_fate(policy: Path, tmp_path: Path) -> None:
    rows = [*ROWS, DemonstrationRow("Say nothing.", "  "), DemonstrationRow("Say " * 300, "It is long.")]
    result = sft(QUICK, policy, rows, tmp_path / "sft", seed=1, arm="raw")
    model = load_model(tmp_path / "sft")

    assert result.rows == {"kept": 16, "skipped_empty_response": 1, "skipped_long_prompt": 1}
    assert result.metrics["rows"] + result.metrics["held_out"] == 16
    assert result.metrics["loss_after"] < result.metrics["loss_before"]
    both = {f"{name}_{when}" for name in ("loss", "eos_rate") for when in ("before", "after")}
    assert set(result.metrics) == {"rows", "held_out", "answer_tokens", "prompts"} | both
    assert result.weights_sha256 == weights_sha256(model)
    assert (result.stage, result.arm, result.seed) == ("sft", "raw", 1)
    lines = [json.loads(line) for line in (tmp_path / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, result.steps + 1))
    assert sft(QUICK, policy, rows, tmp_path / "sft", seed=1, arm="raw") == result, "a finished stage is not repeated"
    with pytest.raises(ConfigError, match="made by other settings or inputs"):
        sft(QUICK, policy, rows, tmp_path / "sft", seed=2)


def test_a_stage_stopped_after_every_step_ends_with_the_same_weights(policy: Path, tmp_path: Path) -> None:
    whole = sft(QUICK, policy, ROWS, tmp_path / "whole", seed=0)
    sliced = QUICK.model_copy(
        update={"loop": QUICK.loop.model_copy(update={"stop_after_s": 1e-9, "checkpoint_every_s": 0.0})}
    )
    for _ in range(whole.steps - 1):
        with pytest.raises(SliceOverError):
            sft(sliced, policy, ROWS, tmp_path / "sliced", seed=0)
    result = sft(sliced, policy, ROWS, tmp_path / "sliced", seed=0)

    assert result.weights_sha256 == whole.weights_sha256
    assert result.fingerprint == whole.fingerprint
    assert result.metrics == whole.metrics
    assert not (tmp_path / "sliced" / "checkpoints").exists()


def test_two_arms_with_the_same_rows_get_the_same_weights(policy: Path, tmp_path: Path) -> None:
    results = [sft(QUICK, policy, ROWS, tmp_path / arm, seed=0, arm=arm) for arm in ("raw", "curated")]

    assert results[0].weights_sha256 == results[1].weights_sha256
    assert results[0].metrics == results[1].metrics
    assert sft(QUICK, policy, ROWS, tmp_path / "other", seed=1).weights_sha256 != results[0].weights_sha256


def test_lora_trains_an_adapter_and_saves_it_beside_the_merged_model(policy: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    settings = QUICK.model_copy(update={"lora": LoraSettings(rank=4, alpha=8)})
    result = sft(settings, policy, ROWS, tmp_path / "lora", seed=0)
    model = load_model(tmp_path / "lora")
    adapted = peft.PeftModel.from_pretrained(load_model(policy), str(tmp_path / "lora" / "adapter"))

    assert result.metrics["loss_after"] < result.metrics["loss_before"]
    ids = torch.tensor([[1, 4, 50, 60, 70]])
    torch.testing.assert_close(model(input_ids=ids).logits, adapted(input_ids=ids).logits, atol=1e-5, rtol=0)
    assert weights_sha256(model) == result.weights_sha256
    assert torch.equal(model.get_input_embeddings().weight, load_model(policy).get_input_embeddings().weight)


def test_a_model_learns_to_give_and_to_end_its_answers(policy: Path, tmp_path: Path) -> None:
    rows = [DemonstrationRow(f"Say number {i}.", "I am sorry." if i % 2 else "Please.") for i in range(80)]
    settings = SftSettings(
        loop=LoopSettings(learning_rate=3e-3, precision="fp32"), epochs=20, batch=8, response_tokens=12, held_out=0.2
    )
    result = sft(settings, policy, rows, tmp_path / "sft", seed=0)

    assert result.metrics["eos_rate_before"] < 0.2
    assert result.metrics["eos_rate_after"] > 0.95
    assert result.metrics["loss_after"] < 0.5


def test_what_cannot_be_trained_is_refused_before_anything_is_written(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="0 rows are left to train on: skipped_empty_response 2"):
        sft(QUICK, policy, [DemonstrationRow("a", " "), DemonstrationRow("b", "")], tmp_path / "none", seed=0)

    bare = tmp_path / "bare"
    save_model(tiny_llama(), tiny_tokenizer(), bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        sft(QUICK, bare, ROWS, tmp_path / "sft", seed=0)
    assert not (tmp_path / "sft").exists()
