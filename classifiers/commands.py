"""`headwater score`, `fit` and `evaluate-classifier`: arguments and exit codes; the work is done elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from curation.errors import ConfigError, DataContractError, Problem, unknown_name

if TYPE_CHECKING:
    from classifiers.score_jsonl import LineScorer

METRICS_NEED = "rows with `text` and a `label` of the positive or another class"


def score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ruleset",
        default="curated",
        metavar="FILE_OR_NAME",
        help="a shipped ruleset or a YAML file (curated)",
    )
    parser.add_argument("--filters", metavar="A,B", help="judge by these filters of the ruleset only")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--in", dest="input", metavar="X.jsonl", help="documents; - reads standard input")
    given.add_argument("--text", metavar="TEXT", help="one text: prints verdict, mentions and evidence to read")
    parser.add_argument("--out", default="-", metavar="Y.jsonl", help="verdicts; - (default) writes standard output")
    parser.add_argument("--detoxify-model", metavar="DIR", help="local Detoxify snapshot for the second stage")
    parser.add_argument("--lexicon", metavar="FILE", help="your own lexicon instead of the shipped one")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run_score(args: argparse.Namespace) -> int:
    """0, or 3 when a line was dead; every line has its result either way."""
    from classifiers.score_jsonl import DEAD, LineScorer, restrict, write_results
    from classifiers.scoring import ScoringSettings
    from curation.ruleset import load_ruleset

    given = {"detoxify_model": args.detoxify_model, "lexicon": args.lexicon}
    settings = ScoringSettings(**{key: value for key, value in given.items() if value is not None})
    scorer = LineScorer(restrict(load_ruleset(args.ruleset), args.filters), settings)
    for note in scorer.scorer.notes():
        print(f"note: {note}", file=sys.stderr)
    if args.text is not None:
        return _explain(scorer, args.text, args.json)
    with ExitStack() as stack:
        lines = _input(args.input, stack)
        out = _output(args.out, stack)
        counts = write_results(scorer.results(lines), out, sys.stderr)
    summary = sys.stderr if args.out == "-" else sys.stdout
    _print_counts(counts, args.json, summary)
    return DataContractError.exit_code if counts[DEAD] else 0


def _explain(scorer: LineScorer, text: str, as_json: bool) -> int:
    """0, or 3 for a text without words."""
    from classifiers.explain import explain
    from classifiers.score_jsonl import DEAD

    (result,) = scorer.results([json.dumps({"id": "text", "text": text}).encode()])
    if result["verdict"] == DEAD:
        print(f"score: {result['error'].removeprefix('line 1: ')}", file=sys.stderr)
        return DataContractError.exit_code
    print(json.dumps(result, ensure_ascii=False) if as_json else "\n".join(explain(result, text)))
    return 0


def _input(name: str, stack: ExitStack) -> Iterable[bytes]:
    if name == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(name).open("rb"))
    except OSError as error:
        raise ConfigError(Problem("unreadable-input", f"cannot read `{name}`: {error.strerror}", "--in")) from error


def _output(name: str, stack: ExitStack) -> TextIO:
    if name == "-":
        return sys.stdout
    try:
        return stack.enter_context(Path(name).open("w", encoding="utf-8"))
    except OSError as error:
        raise ConfigError(Problem("unwritable-output", f"cannot write `{name}`: {error.strerror}", "--out")) from error


def _print_counts(counts: Counter[str], as_json: bool, out: TextIO) -> None:
    total = sum(counts.values())
    if as_json:
        print(json.dumps({"documents": total, "verdicts": dict(sorted(counts.items()))}), file=out)
    else:
        print(f"{total} documents: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())), file=out)


def fit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB.yaml", help="a job file of `kind: fit`")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=VALUE", help="override one setting")
    parser.add_argument("--json", action="store_true", help="print the card as JSON")


def run_fit(args: argparse.Namespace) -> int:
    """Train what the job says and write model, JSON and card into its output folder."""
    from curation.config import load_job_file

    given = load_job_file(args.job, "fit", args.set)
    fitting = {"context": _fit_context, "gate": _fit_gate}.get(str(given.get("classifier")), _fit_toxicity)
    name, output, card = fitting(given, args.job)
    print(json.dumps(card, sort_keys=True) if args.json else Path(output) / f"{name}.md")
    return 0


def _fit_toxicity(given: dict[str, Any], where: str) -> tuple[str, str, dict[str, Any]]:
    from classifiers.fit import FitJob, fit_toxicity
    from curation.settings import parse

    job = parse(FitJob, given, where, "this job")
    return "toxicity", job.output, fit_toxicity(job)


def _fit_context(given: dict[str, Any], where: str) -> tuple[str, str, dict[str, Any]]:
    from classifiers.encoder_job import EncoderJob
    from classifiers.fit_context import fit_context
    from curation.settings import parse

    job = parse(EncoderJob, given, where, "this job")
    return "context", job.output, fit_context(job)


def _fit_gate(given: dict[str, Any], where: str) -> tuple[str, str, dict[str, Any]]:
    from classifiers.fit_gate import GateJob, fit_gate
    from curation.settings import parse

    job = parse(GateJob, given, where, "this job")
    return "gate", job.output, fit_gate(job)


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="toxicity, sentence, blocklist or context")
    parser.add_argument("--in", dest="input", required=True, metavar="LABELLED.jsonl", help=METRICS_NEED)
    parser.add_argument("--label", default="label", metavar="a.b", help="dotted path of the label")
    parser.add_argument("--positive", default="toxic", metavar="A,B", help="labels that should score high")
    parser.add_argument("--negative", metavar="A,B", help="labels that should score low (default: all others)")
    parser.add_argument("--json", action="store_true", help="print JSON")


# What each classifier says of a whole document, as one number.
NUMBERS = {
    "toxicity": ("toxicity", "toxicity.toxicity"),
    "sentence": ("sentence", "sentence.toxic_sentences"),
    "blocklist": ("blocklist", "blocklist.hits"),
    "context": ("context", "context.document_use"),
}


def run_evaluate(args: argparse.Namespace) -> int:
    """AUROC, AUPRC, ECE and the rates at one half, with intervals, on stdout."""
    if args.name not in NUMBERS:
        raise ConfigError(unknown_name("classifier", args.name, NUMBERS))
    metrics = evaluate_file(args.name, Path(args.input), args.label, args.positive, args.negative)
    if args.json:
        print(json.dumps(metrics))
        return 0
    for name, metric in metrics.items():
        shown = (
            f"{metric['value']:.3f} ({metric['low']:.3f}-{metric['high']:.3f})" if isinstance(metric, dict) else metric
        )
        print(f"{name:24} {shown}")
    return 0


def evaluate_file(name: str, path: Path, label: str, positive: str, negative: str | None) -> dict[str, Any]:
    """The metrics of classifier `name` on a labelled file.

    Raises:
        ConfigError: no such file, or not both classes in it.
    """
    import numpy as np
    import pyarrow as pa

    from classifiers.calibration import expected_calibration_error
    from classifiers.evaluate import auroc, average_precision, rate, with_interval
    from classifiers.labelled import dotted, read_rows
    from classifiers.scoring import Scorer, ScoringSettings

    high, low = set(positive.split(",")), None if negative is None else set(negative.split(","))
    rows = [(str(row.get("text") or ""), str(dotted(row, label))) for row in read_rows(path)]
    rows = [(text, given) for text, given in rows if given in high or low is None or given in low]
    y = np.array([given in high for _, given in rows], np.float64)
    if not len(y) or y.min() == y.max():
        raise ConfigError(Problem("one-class", "the file does not hold both classes", str(path), METRICS_NEED))
    wanted, column = NUMBERS[name]
    scored = Scorer(ScoringSettings(), {wanted}).score(pa.array([text for text, _ in rows], pa.string()))
    score = np.asarray(scored[column].cast(pa.float64()))
    flagged = score >= (0.5 if name in {"toxicity", "context"} else 1)
    metrics: dict[str, Any] = {
        "rows": len(y),
        "auroc": with_interval(auroc, score, y).plain(),
        "auprc": with_interval(average_precision, score, y).plain(),
        "recall": rate(flagged[y == 1]).plain(),
        "false_positive_rate": rate(flagged[y == 0]).plain(),
    }
    if name in {"toxicity", "context"}:
        metrics["ece"] = round(expected_calibration_error(score, y), 4)
    return metrics
