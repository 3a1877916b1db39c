"""Agreement against Krippendorff's worked example and the PyPI package of his name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.feedback.agreement import ordinal_alpha, pool_disagreement, units_of
from alignment.feedback.answers import Answer

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: 4 observers, 12 units, gaps.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)


def test_alpha_is_that_of_the_published_example() -> None:
    units = [[value for value in column if value] for column in zip(*OBSERVERS, strict=True)]
    alpha = ordinal_alpha(units)
    assert alpha is not None
    assert round(alpha, 3) == 0.815


@given(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=2, max_size=12))
def test_alpha_is_that_of_the_package(table: list[list[int]]) -> None:
    krippendorff = pytest.importorskip("krippendorff")
    units = [[value for value in row if value] for row in table]
    values = {value for unit in units if len(unit) > 1 for value in unit}
    ours = ordinal_alpha(units)
    if len(values) < 2:
        assert ours is None
        return
    data = np.array([[value or np.nan for value in row] for row in table], dtype=float).T
    theirs = krippendorff.alpha(reliability_data=data, level_of_measurement="ordinal")
    assert ours == pytest.approx(theirs)


def answer(who: str, pool: str, item: str, **body: object) -> Answer:
    return Answer(who, pool, item, "1", body)


def test_pairs_are_units_on_one_scale_whichever_side_the_response_was_shown_on() -> None:
    one = answer("a", "p", "i", shown=[0, 1], better=0, strength=0)
    other = answer("b", "p", "i", shown=[1, 0], better=0, strength=0)
    against = answer("c", "p", "i", shown=[1, 0], better=1, strength=3)
    assert units_of([one, other, against])["choices"] == {"i": [1, 1, 5]}


def test_pools_disagree_on_the_pairs_that_both_order_the_other_way() -> None:
    rows = [
        answer("a", "p", "i", shown=[0, 1, 2], ranks=[1, 2, 3], ratings=[1, 1, 1]),
        answer("b", "q", "i", shown=[0, 1, 2], ranks=[2, 1, 2], ratings=[1, 1, 1]),  # 0–1 opposed, 0–2 tied, 1–2 agreed
        answer("c", "q", "other", shown=[0, 1, 2], ranks=[3, 2, 1], ratings=[1, 1, 1]),
    ]
    assert pool_disagreement(rows) == [{"pools": ["p", "q"], "compared": 2, "opposed": 1, "share": 0.5}]
