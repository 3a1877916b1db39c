"""The context filter: use has its terms, a hateful document its passages; both are the ruleset's to act on."""

import pyarrow as pa

from curation.document import SPANS
from curation.filters.base import FILTERS
from curation.ruleset import load_ruleset

FILTER = FILTERS.get("context")


def test_use_and_hateful_documents_are_separate_findings() -> None:
    spans = [[{"start": 4, "end": 9, "label": "slur"}], [], []]
    signals = {
        "context.max_use": pa.array([0.93, 0.1, 0.0], pa.float32()),
        "context.document_use": pa.array([0.2, 0.7, 0.1], pa.float32()),
        "context.use_spans": pa.array(spans, SPANS),
        "context.hateful_spans": pa.array([[], [{"start": 0, "end": 7, "label": "hateful"}], []], SPANS),
    }
    use, hateful = FILTER.judge(signals, FILTER.settings_type(), "context")
    assert (use.code, use.rows.tolist(), use.threshold) == ("context.use", [0], 0.7)
    assert (hateful.code, hateful.rows.tolist(), hateful.threshold) == ("context.hateful", [1], 0.6)
    assert [finding.spans.to_pylist() for finding in (use, hateful)] == [
        [spans[0]],
        [[{"start": 0, "end": 7, "label": "hateful"}]],
    ]


def test_the_policy_is_the_rulesets() -> None:
    curated, masked = (load_ruleset(name).rules[-1] for name in ("curated", "masked"))
    assert (curated.action_for("context.use"), curated.action_for("context.hateful")) == ("drop", "drop")
    assert (masked.action_for("context.use"), masked.action_for("context.hateful")) == ("mask", "drop")
    assert [load_ruleset(name).rules[0].filter.name for name in ("blocklist", "toxicity", "sentence")] == ["dedup"] * 3
