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


def encoder_card(card: Mapping[str, Any]) -> str:
    """Markdown card of the encoder and of the cascade's budget."""
    model, tokenizer = card["model"], card["tokenizer"]
    systems = {"first": "first stage", "encoder": "encoder", "read_everything": "both, all read", "cascade": "cascade"}
    lines = [
        "# Model card: encoder (second stage of the cascade, reader of mentions)",
        "",
        "all-MiniLM-L6-v2 (Apache-2.0; hub revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41), fine-tuned with three",
        "text heads (toxic, hate, counter-speech) and a role head for mentions, exported to ONNX with int8 weights.",
        "Written by `headwater fit examples/fit_context.yaml`; deterministic on one kind of processor.",
        "",
        f"- files: `{model}` sha256 `{card['files'][model]}`; `{tokenizer}` sha256 `{card['files'][tokenizer]}`",
        f"- training: {card['training']}; seed {card['seed']}",
        (
            f"- P(toxic) of a window that was read: logistic in {', '.join(card['mix']['columns'])} with weights"
            f" {card['mix']['weight']} and bias {card['mix']['bias']}"
        ),
        (
            f"- without the document gate a window is read from a first-stage probability of {card['low']}, or with a"
            f" demeaning term in it: at most {100 * card['budget']['documents']:.0f} % of ordinary documents"
        ),
        f"- weights: {card.get('terms', 'Apache-2.0, like the project')}",
        *(f"- {note}" for note in card.get("notes", ())),
        "",
        "## What a budget buys: share of ordinary text read, by first-stage probability",
        "| read from | documents | windows |",
        "|---|---|---|",
        *(
            f"| {row['from']} | {100 * row['documents']:.1f} % | {100 * row['windows']:.1f} % |"
            for row in card["budget"]["curve"]
        ),
        "",
        "## Sources never seen: AUROC by models that learnt from none of the source's fold (95 % bootstrap intervals)",
        "| source | rows | " + " | ".join(systems.values()) + " |",
        "|---|---|" + "---|" * len(systems),
        *(
            f"| {name} | {found['first']['rows']:,} | "
            + " | ".join(f"{found[s]['value']:.3f} ({found[s]['low']:.3f}–{found[s]['high']:.3f})" for s in systems)
            + " |"
            for name, found in card["unseen_sources"].items()
        ),
        f"| **mean** | | {' | '.join(_mean(card['unseen_sources'], s) for s in systems)} |",
        "",
        "## Data",
        *_data(card),
        "",
        "## Known failures",
        "- English only. Texts are read 60 words at a time: irony, and hate that only the thread explains, are missed.",
        "- Sets disagree about what is toxic; a source with its own idea of it is ranked worse than the mean.",
        "- Rows labelled by a language model (`gpt4o_labels`) carry its mistakes.",
        "- The int8 answers differ in late digits between processor families; decisions at a threshold may flip there.",
        "",
    ]
    return "\n".join(lines)


def _mean(found: Mapping[str, Any], system: str) -> str:
    values = [row[system]["value"] for row in found.values()]
    return f"{sum(values) / max(len(values), 1):.3f}"


def _data(card: Mapping[str, Any]) -> list[str]:
    return [
        "| set | licence |",
        "|---|---|",
        *(f"| `{spec['path']}` | {spec['licence']} |" for spec in card["sets"]),
        "| `classifiers/examples` | written for this project |",
    ]


def context_card(card: Mapping[str, Any]) -> str:
    """Markdown card of the context layers."""
    metrics = card["metrics"]
    use, document = metrics["use"], metrics["document"]
    lines = [
        "# Model card: context (role of every mention, and of the document)",
        "",
        "Three logistic layers over named features and the encoder's answers: P(use) of a mention, which kind of",
        "mention it is otherwise, and whether the document as a whole speaks hatefully. Weights are plain JSON. Fitted",
        "by `headwater fit examples/fit_context.yaml` on answers about sources that the answering models never saw; a",
        "fifth of the rows is held out.",
        "",
        f"- rows: {card['rows']['mentions']:,} labelled mentions, {card['rows']['documents']:,} documents",
        f"- seed {card['seed']}",
        f"- P(use) of a mention, held out: AUROC {_area(use)}",
        f"- P(hateful) of a document, held out: AUROC {_area(document)}",
        f"- kind of mention, accuracy on written frames no model learnt from: {metrics['kind_accuracy']['value']:.2f}",
        f"- abstains (`uncertain`) between {card['abstain'][0]} and {card['abstain'][1]}",
        f"- weights: {card.get('terms', 'Apache-2.0, like the project')}",
        *(f"- {note}" for note in card.get("notes", ())),
        "",
        "## Each source left out, of encoder and layer: mentions",
        *_left_out(use),
        "",
        "## Each source left out, of encoder and layer: documents",
        *_left_out(document),
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
        *_data(card),
        "",
        "## Known failures",
        "- Natural sets label texts, not mentions: a slur in a hateful text counts as use even where it is quoted.",
        "- The kinds of mention are learnt from written examples; `reclaimed` in particular is a guess.",
        "- English only.",
        "",
    ]
    return "\n".join(lines)


def gate_card(card: Mapping[str, Any]) -> str:
    """Markdown card of the document gate."""

    def share(metric: Mapping[str, float]) -> str:
        return f"{100 * metric['value']:.0f} % ({100 * metric['low']:.0f}–{100 * metric['high']:.0f})"

    lines = [
        "# Model card: gate (which documents the encoder reads)",
        "",
        f"One logistic layer over {len(card['gate']['features'])} named features: the first stage's highest windows,",
        "listed terms and cues, and how suspicious the windows are that name a group, hold a term that attacks, or",
        "address a reader. Weights are plain JSON. Fitted by `headwater fit examples/fit_gate.yaml` on ordinary text",
        "that was read whole, to find the documents in which a reading finds something.",
        "",
        f"- reads at most {card['windows']} windows of a document from log-odds of {card['threshold']} on, and every",
        f"  document with a demeaning term: {100 * card['budget']['documents']:.1f} % of ordinary documents",
        f"- belongs to the first stage of sha256 `{card['first_stage']}`",
        f"- rows: {card['rows']['documents']:,}; seed {card['seed']}",
        f"- found in them: {card['rows']['hateful']:,} hateful or with a used term, from half the bounds of `curated`",
        f"  on; {card['rows']['toxic']:,} toxic besides",
        "- weights: Apache-2.0, like the project",
        "",
        "## Held-out tenth: what a budget keeps of what a whole reading finds (95 % Wilson intervals)",
        f"AUROC: hateful or used {_bounds(card['metrics']['hateful'])}, toxic {_bounds(card['metrics']['toxic'])}",
        "",
        "| documents read | hateful or used | toxic |",
        "|---|---|---|",
        *(
            f"| {100 * row['documents']:.0f} % | {share(row['hateful'])} | {share(row['toxic'])} |"
            for row in card["metrics"]["kept"]
        ),
        "",
        "## Data",
        "| set | licence |",
        "|---|---|",
        *(f"| `{spec['path']}` | {spec['licence']} |" for spec in card["sets"]),
        "",
        "## Known failures",
        "- Hate that names nobody in plain words, in texts that the first stage finds harmless, is not read.",
        "- What the gate calls worth reading is what the shipped models would find: their mistakes are its own.",
        "- English only.",
        "",
    ]
    return "\n".join(lines)


def _bounds(metric: Mapping[str, float]) -> str:
    return f"{metric['value']:.3f} ({metric['low']:.3f}–{metric['high']:.3f})"


def _left_out(found: Mapping[str, Any]) -> list[str]:
    def share(metric: Mapping[str, float]) -> str:
        return f"{100 * metric['value']:.0f} % ({100 * metric['low']:.0f}–{100 * metric['high']:.0f})"

    return [
        "| source | yes | no | AUROC | recall at 12 % error | error at 90 % recall |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {row['uses']:,} | {row['mentions']:,} | {row['auroc']['value']:.3f}"
            f" ({row['auroc']['low']:.3f}–{row['auroc']['high']:.3f}) | {share(row['recall_at_12_percent_error'])} |"
            f" {share(row['error_at_90_percent_recall'])} |"
            for name, row in found["left_out"].items()
        ),
    ]


def _area(found: Mapping[str, Any]) -> str:
    return f"{_bounds(found['auroc'])}, ECE {found['ece']:.3f}"


def _called(found: Mapping[str, Any]) -> list[str]:
    return [
        "| source | n | called use |",
        "|---|---|---|",
        *(
            f"| {name} | {m['rows']:,} | {100 * m['value']:.0f} % ({100 * m['low']:.0f}–{100 * m['high']:.0f}) |"
            for name, m in found["called_use"].items()
        ),
    ]
