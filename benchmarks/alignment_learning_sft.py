"""A model of a million weights learns to answer: pretraining on real text, then SFT on real instructions.

    python -m benchmarks.alignment_learning_sft --data ../shared/data

Prints held-out loss and the share of sampled answers that end, before and after SFT. A base model of this size has
never seen an answer end; after SFT more than 95 % do.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from alignment.loop import LoopSettings
from alignment.preference_rows import DemonstrationRow
from alignment.preferences import read_demonstrations
from alignment.stages.pretrain import PretrainSettings, pretrain
from alignment.stages.sft import SftSettings, sft
from alignment.tokenizer import special_ids, tokenizer_sha256, train_tokenizer
from alignment.tokens import write_tokens

INSTRUCTIONS = ("alpaca_gpt4_en", "alpaca_5000", "dolly_small", "self_instruct_user")
CORPUS = ("small_english", "reuters", "openstax", "dclm_human_quality")
DOCUMENTS = 2500  # of each corpus at most
VOCABULARY, CONTEXT = 4096, 512


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with corpus/ and alignment/")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/alignment_learning_sft"))
    parser.add_argument("--pretrain-tokens", type=int, default=600_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write every number here")
    args = parser.parse_args(argv)
    rows = list(read_demonstrations(*(args.data / f"alignment/{name}.jsonl.zst" for name in INSTRUCTIONS)))
    begun = time.monotonic()
    base = pretrained(rows, args.data, args.out, args.pretrain_tokens, args.seed)
    settings = SftSettings(
        # As nanoGPT trains small models; the default, Alpaca's 2e-5, is for models of billions of weights.
        loop=LoopSettings(learning_rate=1e-3, schedule="cosine", warmup=0.03, final=0.0, beta2=0.999, weight_decay=0.0),
        epochs=args.epochs,
        batch=32,
        held_out=0.05,
        response_tokens=384,
        prompts=200,
    )
    result = sft(settings, base["path"], rows, args.out / "sft", args.seed)
    report = {
        "pretrain": base,
        "sft": {"metrics": dict(result.metrics), "rows": dict(result.rows), "steps": result.steps,
                "tokens": result.tokens_seen, "wall_s": result.wall_s},
        "wall_s": round(time.monotonic() - begun, 1),
    }  # fmt: skip
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def pretrained(rows: Sequence[DemonstrationRow], data: Path, out: Path, budget: int, seed: int) -> dict[str, Any]:
    """A 1m model trained on `budget` tokens of real text. The instructions are only in its tokenizer."""
    texts = [text for name in CORPUS for text in islice(corpus(data / f"corpus/{name}.jsonl.zst"), DOCUMENTS)]
    tokenizer = train_tokenizer([*texts, *(row.response for row in rows)], VOCABULARY)
    tokenizer.save_pretrained(out / "tokenizer")
    order = np.random.default_rng(seed).permutation(len(texts))
    pieces = (
        np.array([*tokenizer(texts[i], split_special_tokens=True)["input_ids"], tokenizer.eos_token_id]) for i in order
    )
    tokens = write_tokens(
        out / "tokens", pieces, [], context=CONTEXT, vocabulary=len(tokenizer), ids=special_ids(tokenizer),
        facts={"tokenizer_sha256": tokenizer_sha256(tokenizer)},
    )  # fmt: skip
    result = pretrain(PretrainSettings(size="1m", tokens=budget, max_epochs=10), tokens.path, out / "base", seed)
    return {"path": result.path, "tokens": result.tokens_seen, "wall_s": result.wall_s, **result.metrics}


def corpus(path: Path) -> Iterator[str]:
    """The texts of a corpus file."""
    with path.open("rb") as raw:
        stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw)
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            yield json.loads(line)["text"]


def table(report: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    m, base, tuned = report["sft"]["metrics"], report["pretrain"], report["sft"]
    lines = [
        f"| 1m, {m['prompts']:.0f} held-out prompts | before SFT | after |",
        "|---|---|---|",
        f"| answers that end within 384 tokens | {m['eos_rate_before']:.3f} | {m['eos_rate_after']:.3f} |",
        f"| loss, nats a response token | {m['loss_before']:.3f} | {m['loss_after']:.3f} |",
        "",
        f"Pretraining: {base['tokens']:,} tokens, {base['wall_s']:.0f} s, last loss {base['loss']:.2f}.",
        f"SFT: {m['rows']:.0f} rows, {tuned['steps']} steps, {tuned['tokens']:,} tokens, {tuned['wall_s']:.0f} s.",
        f"Mean answer: {m['answer_tokens']:.0f} tokens. All in all {report['wall_s']:.0f} s.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
