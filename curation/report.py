"""report.html: one self-contained page about a finished run. Called before the manifest is written.

In: the manifest and the run's files. Out: the page as text: no request leaves it, no script runs in it, and every word
that came from a corpus is escaped, abuse in it masked. The same run gives the same bytes: no clock, no host, no path
of this machine (wall times stand in the manifest only).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from curation.finished_run import FinishedRun
from curation.report_data import ReportData, collect
from curation.report_plots import bar, stacked
from curation.report_sections import audit_section, cards, dedup_section, distribution_section
from curation.report_style import STYLE
from curation.report_table import name_of, number, table
from curation.run_cases import Case
from curation.sources.base import FileOpener

VERDICT_KEYS = (("keep", "kept"), ("redact", "redacted"), ("drop", "dropped"), ("quarantine", "quarantined"))
TOP_REASONS = 3
FOOTER = "Terms of abuse and personal data are masked; <code>headwater inspect RUN --unmask</code> shows them."
SECTIONS = (
    ("arms", "Arms"),
    ("reasons", "Reasons"),
    ("samples", "Samples"),
    ("flagged", "Kept though flagged"),
    ("dedup", "Duplicates"),
    ("distributions", "Distributions"),
    ("audit", "Audit"),
    ("provenance", "Provenance"),
)


def render_report(run: str, manifest: dict[str, Any], opener: FileOpener) -> str:
    """The page of a run whose files are all written.

    Args:
        run: where it lies; never shown.
        opener: opens its files.
    """
    finished = FinishedRun(run, manifest, opener)
    data = collect(finished)
    body = "".join(
        (
            _header(manifest),
            "<main>",
            _arms(manifest),
            _reasons(manifest),
            _samples(manifest, data),
            _flagged(manifest, data),
            dedup_section(manifest, data),
            distribution_section(finished, data),
            audit_section(data),
            _provenance(manifest, data),
            "</main>",
            f"<footer>Headwater {escape(manifest['code_version'])}. {FOOTER}</footer>",
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Nothing may be fetched and nothing may run, whatever a document of the corpus contains.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Headwater report {escape(manifest['fingerprint'])}</title><style>{STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def _header(manifest: Mapping[str, Any]) -> str:
    read = manifest["documents"] + manifest["dead_letters"]
    size = sum(int(item["bytes"]) for item in manifest["inputs"])
    tiles = (
        (f"{read:,}", "records read"),
        (f"{manifest['documents']:,}", "documents"),
        (f"{manifest['dead_letters']:,}", "dead letters"),
        (f"{len(manifest['inputs']):,}", f"input files, {size / 1e6:,.1f} MB"),
        (f"{len(manifest['arms'])}", "arms"),
    )
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in tiles)
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in SECTIONS)
    notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in manifest["notes"])
    return (
        f"<header><h1>What was kept, what was removed, and why</h1>"
        f'<p class="dim">Run <code>{escape(manifest["fingerprint"])}</code></p>{notes}'
        f'<nav>{links}</nav><div class="tiles">{cells}</div></header>'
    )


def _title(name: str) -> str:
    return f'<h2 id="{name}">{dict(SECTIONS)[name]}</h2>'


def _arms(manifest: Mapping[str, Any]) -> str:
    total = manifest["documents"]
    rows: list[tuple[str, ...]] = []
    for name, arm in manifest["arms"].items():
        counts = [(kind, int(arm[key])) for kind, key in VERDICT_KEYS]
        ranked = sorted(arm["removed_by"].items(), key=lambda item: (-item[1], item[0]))[:TOP_REASONS]
        reasons = "<br>".join(f"<code>{escape(code)}</code> {count:,}" for code, count in ranked)
        share = arm["documents"] / total if total else 0.0
        rows.append(
            (
                f"<b>{escape(name)}</b><br><span class='note'>{escape(arm['ruleset']['summary'])}</span>",
                f"{arm['documents']:,}",
                f"{share:.1%}",
                f"{arm['bytes'] / 1e6:,.1f}",
                stacked(counts, total),
                reasons or '<span class="dim">–</span>',
            )
        )
    keys = "".join(f'<span class="key"><i class="{kind}"></i>{label}</span>' for kind, label in VERDICT_KEYS)
    head: tuple[str, ...] = ("arm", "documents", "of all", "MB of text", "verdicts", "most frequent reasons")
    tokens = (manifest.get("tokens") or {}).get("arms")
    if tokens:
        rows = [(*row, f"{tokens[name]['tokens']:,}") for row, name in zip(rows, manifest["arms"], strict=True)]
        head = (*head, "tokens")
    lines = [
        (escape(name), *(f"{line[key]:,}" for key in ("read", "kept", "redacted", "dropped", "quarantined", "dead")))
        for name, line in manifest["conservation"].items()
    ]
    conserved = table(
        ("arm", "read", "= kept", "+ redacted", "+ dropped", "+ quarantined", "+ dead"), lines, range(1, 7)
    )
    return (
        f"{_title('arms')}<p>Every arm is the same corpus under another ruleset.</p><p>{keys}</p>"
        f"{table(head, rows, (1, 2, 3, 6), wide=(4,))}<h3>Every record is accounted for</h3>{conserved}"
    )


def _reasons(manifest: Mapping[str, Any]) -> str:
    parts = []
    for name, arm in manifest["arms"].items():
        if not arm["removed_by"]:
            continue
        actions = _actions(arm["ruleset"])
        ranked = sorted(arm["removed_by"].items(), key=lambda item: (-item[1], item[0]))
        largest = ranked[0][1]
        rows = [
            (
                f"<code>{escape(code)}</code>",
                escape(actions(code)),
                f"{count:,}",
                f"{count / (manifest['documents'] or 1):.2%}",
                bar(count, largest),
            )
            for code, count in ranked
        ]
        gone = arm["dropped"] + arm["quarantined"] + arm["redacted"]
        inner = table(("reason", "action", "documents", "of all", ""), rows, (2, 3), wide=(4,))
        parts.append(
            f"<details><summary>{escape(name)} <span class='dim'>{gone:,} documents, {len(ranked)} reasons</span>"
            f"</summary>{inner}</details>"
        )
    note = "A document counts once for each reason it has; most removed documents have several."
    return f"{_title('reasons')}<p>{note}</p>{''.join(parts) or _nothing('No arm removed anything.')}"


def _actions(ruleset: Mapping[str, Any]) -> Any:
    """A function from reason code to what the ruleset does with it."""
    rules = {rule["as"]: rule for rule in ruleset["rules"]}

    def action(code: str) -> str:
        prefix, _, local = code.rpartition(".")
        rule = rules.get(prefix)
        if rule is None:
            return "drop"
        return str(rule["actions"].get(local, "quarantine" if local == "failed" else rule["action"]))

    return action


def _samples(manifest: Mapping[str, Any], data: ReportData) -> str:
    parts = []
    for arm, by_code in data.samples.items():
        ruleset = manifest["arms"][arm]["ruleset"]
        blocks = []
        for code, cases in by_code.items():
            count = manifest["arms"][arm]["removed_by"].get(code, 0)
            blocks.append(
                f"<h3><code>{escape(code)}</code> <span class='dim'>{count:,} documents</span></h3>"
                f"{cards(ruleset, cases, code)}"
            )
        opened = " open" if arm == data.flagged_arm else ""
        parts.append(
            f"<details{opened}><summary>{escape(arm)} <span class='dim'>{len(by_code)} reasons</span></summary>"
            f"{''.join(blocks)}</details>"
        )
    note = f"Drawn by hash of the id from {data.sampled_from:,} documents; a stretch that gave the reason is marked."
    return f"{_title('samples')}<p>{note}</p>{''.join(parts) or _nothing('Nothing was removed or redacted.')}"


def _flagged(manifest: Mapping[str, Any], data: ReportData) -> str:
    cases: Sequence[Case] = data.flagged
    ruleset = manifest["arms"][data.flagged_arm]["ruleset"]
    note = (
        f"Documents that <b>{escape(data.flagged_arm)}</b> keeps although a rule, a sensitive mention, or another arm "
        "speaks against them. Mentions are marked with their role."
    )
    inner = cards(ruleset, cases) if cases else _nothing("There are none.")
    return f"{_title('flagged')}<p>{note}</p>{inner}"


def _provenance(manifest: Mapping[str, Any], data: ReportData) -> str:
    inputs = [
        (escape(name_of(item["uri"])), f"{item['bytes']:,}", f"<code>{escape(str(item['sha256'] or ''))}</code>")
        for item in sorted(manifest["inputs"], key=lambda item: (name_of(item["uri"]), str(item["sha256"])))
    ]
    resources = [
        (escape(row["name"]), escape(row.get("kind", "")), escape(str(row["version"])),
         f"<code>{escape(row['sha256'])}</code>")
        for row in manifest["resources"]
    ]  # fmt: skip
    passes = [(escape(row["name"]), f"{row['documents']:,}") for row in manifest["passes"]]
    dead = [
        (
            f"<code>{escape(error)}</code>",
            f"{count:,}",
            "<br>".join(
                f"{escape(name_of(letter['input']))} at {letter['offset']}: {escape(letter['error'])}"
                for letter in some
            ),
        )
        for error, count, some in data.dead
    ]
    parts = [
        _title("provenance"),
        "<h3>Inputs</h3>",
        table(("file", "bytes", "sha256"), inputs, (1,)),
        "<h3>Models and lists</h3>",
        table(("name", "kind", "version", "sha256"), resources) if resources else _nothing("None were used."),
        "<h3>Passes</h3>",
        table(("pass", "documents"), passes, (1,)),
        "<h3>Dead letters</h3>",
        table(("error", "records", "for example"), dead, (1,)) if dead else _nothing("Every record could be read."),
    ]
    if manifest["dedup"].get("capped"):
        parts.append(f"<p>{number(manifest['dedup']['capped'])} documents met the limit of comparisons.</p>")
    return "".join(parts)


def _nothing(text: str) -> str:
    return f'<p class="dim">{escape(text)}</p>'
