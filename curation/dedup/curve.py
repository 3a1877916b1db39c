"""How likely two documents of a given similarity are to be compared at all."""

from __future__ import annotations

from curation.dedup.settings import DedupSettings


def match_probability(jaccard: float, bands: int, rows: int) -> float:
    """P(two documents share a band) = 1 - (1 - jaccard**rows)**bands.

    Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.2.
    """
    probability: float = 1.0 - (1.0 - jaccard**rows) ** bands
    return probability


def midpoint(bands: int, rows: int) -> float:
    """The similarity where the curve is steepest, about (1 / bands)**(1 / rows) (ibid.)."""
    similarity: float = (1.0 / bands) ** (1.0 / rows)
    return similarity


def curve(settings: DedupSettings) -> list[tuple[float, float]]:
    """(jaccard, probability of being compared) from 0.3 to 1.0 in steps of 0.05."""
    points = [round(0.3 + 0.05 * step, 2) for step in range(15)]
    return [(s, match_probability(s, settings.bands, settings.rows)) for s in points]
