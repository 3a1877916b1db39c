"""JSONL in, one verdict a line out, in the same order: the work behind `headwater score`.

Lines are judged in batches by the same filters, classifiers and `decide` as a run; duplicates are not looked for. Texts
are taken as they are, so offsets are code points of the given text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np
import orjson
import pyarrow as pa

from classifiers import language
from classifiers.scoring import Scorer, ScoringSettings
from curation.decision import decide
from curation.document import DOCUMENTS, doc_id_of
from curation.errors import ConfigError, Problem, unknown_name
from curation.filters.base import DocumentBatch, arrow_type
from curation.kernels.text_batch import TextBatch
from curation.ruleset import ResolvedRuleset

BATCH_LINES = 512
BATCH_BYTES = 8_000_000
RESERVED = frozenset({"id", "verdict", "reasons", "scores", "mentions", "text", "error"})
DEAD = "dead"


@dataclass
class Line:
    """One input line: a document, or why it is none."""

    number: int
    id: str | None
    text: str = ""
    error: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class LineScorer:
    """The rules of one ruleset, ready to judge lines."""

    def __init__(self, ruleset: ResolvedRuleset, settings: ScoringSettings) -> None:
        self.ruleset = ruleset
        scored = {rule.filter.name for rule in ruleset.rules if rule.filter.producer == "score"}
        self.scorer = Scorer(settings, scored)

    def results(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """One output object per input line that is not blank, in order."""
        waiting: list[Line] = []
        size = 0
        for number, raw in enumerate(lines, start=1):
            if not raw.strip():
                continue
            waiting.append(read_line(number, raw))
            size += len(raw)
            if len(waiting) >= BATCH_LINES or size >= BATCH_BYTES:
                yield from self._judge(waiting)
                waiting, size = [], 0
        yield from self._judge(waiting)

    def _judge(self, lines: list[Line]) -> Iterator[dict[str, Any]]:
        alive = [line for line in lines if line.error is None]
        judged = iter(self._verdicts(alive) if alive else [])
        for line in lines:
            if line.error is not None:
                yield {**line.extra, "id": line.id, "verdict": DEAD, "error": f"line {line.number}: {line.error}"}
            else:
                yield next(judged)

    def _verdicts(self, lines: list[Line]) -> list[dict[str, Any]]:
        texts = pa.array([line.text for line in lines], pa.string())
        signals = self._signals(lines, texts)
        decisions = decide(signals, texts, self.ruleset)
        verdicts, reasons = decisions.verdict_names().to_pylist(), decisions.reasons.to_pylist()
        mentions = self._mentions(signals, len(lines))
        scores = self._scores(signals)
        found = []
        for row, line in enumerate(lines):
            result: dict[str, Any] = {
                "id": line.id,
                "verdict": verdicts[row],
                "reasons": [{k: v for k, v in reason.items() if v is not None} for reason in reasons[row]],
                "scores": {name: values[row] for name, values in scores.items() if values[row] is not None},
                "mentions": mentions[row],
            }
            if row in decisions.redacted:
                result["text"] = decisions.redacted[row]
            found.append({**result, **{k: v for k, v in line.extra.items() if k not in RESERVED}})
        return found

    def _signals(self, lines: list[Line], texts: pa.Array) -> dict[str, pa.Array]:
        size = len(lines)
        columns = [pa.array([line.id for line in lines], pa.string()), texts, pa.repeat("score", size)]
        documents = pa.Table.from_arrays([*columns, *(pa.nulls(size, pa.string()) for _ in range(2))], schema=DOCUMENTS)
        batch = DocumentBatch(TextBatch(texts), documents)
        scored = self.scorer.score(texts) if self.scorer.filters else {}
        signals: dict[str, pa.Array] = {}
        for rule in self.ruleset.rules:
            if rule.filter.producer == "measure":
                judge = language.measure if rule.filter.name == "language" else rule.filter.measure
                measured = judge(batch, rule.settings)
            for signal in rule.filter.signals:
                kind = arrow_type(signal.dtype)
                if rule.filter.producer == "dedup":
                    column = pa.array([[] if pa.types.is_list(kind) else 0] * size, kind)
                elif rule.filter.producer == "score":
                    column = scored[f"{rule.filter.name}.{signal.name}"].cast(kind)
                else:
                    column = measured[signal.name].cast(kind) if signal.name in measured else pa.nulls(size, kind)
                signals[f"{rule.prefix}.{signal.name}"] = column
        return signals

    def _scores(self, signals: dict[str, pa.Array]) -> dict[str, list[Any]]:
        """The numbers that the ruleset judges by, except the dedup verdict, which nobody measured here."""
        judged = {name for rule in self.ruleset.rules if rule.filter.producer != "dedup" for name in rule.required}
        numeric = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean)
        return {
            name: _rounded(signals[name])
            for name in sorted(judged)
            if any(is_a(signals[name].type) for is_a in numeric)
        }

    def _mentions(self, signals: dict[str, pa.Array], size: int) -> list[list[dict[str, Any]]]:
        for rule in self.ruleset.rules:
            if rule.filter.name == "context":
                found = signals[f"{rule.prefix}.mentions"].to_pylist()
                return [[_plain_mention(m) for m in mentions or []] for mentions in found]
        return [[] for _ in range(size)]


def _rounded(values: pa.Array) -> list[Any]:
    """Python numbers; a float32 as the shortest decimal that is the same float32."""
    if pa.types.is_float32(values.type):
        return [None if v is None else float(np.format_float_positional(np.float32(v))) for v in values.to_pylist()]
    return list(values.to_pylist())


def _plain_mention(mention: dict[str, Any]) -> dict[str, Any]:
    score = float(np.format_float_positional(np.float32(mention["score"])))
    return {k: v for k, v in {**mention, "score": score}.items() if v is not None}


def read_line(number: int, raw: bytes) -> Line:
    """One JSONL line as a document, or with the reason why it is none."""
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return Line(number, None, error=f"not JSON: {error}")
    if not isinstance(row, dict):
        return Line(number, None, error=f"not a JSON object but {type(row).__name__}")
    text, given = row.get("text"), row.get("id")
    name = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else None
    extra = {key: value for key, value in row.items() if key not in RESERVED}
    if "text" not in row:
        return Line(number, name, error="no `text`", extra=extra)
    if not isinstance(text, str):
        return Line(number, name, error=f"`text` is not a string but {type(text).__name__}", extra=extra)
    if not text.strip():
        return Line(number, name, error="`text` is empty", extra=extra)
    return Line(number, name if name is not None else doc_id_of("score", None, text), text, extra=extra)


def restrict(ruleset: ResolvedRuleset, filters: str | None) -> ResolvedRuleset:
    """`ruleset` with only the rules of the named filters (comma-separated), dedup aside.

    Raises:
        ConfigError: a name that the ruleset does not use.
    """
    if filters is None:
        return ruleset
    wanted = [name.strip() for name in filters.split(",") if name.strip()]
    used = {rule.prefix for rule in ruleset.rules}
    unknown = [
        unknown_name(f"filter of ruleset `{ruleset.name}`", n, used, "--filters") for n in wanted if n not in used
    ]
    if unknown or not wanted:
        raise ConfigError(*(unknown or [Problem("no-filters", "--filters names no filter", "--filters")]))
    rules = tuple(rule for rule in ruleset.rules if rule.prefix in wanted)
    return ResolvedRuleset(ruleset.name, ruleset.summary, rules, ruleset.sample, ruleset.source)


def write_results(results: Iterable[dict[str, Any]], out: TextIO, log: TextIO) -> Counter[str]:
    """Write every result; report the dead ones on `log`. Returns how many of each verdict."""
    counts: Counter[str] = Counter()
    for result in results:
        counts[result["verdict"]] += 1
        if result["verdict"] == DEAD:
            print(f"score: {result['error']}", file=log)
        out.write(json.dumps(result, ensure_ascii=False) + "\n")
    return counts
