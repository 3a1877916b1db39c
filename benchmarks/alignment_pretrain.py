"""Our pretraining against transformers' Trainer: 3M parameters, rows of 256 tokens, 8 a step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import transformers
from transformers import Trainer, TrainingArguments

from alignment.attention import fastest_attention
from alignment.loop import LoopSettings
from alignment.model import SIZES, new_model
from alignment.stages.pretrain import PretrainObjective
from alignment.tokens import TokenFolder, write_tokens
from benchmarks.alignment import Comparison, Options, StepClock, Turn, alternate, ours

IDS = {"pad": 0, "bos": 1, "eos": 2}
PEER = f"transformers {transformers.__version__} Trainer"


@dataclass(frozen=True)
class Case:
    """What both sides train."""

    size: str = "3m"
    context: int = 256
    rows: int = 8  # a step
    micro: int = 8  # through the model at once
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False

    @property
    def loop(self) -> LoopSettings:
        """Our settings; `theirs` says the same in their words."""
        return LoopSettings(learning_rate=1e-3, precision=self.precision, compile=self.compile)


def compare(options: Options) -> Iterator[Comparison]:
    """fp32, bf16, compiled; the same initial weights and rows in the same order, AdamW fused, clipped, a cosine."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = drawn_tokens(Path(folder) / "tokens", Case(), options)
        compiled = [replace(Case(), compile=True), replace(Case(), precision="bf16", compile=True)]
        for case in (Case(), replace(Case(), precision="bf16"), *compiled):
            one = partial(our_turn, tokens, case, options)
            other = partial(their_turn, tokens, case, options, folder)
            name = f"pretrain {case.size} {case.precision}{' compiled' if case.compile else ''}"
            yield alternate(name, PEER, one, other, options)


def drawn_tokens(folder: Path, case: Case, options: Options) -> TokenFolder:
    """As many drawn ids as the steps read: for speed, what they say does not matter."""
    vocabulary = SIZES[case.size].vocabulary
    count = (options.warm + options.steps) * case.rows * case.context + 1
    ids = np.random.default_rng(0).integers(3, vocabulary, count)
    return write_tokens(folder, [ids], [], context=case.context, vocabulary=vocabulary, ids=IDS)


def our_turn(tokens: TokenFolder, case: Case, options: Options) -> Turn:
    """Our stage's objective in our engine."""
    objective = PretrainObjective(tokens, options.warm + options.steps, case.rows, case.micro, seed=0)
    model = new_model(case.size, tokens.vocabulary, IDS, seed=0, context=case.context)
    with fastest_attention(model, case.loop, case.context):
        return ours(model, objective, case.loop, options.warm)


def their_turn(tokens: TokenFolder, case: Case, options: Options, folder: str) -> Turn:
    """Their rows are the first `context` ids of ours: as many tokens through the model, one target less."""
    steps = options.warm + options.steps
    order = PretrainObjective(tokens, steps, case.rows, case.micro, seed=0)
    rows: list[dict[str, Any]] = []
    for start in tokens.starts[np.concatenate([order.rows(step) for step in range(steps)])]:
        ids = torch.from_numpy(tokens.ids[start : start + case.context].astype(np.int64))
        rows.append({"input_ids": ids, "labels": ids})
    loop = case.loop
    arguments = TrainingArguments(
        output_dir=f"{folder}/theirs",
        max_steps=steps,
        per_device_train_batch_size=case.micro,
        gradient_accumulation_steps=case.rows // case.micro,
        learning_rate=loop.learning_rate,
        weight_decay=loop.weight_decay,
        adam_beta2=loop.beta2,
        max_grad_norm=loop.clip,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        bf16=case.precision == "bf16",
        torch_compile=case.compile,
        logging_steps=loop.log_every,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    clock = StepClock(options.warm)
    model = new_model(case.size, tokens.vocabulary, IDS, seed=0, context=case.context)
    trainer: Any = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[clock])
    trainer.train()
    return clock.turn(options.steps * case.rows * case.context)
