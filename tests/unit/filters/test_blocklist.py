"""The blocklist filter: one word too many, whatever the context."""

import pyarrow as pa

from curation.document import SPANS
from curation.filters.base import FILTERS
from curation.settings import parse

FILTER = FILTERS.get("blocklist")


def test_a_hit_is_a_finding_with_its_spans_and_null_is_none() -> None:
    settings = parse(FILTER.settings_type, {}, "here", "filter `blocklist`")
    spans = [[{"start": 4, "end": 8, "label": "blocklist"}], [], None]
    signals = {"blocklist.hits": pa.array([1, 0, None], pa.int64()), "blocklist.spans": pa.array(spans, SPANS)}
    (finding,) = FILTER.judge(signals, settings, "blocklist")
    assert (finding.code, finding.signal, finding.threshold) == ("blocklist.listed_word", "blocklist.hits", 0)
    assert (finding.rows.tolist(), finding.values.tolist()) == ([0], [1.0])
    assert finding.spans is not None
    assert finding.spans.to_pylist() == [spans[0]]


def test_a_higher_limit_lets_single_hits_pass() -> None:
    settings = parse(FILTER.settings_type, {"max_hits": 2}, "here", "filter `blocklist`")
    signals = {"b.hits": pa.array([2, 3]), "b.spans": pa.array([[], []], SPANS)}
    assert [f.rows.tolist() for f in FILTER.judge(signals, settings, "b")] == [[1]]
