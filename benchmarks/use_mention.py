"""Use against mention on natural data, source by source: `python -m benchmarks.use_mention`.

Rows whose text holds a demeaning lexicon term (slur, hate ideology; guarded homonyms aside; insults apart). Their gold
is their set's own label: hateful = the term is used, not hateful or an answer to hate = it is mentioned. That is a
proxy: a slur in a post that annotators called not hateful may still be a use (reclaimed, or missed).

Printed, with 95 % Wilson intervals:
1. every system's own verdict: uses found, mentions called use;
2. operating points: mentions called use where 90, 80, 70 % of the uses are found, and uses found where 12 % of the
   mentions are called use, with a threshold for each source and with one threshold for all of them;
3. the same for rows that hold insults only; 4. topical documents against intent; 5. replies and the posts they answer
   (after Gligorić et al. 2024); 6. every HateCheck functionality.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.natural_mentions import (
    APART,
    DEMEANING,
    INSULTS,
    MENTION,
    OWN,
    USE,
    Part,
    Terms,
    load_parts,
    set_path,
    threshold,
)
from benchmarks.systems import F64, TITLES, Added, Systems, arguments, finish, systems_of
from classifiers.evaluate import Metric, OperatingPoint, point_at_error, point_at_recall, rate
from classifiers.labelled import dotted, read_rows

RECALLS = (0.9, 0.8, 0.7)
# GPT-4's average error on use against mention: Gligorić et al., NAACL 2024 (arXiv 2404.01651), Table 2, hate subtask.
ERROR = 0.12
LIMIT = 2000  # rows of one label drawn by hash; 0 for all
SYSTEMS = tuple(OWN)
TOPICAL = ("topical/ttp_eval_40", "topical/havoc")
PAIRED = ("counterspeech/yu_2022", "counterspeech/gpt4o_labels", "counterspeech/dynacounter",
          "counterspeech/turing_footballers")  # fmt: skip


def percent(metric: Metric) -> str:
    """`23 (20–26)`, or a dash where there is nothing to count."""
    if not metric.rows:
        return "–"
    return f"{100 * metric.value:.0f} ({100 * metric.low:.0f}–{100 * metric.high:.0f})"


def own_verdicts(parts: Sequence[Part], names: Sequence[str]) -> str:
    """Uses found / mentions called use by each system's verdict; labels measured apart on lines of their own."""
    lines = [_header(("source", "training", "rows use / mention"), [f"{TITLES.get(s, s)}" for s in names])]
    for part in parts:
        cells = []
        for system in names:
            point = part.called(system)
            cells.append(f"{percent(point.recall)} / {percent(point.error)}")
        counts = f"{int((part.gold == USE).sum())} / {int((part.gold == MENTION).sum())}"
        lines.append(_line((part.name, _training(part), counts), cells))
        for label in sorted({at for at, gold in zip(part.label, part.gold, strict=True) if gold == APART}):
            mine = np.array(part.label) == label
            cells = [percent(rate(part.scores[s][mine] >= threshold(s))) for s in names]
            lines.append(_line((f"{part.name}: {label}", "apart", f"{int(mine.sum())}"), cells))
    for title, chosen in (("held out", [p for p in parts if not p.seen]), ("all", list(parts))):
        means = [f"**{_mean([p.called(s).recall for p in chosen])} / {_mean([p.called(s).error for p in chosen])}**"
                 for s in names]  # fmt: skip
        lines.append(_line((f"**mean of sources, {title}**", "", f"{len(chosen)} sources"), means))
    return "\n".join(lines)


def _mean(metrics: Sequence[Metric]) -> str:
    """The mean of those that counted anything, in percent."""
    values = [metric.value for metric in metrics if metric.rows]
    return f"{100 * np.mean(values):.0f}" if values else "–"


def _training(part: Part) -> str:
    return "seen" if part.seen else "held out"


def _header(left: Sequence[str], right: Sequence[str]) -> str:
    return _line(left, right) + "\n" + "|---" * (len(left) + len(right)) + "|"


def _line(left: Sequence[str], right: Sequence[str]) -> str:
    return "| " + " | ".join([*left, *right]) + " |"


def both(parts: Sequence[Part]) -> list[Part]:
    """The sources that hold uses and mentions."""
    return [part for part in parts if (part.gold == USE).any() and (part.gold == MENTION).any()]


def per_source(parts: Sequence[Part], system: str) -> dict[str, dict[str, OperatingPoint]]:
    """Each source's own operating points: source → `recall 0.9` … and `error 0.12` → point."""
    found = {}
    for part in both(parts):
        score, gold = part.judged(system)
        if not len(gold):
            continue
        points = {f"recall {recall}": point_at_recall(score, gold, recall) for recall in RECALLS}
        found[part.name] = {**points, f"error {ERROR}": point_at_error(score, gold, ERROR)}
    return found


def one_threshold(parts: Sequence[Part], system: str) -> dict[str, tuple[float, float, float]]:
    """(threshold, mean recall, mean error) over the sources, each counting once: the highest threshold that finds
    0.9, 0.8, 0.7 of the uses on average, and the lowest that calls at most ERROR of the mentions use on average.

    Mentions of sources without uses count for the mean error too.
    """
    known = [part.judged(system) for part in parts]
    candidates = np.unique(np.concatenate([score for score, _ in known]))[::-1]
    recall = _mean_called([score[gold == USE] for score, gold in known if (gold == USE).any()], candidates)
    error = _mean_called([score[gold == MENTION] for score, gold in known if (gold == MENTION).any()], candidates)
    found = {}
    for goal in RECALLS:
        at = int(np.argmax(recall >= goal - 1e-9))
        found[f"recall {goal}"] = (float(candidates[at]), float(recall[at]), float(error[at]))
    good = np.flatnonzero(error <= ERROR + 1e-9)
    if len(good):
        found[f"error {ERROR}"] = (float(candidates[good[-1]]), float(recall[good[-1]]), float(error[good[-1]]))
    else:
        found[f"error {ERROR}"] = (float("inf"), 0.0, 0.0)
    return found


def _mean_called(groups: Sequence[F64], thresholds: F64) -> F64:
    """Mean over groups of the share at or above each threshold."""
    shares = [1 - np.searchsorted(np.sort(group), thresholds, side="left") / len(group) for group in groups]
    return np.asarray(np.mean(shares, axis=0))


def curves(parts: Sequence[Part], names: Sequence[str]) -> str:
    """Operating points: a block a system, a line a source; then one threshold for all."""
    goals = [*(f"recall {recall}" for recall in RECALLS), f"error {ERROR}"]
    titles = [*(f"mentions called use at {r:.0%} of uses" for r in RECALLS), f"uses found at {ERROR:.0%} of mentions"]
    lines = [_header(("system", "source", "training"), titles)]
    for system in names:
        found = per_source(parts, system)
        for part in [part for part in both(parts) if part.name in found]:
            points = found[part.name]
            cells = [percent(points[g].error if g.startswith("recall") else points[g].recall) for g in goals]
            lines.append(_line((TITLES.get(system, system), part.name, _training(part)), cells))
        values = [
            np.mean([(p[g].error if g.startswith("recall") else p[g].recall).value for p in found.values()])
            for g in goals
        ]
        lines.append(
            _line((TITLES.get(system, system), "**mean, own thresholds**", ""), [f"**{100 * v:.0f}**" for v in values])
        )
        for kind, chosen in (("all", list(parts)), ("held out", [part for part in parts if not part.seen])):
            one = one_threshold(chosen, system)
            cells = [f"**{100 * one[g][2 if g.startswith('recall') else 1]:.0f}** (at {one[g][0]:.2f})" for g in goals]
            lines.append(
                _line((TITLES.get(system, system), f"**one threshold, {kind}**", f"{len(chosen)} sources"), cells)
            )
    return "\n".join(lines)


def topical(systems: Systems, added: Added, options: argparse.Namespace) -> tuple[str, list[dict[str, Any]]]:
    """Documents about a harm against documents with intent: intent found / topical called intent, in percent."""
    lines: list[str] = []
    results = []
    for name in TOPICAL:
        rows = list(read_rows(set_path(options.data, name)))
        scores = systems.score([f"{row['text']} {row.get('suffix', '')}".strip() for row in rows])
        scores |= _whole(added, name.split("/")[1], rows)
        names = [system for system in (*SYSTEMS, *added.names) if system in scores]
        if not lines or len(names) > len(SYSTEMS):
            lines.append(_header(("set", "harm", "intent / topical / none"), [TITLES.get(s, s) for s in names]))
        for harm in ("label", "labels.hate_violence", "labels.ideological"):
            labels = np.array([str(dotted(row, harm)).lower() for row in rows])
            cells, found = [], {}
            for system in names:
                called = scores[system] >= threshold(system)
                shares = {kind: rate(called[labels == kind]) for kind in ("intent", "topical", "none")}
                cells.append(f"{percent(shares['intent'])} / {percent(shares['topical'])}")
                found[system] = {kind: share.plain() for kind, share in shares.items()}
                known = np.isin(labels, ("intent", "topical"))
                gold = (labels[known] == "intent").astype(np.float64)
                found[system]["at_intent_0.71"] = point_at_recall(scores[system][known], gold, 0.71).plain()
            counts = " / ".join(str(int((labels == kind).sum())) for kind in ("intent", "topical", "none"))
            lines.append(
                _line((name.split("/")[1], harm.removeprefix("labels.").replace("label", "any"), counts), cells)
            )
            results.append({"set": name, "harm": harm, "systems": found})
    return "\n".join(lines), results


def pairs(systems: Systems, options: argparse.Namespace, terms: Terms) -> tuple[str, list[dict[str, Any]]]:
    """Replies that answer hate with its own words, and the posts they answer.

    After Gligorić et al. 2024, who pair a hateful post with the reply that quotes it. Here: replies labelled
    counterspeech that repeat a term (slur, hate ideology, insult) of the post they answer. The post's own label is not
    known, only that somebody answered it as hate, so `posts called use` is not a recall against gold.
    """
    lines = [_header(("set", "pairs"), [TITLES[s] for s in SYSTEMS])]
    results: list[dict[str, Any]] = []
    replies_of, posts_of = [], []
    for name in PAIRED:
        rows = [
            r for r in read_rows(set_path(options.data, name)) if r["label"] == "counterspeech" and r.get("context")
        ]
        categories = (*DEMEANING, *INSULTS)
        mine = terms.entries([row["text"] for row in rows], categories)
        theirs = terms.entries([row["context"] for row in rows], categories)
        kept = [row for row, a, b in zip(rows, mine, theirs, strict=True) if a & b]
        if not kept:
            continue
        replies_of.append(systems.score([row["text"] for row in kept]))
        posts_of.append(systems.score([row["context"] for row in kept]))
        _pair_line(lines, results, name.split("/")[1], replies_of[-1], posts_of[-1])
    pooled = [{s: np.concatenate([part[s] for part in parts]) for s in SYSTEMS} for parts in (replies_of, posts_of)]
    _pair_line(lines, results, "all", *pooled)
    return "\n".join(lines), results


def _pair_line(
    lines: list[str], results: list[dict[str, Any]], name: str, replies: Mapping[str, F64], posts: Mapping[str, F64]
) -> None:
    cells, found = [], {}
    for system in SYSTEMS:
        flagged, called = rate(replies[system] >= threshold(system)), rate(posts[system] >= threshold(system))
        cells.append(f"{percent(flagged)} / {percent(called)} / {50 * (flagged.value + 1 - called.value):.0f}")
        found[system] = {"replies_called_use": flagged.plain(), "posts_called_use": called.plain()}
    lines.append(_line((name, str(len(replies[SYSTEMS[0]]))), cells))
    results.append({"set": name, "systems": found})


def _whole(added: Added, source: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, F64]:
    """The added columns that have a score of every row."""
    columns = added.columns(source, [row["id"] for row in rows])
    return {name: column for name, column in columns.items() if not np.isnan(column).any()}


def hatecheck(systems: Systems, added: Added, options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Accuracy of every verdict on every functionality, and over the hateful and the other cases."""
    rows = list(read_rows(set_path(options.data, "toxicity/hatecheck")))
    scores = {**systems.score([row["text"] for row in rows]), **_whole(added, "hatecheck", rows)}
    names = [system for system in (*SYSTEMS, *added.names) if system in scores]
    hateful = np.array([row["label"] == "toxic" for row in rows])
    kind = np.array([row["labels"]["functionality"] for row in rows])
    lines = [_header(("functionality", "hateful", "cases"), [TITLES.get(s, s) for s in names])]
    found: dict[str, Any] = {}
    groups = [(name, kind == name) for name in sorted(set(kind.tolist()), key=lambda n: (n.endswith("_nh"), n))]
    for name, mine in [*groups, ("all hateful", hateful), ("all others", ~hateful)]:
        right = {s: rate((scores[s] >= threshold(s))[mine] == hateful[mine]) for s in names}
        lines.append(_line((name, "yes" if hateful[mine].all() else "no", str(int(mine.sum()))),
                           [percent(right[s]) for s in names]))  # fmt: skip
        found[name] = {system: share.plain() for system, share in right.items()}
    return "\n".join(lines), found


def _plain(parts: Sequence[Part], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for part in parts:
        verdicts = {system: part.called(system).plain() for system in names}
        yield {"source": part.name, "seen": part.seen, "use": int((part.gold == USE).sum()),
               "mention": int((part.gold == MENTION).sum()), "verdicts": verdicts}  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--limit", type=int, default=LIMIT, help="rows a source and label; 0: all")
    parser.add_argument("--rows", choices=("held-out", "all"), default="all", help="of sets that a model was fitted on")
    options = parser.parse_args()
    systems, added, terms = systems_of(options), Added(options.scores), Terms()
    names = (*SYSTEMS, *added.names)
    demeaning, insults = load_parts(systems, added, options, terms)
    results: dict[str, Any] = {"lexicon": terms.lexicon.resource(), "limit": options.limit, "rows": options.rows}
    print(f"Rows of sets in training: {options.rows}; at most {options.limit or 'all'} a label.")
    for title, parts in (("Demeaning terms", demeaning), ("Insults alone", insults)):
        print(f"\n### {title}: own verdicts, uses found / mentions called use, %\n\n{own_verdicts(parts, names)}")
        print(f"\n### {title}: operating points, %\n\n{curves(parts, names)}")
        results[title] = {
            "sources": list(_plain(parts, names)),
            "points": {s: {n: {g: p.plain() for g, p in q.items()} for n, q in per_source(parts, s).items()}
                       for s in names},
            "one_threshold": {s: one_threshold(parts, s) for s in names},
            "one_threshold_held_out": {s: one_threshold([p for p in parts if not p.seen], s) for s in names},
        }  # fmt: skip
    text, results["topical"] = topical(systems, added, options)
    print(f"\n### Documents: intent found / topical called intent, %\n\n{text}")
    text, results["pairs"] = pairs(systems, options, terms)
    print(f"\n### Replies repeating a term: replies called use / posts called use / average error, %\n\n{text}")
    text, results["hatecheck"] = hatecheck(systems, added, options)
    print(f"\n### HateCheck: cases judged right, %\n\n{text}")
    finish(options, systems, results)


if __name__ == "__main__":
    main()
