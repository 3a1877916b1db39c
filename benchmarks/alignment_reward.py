"""Whether a reward model learns from real preferences, and what it costs beside TRL's.

python -m benchmarks.alignment_reward ../shared/data/alignment   # a backbone of 1M, then HH and ParaDetox
python -m benchmarks.alignment reward                            # tokens a CPU-second beside TRL's RewardTrainer
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from alignment.direct import is_held_out, prompt_key
from alignment.loop import LoopSettings
from alignment.model import SIZES, RewardModel, new_model
from alignment.preferences import PreferenceRow, read_preferences
from alignment.rows import Example, encode
from alignment.stage import StageResult
from alignment.stages.pretrain import PretrainSettings, pretrain
from alignment.stages.reward import Compared, RewardObjective, RewardSettings, reward
from alignment.tokenizer import SMALLEST, load_tokenizer, special_ids, tokenizer_sha256, train_tokenizer
from alignment.tokens import write_tokens
from benchmarks.alignment import Comparison, Options, StepClock, Turn, alternate, ours

Precision = Literal["fp32", "bf16"]
OUT = Path(__file__).parent / "out" / "alignment_reward"
HH = ("hh_harmless_even", "hh_helpful_base", "hh_helpful_rejection_sampled")
SETS = {"hh": HH, "paradetox": ("paradetox_pairs",)}
LIMITS = {"hh": None, "paradetox": 4000}  # an easy set: a few thousand pairs say all
CONTEXT, VOCABULARY, HELD_OUT = 256, 4096, 0.25
PRETRAIN_TOKENS = 1_400_000  # a third of the dialogues' tokens: two minutes of one core
WIDE = 4096  # of the text of a pair that goes into pretraining: no cut, all ids


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", default="1m")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--keep-layers", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    learn(parser.parse_args(arguments))


def learn(given: argparse.Namespace) -> None:
    """Pretrain on the dialogues of the pairs that are not held out, then a reward model a set of pairs."""
    rows = {
        name: read_preferences(*(given.data / f"{file}.jsonl.zst" for file in SETS[name]))[: LIMITS[name]]
        for name in SETS
    }
    started = time.process_time()
    base = backbone(given.size, [row for found in rows.values() for row in found], given.out, given.seed)
    say("pretrain", base, time.process_time() - started)
    for name in given.sets:
        loop = LoopSettings(
            learning_rate=given.rate, schedule="cosine", warmup=0.03, final=0.1, weight_decay=0.0, log_every=10
        )
        settings = RewardSettings(
            loop=loop, epochs=given.epochs, held_out=HELD_OUT, keep_layers=given.keep_layers, length=CONTEXT
        )
        label = f"reward-{name}-{given.keep_layers:g}-{given.rate:g}-{given.epochs}-{given.seed}"
        started = time.process_time()
        result = reward(settings, Path(base.path), rows[name], given.out / label, given.seed)
        say(name, result, time.process_time() - started)


def backbone(size: str, rows: Sequence[PreferenceRow], out: Path, seed: int) -> StageResult:
    """A small language model of prompts and both answers, each dialogue once; held-out prompts are not in it."""
    known = [row for row in rows if not is_held_out(prompt_key(row.prompt), HELD_OUT)]
    folder = out / "tokens"
    if not (out / "tokenizer").is_dir():
        texts = (f"{row.prompt} {row.chosen} {row.rejected}" for row in known)
        train_tokenizer(texts, VOCABULARY).save_pretrained(out / "tokenizer")
    tokenizer = load_tokenizer(out / "tokenizer")

    def pieces() -> Iterable[np.ndarray]:
        for row in known:
            for text in (row.chosen, row.rejected):
                example, _ = encode(tokenizer, row.prompt, text, WIDE)
                if example is not None:
                    yield np.array([*example.prompt, *example.response])

    order = np.random.default_rng(seed).permutation(len(known))
    known = [known[at] for at in order]
    write_tokens(
        folder, pieces(), [], context=CONTEXT, vocabulary=len(tokenizer), ids=special_ids(tokenizer),
        facts={"tokenizer_sha256": tokenizer_sha256(tokenizer)},
    )  # fmt: skip
    loop = LoopSettings(learning_rate=2e-3, schedule="cosine", warmup=0.02, final=0.1, log_every=20)
    settings = PretrainSettings(size=size, tokens=PRETRAIN_TOKENS, batch_tokens=16 * CONTEXT, micro_rows=16, loop=loop)
    return pretrain(settings, folder, out / f"backbone-{size}-{seed}", seed, tokenizer=out / "tokenizer")


def say(name: str, result: StageResult, cpu_s: float) -> None:
    """One line of numbers on stdout."""
    m = result.metrics
    print(f"{name}: {result.steps} steps, {result.tokens_seen:,} tokens, {cpu_s:.0f} CPU-s; rows {dict(result.rows)}")
    if "accuracy" in m:
        print(
            f"  {m['held_out_pairs']:.0f} held-out pairs, accuracy {m['accuracy']:.4f} "
            f"[{m['accuracy_low']:.4f}, {m['accuracy_high']:.4f}] (95 % Wilson), by prompt "
            f"[{m['accuracy_by_prompt_low']:.4f}, {m['accuracy_by_prompt_high']:.4f}], ECE {m['ece']:.4f}, "
            f"log loss {m['log_loss']:.4f}, train accuracy {m['train_accuracy']:.3f}"
        )
    else:
        print("  " + ", ".join(f"{key} {value:.4f}" for key, value in m.items()))
    sys.stdout.flush()


# Beside TRL

PAIRS_A_STEP, SIZE, SHORTEST, LONGEST = 8, "1m", 48, 256  # tokens; what HH pairs have, but for the longest
IDS = {"pad": 0, "bos": 1, "eos": 2}


def compare(options: Options) -> Iterator[Comparison]:
    """fp32 and bf16; the same initial weights, the same eight pairs of random ids in every step."""
    import trl

    steps = options.warm + options.steps
    pairs = random_pairs(steps * PAIRS_A_STEP)
    # Four pairs at a time, like with like: the same step with less padding. TRL takes the eight at once, as they come.
    settings = RewardSettings(batch=PAIRS_A_STEP, micro=PAIRS_A_STEP, keep_layers=1.0)
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "bf16"):
            yield alternate(
                f"reward {SIZE} {precision}",
                f"trl {trl.__version__} RewardTrainer",
                lambda precision=precision: _ours(settings, pairs, precision, options),  # type: ignore[misc]
                lambda precision=precision: _theirs(settings, pairs, precision, options, folder),  # type: ignore[misc]
                options,
            )


def random_pairs(count: int) -> list[Compared]:
    """Pairs whose answers share a prompt of half their length."""
    draw = np.random.default_rng(0)
    vocabulary = SIZES[SIZE].vocabulary
    found = []
    for _ in range(count):
        prompt, *answers = (draw.integers(3, vocabulary, draw.integers(SHORTEST, LONGEST) // 2) for _ in range(3))
        examples = tuple(Example(tuple(prompt.tolist()), tuple(answer.tolist())) for answer in answers)
        found.append(Compared("", examples, (1, 2), 0.0))
    return found


def _ours(settings: RewardSettings, pairs: Sequence[Compared], precision: Precision, options: Options) -> Turn:
    objective = RewardObjective(settings, pairs, IDS["pad"], seed=0)
    model = RewardModel.from_causal(new_model(SIZE, SIZES[SIZE].vocabulary, IDS, seed=0))
    loop = settings.loop.model_copy(update={"precision": precision})
    return ours(model, objective, loop, options.warm)


def _theirs(settings: RewardSettings, pairs: Sequence[Compared], precision: str, options: Options, folder: str) -> Turn:
    """The pairs of our steps in our order; TRL pads each side's longest, as we do."""
    import datasets

    trl: Any = importlib.import_module("trl")  # half-typed, like the factory below
    classifier: Any = AutoModelForSequenceClassification
    order = np.concatenate(RewardObjective(settings, pairs, IDS["pad"], seed=0).order)
    ids = [[list(example.prompt + example.response) for example in pairs[at].examples] for at in order]
    rows = datasets.Dataset.from_dict({"chosen_ids": [one for one, _ in ids], "rejected_ids": [two for _, two in ids]})
    config = new_model(SIZE, SIZES[SIZE].vocabulary, IDS, seed=0).config
    config.num_labels = 1
    arguments = trl.RewardConfig(
        output_dir=f"{folder}/theirs", max_steps=options.warm + options.steps, max_length=None,
        per_device_train_batch_size=PAIRS_A_STEP, train_sampling_strategy="sequential", learning_rate=1e-4,
        adam_beta2=0.95, lr_scheduler_type="cosine", optim="adamw_torch_fused", bf16=precision == "bf16",
        gradient_checkpointing=False, logging_steps=10, save_strategy="no", report_to="none", disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    clock = StepClock(options.warm)
    trainer = trl.RewardTrainer(
        model=classifier.from_config(config), args=arguments, train_dataset=rows,
        processing_class=tiny_processor(), callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    counted = ids[options.warm * PAIRS_A_STEP :]
    return clock.turn(sum(len(one) + len(two) for one, two in counted))


def tiny_processor() -> PreTrainedTokenizerFast:
    """A tokenizer for a trainer that will not leave off asking for one; the rows are ids already."""
    return train_tokenizer(["a b"], SMALLEST)


if __name__ == "__main__":
    main()
