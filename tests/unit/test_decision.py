"""decide(): every verdict, every reason, in the documented order of precedence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.decision import decide
from curation.document import SPANS
from curation.filters.base import Finding
from curation.ruleset import ResolvedRuleset, load_ruleset

# What the rules of these tests find: `dedup` has no spans, `blocklist` and `context.use` have.
DEDUP: dict[str, Any] = {"filter": "dedup"}
CLEAN = {
    "dedup.exact": 0.0,
    "dedup.near": 0.0,
    "blocklist.hits": 0,
    "blocklist.spans": [],
    "toxicity.toxicity": 0.0,
    "toxicity.spans": [],
    "context.max_use": 0.0,
    "context.use_spans": [],
    "context.document_use": 0.0,
    "context.hateful_spans": [],
}


def ruleset(*rules: dict[str, Any]) -> ResolvedRuleset:
    return load_ruleset({"name": "test", "rules": list(rules)})


def columns(*documents: dict[str, Any]) -> dict[str, pa.Array]:
    """Signal columns of documents that are clean but for what is given."""
    rows = [{**CLEAN, **document} for document in documents]
    types = {name: pa.float64() for name in CLEAN} | {"blocklist.hits": pa.int64()}
    types |= {name: SPANS for name in CLEAN if name.endswith("spans")}
    return {name: pa.array([row[name] for row in rows], types[name]) for name in CLEAN}


def span(start: int, end: int, label: str | None = None) -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


def reason(code: str, signal: str, value: float, threshold: float, at: tuple[int, int] | None = None) -> dict[str, Any]:
    start, end = at or (None, None)
    return {"code": code, "signal": signal, "value": value, "threshold": threshold, "start": start, "end": end}


def outcome(
    rules: ResolvedRuleset, signals: dict[str, pa.Array], texts: list[str], sampled: Sequence[Finding] = ()
) -> list[tuple[str, list[dict[str, Any]], str | None]]:
    """(verdict, reasons, redacted text or None) of every document."""
    decisions = decide(signals, pa.array(texts, pa.string()), rules, sampled)
    assert set(decisions.redacted) == {
        i for i, verdict in enumerate(decisions.verdict_names().to_pylist()) if verdict == "redact"
    }
    return list(
        zip(
            decisions.verdict_names().to_pylist(),
            decisions.reasons.to_pylist(),
            [decisions.redacted.get(i) for i in range(len(texts))],
            strict=True,
        )
    )


LISTED = reason("blocklist.listed_word", "blocklist.hits", 1.0, 0.0, (2, 5))
EXACT = reason("dedup.exact_duplicate", "dedup.exact", 1.0, 1.0)
TOXIC = reason("toxicity.toxic", "toxicity.toxicity", 0.75, 0.5, (0, 3))
HATEFUL = reason("context.hateful", "context.document_use", 0.75, 0.6)
ONE_HIT = {"blocklist.hits": 1, "blocklist.spans": [span(2, 5)]}
ONE_TOXIC = {"toxicity.toxicity": 0.75, "toxicity.spans": [span(0, 3)]}


def test_a_document_that_no_rule_finds_is_kept_without_a_reason() -> None:
    assert outcome(ruleset(DEDUP, {"filter": "blocklist"}), columns({}), ["a text"]) == [("keep", [], None)]


def test_a_ruleset_without_rules_keeps_everything() -> None:
    assert outcome(ruleset(), columns({"dedup.exact": 1.0}), ["a text"]) == [("keep", [], None)]


def test_an_empty_batch_has_no_decisions() -> None:
    rules = ruleset(DEDUP, {"filter": "context", "action": "mask"})

    assert outcome(rules, columns(), []) == []


def test_a_finding_is_dropped_masked_cut_quarantined_or_only_flagged_as_its_action_says() -> None:
    expected = {
        "drop": ("drop", None),
        "quarantine": ("quarantine", None),
        "mask": ("redact", "a [MASKED] c."),
        "cut": ("redact", "a  c."),
        "drop_sentence": ("redact", "Other."),
        "keep": ("keep", None),
    }
    for action, (verdict, text) in expected.items():
        rules = ruleset({"filter": "blocklist", "action": action})
        assert outcome(rules, columns(ONE_HIT), ["a bad c." if action != "drop_sentence" else "a bad c. Other."]) == [
            (verdict, [LISTED], text)
        ]


def test_drop_wins_over_quarantine_over_redact_over_keep_and_every_reason_is_kept() -> None:
    everything = {**ONE_HIT, **ONE_TOXIC, "context.document_use": 0.75, "dedup.exact": 1.0}
    keep = {"filter": "blocklist", "action": "keep"}
    redact = {"filter": "toxicity", "action": "mask"}
    quarantine = {"filter": "context", "action": "quarantine"}
    drop = {"filter": "dedup", "action": "drop"}

    def verdict(*rules: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]], str | None]]:
        return outcome(ruleset(*rules), columns(everything), ["a bad c"])

    assert verdict(keep, redact, quarantine, drop) == [("drop", [LISTED, TOXIC, HATEFUL, EXACT], None)]
    assert verdict(drop, quarantine, redact, keep) == [("drop", [EXACT, HATEFUL, TOXIC, LISTED], None)]
    assert verdict(keep, redact, quarantine) == [("quarantine", [LISTED, TOXIC, HATEFUL], None)]
    assert verdict(keep, redact) == [("redact", [LISTED, TOXIC], "[MASKED]ad c")]
    assert verdict(keep) == [("keep", [LISTED], None)]


def test_documents_of_a_batch_do_not_touch_each_other() -> None:
    rules = ruleset(DEDUP, {"filter": "blocklist", "action": "mask"}, {"filter": "toxicity", "action": "quarantine"})
    signals = columns({}, ONE_HIT, {"dedup.exact": 1.0, **ONE_HIT}, ONE_TOXIC, {})

    assert outcome(rules, signals, ["a bad c"] * 5) == [
        ("keep", [], None),
        ("redact", [LISTED], "a [MASKED] c"),
        ("drop", [EXACT, LISTED], None),
        ("quarantine", [TOXIC], None),
        ("keep", [], None),
    ]


def test_one_code_may_have_another_action_than_its_rule() -> None:
    settings = {"max_use": 0.5, "max_document_use": 0.6}
    rules = ruleset({"filter": "context", "action": "drop", "actions": {"use": "mask"}, "settings": settings})
    used = {"context.max_use": 0.75, "context.use_spans": [span(2, 5, "slur")]}
    use = reason("context.use", "context.max_use", 0.75, 0.5, (2, 5))

    assert outcome(rules, columns(used, {**used, "context.document_use": 0.75}), ["a bad c"] * 2) == [
        ("redact", [use], "a [MASKED] c"),
        ("drop", [use, HATEFUL], None),
    ]


def test_every_span_is_a_reason_of_its_own() -> None:
    hits = {"blocklist.hits": 2, "blocklist.spans": [span(2, 5), span(6, 9)]}
    reasons = [reason("blocklist.listed_word", "blocklist.hits", 2.0, 0.0, at) for at in ((2, 5), (6, 9))]

    assert outcome(ruleset({"filter": "blocklist", "action": "mask"}), columns(hits), ["a bad bad c"]) == [
        ("redact", reasons, "a [MASKED] [MASKED] c")
    ]


def test_documents_with_one_span_with_several_and_with_none_keep_their_own() -> None:
    rules = ruleset({"filter": "blocklist", "action": "keep"})
    several = {"blocklist.hits": 2, "blocklist.spans": [span(0, 1), span(1, 2)]}

    def listed(value: float, at: tuple[int, int] | None) -> dict[str, Any]:
        return reason("blocklist.listed_word", "blocklist.hits", value, 0.0, at)

    assert outcome(rules, columns({"blocklist.hits": 3}, several, {"blocklist.hits": 4}, ONE_HIT), ["text"] * 4) == [
        ("keep", [listed(3.0, None)], None),
        ("keep", [listed(2.0, (0, 1)), listed(2.0, (1, 2))], None),
        ("keep", [listed(4.0, None)], None),
        ("keep", [listed(1.0, (2, 5))], None),
    ]


@pytest.mark.parametrize("spans", [[], None])
@pytest.mark.parametrize("action", ["mask", "cut", "drop_sentence"])
def test_what_should_be_taken_out_but_has_no_place_is_dropped_not_kept(action: str, spans: list[Any] | None) -> None:
    """An empty list used to keep the document as it stood; a missing one used to stop the run."""
    signals = columns({"blocklist.hits": 3, "blocklist.spans": spans})
    listed = reason("blocklist.listed_word", "blocklist.hits", 3.0, 0.0)

    assert outcome(ruleset({"filter": "blocklist", "action": action}), signals, ["text"]) == [("drop", [listed], None)]


@pytest.mark.parametrize("action", ["mask", "cut", "drop_sentence"])
def test_a_finding_about_the_whole_text_cannot_be_redacted_and_drops(action: str) -> None:
    rules = ruleset({"filter": "dedup", "action": action})

    assert outcome(rules, columns({"dedup.exact": 1.0}), ["text"]) == [("drop", [EXACT], None)]


def test_a_document_of_which_redaction_leaves_nothing_is_dropped_and_says_so() -> None:
    rules = ruleset({"filter": "toxicity", "action": "cut"})
    nothing = reason("redaction.nothing_left", "redaction.nothing_left", 0.0, 1.0)

    assert outcome(rules, columns(ONE_TOXIC, ONE_TOXIC), ["bad", "bad good"]) == [
        ("drop", [TOXIC, nothing], None),
        ("redact", [TOXIC], "good"),
    ]


def test_a_document_that_a_classifier_failed_on_is_quarantined_never_kept() -> None:
    rules = ruleset({"filter": "toxicity", "action": "drop"}, {"filter": "blocklist", "action": "mask"})
    failed = {"toxicity.toxicity": None, "toxicity.spans": None}
    missing = reason("toxicity.failed", "toxicity.failed", 1.0, 0.0)

    assert outcome(rules, columns(failed, {**failed, **ONE_HIT}, {}), ["a bad c"] * 3) == [
        ("quarantine", [missing], None),
        ("quarantine", [LISTED, missing], None),
        ("keep", [], None),
    ]


def test_a_missing_score_of_a_document_that_is_dropped_anyway_is_no_failure() -> None:
    rules = ruleset(DEDUP, {"filter": "toxicity", "action": "drop"})
    copy = {"dedup.exact": 1.0, "toxicity.toxicity": None, "toxicity.spans": None}

    assert outcome(rules, columns(copy), ["text"]) == [("drop", [EXACT], None)]


def test_a_missing_signal_of_a_measured_filter_fails_no_bound() -> None:
    assert outcome(ruleset(DEDUP), columns({"dedup.exact": None, "dedup.near": None}), ["text"]) == [("keep", [], None)]


def test_an_alias_names_the_signals_and_the_reasons() -> None:
    rules = ruleset({"filter": "toxicity", "as": "strict", "settings": {"max_toxicity": 0.25}})
    signals = {name.replace("toxicity.", "strict.", 1): array for name, array in columns(ONE_TOXIC).items()}

    assert outcome(rules, signals, ["text"]) == [
        ("drop", [reason("strict.toxic", "strict.toxicity", 0.75, 0.25, (0, 3))], None)
    ]


def test_a_signal_that_nobody_provided_is_our_bug_and_not_silently_clean() -> None:
    signals = columns({})
    del signals["dedup.exact"]

    with pytest.raises(KeyError, match=r"dedup\.exact"):
        decide(signals, pa.array(["text"]), ruleset(DEDUP))


def drawn(*rows: int, threshold: float = 0.5) -> Finding:
    return Finding(
        "sample.matched_removal", "sample.unit_hash", threshold, np.array(rows, np.int64), np.full(len(rows), 0.25)
    )


def test_documents_drawn_at_random_are_dropped_unless_a_rule_drops_them_already() -> None:
    draw = reason("sample.matched_removal", "sample.unit_hash", 0.25, 0.5)
    signals = columns({}, {"dedup.exact": 1.0}, {})

    assert outcome(ruleset(DEDUP), signals, ["text"] * 3, [drawn(0, 1)]) == [
        ("drop", [draw], None),
        ("drop", [EXACT], None),
        ("keep", [], None),
    ]


def test_documents_drawn_from_two_sources_name_the_threshold_of_their_own() -> None:
    """Each used to name the highest threshold of whatever stood in the same batch."""
    signals = columns({}, {})
    reasons = [reason("sample.matched_removal", "sample.unit_hash", 0.25, threshold) for threshold in (0.5, 0.75)]

    assert outcome(ruleset(DEDUP), signals, ["text"] * 2, [drawn(0), drawn(1, threshold=0.75)]) == [
        ("drop", [reasons[0]], None),
        ("drop", [reasons[1]], None),
    ]


def test_offsets_of_a_sliced_batch_are_its_own() -> None:
    signals = {name: array.slice(1, 1) for name, array in columns(ONE_TOXIC, ONE_HIT, ONE_TOXIC).items()}
    rules = ruleset({"filter": "blocklist", "action": "mask"}, {"filter": "toxicity", "action": "mask"})
    texts = pa.array(["first", "a bad c", "last"]).slice(1, 1)

    decisions = decide(signals, texts, rules)

    assert decisions.reasons.to_pylist() == [[LISTED]]
    assert decisions.redacted == {0: "a [MASKED] c"}
