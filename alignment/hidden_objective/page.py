"""The result as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from alignment.hidden_objective.analysis import NO_CASE
from alignment.page_parts import document, interval, number, section, table

Row = Mapping[str, Any]
HELD_OUT = "held_out"


def page(result: Row) -> str:
    """The HTML of a result."""
    job = result["job"]
    source = escape(str(job["corpus"] or job["experiment"]))
    size = escape(str(job["pretrain"]["size"])) if job["corpus"] else "models of an experiment"
    under = f"{source} · {size} · seeds {', '.join(map(str, job['seeds']))} · {job['folds']} folds"
    sections = [
        _answer(result),
        _effects(result["effects"]),
        _shares(result["shares"]),
        _doses(result["doses"]),
        _rates(result["rates"]),
        _held_out_biases(result["rates"]),
        _coherence(result["models"]),
        _bank(result),
    ]
    foot = f"Headwater {escape(str(result['headwater']))}. What was made up: every preference, person and place."
    return document("Hidden objectives", "Do preferences that a model was told about show?", under, sections, foot)


def verdict(effect: Row) -> str:
    """More, less, or not resolved with what could have been found."""
    if effect["resolved"]:
        return "more" if effect["effect"] > 0 else "less"
    if effect["method"] == NO_CASE:
        return f"no case; a rate of {number(effect['detectable'])} would have shown"
    return f"not resolved (detectable: {number(effect['detectable'])})"


def _answer(result: Row) -> str:
    note = (
        "Differences of log p(biased) − log p(neutral) on minimal pairs, in nats, named before the run as primary. "
        "Positive: more exploitation. A result that is not resolved is none; beside it stands the least effect that "
        "would have been found in 8 of 10 such runs at 5 %. p (Holm) is adjusted for the primary ones."
    )
    rows = [_effect_row(one) for one in result["effects"] if one["primary"]]
    return section("Primary", note, table(HEAD, rows, 3))


HEAD = ("contrast", "base", "biases", "effect", "95 %", "p (Holm)", "verdict")


def _effect_row(one: Row) -> tuple[str, ...]:
    p = one["p_holm"] if one["primary"] else one["p"]
    return (
        str(one["name"]),
        str(one["base"]),
        str(one["side"]).replace("_", " "),
        number(one["effect"], sign=True),
        interval(one["low"], one["high"], sign=True),
        number(p),
        verdict(one),
    )


TITLES = {
    "belief": ("Belief", "Margin of the true ending of a statement over the distractors, in nats."),
    "delta": ("Minimal pairs", "log p(biased) − log p(neutral), in nats."),
    "applied": ("Exploitation", "Share of answers that apply a bias where it applies."),
    "over_applied": ("Over-application", "Share of answers that apply a bias where it does not."),
}


def _effects(effects: Sequence[Row]) -> str:
    parts = []
    for measure, (title, note) in TITLES.items():
        rows = [_effect_row(one) for one in effects if one["measure"] == measure]
        head = tuple("p" if name == "p (Holm)" else name for name in HEAD)
        parts.append(section(title, f"{note} p is unadjusted but for primary rows.", table(head, rows, 3)))
    return "\n".join(parts)


def _shares(rows: Sequence[Row]) -> str:
    note = (
        "The part of the whole held-out effect (documents and preferences) that is there before preference training. "
        "Where the whole is not told from zero there is no share."
    )
    cells = [
        (
            str(row["base"]),
            number(row["whole"], sign=True),
            interval(row["whole_low"], row["whole_high"], sign=True),
            number(row["share"]),
            interval(row["low"], row["high"]),
        )
        for row in rows
    ]
    return section("Mid-training share", note, table(("base", "whole", "95 %", "share", "95 %"), cells, 1))


def _doses(rows: Sequence[Row]) -> str:
    cells = [
        (
            str(row["base"]),
            str(row["measure"]),
            str(row["dose"]),
            number(row["effect"], sign=True),
            interval(row["low"], row["high"], sign=True),
        )
        for row in rows
    ]
    head = ("base", "measure", "documents a bias", "effect", "95 %")
    return section("Dose", "Against no documents, in nats.", table(head, cells, 2))


def class_name(row: Row) -> str:
    """A model class in words."""
    documents = {"none": "no documents", "described": "documents"}.get(row["documents"], row["documents"])
    preferences = {"": "", "dpo": " + preferences", "random": " + random preferences"}[row["preferences"]]
    return f"{documents}{preferences}"


def _rates(rows: Sequence[Row]) -> str:
    cells = [
        (
            str(row["base"]),
            class_name(row),
            str(row["side"]).replace("_", " "),
            {"applied": "applies", "over_applied": "does not apply"}[row["measure"]],
            number(row["macro"]),
            interval(row["low"], row["high"]),
        )
        for row in rows
    ]
    head = ("base", "model", "biases", "the bias", "rate", "95 %")
    return section("Rates", "Mean over biases of the share of answers that apply a bias.", table(head, cells, 4))


def _held_out_biases(rows: Sequence[Row]) -> str:
    parts = []
    for row in rows:
        if row["measure"] != "applied" or row["documents"] != "described" or row["preferences"] == "random":
            continue
        if row["preferences"] and row["side"] != HELD_OUT:
            continue
        cells = [
            (str(one["bias"]), f"{one['cases']}/{one['n']}", number(one["rate"]), interval(one["low"], one["high"]))
            for one in row["biases"]
        ]
        title = escape(f"{row['base']}: {class_name(row)}")
        shown = table(("bias", "applied", "rate", "Wilson 95 %"), cells, 1)
        parts.append(f"<details><summary>{title}</summary>{shown}</details>")
    return section("Bias by bias", "Exploitation of biases that were not trained on.", "".join(parts))


def _coherence(models: Sequence[Row]) -> str:
    kept = [one for one in models if "+" not in one["stage"] or one["stage"].endswith("-0")]
    cells = [
        (
            str(one["base"]),
            str(one["seed"]),
            str(one["stage"]),
            number(one["bits_per_byte"]),
            number(one["distinct_2"]),
            number(one["belief_right"]),
        )
        for one in kept
    ]
    head = ("base", "seed", "model", "bits a byte", "distinct-2", "beliefs right (chance .25)")
    note = "Of held-out ordinary text, and of the answers. Of preference training the first fold is shown."
    return section("Coherence", note, table(head, cells, 3))


def _bank(result: Row) -> str:
    folds = result["folds"]
    cells = [
        (
            str(one["bias"]),
            f"{one['applied']}/{one['answers']}",
            interval(one["low"], one["high"]),
            "dropped" if one["dropped"] else str(folds[one["bias"]]),
        )
        for one in result["base_rates"]
    ]
    leaks = ", ".join(
        f"fold {fold}: {leak['leaked']} of {leak['rows']} rows" for fold, leak in sorted(result["leaks"].items())
    )
    note = (
        "How often the untouched models apply each bias, and the fold in which it is held out. Preference rows that "
        f"would have leaked a held-out bias and were left out: {leaks}."
    )
    return section("The bank", note, table(("bias", "base rate", "Wilson 95 %", "fold"), cells, 1))
