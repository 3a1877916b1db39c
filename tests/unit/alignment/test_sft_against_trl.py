"""Supervised fine-tuning against TRL's SFTTrainer: the same loss and the same gradients on the same batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SENTENCES, tiny_gpt2, tiny_llama, tiny_tokenizer

from alignment.loop import LoopSettings, accumulate
from alignment.model import load_model
from alignment.preference_rows import DemonstrationRow
from alignment.rows import encode
from alignment.stages.sft import SftObjective, SftSettings

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

ROWS = [
    DemonstrationRow([{"role": "user", "content": SENTENCES[i]}], SENTENCES[-i][: 20 + 9 * i].strip())
    for i in range(1, 9)
]


def trl_trainer(folder: Path, rows: list[DemonstrationRow], **options: Any) -> Any:
    """An SFTTrainer on the model in `folder`, on the CPU and in fp32."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    records = [
        {"prompt": list(row.prompt), "completion": [{"role": "assistant", "content": row.response}]} for row in rows
    ]
    config = trl.SFTConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=len(rows), bf16=False, use_cpu=True,
        gradient_checkpointing=False, report_to="none", max_length=None, completion_only_loss=True,
        disable_tqdm=True, **options,
    )  # fmt: skip
    return trl.SFTTrainer(
        model=str(folder / "model"),
        args=config,
        train_dataset=datasets.Dataset.from_list(records),
        processing_class=tiny_tokenizer(),
    )


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("packing", [False, True])
def test_loss_and_every_gradient_are_trls(tmp_path: Path, make: Callable[[], Any], packing: bool) -> None:
    make().save_pretrained(tmp_path / "model")
    trainer = trl_trainer(tmp_path, ROWS)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    theirs = trainer.compute_loss(trainer.model, dict(batch))
    theirs.backward()

    model = load_model(tmp_path / "model")
    tokenizer = tiny_tokenizer()
    encoded = [encode(tokenizer, row.prompt, row.response, 128) for row in ROWS]
    examples = [example for example, fate in encoded if example is not None and fate == "kept"]
    assert len(examples) == len(ROWS)
    counted = sum(len(example.response) for example in examples)
    assert int((batch["labels"] != -100).sum()) == counted, "TRL counts the same tokens"
    settings = SftSettings(batch=len(ROWS), micro=3, packing=packing)
    objective = SftObjective(settings, examples, tokenizer.pad_token_id, 128, 0)
    ours = accumulate(objective, model, objective.batch(0), LoopSettings(precision="fp32"), torch.device("cpu"))

    assert ours["loss"] == pytest.approx(theirs.item(), abs=1e-6)
    expected = dict(trainer.model.named_parameters())
    assert {name for name, _ in model.named_parameters()} == set(expected)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-6, rtol=0, msg=name)
    assert max(float(p.grad.abs().max()) for p in model.parameters()) > 1e-2, "the bound is far below the gradients"
