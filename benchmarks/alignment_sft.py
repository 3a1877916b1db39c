"""Our SFT against TRL's SFTTrainer: one million weights, the same rows in the same batches, the loss on answers alone.

Lengths are those of instruction data: prompts and answers drawn from log-normals with the median and spread of Alpaca
(18 and 56 tokens). Tokens are real ones; padding is each side's own affair.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from alignment.loop import LoopSettings
from alignment.model import SIZES, load_model, new_model, save_model
from alignment.rows import Example
from alignment.stages.sft import SftObjective, SftSettings
from alignment.tokenizer import special_ids, train_tokenizer
from benchmarks.alignment import Comparison, Options, StepClock, Turn, alternate, ours

SIZE, CONTEXT, RATE = "1m", 256, 1e-4
# Median and sigma of the natural logarithm of tokens in alpaca_5000, with a tokenizer of 4,096 ids.
PROMPT, ANSWER = (18, 0.6), (56, 0.9)


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    precision: Literal["fp32", "bf16"]
    accumulate: int = 1  # micro-batches a step
    packing: bool = False
    micro: int = 8

    @property
    def name(self) -> str:
        rows = f"{self.accumulate} × {self.micro}" if self.accumulate > 1 else f"{self.micro}"
        return f"sft {SIZE} {self.precision}, {rows} rows" + (", ours packed" if self.packing else "")


CASES = (Case("fp32"), Case("bf16"), Case("fp32", accumulate=4), Case("fp32", accumulate=4, packing=True))


def compare(options: Options) -> Iterator[Comparison]:
    """One batch a step in fp32 and bf16; four a step; four a step, ours packed and theirs padded."""
    import trl

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(["a b c"], SIZES[SIZE].vocabulary)  # its ids are not used, its special ones are
        start = Path(folder) / "start"
        model = new_model(SIZE, SIZES[SIZE].vocabulary, special_ids(tokenizer), seed=0, context=CONTEXT)
        save_model(model, tokenizer, start)
        for case in CASES:
            rows = examples((options.warm + options.steps) * case.micro * case.accumulate)
            yield alternate(
                case.name,
                f"trl {trl.__version__} SFTTrainer",
                lambda rows=rows, case=case: _ours(start, rows, case, options),  # type: ignore[misc]
                lambda rows=rows, case=case: _theirs(start, tokenizer, rows, case, options),  # type: ignore[misc]
                options,
            )


def examples(count: int) -> list[Example]:
    """Random ids; the same for both sides."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(count):
        prompt, answer = (_length(draw, *lengths) for lengths in (PROMPT, ANSWER))
        ids = draw.integers(6, SIZES[SIZE].vocabulary, prompt + answer).tolist()
        found.append(Example(tuple(ids[:prompt]), (*ids[prompt:-1], 2)))
    return found


def _length(draw: np.random.Generator, median: int, sigma: float) -> int:
    return int(np.clip(np.exp(draw.normal(np.log(median), sigma)), 2, CONTEXT // 2))


def _ours(start: Path, rows: Sequence[Example], case: Case, options: Options) -> Turn:
    batch = case.micro * case.accumulate
    settings = SftSettings(batch=batch, micro=case.micro, epochs=1, packing=case.packing)
    objective = SftObjective(settings, rows, 0, CONTEXT, seed=0)
    objective.order = list(np.arange(len(rows)).reshape(-1, batch))  # in the order in which TRL takes them
    loop = LoopSettings(learning_rate=RATE, precision=case.precision, weight_decay=0.0)
    return ours(load_model(start), objective, loop, options.warm)


def _theirs(start: Path, tokenizer: Any, rows: Sequence[Example], case: Case, options: Options) -> Turn:
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    records = [
        {
            "input_ids": [*row.prompt, *row.response],
            "completion_mask": [0] * len(row.prompt) + [1] * len(row.response),
        }
        for row in rows
    ]
    arguments = SFTConfig(
        output_dir=str(start.parent / "theirs"),
        num_train_epochs=1,
        per_device_train_batch_size=case.micro,
        gradient_accumulation_steps=case.accumulate,
        learning_rate=RATE,
        max_grad_norm=1.0,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        bf16=case.precision == "bf16",
        gradient_checkpointing=False,  # their default recomputes every layer to save memory
        max_length=CONTEXT,
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    clock = StepClock(options.warm)
    trainer: Any = SFTTrainer(
        model=str(start), args=arguments, train_dataset=Dataset.from_list(records), processing_class=tokenizer,
        callbacks=[clock],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    counted = rows[options.warm * case.micro * case.accumulate :]
    return clock.turn(sum(map(len, counted)))
