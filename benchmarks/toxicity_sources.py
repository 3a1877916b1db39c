"""How well each system ranks toxic above clean, source by source: `python -m benchmarks.toxicity_sources`.

    --scores NAME=FILE.jsonl   adds a column of scores made elsewhere, e.g. out-of-fold scores of models fitted without
                               the source: lines {"id", "score"} and, where ids clash between sets, "source"
    --rows held-out|all        for sets in a model card's training data: only the tenth that `fit` holds out (the
                               default), or all rows (which flatters what was fitted on them, not the scores added)

    --subject NAME             the column set against all others: `cascade`, or one that was added

In: the labelled sets. Out: a table of AUROC, one of recall at 5 % false positives, one of what the subject gains over
each other column (paired bootstrap), all with 95 % intervals; everything as JSON with --json. At most --limit rows a
class and set are used, drawn by hash: neither measure depends on the share of toxic rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems import DRAW_SEED, F64, SPLIT_SEED, TITLES, Added, arguments, finish, seen_sets, systems_of
from classifiers.evaluate import Metric, auroc, interval, recall_at_fpr, resampled
from classifiers.labelled import LabelledSet, Row, load_set
from curation.errors import ConfigError, unknown_name

FPR = 0.05
BASELINES = ("blocklist_any", "blocklist_hits", "surge_severity", "fasttext", "sentence_max")
SHOWN = (*BASELINES, "cascade", "document_use")
TOXIC, CLEAN = ("toxic",), ("non_toxic",)


def _set(path: str, toxic: tuple[str, ...] = TOXIC, clean: tuple[str, ...] = CLEAN, **more: Any) -> LabelledSet:
    return LabelledSet(path=f"{path}.jsonl.zst", licence="measured only", toxic=toxic, clean=clean, **more)


REPLIES: tuple[tuple[str, ...], tuple[str, ...]] = (("hate",), ("other", "counterspeech"))
SOURCES = (
    _set("toxicity/davidson"),
    _set("toxicity/gab_hate_corpus"),
    _set("toxicity/cad"),
    _set("toxicity/implicit_hate"),
    _set("toxicity/hatemoji_build", group="labels.matched_id"),
    _set("toxicity/hatecheck", group="labels.templ_id"),
    _set("toxicity/toxigen_sentences"),
    _set("toxicity/bias_madlibs_77k"),
    _set("toxicity/paradetox", clean_text="labels.neutral"),
    _set("toxicity/context_toxicity"),
    _set("toxicity/jigsaw_samples"),
    _set("toxicity/hateval"),
    _set("toxicity/olid_offensive"),
    _set("toxicity/stormfront"),
    _set("toxicity/hatexplain"),
    _set("counterspeech/yu_2022", *REPLIES),
    _set("counterspeech/gpt4o_labels", *REPLIES),
    _set("toxicity/unhealthy_conversations", ("unhealthy",), ("healthy",)),
)


@dataclass
class Found:
    """One source: what it is, and each system's measures with their resamples."""

    source: str
    seen: bool
    training: str  # what of the source was learnt from, in words
    rows: int
    toxic: int
    auroc: dict[str, Metric] = field(default_factory=dict)
    recall: dict[str, Metric] = field(default_factory=dict)
    gain: dict[str, Metric] = field(default_factory=dict)  # AUROC of the subject minus that of the system
    second_stage: float = 0.0  # share of texts that a second stage read


def rows_of(spec: LabelledSet, data: Path, limit: int, held_out: bool) -> list[Row]:
    """Rows of one set, at most `limit` a class (0: all), drawn by hash; `held_out`: only the test tenth of `fit`."""
    rows = [row for row in load_set(spec, data, DRAW_SEED) if not held_out or row.split(SPLIT_SEED) == "test"]
    if not limit:
        return rows
    return [row for toxic in (True, False) for row in [r for r in rows if r.toxic == toxic][:limit]]


def measure(found: Found, columns: Mapping[str, F64], toxic: F64, subject: str) -> None:
    """Fill in every system's measures; a column is measured, and set against `subject`, where both have a score."""
    has_subject = not np.isnan(columns[subject]).all()
    for name, score in columns.items():
        usable = ~np.isnan(score) & (~np.isnan(columns[subject]) | (not has_subject))
        if not usable.any():
            continue
        mine, truth = score[usable], toxic[usable]
        draws = resampled(auroc, mine, truth, DRAW_SEED)
        found.auroc[name] = interval(auroc(mine, truth), draws, len(truth))
        found.recall[name] = interval(
            recall_at_fpr(mine, truth, FPR), resampled(_recall, mine, truth, DRAW_SEED), len(truth)
        )
        if name != subject and has_subject:
            ours = columns[subject][usable]
            gained = auroc(ours, truth) - auroc(mine, truth)
            found.gain[name] = interval(gained, resampled(auroc, ours, truth, DRAW_SEED) - draws, len(truth))


def _recall(score: F64, toxic: F64) -> float:
    return recall_at_fpr(score, toxic, FPR)


def table(found: Sequence[Found], names: Sequence[str], kind: str) -> str:
    """Markdown: a line a source, a column a system, and the mean over the sources held out and over all."""
    titles = [TITLES.get(name, name) for name in names]
    lines = ["| source | training | toxic / rows | " + " | ".join(titles) + " |", "|---" * (3 + len(names)) + "|"]
    for one in found:
        cells = [_cell(getattr(one, kind).get(name)) for name in names]
        kept = one.training
        lines.append(f"| {one.source} | {kept} | {one.toxic:,} / {one.rows:,} | " + " | ".join(cells) + " |")
    for title, chosen in (("held out", [f for f in found if not f.seen]), ("all", list(found))):
        means = []
        for name in names:
            values = [getattr(one, kind)[name].value for one in chosen if name in getattr(one, kind)]
            fewer = f" of {len(values)}" if len(values) < len(chosen) else ""
            means.append(f"{np.mean(values):.3f}{fewer}" if values else "–")
        lines.append(f"| **mean of sources, {title}** | | {len(chosen)} sources | " + " | ".join(means) + " |")
    return "\n".join(lines)


def _cell(metric: Metric | None) -> str:
    return f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})" if metric else "–"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", choices=("held-out", "all"), default="held-out")
    parser.add_argument("--limit", type=int, default=2000, help="rows a class and source; 0: all")
    parser.add_argument("--subject", default="cascade", metavar="NAME", help="the column set against all others")
    options = parser.parse_args()
    added = Added(options.scores)
    if options.subject not in (*SHOWN, *added.names):
        raise ConfigError(unknown_name("column", options.subject, {*SHOWN, *added.names}, "--subject"))
    systems = systems_of(options)
    seen = seen_sets(systems.settings)
    results = []
    for spec in SOURCES:
        rows = rows_of(spec, options.data, options.limit, options.rows == "held-out" and spec.name in seen)
        toxic = np.array([row.toxic for row in rows], np.float64)
        columns = systems.score([row.text for row in rows])
        training = "held out" if spec.name not in seen else "seen" if options.rows == "all" else "seen (test tenth)"
        found = Found(spec.name, spec.name in seen, training, len(rows), int(toxic.sum()))
        found.second_stage = float(columns["second_stage"].mean())
        chosen = {name: columns[name] for name in SHOWN}
        measure(found, {**chosen, **added.columns(spec.name, [row.id for row in rows])}, toxic, options.subject)
        results.append(found)
    report(options, results, [*SHOWN, *added.names])
    finish(
        options,
        systems,
        {
            "rows": options.rows,
            "limit": options.limit,
            "subject": options.subject,
            "sources": [_plain(f) for f in results],
        },
    )


def report(options: argparse.Namespace, results: Sequence[Found], names: Sequence[str]) -> None:
    print(f"Rows: {options.rows}; at most {options.limit or 'all'} a class.\n\n### AUROC\n")
    print(table(results, names, "auroc"))
    print(f"\n### Recall at {100 * FPR:.0f} % false positives\n")
    print(table(results, names, "recall"))
    print(f"\n### AUROC of `{options.subject}` minus that of each other system, same rows\n")
    print(table(results, [name for name in names if name != options.subject], "gain"))


def _plain(found: Found) -> dict[str, Any]:
    measures = {kind: {n: m.plain() for n, m in getattr(found, kind).items()} for kind in ("auroc", "recall", "gain")}
    whole = {"source": found.source, "seen": found.seen, "rows": found.rows, "toxic": found.toxic}
    return {**whole, "second_stage": found.second_stage, **measures}


if __name__ == "__main__":
    main()
