"""Our pretraining against transformers' Trainer: 3M parameters, rows of 256 tokens, 8 a step, fp32 and bf16."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from transformers import Trainer, TrainingArguments

from alignment.loop import LoopSettings
from alignment.model import SIZES, new_model
from alignment.stages.pretrain import PretrainObjective
from alignment.tokens import TokenFolder, write_tokens
from benchmarks.alignment import Comparison, Options, StepClock, Turn, alternate, ours

SIZE, CONTEXT, ROWS = "3m", 256, 8
IDS = {"pad": 0, "bos": 1, "eos": 2}
RATE = 1e-3


def compare(options: Options) -> Iterator[Comparison]:
    """fp32 and bf16; the same initial weights, the same rows in the same order, AdamW fused, clipped, a cosine."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = _tokens(Path(folder) / "tokens", options)
        for precision in ("fp32", "bf16"):
            yield alternate(
                f"pretrain {SIZE} {precision}",
                f"transformers {transformers.__version__} Trainer",
                lambda precision=precision: _ours(tokens, precision, options),  # type: ignore[misc]
                lambda precision=precision: _theirs(tokens, precision, options, folder),  # type: ignore[misc]
                options,
            )


def _tokens(folder: Path, options: Options) -> TokenFolder:
    vocabulary = SIZES[SIZE].vocabulary
    count = (options.warm + options.steps) * ROWS * CONTEXT + 1
    ids = np.random.default_rng(0).integers(3, vocabulary, count)
    return write_tokens(folder, [ids], [], context=CONTEXT, vocabulary=vocabulary, ids=IDS)


def _ours(tokens: TokenFolder, precision: Literal["fp32", "bf16"], options: Options) -> Turn:
    objective = PretrainObjective(tokens, options.warm + options.steps, ROWS, ROWS, seed=0)
    settings = LoopSettings(learning_rate=RATE, precision=precision)
    return ours(new_model(SIZE, tokens.vocabulary, IDS, seed=0), objective, settings, options.warm)


def _theirs(tokens: TokenFolder, precision: str, options: Options, folder: str) -> Turn:
    """Their rows are the first `CONTEXT` ids of ours: as many tokens through the model, one target less."""
    steps = options.warm + options.steps
    order = np.concatenate([PretrainObjective(tokens, steps, ROWS, ROWS, 0).rows(step) for step in range(steps)])
    rows: list[dict[str, Any]] = []
    for start in tokens.starts[order]:
        ids = torch.from_numpy(tokens.ids[start : start + CONTEXT].astype(np.int64))
        rows.append({"input_ids": ids, "labels": ids})
    arguments = TrainingArguments(
        output_dir=f"{folder}/theirs",
        max_steps=steps,
        per_device_train_batch_size=ROWS,
        learning_rate=RATE,
        weight_decay=0.1,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    clock = StepClock(options.warm)
    model = new_model(SIZE, tokens.vocabulary, IDS, seed=0)
    trainer: Any = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[clock])
    trainer.train()
    return clock.turn(options.steps * ROWS * CONTEXT)
