"""Whether ordinary posts that lean to African-American English, learnt as free of hate, close the dialect gap.

    headwater fit examples/fit_context.yaml            # leaves the folds' models that this reads
    python -m benchmarks.dialect_negatives examples/fit_context.yaml

The layers are fitted twice over the same encoders: as shipped, and with AAE-leaning posts of the clean sets beyond what
any model learnt from, without demeaning terms, each counted `WEIGHT` times. No model reads the dialect; it only learns
from more of it. Then both score all corpora but those posts. Out: removal by `curated` of AAE-leaning and White-aligned
documents at several bounds, the ratio, and hateful documents found on held-out rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from classifiers.context import ContextModel, ContextReader, demeaning_entries
from classifiers.encoder_data import labelled_rows
from classifiers.encoder_job import EncoderJob, job_texts
from classifiers.fit_context import Stack, context_card, fit_stack, layer_metrics
from classifiers.labelled import read_rows
from classifiers.scoring import Scorer, ScoringSettings
from classifiers.stack_examples import FINAL, TEXTS_PER_SET, StackExample, stack_examples
from classifiers.stack_measure import DEMEANING, load_stages, read_all
from curation.config import load_job_file
from curation.dialect import dialect_groups, topic_shares
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.settings import parse

PER_SET, WEIGHT = 1_500, 3
BOUNDS = (0.5, 0.6, 0.7, 0.8)  # of `max_document_use`; 0.6 is shipped
CHUNK = 4_000


def leaning_documents(job: EncoderJob) -> list[StackExample]:
    """AAE-leaning posts that no encoder and no layer has taken."""
    matcher = Matcher(load_lexicon("english"))
    demeaning = demeaning_entries(matcher.lexicon.entries, DEMEANING)
    found: list[StackExample] = []
    for spec in job.sets:
        if not spec.clean or spec.limit is None:
            continue
        whole = spec.model_copy(update={"limit": None})
        rows = list(labelled_rows(whole, Path(job.data), job.seed))[spec.limit + TEXTS_PER_SET :]
        batch = TextBatch.of([row.text for row in rows])
        hits = matcher.find(batch)
        demeans = np.bincount(hits.row[demeaning[hits.entry] & ~hits.guarded], minlength=len(rows)) > 0
        leaning = dialect_groups(*topic_shares(batch)).aae_leaning & ~demeans
        for index in np.flatnonzero(leaning)[:PER_SET].tolist():
            row, name = rows[index], f"leaning/{spec.name}"
            found += [StackExample(row.text, float("nan"), 0.0, name, f"{name}/{row.group}", FINAL, True)] * WEIGHT
    return found


def removals(job: EncoderJob, cards: Sequence[Path], left_out: set[str]) -> None:
    """Print the table of each card over all corpora."""
    folder = Path(job.output)
    shipped = {name: str(folder / f"{name}.json") for name in ("toxicity", "encoder")}
    settings = ScoringSettings(toxicity_model=shipped["toxicity"], encoder_model=shipped["encoder"])
    scorer = Scorer(settings, {"context"})
    lexicon = load_lexicon("english")
    reader = ContextReader(lexicon, frozenset(settings.demeaning))
    models = [ContextModel(card, reader) for card in cards]
    paths = sorted(p for p in (Path(job.data) / "corpus").glob("*.jsonl.zst") if "other_languages" not in p.name)
    texts = [text for p in paths for row in read_rows(p) if (text := str(row["text"])) not in left_out]
    shares, counts = [], []
    scores: list[list[np.ndarray]] = [[] for _ in models]
    for begin in range(0, len(texts), CHUNK):
        part = texts[begin : begin + CHUNK]
        share, count = topic_shares(TextBatch.of(part))
        shares.append(share)
        counts.append(count)
        for at, model in enumerate(models):
            scorer._context = model
            columns = scorer.score(pa.array(part))
            named = ("context.max_use", "context.document_use")
            scores[at].append(np.stack([np.nan_to_num(np.asarray(columns[n], float)) for n in named], axis=1))
    groups = dialect_groups(np.concatenate(shares), np.concatenate(counts))
    print(
        f"{len(texts):,} documents; {groups.aae_leaning.sum():,} lean to AAE, {groups.wae.sum():,} are White-aligned\n"
    )
    print("| layers | bound | all removed | AAE-leaning | White-aligned | ratio |")
    print("|---|---|---|---|---|---|")
    for name, parts in zip(("as shipped", "with AAE-leaning posts"), scores, strict=True):
        use, document = np.concatenate(parts).T
        for bound in BOUNDS:
            gone = (use >= 0.7) | (document >= bound)
            aae, wae = gone[groups.aae_leaning].mean(), gone[groups.wae].mean()
            cells = f"{100 * gone.mean():.2f} % | {100 * aae:.2f} % | {100 * wae:.2f} % | {aae / wae:.1f}"
            print(f"| {name} | {bound} | {cells} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    arguments = parser.parse_args()
    job = parse(EncoderJob, load_job_file(arguments.job, "fit"), arguments.job, "this job")
    texts = job_texts(job)
    examples, more = stack_examples(job, texts), leaning_documents(job)
    stages = load_stages(job, texts, sorted({e.fold for e in examples}))
    stacks: list[Stack] = []
    with tempfile.TemporaryDirectory() as folder:
        cards = []
        for name, given in (("plain", examples), ("leaning", [*examples, *more])):
            stack = fit_stack(read_all(given, stages, job), job.seed)
            stacks.append(stack)
            cards.append(Path(folder) / f"{name}.json")
            cards[-1].write_text(json.dumps(context_card(job, stack)), encoding="utf-8")
        print(f"{len(more) // WEIGHT:,} AAE-leaning posts, each {WEIGHT} times")
        for name, stack in zip(("as shipped", "with them"), stacks, strict=True):
            found = layer_metrics(stack.document, stacks[0].document_table)
            print(f"{name}: AUROC of held-out documents {found['auroc']}; {found['natural']}")
        removals(job, cards, {example.text for example in more})


if __name__ == "__main__":
    main()
