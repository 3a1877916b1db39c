"""What the untouched base encoder knows of sources it never saw: `python -m benchmarks.frozen_features`.

Needs the extra `train`. A linear head over the mean of the last states of all-MiniLM-L6-v2 as published, nothing
fine-tuned, so that a source left out of the head is left out of everything. Three heads: rows weighed alike; sources
and classes weighed alike; and the sources with the highest loss weighed up round by round (group distributionally
robust optimisation, Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020).

In: the labelled sets of `benchmarks.toxicity_sources`. Out: AUROC of every source by heads that saw none of it; then,
on the sets that nothing was fitted on, the balanced head, the shipped cascade, and the mean of both logits. On rows
with a demeaning term also the mentions called use at 90 % of the uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.natural_mentions import DEMEANING, Terms
from benchmarks.systems import DATA, DRAW_SEED, F64, seen_sets, systems_of
from benchmarks.toxicity_sources import SOURCES, rows_of
from classifiers.context import Linear
from classifiers.evaluate import auroc, point_at_recall, with_interval
from classifiers.labelled import Row
from classifiers.logistic import Table, fit_logistic

ROUNDS, STEP = 3, 2.0  # of the robust head: rounds, and by how much a source's loss moves the log of its weight
MAX_PIECES = 96
BATCH_PIECES = 4096


def embed(texts: Sequence[str]) -> F64:
    """Mean of the base's last states of every text, shape (len(texts), 384)."""
    import torch

    from classifiers.encoder_net import base_folder, make_net, make_tokenizer

    folder = base_folder("minilm")
    tokenizer = make_tokenizer(folder, [])
    net = make_net(folder, tokenizer, MAX_PIECES).eval()
    ids = [[101, *c.ids[: MAX_PIECES - 2], 102] for c in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    order = sorted(range(len(ids)), key=lambda k: len(ids[k]))
    found = np.zeros((len(ids), net.base.config.hidden_size))
    begin = 0
    while begin < len(order):
        stop = begin + 1
        while stop < len(order) and (stop + 1 - begin) * len(ids[order[stop]]) <= BATCH_PIECES:
            stop += 1
        part = order[begin:stop]
        length = max(len(ids[k]) for k in part)
        padded = torch.tensor([ids[k] + [0] * (length - len(ids[k])) for k in part])
        mask = torch.tensor([[1] * len(ids[k]) + [0] * (length - len(ids[k])) for k in part])
        with torch.inference_mode():
            states = net.base(input_ids=padded, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
            found[part] = (states.sum(1) / mask.sum(1, keepdim=True)).numpy()
        begin = stop
    return found


def robust(table: Table) -> Linear:
    """The head whose sources' weights rise with their loss."""
    names = sorted(set(table.source.tolist()))
    tilt = dict.fromkeys(names, 0.0)
    base = table.weights()
    model = fit_logistic(table.x, table.y, base, 2)
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-model.logits(table.x)[:, 0]))
        loss = -np.log(np.where(table.y == 1, p, 1 - p) + 1e-9)
        losses = {n: float(np.average(loss[table.source == n], weights=base[table.source == n])) for n in names}
        middle = float(np.mean(list(losses.values())))
        tilt = {n: tilt[n] + STEP * (losses[n] - middle) for n in names}
        factor = np.array([np.exp(tilt[n]) for n in table.source.tolist()])
        model = fit_logistic(table.x, table.y, base * factor * base.sum() / (base * factor).sum(), 2)
    return model


HEADS = {
    "alike": lambda t: fit_logistic(t.x, t.y, np.ones(len(t.y)), 2),
    "balanced": lambda t: fit_logistic(t.x, t.y, t.weights(), 2),
    "robust": robust,
}


def table_of(groups: dict[str, list[Row]], vectors: F64) -> Table:
    source = np.array([name for name, rows in groups.items() for _ in rows], dtype="U64")
    y = np.array([row.toxic for rows in groups.values() for row in rows], np.int64)
    return Table(vectors, y, source, np.zeros(len(y), bool))


def left_out(table: Table) -> None:
    """Print AUROC of every source by heads fitted without it."""
    print("| source | rows | " + " | ".join(HEADS) + " |\n|---|---|" + "---|" * len(HEADS))
    means: dict[str, list[float]] = {name: [] for name in HEADS}
    for name in sorted(set(table.source.tolist())):
        mine, cells = table.source == name, []
        for head, fit in HEADS.items():
            score = fit(table.without(name)).logits(table.x[mine])[:, 0]
            found = with_interval(auroc, score, table.y[mine].astype(np.float64), DRAW_SEED)
            means[head].append(found.value)
            cells.append(str(found))
        print(f"| {name} | {int(mine.sum()):,} | " + " | ".join(cells) + " |", flush=True)
    print("| **mean** | | " + " | ".join(f"{np.mean(values):.3f}" for values in means.values()) + " |\n")


def held_out(table: Table, groups: dict[str, list[Row]], head: Linear, options: argparse.Namespace) -> None:
    """Print AUROC and mentions called use on sets nothing was fitted on: head, shipped cascade, both."""
    systems, terms = systems_of(options), Terms()
    names = ("head", "cascade", "both")
    titles = [*names, *(f"{n}: mentions called use at 90 % of uses" for n in names)]
    print("| source | rows | " + " | ".join(titles) + " |\n|---|---|" + "---|" * len(titles))
    for name, rows in groups.items():
        mine = table.source == name
        texts, y = [row.text for row in rows], table.y[mine].astype(np.float64)
        shipped = np.clip(systems.score(texts)["cascade"], 1e-4, 1 - 1e-4)
        scores = {"head": head.logits(table.x[mine])[:, 0], "cascade": np.log(shipped / (1 - shipped))}
        scores["both"] = (scores["head"] + scores["cascade"]) / 2
        holds = np.array([bool(found) for found in terms.entries(texts, DEMEANING)])
        cells: list[Any] = [with_interval(auroc, scores[n], y, DRAW_SEED) for n in names]
        for n in names:
            point = point_at_recall(scores[n][holds], y[holds], 0.9).error
            share = f"{100 * point.value:.0f} % ({100 * point.low:.0f}–{100 * point.high:.0f})" if point.rows else "–"
            cells.append(f"{share} of {point.rows}")
        print(f"| {name} | {len(rows):,} | " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--limit", type=int, default=200, help="rows a class and source")
    parser.add_argument("--scoring", default="{}", help="ScoringSettings as JSON")
    options = parser.parse_args()
    systems = systems_of(options)
    seen = seen_sets(systems.settings)
    groups = {spec.name: rows_of(spec, options.data, options.limit, held_out=False) for spec in SOURCES}
    vectors = embed([row.text for rows in groups.values() for row in rows])
    table = table_of(groups, vectors)
    known = np.isin(table.source, sorted(seen))
    learnt = Table(table.x[known], table.y[known], table.source[known], table.test[known])
    left_out(learnt)
    held_out(table, {n: rows for n, rows in groups.items() if n not in seen}, HEADS["balanced"](learnt), options)


if __name__ == "__main__":
    main()
