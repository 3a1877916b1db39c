"""The sections of the report that show texts and plots: samples, duplicates, distributions, audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from curation.audit import MIN_GROUP, AuditRow
from curation.audit_table import number as ratio_text
from curation.dedup.curve import match_probability, midpoint
from curation.finished_run import FinishedRun
from curation.inspect_run import case_spans, masked_texts
from curation.marked_text import Masker, Piece, excerpt, mention_spans, reason_spans
from curation.report_data import JACCARD_EDGES, LENGTH_EDGES, Distribution, ReportData
from curation.report_plots import bar, curve, histogram, ratios
from curation.report_table import number, table
from curation.run_cases import Case
from curation.run_duplicates import Pair, differences

SHOWN_REASONS = 6
AUDIT_HEAD = ("group", "documents", "removed", "rate", "reference", "rate", "ratio", "95 % interval")
AUDIT_NOTE = (
    "<p>Removal rate of a group over that of its reference group; 1 means treated alike, 2 removed twice as often. "
    "Lines are 95&nbsp;% bootstrap intervals over documents. Duplicates are not counted.</p>"
    "<p class='note'>Sources: all {total:,} documents. Dialect and identity terms: a sample of {sampled:,}. Groups of "
    "fewer than {least} documents are left out ({small}). The dialect is a proxy by words (Blodgett et al. 2016) and "
    "says nothing about who wrote a text; AAE-leaning are the 5&nbsp;% of documents whose words lean most surely to "
    "African-American English. A document that names a group is not by or against it.</p>"
)


def html_of(pieces: Sequence[Piece]) -> str:
    """Pieces of a text as HTML; everything is escaped."""
    parts = []
    for piece in pieces:
        text = escape(piece.text)
        if piece.is_gap:
            parts.append(f'<span class="gap">{text}</span>')
        elif piece.labels:
            parts.append(f'<mark title="{escape(", ".join(piece.labels), quote=True)}">{text}</mark>')
        else:
            parts.append(text)
    return f'<div class="text" dir="auto">{"".join(parts)}</div>'


def cards(ruleset: Mapping[str, Any], cases: Sequence[Case], code: str | None = None) -> str:
    """Documents with their reasons and marked stretches; `code`: the reason whose spans come first."""
    masked = masked_texts(Masker(ruleset), cases)
    return "".join(_card(case, text, carried, code) for case, (text, carried) in zip(cases, masked, strict=True))


def _card(case: Case, text: str, carried: str | None, code: str | None) -> str:
    told = list(dict.fromkeys(f"{r['code']} {number(r['value'])}" for r in case.reasons))
    lines = [f"<b>{escape(case.doc_id)}</b> · {escape(case.source)}" + (f" · {escape(case.url)}" if case.url else "")]
    if told:
        more = f" and {len(told) - SHOWN_REASONS} more" if len(told) > SHOWN_REASONS else ""
        lines.append(f"{case.verdict}: <code>{escape(', '.join(told[:SHOWN_REASONS]))}</code>{more}")
    lines += [
        f"{escape(arm)} removed it: <code>{escape(', '.join(codes))}</code>" for arm, codes in case.elsewhere.items()
    ]
    mine = reason_spans(r for r in case.reasons if r["code"] == code) if code else case_spans(case)
    spans = mine or (mention_spans(case.mentions) if case.verdict == "keep" else [])
    if case.verdict == "keep" and case.mentions:
        words = [f"{text[m['start'] : m['end']]} ({m['role']}, {m['category']})" for m in case.mentions[:SHOWN_REASONS]]
        lines.append(escape("; ".join(dict.fromkeys(words))))
    head = "".join(f'<div class="head">{line}</div>' for line in lines)
    after = ""
    if carried is not None and mine:
        first = max(0, mine[0].start - 80)
        shown = Piece(carried[first : first + 240])
        after = f'<div class="head">as the arm carries it</div>{html_of([shown])}'
    return f'<div class="doc {case.verdict}">{head}{html_of(excerpt(text, spans, longest=600))}{after}</div>'


def dedup_section(manifest: Mapping[str, Any], data: ReportData) -> str:
    """Clusters, similarities, and how the search was set."""
    counts, settings = manifest["dedup"], manifest["job"]["dedup"]
    title = '<h2 id="dedup">Duplicates</h2>'
    if not counts:
        return f'{title}<p class="dim">No arm looks for duplicates.</p>'
    bands, rows = settings["bands"], settings["rows"]
    text = (
        f"{counts['exact']:,} exact and {counts['near']:,} near duplicates; {counts['comparisons']:,} pairs were "
        f"compared by their exact Jaccard similarity over word {settings['ngram']}-grams, and count as duplicates from "
        f"{settings['threshold']}."
    )
    points = [(s, match_probability(s, bands, rows)) for s in np.linspace(0, 1, 101).tolist()]
    low = int(np.searchsorted(JACCARD_EDGES, settings["threshold"], side="right")) - 1
    bins = data.jaccards[low:]
    edges = JACCARD_EDGES[low:]
    ticks = [(float(i), f"{edges[i]:.2f}") for i in range(0, len(edges), max(1, (len(edges) - 1) // 4))]
    figures = (
        f"<figure><figcaption>Chance that a pair is compared, by similarity: {bands} bands of {rows} rows, one half at "
        f"{midpoint(bands, rows):.3f}; dashed: the threshold</figcaption>"
        f"{curve(points, settings['threshold'], 'match probability')}</figure>"
        f"<figure><figcaption>Similarity of the near duplicates found</figcaption>"
        f"{histogram([0] * len(bins), bins, ticks, 'Jaccard similarity')}</figure>"
    )
    largest = max(data.cluster_sizes.values(), default=0)
    sizes = [(name, f"{count:,}", bar(count, largest)) for name, count in data.cluster_sizes.items()]
    clusters = "".join(
        f"<details><summary>cluster of {size:,} <span class='dim'>{escape(pair.duplicate_of)}</span></summary>"
        f"{_pair(pair)}</details>"
        for size, pair in data.clusters
    )
    near = "".join(
        f"<details><summary>Jaccard {pair.jaccard:.3f} <span class='dim'>{escape(pair.doc_id)}</span></summary>"
        f"{_pair(pair)}</details>"
        for pair in data.near_pairs
    )
    return (
        f"{title}<p>{text}</p><div class='grid'>{figures}</div>"
        f"{table(('size of cluster', 'documents removed', ''), sizes, (1,), wide=(2,)) if sizes else ''}"
        + (f"<h3>Largest clusters</h3>{clusters}" if clusters else "")
        + (f"<h3>Near duplicates, drawn by hash</h3>{near}" if near else "")
    )


def _pair(pair: Pair) -> str:
    text, other = Masker().mask_all([pair.text, pair.other or ""])
    mine, theirs = differences(text, other) if pair.kind == "near" and pair.other is not None else ([], [])
    left = f'<div class="head">removed: {escape(pair.doc_id)}</div>{html_of(excerpt(text, mine))}'
    right = f'<div class="head">kept: {escape(pair.duplicate_of)}</div>'
    right += html_of(excerpt(other, theirs)) if pair.other is not None else "<p class='dim'>in an earlier run</p>"
    return f'<div class="pair"><div>{left}</div><div>{right}</div></div>'


def distribution_section(run: FinishedRun, data: ReportData) -> str:
    """Lengths, toxicity and languages: all documents in grey, what an arm carries in colour."""
    parts = ['<h2 id="distributions">Distributions</h2><p>Grey: all documents. Colour: what the arm carries.</p>']
    at = {64: "64 B", 1024: "1 KB", 16384: "16 KB", 262144: "256 KB"}
    per_bin = np.log(LENGTH_EDGES[1] / LENGTH_EDGES[0])
    ticks = [(float(np.log(size / LENGTH_EDGES[0]) / per_bin), label) for size, label in at.items()]
    parts.append(f"<h3>Length of the text</h3>{_multiples(run, data.lengths, ticks, log=False)}")
    if data.toxicity is not None:
        ticks = [(0, "0"), (5, "0.25"), (10, "0.5"), (15, "0.75"), (20, "1")]
        parts.append(
            "<h3>Toxicity score</h3><p class='note'>Heights are logarithmic: nearly all documents score near 0. "
            f"Duplicates are not scored.</p>{_multiples(run, data.toxicity, ticks, log=True)}"
        )
    if data.languages is not None:
        head = ("language", "documents", *(escape(arm) for arm in run.arms))
        rows = [
            (escape(name), f"{counts['documents']:,}", *(_share(counts[arm], counts["documents"]) for arm in run.arms))
            for name, counts in data.languages.items()
        ]
        parts.append(f"<h3>Languages, and the share that each arm carries</h3>{table(head, rows, range(1, len(head)))}")
    return "".join(parts)


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}" if of else "–"


def _multiples(run: FinishedRun, counts: Distribution, ticks: Sequence[tuple[float, str]], log: bool) -> str:
    figures = "".join(
        f"<figure><figcaption><b>{escape(arm)}</b> <span class='dim'>{int(counts.arms[arm].sum()):,}</span>"
        "</figcaption>"
        f"{histogram(counts.everything, counts.arms[arm], ticks, arm, log)}</figure>"
        for arm in run.arms
    )
    return f'<div class="grid">{figures}</div>'


def audit_section(data: ReportData) -> str:
    """Ratios of removal rates with intervals, an arm at a time."""
    found = data.audit
    note = AUDIT_NOTE.format(total=found.documents, sampled=found.sampled, least=MIN_GROUP, small=len(found.too_small))
    parts = ['<h2 id="audit">Audit: who is removed</h2>', note]
    if not found.rows:
        return "".join(parts) + "<p class='dim'>No arm removes anything but duplicates from groups this large.</p>"
    for arm in dict.fromkeys(row.arm for row in found.rows):
        rows = [row for row in found.rows if row.arm == arm and not row.filter]
        plot = ratios([(_group(row), row.ratio, row.low, row.high) for row in rows], f"removal ratios of {arm}")
        opened = " open" if arm == data.flagged_arm else ""
        numbers = table(AUDIT_HEAD, [_cells(row) for row in rows], (1, 2, 3, 5, 6, 7))
        title = f"{escape(arm)} <span class='dim'>{len(rows)} groups</span>"
        parts.append(f"<details{opened}><summary>{title}</summary>{plot}{numbers}</details>")
    return "".join(parts)


def _group(row: AuditRow) -> str:
    return f"{row.kind.removeprefix('identity: ')}: {row.group}"


def _cells(row: AuditRow) -> tuple[str, ...]:
    return (
        escape(_group(row)), f"{row.documents:,}", f"{row.removed:,}", f"{row.rate:.2%}", escape(row.reference),
        f"{row.reference_removed / row.reference_documents:.2%}", ratio_text(row.ratio),
        f"{ratio_text(row.low)} to {ratio_text(row.high)}",
    )  # fmt: skip
