"""The context filter: use has spans, a hateful document has none; both are the ruleset's to act on."""

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
    }
    use, hateful = FILTER.judge(signals, FILTER.settings_type(), "context")
    assert (use.code, use.rows.tolist(), use.threshold) == ("context.use", [0], 0.7)
    assert (hateful.code, hateful.rows.tolist(), hateful.spans) == ("context.hateful", [1], None)


def test_the_policy_is_the_rulesets() -> None:
    curated, masked = (load_ruleset(name).rules[-1] for name in ("curated", "masked"))
    assert (curated.action_for("context.use"), curated.action_for("context.hateful")) == ("drop", "drop")
    assert (masked.action_for("context.use"), masked.action_for("context.hateful")) == ("mask", "drop")
    assert [load_ruleset(name).rules[0].filter.name for name in ("blocklist", "toxicity", "sentence")] == ["dedup"] * 3
