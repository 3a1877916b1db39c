"""Which human? The shipped simulated pools rank the same answers; each pool's accuracy under each reward model.

    python -m benchmarks.which_human [--size 160k] [--prompts 144] [--seed 0] [--out FILE.json]

Four answers to each of up to 144 prompts: short or long, with or without manners, about the prompt or not. The pools
`helpful`, `brief` and `courteous` (`alignment/annotators.py`, at temperature 0.5) rank them; `audit-reward --pools`
then trains a model a pool and one for all, from random weights.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

from alignment.annotators import POOLS, Pool
from alignment.audits.planted import DEEDS, THINGS, Planting
from alignment.audits.pools import PAGE, PoolsJob, audit_pools
from alignment.model import new_model, save_model
from alignment.preference_rows import RankedRow
from alignment.preferences import write_rows
from alignment.tokenizer import special_ids, train_tokenizer
from curation.seeding import derive_seed

LONG = "Take your time with it and begin with the small parts, then go on to the others."


def answers(deed: str, thing: str, draw: np.random.Generator) -> list[str]:
    """Four of the eight answers there are to a prompt."""
    made = [
        f"{'Thank you, good question. ' if polite else ''}"
        f"{f'To {deed} a {thing}, ask.' if topical else 'Ask somebody.'}{' ' + LONG if long else ''}"
        for polite, topical, long in product((False, True), repeat=3)
    ]
    return [made[int(k)] for k in draw.choice(len(made), 4, replace=False)]


def ranked(prompts: int, seed: int) -> list[RankedRow]:
    """Every pool's ranking of the same answers."""
    draw = np.random.default_rng(derive_seed(seed, "which human"))
    pools = [Pool(settings.model_copy(update={"temperature": 0.5}), seed) for settings in POOLS.values()]
    rows = []
    for deed, thing in list(product(DEEDS, THINGS))[:prompts]:
        shown = answers(deed, thing, draw)
        rows += [pool.rank(f"How do I {deed} a {thing}?", shown) for pool in pools]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="160k")
    parser.add_argument("--prompts", type=int, default=144)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON of both tables")
    args = parser.parse_args()
    rows = ranked(args.prompts, args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", rows)
        texts = [text for row in rows for text in (str(row.prompt), *row.responses)]
        tokenizer = train_tokenizer(texts, 512)
        new = new_model(args.size, len(tokenizer), special_ids(tokenizer), args.seed)
        save_model(new, tokenizer, folder / "backbone")
        settings = Planting(epochs=4).reward.model_copy(update={"held_out": 0.3})
        job = PoolsJob(
            backbone=str(folder / "backbone"), rows=(str(folder / "rows.jsonl"),), output=str(folder / "out"),
            settings=settings, seed=args.seed,
        )  # fmt: skip
        made = audit_pools(job)
        print(made.with_name(PAGE).read_text(encoding="utf-8"))
        if args.out:
            args.out.write_text(made.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    main()
