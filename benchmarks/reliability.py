"""Do the probabilities mean what they say? `python -m benchmarks.reliability`.

In: the labelled sets, rows drawn by hash in their natural shares, because calibration depends on them. Out: expected
calibration error (15 bins of equal width) per source of the toxicity score, of P(use) on rows that hold a demeaning
term, and of P(hateful) of a document; and docs/results/reliability.svg: what was stated against what came true (10
bins, 95 % Wilson intervals), and what each system's threshold buys on use against mention.

The rows of the plot are pooled with equal numbers a source; of sets in training, only the tenth that `fit` holds out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.natural_mentions import APART, DEMEANING, MENTION, NATURAL, USE, Part, Terms, load_parts
from benchmarks.svg import Panel, page
from benchmarks.systems import (
    DRAW_SEED,
    F64,
    REPO,
    SPLIT_SEED,
    TITLES,
    Added,
    Systems,
    arguments,
    finish,
    seen_sets,
    systems_of,
)
from benchmarks.toxicity_sources import SOURCES
from benchmarks.use_mention import both
from classifiers.calibration import expected_calibration_error
from classifiers.evaluate import reliability
from classifiers.labelled import Row, load_set

COLOURS = ("#246", "#c63", "#2a7", "#849", "#666")
CURVES = ("cascade", "max_use", "document_use", "curated")
POOL = 2000  # rows of a source that count in the pooled plot, so that none rules by its size


def toxicity_rows(systems: Systems, data: Path, limit: int) -> list[tuple[str, bool, F64, dict[str, F64]]]:
    """(source, seen, toxic, scores) of every set with both labels; `limit` rows in their natural shares."""
    seen = seen_sets(systems.settings)
    found = []
    for spec in SOURCES:
        rows = [row for row in load_set(spec, data, DRAW_SEED) if spec.name not in seen or _held_out(row)]
        rows = rows[:limit]  # load_set gives them in hash order
        toxic = np.array([row.toxic for row in rows], np.float64)
        found.append((spec.name, spec.name in seen, toxic, systems.score([row.text for row in rows])))
    return found


def _held_out(row: Row) -> bool:
    return row.split(SPLIT_SEED) == "test"


def mention_rows(part: Part) -> tuple[F64, F64]:
    """P(use) and gold of one source's rows with a demeaning term."""
    known = part.gold != APART
    return part.scores["max_use"][known], (part.gold[known] == USE).astype(np.float64)


def usable(probability: F64) -> F64:
    """The scores that are there, as probabilities; those above 1 would be none."""
    return np.clip(probability[~np.isnan(probability)], 0, 1)


def pooled(groups: Sequence[tuple[F64, F64]]) -> tuple[F64, F64]:
    """Scores and labels together, at most POOL rows a group."""
    return tuple(np.concatenate([group[at][:POOL] for group in groups]) for at in (0, 1))  # type: ignore[return-value]


def summary(name: str, seen: bool, probability: F64, positive: F64) -> dict[str, Any]:
    return {
        "source": name, "seen": seen, "rows": len(positive), "positive": float(positive.mean()),
        "stated": float(probability.mean()), "ece": expected_calibration_error(probability, positive),
    }  # fmt: skip


def diagram(panel: Panel, title: str, groups: Sequence[tuple[str, F64, F64]]) -> list[str]:
    """One reliability diagram: a curve a group, with the diagonal that a calibrated score would follow."""
    parts = [*panel.frame(title, "stated probability", "share that was positive"),
             panel.line([(0, 0), (1, 1)], "#bbb", "4")]  # fmt: skip
    for row, ((label, probability, positive), colour) in enumerate(zip(groups, COLOURS, strict=False)):
        if not len(positive):
            continue
        bins = reliability(probability, positive)
        parts.append(panel.line([(b.stated, b.observed.value) for b in bins], colour))
        for one in bins:
            parts += panel.mark((one.stated, one.observed.value), one.observed.low, one.observed.high, colour)
        error = expected_calibration_error(probability, positive)
        parts.append(panel.label(row, f"{label}: ECE {error:.3f}, n {len(positive):,}", colour))
    return parts


def trade(panel: Panel, parts: Sequence[Part]) -> list[str]:
    """Uses found against mentions called use, mean over the sources held out that hold both, one threshold for all."""
    chosen = [part for part in both(parts) if not part.seen]
    drawn = panel.frame("use against mention, held-out sources", "mentions called use", "uses found")
    for row, (system, colour) in enumerate(zip(CURVES, COLOURS, strict=False)):
        thresholds = np.quantile(np.concatenate([part.scores[system] for part in chosen]), np.linspace(1, 0, 60))
        points = []
        for threshold in thresholds:
            share = [[float((part.scores[system][part.gold == kind] >= threshold).mean()) for part in chosen]
                     for kind in (MENTION, USE)]  # fmt: skip
            points.append((float(np.mean(share[0])), float(np.mean(share[1]))))
        drawn += [panel.line(points, colour), panel.label(row, TITLES[system], colour)]
    # The target: at most 12 % of mentions called use where 90 % of the uses are found.
    drawn += panel.mark((0.12, 0.9), 0.9, 0.9, "#c33", 4)
    return drawn


def table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    titles = ("source", "training", "rows", "positive %", "stated %", "ECE")
    lines = [f"### {title}", "", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        lines.append(f"| {row['source']} | {'seen' if row['seen'] else 'held out'} | {row['rows']:,} | "
                     f"{100 * row['positive']:.0f} | {100 * row['stated']:.0f} | {row['ece']:.3f} |")  # fmt: skip
    for label, seen in (("held out", False), ("seen, rows held out", True)):
        mine = [row["ece"] for row in rows if row["seen"] is seen]
        if mine:
            lines.append(f"| **mean, {label}** | | {len(mine)} sources | | | {np.mean(mine):.3f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=int, default=POOL, help="rows of each set")
    parser.add_argument("--svg", type=Path, default=REPO / "docs" / "results" / "reliability.svg")
    options = parser.parse_args()
    options.rows = "held-out"
    systems = systems_of(options)
    toxicity = toxicity_rows(systems, options.data, options.limit)
    mentions, _ = load_parts(systems, Added(()), options, Terms())
    results: dict[str, list[dict[str, Any]]] = {}
    groups: dict[str, dict[bool, list[tuple[F64, F64]]]] = {}
    for title, column in (("Toxicity score", "cascade"), ("P(hateful) of a document", "document_use")):
        groups[title] = {False: [], True: []}
        results[title] = []
        for name, seen, toxic, scores in toxicity:
            kept = ~np.isnan(scores[column])
            groups[title][seen].append((usable(scores[column]), toxic[kept]))
            results[title].append(summary(name, seen, *groups[title][seen][-1]))
    title = "P(use) of a demeaning term"
    groups[title], results[title] = {False: [], True: []}, []
    for part in mentions:
        probability, use = mention_rows(part)
        if len(use):
            groups[title][part.seen].append((probability, use))
            results[title].append(summary(part.name, part.seen, probability, use))
    for name, rows in results.items():
        print(table(name, rows))
    panels = [Panel(60 + 370 * column, 40 + 390 * row, 290) for row in (0, 1) for column in (0, 1)]
    drawn: list[str] = []
    for panel, (name, split) in zip(panels, groups.items(), strict=False):
        named = [(label, *pooled(split[seen])) for label, seen in (("held-out sources", False), ("seen sources", True))]
        drawn += diagram(panel, name, named)
    drawn += trade(panels[3], mentions)
    options.svg.write_text(page(760, 790, drawn), encoding="utf-8")
    finish(options, systems, {"limit": options.limit, "sources": len(NATURAL), "terms": DEMEANING, "ece": results})


if __name__ == "__main__":
    main()
