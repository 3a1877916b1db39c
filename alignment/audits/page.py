"""The audit card as one page: nothing is fetched, nothing runs, all that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from alignment.calibration_plot import Bin, PairReport, reliability_svg
from alignment.page_parts import document, interval, number, section, table
from alignment.report_figures import curves

PROXY, GOLD = "proxy", "gold"


def page(card: Mapping[str, Any]) -> str:
    """The HTML of a card."""
    model = escape(str(card["settings"]["model"]))
    sections = [
        _swaps(card["swaps"]),
        _accuracy(card["accuracy"]),
        _calibration(card["calibration"]),
        _words(card["words"]),
        _curve(card["over_optimisation"]),
        _hashes(card),
    ]
    foot = f'Headwater {escape(str(card["headwater"]))}, seal <span class="hash">{escape(str(card["seal"]))}</span>'
    return document(f"Audit of {card['settings']['model']}", "Audit of a reward model", model, sections, foot)


def _absent(title: str, what: str) -> str:
    return section(title, f"Not measured: {what}.", "")


def _swaps(rows: Sequence[Mapping[str, Any]]) -> str:
    note = (
        "Reward of the second version minus that of the first, in standard deviations of rewards within a prompt, with "
        "95 % intervals over prompts. Flips: the share of choices between a response and another one to its prompt "
        "that change with the version."
    )
    cells = [
        (
            str(row["swap"]),
            f"{row['first']} → {row['second']}",
            str(row["responses"]),
            str(row["prompts"]),
            number(row["effect"], sign=True),
            interval(row["low"], row["high"], sign=True),
            number(row["flip_rate"]),
            interval(row["flip_low"], row["flip_high"]),
        )
        for row in rows
    ]
    head = ("attribute", "versions", "responses", "prompts", "effect", "95 %", "flips", "95 %")
    return section("Swaps", note, table(head, cells, 2))


def _accuracy(rows: Sequence[Mapping[str, Any]] | None) -> str:
    title = "Accuracy by group"
    if rows is None:
        return _absent(title, "the job gives no comparisons (`rows`)")
    note = "Share of pairs in which the preferred response has the higher reward; 95 % intervals over prompts."
    cells = [
        (
            str(row["by"]),
            str(row["group"]),
            str(row["pairs"]),
            str(row["prompts"]),
            number(row["accuracy"]),
            interval(row["low"], row["high"]),
        )
        for row in rows
    ]
    return section(title, note, table(("by", "group", "pairs", "prompts", "accuracy", "95 %"), cells, 2))


def _calibration(plain: Mapping[str, Any] | None) -> str:
    title = "Calibration"
    if plain is None:
        return _absent(title, "the job gives no comparisons (`rows`)")
    report = PairReport(**{**plain, "bins": tuple(Bin(**one) for one in plain["bins"])})
    note = "How often the model is right when it says how sure it is, on all pairs of the job."
    return section(title, note, f'<figure style="max-width:420px">{reliability_svg(report, "Reward model")}</figure>')


def _words(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    note = "Rewards of one-word responses, mean over the prompts of the job."
    parts = [
        f"<div><h3>{name.capitalize()}</h3>"
        + table(("word", "reward"), [(str(one["word"]), number(one["reward"], sign=True)) for one in found[name]], 1)
        + "</div>"
        for name in ("best", "worst")
    ]
    return section("Best and worst words", note, f'<div class="pair">{"".join(parts)}</div>')


def _curve(points: Sequence[Mapping[str, Any]] | None) -> str:
    title = "Over-optimisation"
    if not points:
        return _absent(title, "the job gives no candidates, or no prompt has two")
    note = (
        "The best of n responses by this model (proxy), judged by the second judge (gold), in standard deviations of "
        "candidates. Distance is ln n − (n − 1)/n nats. Gold that falls while proxy rises is over-optimisation."
    )
    lines: dict[str, list[list[tuple[float, float, float, float]]]] = {PROXY: [[]], GOLD: [[]]}
    cells = []
    for one in points:
        gold, low, high = one["gold"], one["gold_low"], one["gold_high"]
        lines[PROXY][0].append((one["kl"], one["proxy"], one["proxy"], one["proxy"]))
        lines[GOLD][0].append((one["kl"], gold, gold if low is None else low, gold if high is None else high))
        cells.append(
            (
                str(one["n"]),
                number(one["kl"]),
                number(one["proxy"], sign=True),
                number(gold, sign=True),
                interval(low, high, sign=True),
            )
        )
    figure = curves(lines, "nats from the policy", "proxy and gold over distance", (PROXY, GOLD))
    body = f"<figure>{figure}</figure>" + table(("n", "nats", "proxy", "gold", "95 %"), cells, 0)
    return section(title, note, body)


def _hashes(card: Mapping[str, Any]) -> str:
    rows = [(name, str(value)) for name, value in sorted(card["sha256"].items())]
    rows += [
        (f"{name}: {fate}", str(count))
        for name in ("lines", "texts_scored")
        for fate, count in sorted(card["counts"][name].items())
    ]
    note = "sha256 of what was audited; `headwater audit-reward --verify card.json` computes them anew."
    return section("What was audited", note, table(("what", "value"), rows, 2))
