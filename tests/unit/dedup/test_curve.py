"""How likely two documents are to be compared: the closed form, and what really happens."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.curve import curve, match_probability, midpoint
from curation.dedup.interop import to_datasketch
from curation.dedup.settings import DedupSettings
from curation.kernels.shingles import band_hashes, minhash
from curation.kernels.text_batch import TextBatch


@pytest.mark.parametrize(
    ("jaccard", "bands", "rows", "expected"),
    [
        (0.8, 1, 1, 0.8),
        (0.5, 2, 1, 0.75),  # 1 - 0.5 * 0.5
        (0.5, 1, 2, 0.25),
        # Leskovec et al., section 3.4.2, table of b = 20, r = 5: .006 and .9996.
        (0.2, 20, 5, float(1 - (1 - Fraction(1, 5) ** 5) ** 20)),
        (0.8, 20, 5, float(1 - (1 - Fraction(4, 5) ** 5) ** 20)),
        (0.85, 14, 8, float(1 - (1 - Fraction(17, 20) ** 8) ** 14)),
        (0.0, 14, 8, 0.0),
        (1.0, 14, 8, 1.0),
    ],
)
def test_the_probability_is_the_closed_form(jaccard: float, bands: int, rows: int, expected: float) -> None:
    assert match_probability(jaccard, bands, rows) == pytest.approx(expected, rel=1e-9)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 100), st.integers(1, 20))
def test_the_curve_rises_from_zero_to_one(a: float, b: float, bands: int, rows: int) -> None:
    low, high = sorted((a, b))

    assert 0.0 <= match_probability(low, bands, rows) <= match_probability(high, bands, rows) <= 1.0


def test_half_of_the_pairs_are_compared_near_the_midpoint() -> None:
    assert midpoint(14, 8) == pytest.approx(0.719, abs=5e-4)
    assert match_probability(midpoint(14, 8), 14, 8) == pytest.approx(1 - math.exp(-1), abs=0.03)


def test_the_curve_of_a_job_has_fifteen_points_from_0_3_to_1() -> None:
    points = curve(DedupSettings())

    assert [s for s, _ in points] == [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0]
    assert [p for _, p in points] == [match_probability(s, 14, 8) for s, _ in points]


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 5), (5, 3)])
def test_pairs_are_compared_as_often_as_the_curve_says(bands: int, rows: int) -> None:
    """Random pairs at several similarities; each share within four binomial standard deviations of the curve."""
    pairs = 500
    for shared in (60, 80, 90, 95):  # of 100 words each: Jaccard 0.43, 0.67, 0.82, 0.90
        texts = []
        for pair in range(pairs):
            words = [f"p{pair}s{shared}w{i}" for i in range(200 - shared)]
            texts += [" ".join(words[:100]), " ".join(words[100 - shared :])]
        keys = band_hashes(minhash(TextBatch.of(texts), 1, bands * rows, 1), bands, rows)
        compared = (keys[0::2] == keys[1::2]).any(axis=1).mean()
        expected = match_probability(shared / (200 - shared), bands, rows)
        assert abs(compared - expected) <= 4 * math.sqrt(expected * (1 - expected) / pairs) + 1 / pairs


def test_too_many_permutations_are_refused() -> None:
    with pytest.raises(ValueError, match="bands x rows = 8192 permutations; at most 4096"):
        DedupSettings(bands=128, rows=64)


def test_signatures_feed_datasketch_s_index_and_find_what_our_bands_find() -> None:
    """The same permutations and the same bands: the same candidates."""
    from datasketch import MinHash, MinHashLSH

    settings = DedupSettings(ngram=1)
    rng = np.random.default_rng(3)
    texts = []
    for group in range(60):
        words = [f"g{group}w{i}" for i in range(80)]
        for _ in range(3):
            texts.append(" ".join(w if rng.random() > 0.07 else f"x{rng.integers(10**9)}" for w in words))
    sketches = list(to_datasketch(pa.array(texts), settings))
    lsh = MinHashLSH(params=(settings.bands, settings.rows), num_perm=settings.permutations)
    for number, sketch in enumerate(sketches):
        assert isinstance(sketch, MinHash)
        lsh.insert(str(number), sketch)
    keys = band_hashes(minhash(TextBatch.of(texts), 1, settings.permutations, settings.seed), 14, 8)

    found = 0
    for number, sketch in enumerate(sketches):
        ours = np.flatnonzero((keys == keys[number]).any(axis=1)).tolist()
        assert sorted(int(key) for key in lsh.query(sketch)) == ours
        found += len(ours) - 1
    assert found > 60


def test_datasketch_estimates_the_same_similarity() -> None:
    texts = pa.array(["a b c d e f g h", "a b c d e f g i", "x y z"])
    signatures = minhash(TextBatch(texts), 2, 112, 1)
    first, second, third = to_datasketch(texts, DedupSettings(ngram=2))

    assert first.jaccard(second) == float((signatures[0] == signatures[1]).mean()) > 0.5
    assert first.jaccard(third) == 0.0
