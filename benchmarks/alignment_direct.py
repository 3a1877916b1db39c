"""Whether DPO and KTO learn from real preferences, and what they cost beside TRL's trainers.

python -m benchmarks.alignment_direct learn ../shared/data/alignment   # a model of 1M: chosen answers first, then both
python -m benchmarks.alignment_direct speed                            # tokens a CPU-second beside TRL's trainers

Lengths of `speed` are those of dialogues: log-normal with the medians and spreads of Anthropic HH's helpful-base pairs
under a tokenizer of 4,096 ids. Tokens are real ones; padding is each side's own affair.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from alignment.loop import LoopSettings, Micro
from alignment.model import SIZES, load_model, new_model, save_model
from alignment.preferences import (
    DemonstrationRow,
    JudgedRow,
    PreferenceRow,
    judged_from_pairs,
    read_judged,
    read_preferences,
)
from alignment.reference import example_log_probs
from alignment.rows import Example
from alignment.stage import StageResult
from alignment.stages.dpo import DpoObjective, DpoSettings, dpo
from alignment.stages.kto import KtoObjective, KtoSettings, kto, mismatched
from alignment.stages.sft import SftSettings, sft
from alignment.tokenizer import special_ids, train_tokenizer
from benchmarks.alignment import HEAD, Comparison, Options, StepClock, Turn, alternate, ours

Precision = Literal["fp32", "bf16"]
OUT = Path(__file__).parent / "out" / "alignment_direct"
SIZE, BATCH, RATE = "1m", 8, 1e-5
CASES: tuple[tuple[str, Precision], ...] = (("dpo", "fp32"), ("dpo", "bf16"), ("kto", "fp32"), ("kto", "bf16"))
PROMPT, RESPONSE = (103, 1.18), (43, 0.90)  # median tokens, sigma of their natural logarithm
PAIRS = {"paradetox": ("paradetox_pairs",), "hh": ("hh_harmless_even", "hh_helpful_base")}
CONTEXT, VOCABULARY, HELD_OUT = 256, 4096, 0.2


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    learning = verbs.add_parser("learn")
    learning.add_argument("data", type=Path)
    learning.add_argument("--size", default=SIZE)
    learning.add_argument("--out", type=Path, default=OUT)
    learning.add_argument("--seed", type=int, default=0)
    learning.add_argument("--rate", type=float, default=1e-4)
    learning.add_argument("--epochs", type=int, default=1)
    learning.add_argument("--rows", type=int, default=1500, help="pairs of each set at most")
    speeding = verbs.add_parser("speed")
    for name in ("rounds", "steps", "warm", "threads"):
        speeding.add_argument(f"--{name}", type=int, default=getattr(Options(), name))
    given = parser.parse_args(arguments)
    if given.verb == "learn":
        learn(given)
    else:
        speed(Options(given.rounds, given.steps, given.warm, given.threads))


def speed(options: Options) -> None:
    """The table, as `python -m benchmarks.alignment direct` prints it."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(options.threads)
    print(HEAD)
    for comparison in compare(options):
        print(comparison.row(), flush=True)


def learn(given: argparse.Namespace) -> None:
    """A model taught the chosen answers, then DPO on each set of pairs and KTO on single judgements."""
    pairs = {
        name: read_preferences(*(given.data / f"{file}.jsonl.zst" for file in files))[: given.rows]
        for name, files in PAIRS.items()
    }
    judged = {
        "kto_mix": read_judged(given.data / "kto_mix.jsonl.zst"),
        "paradetox": judged_from_pairs(pairs["paradetox"]),
    }
    base = start(given, [row for rows in pairs.values() for row in rows], judged["kto_mix"])
    loop = DpoSettings().loop.model_copy(update={"learning_rate": given.rate})
    common = {"loop": loop, "epochs": given.epochs, "held_out": HELD_OUT, "length": CONTEXT, "batch": 32}
    label = f"{given.rate:g}-{given.epochs}-{given.rows}-{given.seed}"
    for name, rows in pairs.items():
        folder = given.out / f"dpo-{name}-{label}"
        timed(f"dpo on {name}", partial(dpo, DpoSettings(**common), base, rows, folder, given.seed))
    for name, single in judged.items():
        folder = given.out / f"kto-{name}-{label}"
        timed(f"kto on {name}", partial(kto, KtoSettings(**common), base, single, folder, given.seed))


def start(given: argparse.Namespace, pairs: Sequence[PreferenceRow], judged: Sequence[JudgedRow]) -> Path:
    """A model that saw every chosen answer once; held-out prompts are the same as the later stages', and not in it."""
    rows = [DemonstrationRow(row.prompt, row.chosen) for row in pairs]
    rows += [DemonstrationRow(row.prompt, row.response) for row in judged if row.label]
    folder = given.out / f"new-{given.size}-{given.rows}"
    if not (folder / "model.safetensors").is_file():
        tokenizer = train_tokenizer((f"{row.prompt} {row.response}" for row in rows), VOCABULARY)
        save_model(new_model(given.size, len(tokenizer), special_ids(tokenizer), 0, CONTEXT), tokenizer, folder)
    loop = SftSettings().loop.model_copy(update={"learning_rate": 2e-3})
    settings = SftSettings(loop=loop, epochs=1, batch=32, held_out=HELD_OUT, length=CONTEXT, prompts=0)
    begun: Path = given.out / f"sft-{given.size}-{given.rows}-{given.seed}"
    timed("sft on prompts and chosen answers", lambda: sft(settings, folder, rows, begun, given.seed))
    return begun


def timed(name: str, stage: Callable[[], StageResult]) -> None:
    """Run a stage and print what it says of held-out prompts."""
    before = time.process_time()
    result = stage()
    print(f"{name}: {result.steps} steps, {result.tokens_seen:,} tokens, {time.process_time() - before:.0f} CPU-s")
    print(f"  rows {dict(result.rows)}")
    for key, value in result.metrics.items():
        if not key.endswith(("_low", "_high")):
            ends = [result.metrics.get(key + end) for end in ("_low", "_high")]
            shown = "" if None in ends else f"  [{ends[0]:.4f}, {ends[1]:.4f}]"
            print(f"  {key:20} {value:10.4f}{shown}")
    sys.stdout.flush()


# Speed


def compare(options: Options) -> Iterator[Comparison]:
    """DPO and KTO in fp32 and bf16. The reference's log-probabilities are in the time of both sides."""
    import trl

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(["a b c"], SIZES[SIZE].vocabulary)  # its ids are not used, its special ones are
        start = Path(folder) / "start"
        model = new_model(SIZE, SIZES[SIZE].vocabulary, special_ids(tokenizer), seed=0, context=CONTEXT)
        save_model(model, tokenizer, start)
        rows = examples((options.warm + options.steps) * BATCH)
        for stage, precision in CASES:
            yield alternate(
                f"{stage} {SIZE} {precision}, {BATCH} {'pairs' if stage == 'dpo' else 'rows'}",
                f"trl {trl.__version__} {stage.upper()}Trainer",
                partial(_ours, start, rows, stage, precision, options),
                partial(_theirs, start, tokenizer, rows, stage, precision, options),
                options,
            )


def examples(count: int) -> list[tuple[Example, Example]]:
    """Random ids of the lengths of real dialogues; the same for both sides. KTO takes the first of each pair."""
    draw = np.random.default_rng(0)

    def length(median: int, sigma: float, most: int) -> int:
        return int(np.clip(np.exp(draw.normal(np.log(median), sigma)), 4, most))

    found = []
    for _ in range(count):
        prompt = draw.integers(6, SIZES[SIZE].vocabulary, length(*PROMPT, 3 * CONTEXT // 4)).tolist()
        both = [[*draw.integers(6, SIZES[SIZE].vocabulary, length(*RESPONSE, CONTEXT // 4)), 2] for _ in range(2)]
        found.append(tuple(Example(tuple(prompt), tuple(map(int, response[: CONTEXT // 4]))) for response in both))
    return [(chosen, rejected) for chosen, rejected in found]


class _Whole:
    """An objective that scores the reference when the rows are first needed: those of the uncounted steps at step 0,
    all others at the first counted one, so that a turn pays for what it uses as TRL's does."""

    def __init__(self, objective: Any, model: Any, settings: LoopSettings, warm: int) -> None:
        self.objective, self.model, self.loop, self.warm = objective, model, settings, warm
        self.steps = objective.steps

    def batch(self, step: int) -> Sequence[Micro]:
        if step in (0, self.warm):
            late = range(self.warm, self.steps) if step else range(self.warm)
            self._score(late)
        micros: Sequence[Micro] = self.objective.batch(step)
        return micros

    def _score(self, steps: range) -> None:
        o, rows = self.objective, [int(row) for step in steps for row in self.objective.order[step]]
        if isinstance(o, DpoObjective):
            flat = [example for row in rows for example in o.pairs[row]]
            o.reference[rows] = example_log_probs(self.model, flat, 0, self.loop).view(-1, 2)
        else:
            o.reference[rows] = example_log_probs(self.model, [o.rows[row][0] for row in rows], 0, self.loop)
            for step in steps:
                o.pair_reference[step] = example_log_probs(self.model, o.pairs[step], 0, self.loop)
        self.model.train()

    def loss(self, model: Any, micro: Micro) -> Any:
        return self.objective.loss(model, micro)


def _ours(
    start: Path, rows: Sequence[tuple[Example, Example]], stage: str, precision: Precision, options: Options
) -> Turn:
    model, loop = load_model(start), LoopSettings(learning_rate=RATE, precision=precision, weight_decay=0.0)
    objective: Any
    if stage == "dpo":
        settings = DpoSettings(loop=loop, batch=BATCH, micro=BATCH)
        objective = DpoObjective(settings, rows, torch.zeros(len(rows), 2), 0, seed=0, same=False)
    else:
        judged = [(chosen, k % 2 == 0) for k, (chosen, _) in enumerate(rows)]
        objective = KtoObjective(KtoSettings(loop=loop, batch=BATCH, micro=BATCH), judged, 0, 0, False, CONTEXT)
    objective.order = list(np.arange(len(rows)).reshape(-1, BATCH))  # in the order in which TRL takes them
    if stage == "kto":
        objective.pairs = [mismatched([rows[i][0] for i in order], CONTEXT) for order in objective.order]
        objective.reference = torch.zeros(len(rows))
        objective.pair_reference = [torch.zeros(BATCH)] * len(objective.order)
    return ours(model, _Whole(objective, model, loop, options.warm), loop, options.warm)


def _theirs(
    start: Path,
    tokenizer: Any,
    rows: Sequence[tuple[Example, Example]],
    stage: str,
    precision: Precision,
    options: Options,
) -> Turn:
    from datasets import Dataset, disable_progress_bars
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    disable_progress_bars()
    given: dict[str, Any] = {
        "output_dir": str(start.parent / "theirs"),
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "cosine",
        "optim": "adamw_torch_fused",
        "bf16": precision == "bf16",
        "gradient_checkpointing": False,  # their default recomputes every layer to save memory
        "max_length": CONTEXT,
        "train_sampling_strategy": "sequential",
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
    }
    clock = StepClock(options.warm)
    words = {"prompt": ["a", "b"], "chosen": ["b", "c"], "rejected": ["c", "a"]}
    judged = {"prompt": ["a", "b"], "completion": ["b", "c"], "label": [True, False]}
    trainer: Any
    if stage == "dpo":
        data = Dataset.from_dict(words)
        trainer = DPOTrainer(str(start), None, DPOConfig(**given), None, data, processing_class=tokenizer)
    else:
        data = Dataset.from_dict(judged)
        trainer = KTOTrainer(str(start), None, KTOConfig(**given), None, data, processing_class=tokenizer)
    trainer.train_dataset = Dataset.from_list(_records(rows, stage))  # ids: tokenising is not what is measured
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    counted = rows[options.warm * BATCH :]
    if stage == "dpo":
        return clock.turn(sum(len(example) for pair in counted for example in pair))
    first = [chosen for chosen, _ in counted]
    mixed = [pair for at in range(0, len(first), BATCH) for pair in mismatched(first[at : at + BATCH], CONTEXT)]
    return clock.turn(sum(len(example) for example in [*first, *mixed] if example is not None))


def _records(rows: Sequence[tuple[Example, Example]], stage: str) -> list[dict[str, Any]]:
    """Rows as TRL has them once they are tokenised; each KTO row with the completion of the row before, by batches."""
    if stage == "dpo":
        return [
            {"prompt_ids": list(w.prompt), "chosen_ids": list(w.response), "rejected_ids": list(x.response)}
            for w, x in rows
        ]
    return [
        {
            "prompt_ids": list(chosen.prompt),
            "completion_ids": list(chosen.response),
            "KL_completion_ids": list(rows[k - 1 if k % BATCH else k + BATCH - 1][0].response),
            "label": k % 2 == 0,
        }
        for k, (chosen, _) in enumerate(rows)
    ]


if __name__ == "__main__":
    main()
