"""`headwater inspect RUN`: documents that were removed, redacted or kept though flagged, with the spans marked.

In: a finished run. Out: text for people (a marked stretch stands in ⟦brackets⟧) or JSON. Terms of abuse are masked
unless `--unmask` is given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from curation.document import VERDICTS
from curation.errors import ConfigError, Problem
from curation.finished_run import FinishedRun, load_run
from curation.marked_text import Masker, Piece, Span, excerpt, mention_spans, reason_spans
from curation.run_cases import Case, Wanted, find_cases
from curation.run_duplicates import Pair, differences, duplicate_table, sample_pairs

REASONS_SHOWN = 8  # in text; JSON has all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="path of a finished run")
    parser.add_argument("--arm", metavar="NAME", help="whose decisions (default: `curated`, else the last arm)")
    parser.add_argument("--reason", metavar="CODE", help="a reason code, or a filter's name for all its codes")
    parser.add_argument("--verdict", choices=VERDICTS, help="default: everything but keep")
    parser.add_argument(
        "--kept-though-flagged", action="store_true",
        help="kept here, though a rule, a sensitive mention or another arm speaks against it",
    )  # fmt: skip
    parser.add_argument("--duplicates", action="store_true", help="removed copies beside what they copy")
    parser.add_argument("-n", type=int, default=20, metavar="COUNT", help="how many documents (default 20)")
    parser.add_argument("--unmask", action="store_true", help="show terms of abuse and personal data as they are")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    _check(args)
    found = load_run(args.run)
    if args.duplicates:
        return _run_duplicates(found, args)
    arm = found.arm_named(args.arm) if args.arm else default_arm(found)
    masker = Masker(found.manifest["arms"][arm]["ruleset"], enabled=not args.unmask)
    wanted = Wanted(args.verdict, args.reason, args.kept_though_flagged)
    cases, total = find_cases(found, arm, wanted, args.n)
    masked = masked_texts(masker, cases)
    if args.json:
        documents = [case_json(case, texts) for case, texts in zip(cases, masked, strict=True)]
        print(json.dumps({"run": found.path, "arm": arm, "found": total, "documents": documents}, ensure_ascii=False))
        return 0
    print(f"{total:,} documents in arm `{arm}`" + (f", {len(cases)} shown" if len(cases) < total else ""))
    for number, (case, texts) in enumerate(zip(cases, masked, strict=True), 1):
        print("\n" + case_text(number, case, texts[0]))
    return 0


def _check(args: argparse.Namespace) -> None:
    problems = []
    if args.n < 1:
        problems.append(Problem("bad-value", f"`-n {args.n}`", None, "at least 1"))
    if args.kept_though_flagged and args.verdict not in {None, "keep"}:
        text = f"`--kept-though-flagged` with `--verdict {args.verdict}`"
        problems.append(Problem("contradiction", text, None, "one of the two"))
    if args.duplicates and (args.reason or args.verdict or args.kept_though_flagged or args.arm):
        text = "`--duplicates` with another choice of documents"
        problems.append(Problem("contradiction", text, None, "it alone: all arms share one search for duplicates"))
    if problems:
        raise ConfigError(*problems)


def default_arm(run: FinishedRun) -> str:
    """The arm that people ask about: `curated` when there is one, else the last."""
    return "curated" if "curated" in run.arms else run.arms[-1]


def case_spans(case: Case) -> list[Span]:
    """What is marked in a case's text: the spans of its reasons, and for a kept one its mentions."""
    spans = reason_spans(case.reasons)
    return spans if spans else mention_spans(case.mentions)


def masked_texts(masker: Masker, cases: Sequence[Case]) -> list[tuple[str, str | None]]:
    """For each case its text and, when redacted, the text as the arm carries it, both masked."""
    marked = [reason_spans(case.reasons) + mention_spans(case.mentions) for case in cases]
    texts = masker.mask_all([case.text for case in cases], marked)
    carried = masker.mask_all([case.carried or "" for case in cases])
    after = [text if case.carried is not None else None for case, text in zip(cases, carried, strict=True)]
    return list(zip(texts, after, strict=True))


def case_text(number: int, case: Case, text: str) -> str:
    """One case for the terminal."""
    head = f"{number}. {case.doc_id}  {case.verdict}  from {case.source}" + (f"  {case.url}" if case.url else "")
    lines = [head]
    seen: dict[str, int] = {}
    for reason in case.reasons:
        line = f"   {reason['code']}  {reason['signal']} = {_number(reason['value'])}"
        line += f" (threshold {_number(reason['threshold'])})" if reason["threshold"] is not None else ""
        seen[line] = seen.get(line, 0) + 1
    lines += [line + (f", {times} spans" if times > 1 else "") for line, times in list(seen.items())[:REASONS_SHOWN]]
    if len(seen) > REASONS_SHOWN:
        lines.append(f"   and {len(seen) - REASONS_SHOWN} more")
    for mention in case.mentions[:REASONS_SHOWN]:
        shown = text[mention["start"] : mention["end"]]
        cue = f", {mention['cue']}" if mention["cue"] else ""
        lines.append(f"   {shown}: {mention['category']}, {mention['role']} {_number(mention['score'])}{cue}")
    lines += [f"   arm `{arm}`: {', '.join(codes)}" for arm, codes in case.elsewhere.items()]
    return "\n".join([*lines, _quoted(excerpt(text, case_spans(case)))])


def _quoted(pieces: Sequence[Piece]) -> str:
    text = "".join(f"⟦{piece.text}⟧" if piece.labels else piece.text for piece in pieces)
    return "\n".join(f"   | {line}" for line in text.splitlines())


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.6g}"


def case_json(case: Case, texts: tuple[str, str | None]) -> dict[str, Any]:
    """One case as data, masked like the terminal's."""
    text, carried = texts
    mentions = [{**mention, "term": text[mention["start"] : mention["end"]]} for mention in case.mentions]
    found: dict[str, Any] = {
        "id": case.doc_id, "verdict": case.verdict, "source": case.source, "url": case.url, "reasons": case.reasons,
        "mentions": mentions, "elsewhere": case.elsewhere, "text": text,
    }  # fmt: skip
    return found if carried is None else {**found, "carried": carried}


def _run_duplicates(run: FinishedRun, args: argparse.Namespace) -> int:
    table = duplicate_table(run)
    pairs = sample_pairs(run, table, args.n)
    masker = Masker(enabled=not args.unmask)
    texts = masker.mask_all([pair.text for pair in pairs])
    others = masker.mask_all([pair.other or "" for pair in pairs])
    if args.json:
        rows = [_pair_json(p, a, b) for p, a, b in zip(pairs, texts, others, strict=True)]
        print(json.dumps({"run": run.path, "found": table.num_rows, "duplicates": rows}, ensure_ascii=False))
        return 0
    print(f"{table.num_rows:,} duplicates" + (f", {len(pairs)} shown" if len(pairs) < table.num_rows else ""))
    for number, (pair, text, other) in enumerate(zip(pairs, texts, others, strict=True), 1):
        print("\n" + pair_text(number, pair, text, other))
    return 0


def pair_text(number: int, pair: Pair, text: str, other: str) -> str:
    """One pair for the terminal: an exact copy once, a near one twice with the differing words marked."""
    head = f"{number}. {pair.doc_id}  {pair.kind} copy of {pair.duplicate_of}"
    head += f"  Jaccard {pair.jaccard:.4f}, cluster of {pair.cluster_size:,}"
    if pair.other is None:
        return f"{head}\n   (the other document is in an earlier run)\n{_quoted(excerpt(text, []))}"
    if pair.kind == "exact":
        return f"{head}\n{_quoted(excerpt(text, []))}"
    mine, theirs = differences(text, other)
    return f"{head}\n{_quoted(excerpt(text, mine))}\n   kept:\n{_quoted(excerpt(other, theirs))}"


def _pair_json(pair: Pair, text: str, other: str) -> dict[str, Any]:
    return {
        "id": pair.doc_id, "duplicate_of": pair.duplicate_of, "kind": pair.kind, "jaccard": pair.jaccard,
        "cluster_size": pair.cluster_size, "text": text, "other_text": other if pair.other is not None else None,
    }  # fmt: skip
