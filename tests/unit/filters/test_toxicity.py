"""The toxicity filter: its threshold is reached at equality."""

import pyarrow as pa

from curation.document import SPANS
from curation.filters.base import FILTERS
from curation.settings import parse

FILTER = FILTERS.get("toxicity")


def test_documents_at_or_above_the_threshold_are_findings() -> None:
    settings = parse(FILTER.settings_type, {"max_toxicity": 0.5}, "here", "filter `toxicity`")
    signals = {
        "toxicity.toxicity": pa.array([0.49, 0.5, 0.9, None], pa.float32()),
        "toxicity.spans": pa.array([[]] * 4, SPANS),
    }
    (finding,) = FILTER.judge(signals, settings, "toxicity")
    assert (finding.code, finding.rows.tolist(), finding.threshold) == ("toxicity.toxic", [1, 2], 0.5)


def test_judging_needs_the_score_and_its_spans_only() -> None:
    assert FILTER.needed(FILTER.settings_type()) == {"toxicity", "spans"}
    assert FILTER.producer == "score"
