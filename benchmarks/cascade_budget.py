"""What the encoder's budget costs and loses on ordinary text: `python -m benchmarks.cascade_budget`.

In: every so manieth document of the corpora. Every window is read once; then the cascade is run again with the document
gate at each budget, and without it, reading the windows from a first-stage probability on. Out: for each the share of
documents and windows read, and of the documents that the second stage alone would catch (reading everything) the share
still caught; once over all corpora, and once over those that the gate did not learn from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from classifiers.base import WEIGHTS, load_card
from classifiers.cascade import Cascade
from classifiers.evaluate import rate
from classifiers.labelled import every_so_manieth
from classifiers.scoring import Scorer, ScoringSettings
from classifiers.stack_measure import Remembering

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
CATCHES = {
    "curated": lambda s: (s["context.max_use"] >= 0.7) | (s["context.document_use"] >= 0.6),
    "toxicity": lambda s: s["toxicity.toxicity"] >= 0.5,
}


class Counting(Remembering):
    """Counts what it is asked, read or remembered."""

    asked = 0

    def read(self, text: str, spans: Sequence[tuple[int, int]]) -> Any:
        self.asked += 1
        return super().read(text, spans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/corpus"))
    parser.add_argument("--step", type=int, default=60, help="every so manieth document")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = sorted(p.name for p in arguments.data.glob("*.jsonl.zst") if "other_languages" not in p.name)
    drawn = {name: every_so_manieth(arguments.data, [name], arguments.step) for name in names}
    texts = pa.array([text for name in names for text in drawn[name]], pa.string())
    card = load_card(WEIGHTS / "gate.json")
    learnt = {Path(spec["path"]).name for spec in card["sets"]}
    others = np.repeat([name not in learnt for name in names], [len(drawn[name]) for name in names])
    scorer = Scorer(ScoringSettings(gate_model="shipped"), {"toxicity", "context"})
    gate = scorer._cascade.gate
    assert gate is not None
    memory = Counting(scorer._cascade.encoder)
    whole = replace(scorer._cascade, encoder=memory, gate=None, low=0.0)
    ways: dict[str, Cascade] = {"everything": whole}
    bounds = {row["documents"]: row["from"] for row in card["budget"]["curve"]}
    bounds[card["budget"]["documents"]] = card["threshold"]
    for share, bound in sorted(bounds.items()):
        shipped = ", shipped" if bound == card["threshold"] else ""
        ways[f"gate, {100 * share:g} %{shipped}"] = replace(whole, gate=replace(gate, threshold=bound))
    ways |= {f"first stage from {level}": replace(whole, low=level) for level in LEVELS}
    rows: list[dict[str, Any]] = []
    for name, cascade in ways.items():
        scorer._cascade = cascade
        memory.asked = 0
        columns = scorer.score(texts)
        numbers = {n: np.nan_to_num(np.asarray(c, float)) for n, c in columns.items() if pa.types.is_floating(c.type)}
        caught = {catch: judge(numbers) for catch, judge in CATCHES.items()}
        if not rows:
            alone, windows = caught, memory.asked
        read = np.asarray(columns["toxicity.stage"]) != "fasttext"
        kept = {catch: rate(mask[alone[catch]]).plain() for catch, mask in caught.items()}
        kept |= {f"{catch}, others": rate(mask[alone[catch] & others]).plain() for catch, mask in caught.items()}
        rows.append({"read": name, "documents": float(read.mean()), "windows": memory.asked / windows, "kept": kept})
    print(f"{len(texts):,} documents, {others.sum():,} of corpora not learnt from; {windows:,} windows\n")
    print(f"| what is read | documents | windows | {' | '.join(f'`{name}`' for name in rows[0]['kept'])} |")
    print("|---" * (3 + len(rows[0]["kept"])) + "|")
    for row in rows:
        cells = [f"{100 * f['value']:.0f} % ({100 * f['low']:.0f}–{100 * f['high']:.0f}) of {f['rows']}"
                 for f in row["kept"].values()]  # fmt: skip
        share = f"{100 * row['documents']:.1f} % | {100 * row['windows']:.1f} %"
        print(f"| {row['read']} | {share} | {' | '.join(cells)} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
