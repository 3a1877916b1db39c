"""The sentence filter: every toxic sentence is a span to cut."""

import pyarrow as pa

from curation.document import SPANS
from curation.filters.base import FILTERS

FILTER = FILTERS.get("sentence")


def test_one_toxic_sentence_is_a_finding_with_the_spans_to_cut() -> None:
    spans = [[{"start": 0, "end": 9, "label": "toxic_sentence"}], []]
    signals = {"sentence.toxic_sentences": pa.array([1, 0]), "sentence.spans": pa.array(spans, SPANS)}
    (finding,) = FILTER.judge(signals, FILTER.settings_type(), "sentence")
    assert (finding.code, finding.rows.tolist(), finding.values.tolist()) == ("sentence.toxic_sentence", [0], [1.0])
    assert finding.spans is not None
    assert finding.spans.to_pylist() == [spans[0]]
