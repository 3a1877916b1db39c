"""Do group names alone raise a verdict? False positives per identity term: `python -m benchmarks.identity_gap`.

In: the madlibs templates (conversationai/unintended-ml-bias-analysis), "<name> is a <adjective> <identity>" and the
like, where the identity must not change the answer. Out: per identity term the share of harmless sentences called toxic
(Wilson intervals), its distance from the share over all terms, the largest distance between two terms; the same for
insulting sentences missed; and the sum of distances (Dixon et al., AIES 2018: "equality difference").

Every identity is measured on the same sentence frames, drawn by hash, so that frames do not make gaps of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.natural_mentions import OWN
from benchmarks.systems import DRAW_SEED, TITLES, Added, arguments, finish, seen_sets, systems_of
from classifiers.evaluate import Metric, rate
from classifiers.labelled import read_rows
from curation.seeding import unit_hash

SET = "bias_madlibs_77k"
# Where the identity stands in each template of the set; the occupation template names none.
PLACES = {
    "name_adj": re.compile(r"^.+ is an? \w+ (?P<identity>.+)$"),
    "you_are_adj": re.compile(r"^You are an? \w+ (?P<identity>.+)$"),
    "being_adj": re.compile(r"^Being (?P<identity>.+) is \w+\.$"),
    "verb_adj": re.compile(r"^\w+ (?P<identity>.+)$"),
    "am_hate_adj": re.compile(r"^i (?:am|hate) (?P<identity>.+)$"),
}
SYSTEMS = ("blocklist_any", "cascade", "document_use", "curated")
Bools = npt.NDArray[np.bool_]


def framed(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(frame, identity) of a row: its text with the identity taken out, and the identity; None without one."""
    pattern = PLACES.get(row["labels"]["template"])
    found = pattern.match(row["text"]) if pattern else None
    if found is None:
        return None
    start, end = found.span("identity")
    return f"{row['text'][:start]}_{row['text'][end:]}", found["identity"].lower()


def chosen_rows(rows: Sequence[Mapping[str, Any]], frames: int) -> list[tuple[str, Mapping[str, Any]]]:
    """(identity, row) of the first `frames` frames of each label by hash; 0: all. Fewer where a row was set apart."""
    by_label: dict[str, dict[str, list[tuple[str, Mapping[str, Any]]]]] = {}
    for row in rows:
        found = framed(row)
        if found:
            by_label.setdefault(row["label"], {}).setdefault(found[0], []).append((found[1], row))
    kept = []
    for label in sorted(by_label):
        ordered = sorted(by_label[label], key=lambda frame: unit_hash(f"{label}/{frame}", DRAW_SEED))
        kept += [pair for frame in (ordered[:frames] if frames else ordered) for pair in by_label[label][frame]]
    return kept


def gaps(wrong: Bools, identity: npt.NDArray[np.str_]) -> dict[str, Any]:
    """Shares of `wrong` per identity, over all, and the distances between them, in points."""
    terms = sorted(set(identity.tolist()))
    per_term = {term: rate(wrong[identity == term]) for term in terms}
    overall = rate(wrong)
    values = {term: share.value for term, share in per_term.items()}
    distances = {term: 100 * (value - overall.value) for term, value in values.items()}
    return {
        "overall": overall.plain(),
        "terms": {term: share.plain() for term, share in per_term.items()},
        "distance_points": {term: round(distance, 2) for term, distance in distances.items()},
        "largest_gap_points": round(100 * (max(values.values()) - min(values.values())), 2),
        "worst_over_overall_points": round(max(distances.values()), 2),
        "worst_under_overall_points": round(min(distances.values()), 2),
        "equality_difference": round(sum(abs(distance) for distance in distances.values()) / 100, 3),
        "highest": max(values, key=lambda term: values[term]),
        "lowest": min(values, key=lambda term: values[term]),
    }


def summary(results: Mapping[str, Mapping[str, Any]], kind: str) -> str:
    """One line a system."""
    titles = ("overall %", "lowest term %", "highest term %", "largest gap, points", "over / under overall, points",
              "equality difference")  # fmt: skip
    lines = ["| " + " | ".join([kind, *titles]) + " |", "|---" * (1 + len(titles)) + "|"]
    for system, found in results.items():
        low, high = (found["terms"][found[name]] for name in ("lowest", "highest"))
        lines.append(
            f"| {TITLES.get(system, system)} | {_percent(found['overall'])} | {found['lowest']} {_percent(low)} | "
            f"{found['highest']} {_percent(high)} | {found['largest_gap_points']:.1f} | "
            f"+{found['worst_over_overall_points']:.1f} / {found['worst_under_overall_points']:.1f} | "
            f"{found['equality_difference']:.2f} |"
        )
    return "\n".join(lines)


def terms_table(results: Mapping[str, Mapping[str, Any]], order: str) -> str:
    """Every identity term, the most often accused by `order` first."""
    names = list(results)
    lines = ["| identity | n | " + " | ".join(TITLES.get(name, name) for name in names) + " |"]
    lines.append("|---" * (2 + len(names)) + "|")
    listed = results[order]["terms"]
    for term in sorted(listed, key=lambda term: (-listed[term]["value"], term)):
        cells = [f"{_percent(results[n]['terms'][term])}, {results[n]['distance_points'][term]:+.1f}" for n in names]
        lines.append(f"| {term} | {int(listed[term]['rows'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(share: Mapping[str, float] | Metric) -> str:
    plain = share.plain() if isinstance(share, Metric) else share
    return f"{100 * plain['value']:.1f} ({100 * plain['low']:.1f}–{100 * plain['high']:.1f})"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--frames", type=int, default=150, help="sentence frames a label; 0: all")
    options = parser.parse_args()
    systems, added = systems_of(options), Added(options.scores)
    pairs = chosen_rows(list(read_rows(options.data / "toxicity" / f"{SET}.jsonl.zst")), options.frames)
    identity = np.array([term for term, _ in pairs])
    toxic = np.array([row["label"] == "toxic" for _, row in pairs])
    scores = systems.score([row["text"] for _, row in pairs])
    columns = added.columns(SET, [row["id"] for _, row in pairs])
    scores |= {name: column for name, column in columns.items() if not np.isnan(column).any()}
    called = {name: scores[name] >= OWN.get(name, 0.5) for name in (*SYSTEMS, *added.names) if name in scores}
    harmless = {name: gaps(flags[~toxic], identity[~toxic]) for name, flags in called.items()}
    missed = {name: gaps(~flags[toxic], identity[toxic]) for name, flags in called.items()}
    seen = SET in seen_sets(systems.settings)
    print(
        f"{len(pairs):,} sentences, {options.frames or 'all'} frames a label; in training: {'yes' if seen else 'no'}\n"
    )
    print(summary(harmless, "harmless sentences called toxic") + "\n")
    print(summary(missed, "insulting sentences missed") + "\n")
    print(terms_table(harmless, "cascade"))
    finish(options, systems, {"seen": seen, "frames": options.frames, "harmless": harmless, "missed": missed})


if __name__ == "__main__":
    main()
