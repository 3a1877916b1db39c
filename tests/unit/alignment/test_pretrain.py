"""Pretraining: which rows a step reads, what it learns, and that the arm's name changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_tokenizer
from token_folder import CONTEXT, tiny_tokens
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignment.loop import LoopSettings
from alignment.model import load_model, new_model, save_model, weights_sha256
from alignment.stages.pretrain import (
    PretrainObjective,
    PretrainSettings,
    negative_log_likelihood,
    pretrain,
    steps_of,
    validation_loss,
)
from alignment.tokens import write_tokens
from curation.errors import ConfigError, DataContractError

FP32 = LoopSettings(learning_rate=3e-3, precision="fp32", log_every=1)
SMALL = PretrainSettings(size="160k", batch_tokens=8 * CONTEXT, micro_rows=4, loop=FP32)


def test_two_arms_with_one_corpus_get_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    results = {}
    for arm, seed in (("raw", 1), ("curated", 1), ("other seed", 2)):
        tokens = tiny_tokens(tmp_path / arm)
        results[arm] = pretrain(SMALL, tokens.path, tmp_path / "models" / arm, seed, arm=arm)

    assert results["raw"].weights_sha256 == results["curated"].weights_sha256
    assert results["raw"].fingerprint == results["curated"].fingerprint
    assert results["raw"].weights_sha256 != results["other seed"].weights_sha256
    assert (results["raw"].arm, results["curated"].arm, results["other seed"].seed) == ("raw", "curated", 2)


def test_pretraining_learns_what_the_text_repeats(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    settings = SMALL.model_copy(update={"tokens": 12_000})
    result = pretrain(settings, tokens.path, tmp_path / "model", seed=1)
    vocabulary = tokens.vocabulary - 3
    # Nine of ten tokens follow from the one before: nobody can go below this.
    floor = -(0.9 + 0.1 / vocabulary) * np.log(0.9 + 0.1 / vocabulary) - 0.1 * np.log(0.1 / vocabulary)

    assert result.rows == {"kept": 250, "unused": 0}
    assert (result.steps, result.tokens_seen) == (93, 93 * 8 * CONTEXT)
    assert result.metrics["epochs"] == pytest.approx(93 * 8 / 250, abs=1e-4)
    assert floor < result.metrics["validation_loss"] < 0.75 * np.log(vocabulary)


def test_the_result_is_a_hugging_face_directory_with_its_tokenizer_and_metrics(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    result = pretrain(SMALL, tokens.path, tmp_path / "model", seed=1, arm="raw")
    model = AutoModelForCausalLM.from_pretrained(result.path)
    rows = [json.loads(line) for line in (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()]

    assert weights_sha256(model) == result.weights_sha256
    assert (model.config.vocab_size, model.config.max_position_embeddings) == (tokens.vocabulary, CONTEXT)
    assert (model.config.pad_token_id, model.config.eos_token_id) == (tokens.pad, tokens.eos)
    assert AutoTokenizer.from_pretrained(result.path).get_vocab() == tiny_tokenizer().get_vocab()
    assert [row["step"] for row in rows] == list(range(1, result.steps + 1))
    assert set(rows[0]) == {"step", "loss", "gradient_norm", "learning_rate", "tokens", "wall_s", "tokens_per_s"}
    assert [row["tokens"] for row in rows] == [8 * CONTEXT * row["step"] for row in rows]
    assert not (tmp_path / "model" / "checkpoints").exists()


def test_a_finished_stage_is_not_run_again_and_another_one_not_written_over(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    first = pretrain(SMALL, tokens.path, tmp_path / "model", seed=1)
    before = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns

    assert pretrain(SMALL, tokens.path, tmp_path / "model", seed=1) == first
    with pytest.raises(ConfigError, match="other-stage"):
        pretrain(SMALL, tokens.path, tmp_path / "model", seed=2)
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_every_epoch_reads_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)  # 250 rows
    objective = PretrainObjective(tokens, steps=100, step_rows=10, micro_rows=10, seed=1)
    epochs = [np.concatenate([objective.rows(step) for step in range(e * 25, e * 25 + 25)]) for e in range(4)]

    for rows in epochs:
        assert sorted(rows) == list(range(250))
    assert len({tuple(rows) for rows in epochs}) == 4
    again = PretrainObjective(tokens, steps=100, step_rows=10, micro_rows=3, seed=1)
    assert np.array_equal(again.rows(37), objective.rows(37))


def test_a_step_across_two_epochs_ends_one_and_begins_the_next(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    odd = PretrainObjective(tokens, steps=3, step_rows=100, micro_rows=100, seed=1)
    even = PretrainObjective(tokens, steps=2, step_rows=250, micro_rows=250, seed=1)

    assert np.array_equal(odd.rows(2), np.concatenate((even.rows(0)[200:], even.rows(1)[:50])))


def test_a_batch_is_the_rows_of_the_stream(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    objective = PretrainObjective(tokens, steps=5, step_rows=7, micro_rows=3, seed=1)
    micros = objective.batch(2)

    assert [tuple(micro.tensors["ids"].shape) for micro in micros] == [(3, 17), (3, 17), (1, 17)]
    assert [micro.units for micro in micros] == [48, 48, 16]
    ids = torch.cat([micro.tensors["ids"] for micro in micros])
    for row, number in zip(ids.tolist(), objective.rows(2), strict=True):
        assert row == tokens.ids[number * CONTEXT : number * CONTEXT + CONTEXT + 1].tolist()


def test_the_loss_is_the_one_transformers_computes() -> None:
    model = new_model("160k", 320, {"pad": 0, "bos": 1, "eos": 2}, seed=0)
    ids = torch.randint(3, 320, (3, 17), generator=torch.Generator().manual_seed(0))
    theirs = model(input_ids=ids, labels=ids).loss * 48
    expected = torch.autograd.grad(theirs, list(model.parameters()))
    ours = negative_log_likelihood(model, ids)
    gradients = torch.autograd.grad(ours, list(model.parameters()))

    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    for mine, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_the_validation_loss_predicts_every_held_out_token_once(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    model = new_model("160k", tokens.vocabulary, {"pad": 0, "bos": 1, "eos": 2}, seed=0)
    ids = torch.from_numpy(np.asarray(tokens.validation).astype(np.int64))
    with torch.no_grad():
        losses = [
            float(model(input_ids=ids[s : s + 17][None], labels=ids[s : s + 17][None]).loss) for s in range(0, 640, 16)
        ]

    assert validation_loss(model, tokens, FP32) == pytest.approx(float(np.mean(losses)), rel=1e-6)


def test_without_held_out_documents_there_is_no_validation_loss(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path, [np.arange(65)], [], context=16, vocabulary=70, ids={"pad": 0, "bos": 1, "eos": 2})
    model = new_model("160k", 70, {"pad": 0, "bos": 1, "eos": 2}, seed=0)
    assert validation_loss(model, tokens, FP32) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"batch_tokens": 100}, "bad-batch"),
        ({"tokens": 100}, "small-budget"),
        ({"tokens": 16_001}, "too-many-epochs"),
        ({"size": "2m"}, "unknown-model-size"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    tokens = tiny_tokens(tmp_path)  # 4,000 training tokens, four epochs at most
    with pytest.raises(ConfigError) as caught:
        pretrain(SMALL.model_copy(update=change), tokens.path, tmp_path / "model", seed=1)

    assert [problem.code for problem in caught.value.problems] == [code]
    assert not (tmp_path / "model").exists()


def test_the_budget_is_what_the_steps_use(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    assert steps_of(SMALL, tokens) == (31, 8)  # 250 rows: 31 steps of 8, two rows are beyond the last
    assert steps_of(SMALL.model_copy(update={"tokens": 1000}), tokens) == (7, 8)


def test_tokens_of_another_tokenizer_or_of_none_are_refused(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    other = tmp_path / "other"
    changed = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    changed.add_tokens(["word"])
    changed.save_pretrained(other)

    with pytest.raises(DataContractError, match="other-tokenizer"):
        pretrain(SMALL, tokens.path, tmp_path / "model", seed=1, tokenizer=other)
    (tmp_path / "tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no-tokenizer"):
        pretrain(SMALL, tokens.path, tmp_path / "model", seed=1)


def test_a_model_goes_on_from_the_written_directory(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    result = pretrain(SMALL, tokens.path, tmp_path / "model", seed=1)
    assert validation_loss(load_model(result.path), tokens, FP32) == result.metrics["validation_loss"]


def test_going_on_from_a_model_begins_with_its_weights_and_is_another_stage_for_other_weights(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    first = pretrain(SMALL, tokens.path, tmp_path / "first", seed=1)
    still = SMALL.model_copy(update={"loop": SMALL.loop.model_copy(update={"learning_rate": 0.0})})

    same = pretrain(still, tokens.path, tmp_path / "same", seed=2, start=first.path)
    further = pretrain(SMALL, tokens.path, tmp_path / "further", seed=2, start=first.path)

    assert same.weights_sha256 == first.weights_sha256
    assert further.metrics["validation_loss"] < first.metrics["validation_loss"]
    assert pretrain(SMALL, tokens.path, tmp_path / "further", seed=2, start=first.path) == further
    with pytest.raises(ConfigError, match="other-stage"):
        pretrain(SMALL, tokens.path, tmp_path / "further", seed=2, start=further.path)


def test_a_model_of_a_smaller_vocabulary_or_context_cannot_go_on(tmp_path: Path) -> None:
    tokens = tiny_tokens(tmp_path)
    small = new_model("160k", tokens.vocabulary - 1, {"pad": 0, "bos": 1, "eos": 2}, seed=0, context=CONTEXT)
    save_model(small, None, tmp_path / "small")

    with pytest.raises(ConfigError, match=f"small-model.*vocabulary is {tokens.vocabulary - 1}"):
        pretrain(SMALL, tokens.path, tmp_path / "model", seed=1, start=tmp_path / "small")
