"""What the classifiers cost, in processor time of one thread: `python -m benchmarks.classifier_cost`.

Printed: MB/s of the first stage and of the matchers, mentions/s of the context stage, the share of documents and
windows of the corpus that a second stage reads, and the FLOPs of the filter per token against pretraining a model of
1e9 parameters on the same tokens. Best of several passes over the same texts. Process time counts every thread, so a
stage that uses more than one core is not flattered; OMP_NUM_THREADS=1 keeps idle ones from spinning.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.systems import BATCH, DRAW_SEED, FIRST_STAGES, Systems, arguments, finish, systems_of
from classifiers.cascade import holding, run_cascade
from classifiers.context import demeaning_entries
from classifiers.labelled import read_rows
from classifiers.scoring import Scorer
from classifiers.tokens import tokenize
from classifiers.windows import cut, row_top_mean
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.seeding import unit_hash

PASSES = 3
SPEED_FILE = "reddit"  # the corpus file whose posts are timed
SPEED_DOCUMENTS = 20_000
# FLOPs of training a dense transformer: 6 per parameter and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
PARAMETERS = 1_000_000_000
TRAINING_FLOPS = 6 * PARAMETERS
# all-MiniLM-L6-v2 (config.json of the model): layers, width, inner width.
LAYERS, WIDTH, INNER = 6, 384, 1536
WINDOW_PIECES = 128  # word pieces a window is taken to have: attention grows with it
PIECES_PER_TOKEN = 1.3  # word pieces of MiniLM's vocabulary per word of English web text, rounded up
# What the first stage does with one token: two hashes over its ~5 bytes (xor and multiply), one word and one bigram
# value added, twice over for windows and for sentences. An upper bound.
FIRST_STAGE_FLOPS = 60


def encoder_flops(pieces: int) -> float:
    """FLOPs of the encoder per word piece in a window of `pieces`: 2 per weight, and attention over the window.

    Per layer 4·d² + 2·d·f weights, and 2·2·pieces·d for the scores and their use (Kaplan et al. 2020, table 1).
    """
    weights = 4 * WIDTH * WIDTH + 2 * WIDTH * INNER
    return LAYERS * (2.0 * weights + 4.0 * pieces * WIDTH)


def best(work: Callable[[], object]) -> float:
    """Least process time in seconds of PASSES calls, after one that compiles and warms up."""
    work()
    times = []
    for _ in range(PASSES):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def batches(texts: Sequence[str]) -> list[pa.Array]:
    return [pa.array(texts[at : at + BATCH], pa.string()) for at in range(0, len(texts), BATCH)]


def speeds(systems: Systems, texts: Sequence[str]) -> dict[str, Any]:
    """Seconds of process time and MB/s of every part over the same texts."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    parts = batches(texts)
    english, blocklist = (
        Matcher(load_lexicon("english")),
        Matcher(load_lexicon("ldnoobw").only(("en",)), fold_disguises=False),
    )

    def first_stage() -> None:
        for part in parts:
            tokens = tokenize(TextBatch(part))
            windows = cut(tokens, systems.settings.windows)
            row_top_mean(systems.first.probabilities(tokens, windows), windows.bounds, systems.settings.top_share)

    def scoring(*filters: str) -> Callable[[], object]:
        scorer = Scorer(systems.settings, filters)
        return lambda: [scorer.score(part) for part in parts]

    work: dict[str, Callable[[], object]] = {
        "first stage: tokens, windows, fastText": first_stage,
        "matcher: typed lexicon, disguises undone": lambda: [english.find(TextBatch(part)) for part in parts],
        "matcher: LDNOOBW, English": lambda: [blocklist.find(TextBatch(part)) for part in parts],
        "scorer: toxicity": scoring("toxicity"),
        "scorer: context (with its toxicity)": scoring("context"),
        "scorer: all four filters": scoring("blocklist", "toxicity", "sentence", "context"),
    }
    found = {name: best(function) for name, function in work.items()}
    return {
        "megabytes": size,
        "documents": len(texts),
        "seconds": found,
        "mb_per_second": {name: size / seconds for name, seconds in found.items()},
    }


def mention_speed(systems: Systems, options: argparse.Namespace, seconds: dict[str, float]) -> dict[str, float]:
    """Mentions judged per second: on posts that all hold a demeaning term, where the context stage has most to do."""
    rows = read_rows(options.data / "toxicity" / "hatexplain.jsonl.zst")
    texts = [row["text"] for row in rows if row["labels"]["class"] == "hatespeech"][:2000]
    context = Scorer(systems.settings, ("context",))
    parts = batches(texts)
    mentions = sum(
        len(judged or ()) for part in parts for judged in context.score(part)["context.mentions"].to_pylist()
    )
    whole = best(lambda: [context.score(part) for part in parts])
    return {
        "documents": len(texts),
        "mentions": mentions,
        "mentions_per_second": mentions / whole,
    }


def corpus_texts(folder: Path, per_file: int) -> Iterable[tuple[str, list[str]]]:
    """Every file of the corpus and at most `per_file` of its texts, drawn by hash of the row number."""
    for path in sorted(folder.glob("*.jsonl.zst")):
        texts = [row["text"] for row in read_rows(path) if isinstance(row.get("text"), str) and row["text"].strip()]
        order = sorted(range(len(texts)), key=lambda at: unit_hash(f"{path.name}/{at}", DRAW_SEED))
        yield path.name.split(".")[0], [texts[at] for at in sorted(order[:per_file])]


COUNTED = ("documents", "documents_asked", "documents_with_term", "windows", "windows_asked", "documents_read",
           "tokens_asked", "tokens")  # fmt: skip


def asked_share(systems: Systems, folder: Path, per_file: int) -> list[dict[str, Any]]:
    """Per corpus file: documents and windows that the cascade reads, and those that hold a term.

    `asked` is what the cascade reads; `read` is what the scorer's own stage column says, other languages left out.
    """
    lexicon = load_lexicon(systems.settings.lexicon)
    matcher = Matcher(lexicon)
    demeaning = demeaning_entries(lexicon.entries, frozenset(systems.settings.demeaning))
    rows = []
    for name, texts in corpus_texts(folder, per_file):
        counts = np.zeros(8)
        for part in batches(texts):
            batch = TextBatch(part)
            tokens = tokenize(batch)
            windows = cut(tokens, systems.settings.windows)
            hits = matcher.find(batch)
            named = demeaning[hits.entry] & ~hits.guarded
            holds = holding(hits, named, tokens, windows)
            asked = run_cascade(batch, tokens, windows, systems.scorer._cascade, hits, named).reading.asked
            stage = systems.scorer.score(part)["toxicity.stage"].fill_null("").to_pylist()
            size = windows.last - windows.first
            counts += (
                len(batch), len(np.unique(windows.row[asked])), len(np.unique(windows.row[holds])), len(windows),
                asked.sum(), sum(s not in FIRST_STAGES for s in stage), size[asked].sum(), size.sum(),
            )  # fmt: skip
        rows.append({"file": name, **dict(zip(COUNTED, counts.astype(int).tolist(), strict=True))})
    return rows


def report(found: dict[str, Any]) -> None:
    speed = found["speed"]
    print(f"{speed['documents']:,} posts, {speed['megabytes']:.1f} MB\n\n| part | MB/s/core |\n|---|---|")
    for name, value in speed["mb_per_second"].items():
        print(f"| {name} | {value:.0f} |")
    mention = found["mentions"]
    print(f"\n{mention['mentions']:,} mentions in {mention['documents']:,} hateful posts: "
          f"{mention['mentions_per_second']:,.0f} a second and core, everything they need included\n")  # fmt: skip
    print("| corpus file | documents | asked % | hold a term % | windows asked % | tokens asked % | documents read % |")
    print("|---|---|---|---|---|---|---|")
    for row in [*found["corpus"], found["corpus_all"]]:
        n, windows = row["documents"], row["windows"]
        print(f"| {row['file']} | {n:,} | {100 * row['documents_asked'] / n:.1f} | "
              f"{100 * row['documents_with_term'] / n:.1f} | {100 * row['windows_asked'] / windows:.1f} | "
              f"{100 * row['tokens_asked'] / row['tokens']:.1f} | {100 * row['documents_read'] / n:.1f} |")  # fmt: skip
    flops = found["flops"]
    print(f"\nFLOPs per token: first stage and matcher at most {flops['first_stage']:,.0f}; encoder "
          f"{flops['encoder_per_token']:,.0f} on the {100 * flops['share']:.1f} % of tokens it is asked about = "
          f"{flops['encoder']:,.0f}; together {flops['filter']:,.0f} = {flops['percent_of_training']:.3f} % of "
          f"6 x {PARAMETERS:,} ({flops['percent_if_all']:.3f} % if the encoder read every token)")  # fmt: skip


def flops_sum(share: float) -> dict[str, float]:
    """FLOPs per corpus token of the filter, and in percent of training; `share` of the tokens meet the encoder."""
    encoder = PIECES_PER_TOKEN * encoder_flops(WINDOW_PIECES)
    whole = FIRST_STAGE_FLOPS + share * encoder
    return {
        "first_stage": FIRST_STAGE_FLOPS,
        "encoder_per_token": encoder,
        "share": share,
        "encoder": share * encoder,
        "filter": whole,
        "percent_of_training": 100 * whole / TRAINING_FLOPS,
        "percent_if_all": 100 * (FIRST_STAGE_FLOPS + encoder) / TRAINING_FLOPS,
    }


def total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The files together, every drawn document counting once."""
    return {"file": "**all files drawn**", **{key: sum(row[key] for row in rows) for key in COUNTED}}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--documents", type=int, default=SPEED_DOCUMENTS, help="posts whose scoring is timed")
    parser.add_argument("--per-file", type=int, default=1000, help="documents of each corpus file")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    systems = systems_of(options)
    rows = read_rows(options.data / "corpus" / f"{SPEED_FILE}.jsonl.zst")
    texts = [row["text"] for _, row in zip(range(options.documents), rows, strict=False)]
    found: dict[str, Any] = {"speed": speeds(systems, texts)}
    found["mentions"] = mention_speed(systems, options, found["speed"]["seconds"])
    found["corpus"] = asked_share(systems, options.data / "corpus", options.per_file)
    found["corpus_all"] = total(found["corpus"])
    found["flops"] = flops_sum(found["corpus_all"]["tokens_asked"] / found["corpus_all"]["tokens"])
    report(found)
    finish(options, systems, found)


if __name__ == "__main__":
    main()
