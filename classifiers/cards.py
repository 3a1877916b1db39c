"""Card JSON → the model card a person reads, beside the weights. Generated, never edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def toxicity_card(card: Mapping[str, Any]) -> str:
    """Markdown card of the toxicity model."""
    metrics = card["metrics"]
    ((name, sha256),) = card["files"].items()
    lines = [
        "# Model card: toxicity (first stage of the cascade)",
        "",
        "A fastText classifier over words and bigrams of lower-cased tokens, scored per window of at most 60 tokens,",
        "calibrated by isotonic regression on a held-out tenth. A document's score is the mean of its worst fifth of",
        "windows. Written by `headwater fit examples/fit_toxicity.yaml`; the file is the same byte for byte each time.",
        "",
        f"- file: `{name}`, {card['bytes']:,} bytes, sha256 `{sha256}`",
        f"- rows: {card['rows']['toxic']:,} toxic, {card['rows']['clean']:,} clean; seed {card['seed']}",
        f"- training settings: {card['settings']}",
        f"- unsure band for a second stage: {card['band'][0]} to {card['band'][1]}",
        f"- threshold that 1 % of held-out ordinary web text exceeds: {card['threshold']}",
        f"- held-out ordinary web text at or above 0.5: {100 * metrics['web_above_half']:.1f} %",
        f"- expected calibration error of windows on the test split (15 bins): {metrics['ece_windows']}",
        "- weights: Apache-2.0, like the project",
        "",
        "## Data",
        "| set | licence |",
        "|---|---|",
        *(f"| `{spec['path']}` | {spec['licence']} |" for spec in card["sets"]),
        "",
        "## Held-out results (test tenth of each set; 95 % bootstrap intervals)",
        "| set | rows | toxic | AUROC | AUPRC | recall at 5 % false positives |",
        "|---|---|---|---|---|---|",
        _row("all sets", metrics["all"]),
        *(_row(name, found) for name, found in metrics["sets"].items()),
        "",
        "## Sources never seen in training",
        "| set | rows | toxic | AUROC | AUPRC | recall at 5 % false positives |",
        "|---|---|---|---|---|---|",
        *(_row(name, found) for name, found in metrics["unseen"].items()),
        "",
        "## Known failures",
        "- A bag of words and bigrams: it cannot tell use from mention, which is the context model's work.",
        "- Implicit hate without marked words, negated hate and emoji substitution are found little better than by",
        "  chance (`hatecheck`, `hatemoji_build` above).",
        "- Labels of Davidson et al. follow a hate-word crawl of African-American Twitter; the score is higher on that",
        "  dialect than on others. Do not use it alone to drop documents.",
        "- English only.",
        "",
    ]
    return "\n".join(lines)


def _row(name: str, found: Mapping[str, Any]) -> str:
    def interval(metric: Mapping[str, float]) -> str:
        return f"{metric['value']:.3f} ({metric['low']:.3f}–{metric['high']:.3f})"

    return (
        f"| {name} | {found['auroc']['rows']:,} | {100 * found['toxic_share']:.0f} % | {interval(found['auroc'])} |"
        f" {interval(found['auprc'])} | {found['recall_at_5_percent_fpr']:.2f} |"
    )


def context_card(card: Mapping[str, Any]) -> str:
    """Markdown card of the context model."""
    metrics = card["metrics"]
    use, document = metrics["use"], metrics["document"]

    lines = [
        "# Model card: context (role of every mention, and of the document)",
        "",
        "Three linear models over named features: P(use) of a mention, which kind of mention it is otherwise, and",
        "whether the document as a whole speaks hatefully. Weights are plain JSON. Written by `headwater fit",
        "examples/fit_context.yaml` from the sets below (toxicity scores come from a model of other rows) and from the",
        "templates in `classifiers/context_examples.py`; a fifth of the rows, and a fifth of the terms, is held out.",
        "",
        f"- rows: {card['rows']['mentions']:,} labelled mentions, {card['rows']['documents']:,} documents",
        f"- seed {card['seed']}",
        f"- P(use) of a mention, held out: AUROC {_area(use)}",
        f"- P(hateful) of a document, held out: AUROC {_area(document)}",
        f"- kind of mention, accuracy on held-out terms: {metrics['kind_accuracy']['value']:.2f} (templates: too easy)",
        f"- abstains (`uncertain`) between {card['abstain'][0]} and {card['abstain'][1]}",
        "- weights: Apache-2.0, like the project",
        "",
        "## The trade, natural rows only (mean over sources that hold both labels)",
        "| threshold | uses found | mentions called use | hateful documents found | others called hateful |",
        "|---|---|---|---|---|",
        *(
            f"| {a['threshold']} | {100 * a['use_recall']:.0f} % | {100 * a['mention_called_use']:.0f} % |"
            f" {100 * b['use_recall']:.0f} % | {100 * b['mention_called_use']:.0f} % |"
            for a, b in zip(use["natural"], document["natural"], strict=True)
        ),
        "",
        "## Mentions called use at 0.5, by source and true label (95 % Wilson intervals)",
        *_called(use),
        "",
        "## Documents called hateful at 0.5, by source and true label",
        *_called(document),
        "",
        "## Data",
        "| set | licence |",
        "|---|---|",
        *(f"| `{spec['path']}` | {spec['licence']} |" for spec in card["sets"]),
        "| templates | written for this project |",
        "",
        "## Known failures",
        "- Linear over cue counts: irony, negation at a distance and quotation without any frame are read as use.",
        "- Roles other than use are learnt from templates; `reclaimed` in particular is a guess.",
        "- English only. Rows labelled by a language model (`gpt4o_labels`) carry its mistakes.",
        "",
    ]
    return "\n".join(lines)


def _area(found: Mapping[str, Any]) -> str:
    metric = found["auroc"]
    return f"{metric['value']:.3f} ({metric['low']:.3f}–{metric['high']:.3f}), ECE {found['ece']:.3f}"


def _called(found: Mapping[str, Any]) -> list[str]:
    return [
        "| source | n | called use |",
        "|---|---|---|",
        *(
            f"| {name} | {m['rows']:,} | {100 * m['value']:.0f} % ({100 * m['low']:.0f}–{100 * m['high']:.0f}) |"
            for name, m in found["called_use"].items()
        ),
    ]
