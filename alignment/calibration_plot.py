"""How often a reward model is right when it says how sure it is: the numbers, and the reliability plot as SVG.

The surer of the two probabilities of a pair, max(p, 1 − p) with p = σ(r_w − r_l), is its stated confidence, 0.5 to 1;
whether r_w > r_l says if it was right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

from alignment.statistics.rates import rate_interval
from classifiers.calibration import expected_calibration_error

F64 = npt.NDArray[np.float64]
BINS = 10  # over [0.5, 1]; 15 over [0, 1] are usual (Guo 2017, arXiv 1706.04599), of which pairs fill the upper half


@dataclass(frozen=True)
class Bin:
    """The pairs of one range of stated confidence."""

    low: float
    high: float
    pairs: int
    stated: float  # mean confidence
    right: float  # share of the pairs in which the preferred response has the higher reward
    right_low: float  # Wilson, 95 %
    right_high: float


@dataclass(frozen=True)
class PairReport:
    """A reward model on pairs it was not trained on."""

    pairs: int
    accuracy: float  # equal rewards count as half
    accuracy_low: float  # Wilson, 95 %; of the pairs as independent: those of one ranked list are not
    accuracy_high: float
    ece: float  # expected calibration error
    log_loss: float  # nats a pair; ln 2 = 0.693 says nothing
    bins: tuple[Bin, ...]

    def numbers(self) -> dict[str, float]:
        """One flat name a number, as `stage.json` has them; a bin as `calibration_0.50_0.55_stated` and so on."""
        plain = asdict(self)
        found = {name: float(plain[name]) for name in plain if name not in ("bins", "pairs")}
        found["held_out_pairs"] = float(self.pairs)
        for part in self.bins:
            start = f"calibration_{part.low:.2f}_{part.high:.2f}"
            found |= {f"{start}_pairs": float(part.pairs), f"{start}_stated": part.stated, f"{start}_right": part.right}
        return found

    def plain(self) -> dict[str, Any]:
        """For `calibration.json`."""
        return asdict(self)


def pair_report(better: F64, worse: F64) -> PairReport:
    """The report of rewards (pairs,) of preferred and other responses, at least one pair.

    Rewards are as the loss saw them, before normalisation: the gain would change what the model says about how sure it
    is.
    """
    difference = better - worse
    right = np.where(difference > 0, 1.0, np.where(difference < 0, 0.0, 0.5))
    confidence = expit(np.abs(difference))
    share = rate_interval(int(np.floor(right.sum())), len(right))
    place = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        here = place == k
        if count := int(here.sum()):
            inside = rate_interval(int(np.floor(right[here].sum())), count)
            edges = (0.5 + k / (2 * BINS), 0.5 + (k + 1) / (2 * BINS))
            mean = float(confidence[here].mean())
            bins.append(Bin(*edges, count, mean, float(right[here].mean()), inside.low, inside.high))
    return PairReport(
        pairs=len(right),
        accuracy=float(right.mean()),
        accuracy_low=share.low,
        accuracy_high=share.high,
        ece=expected_calibration_error(confidence, right, bins=2 * BINS),
        log_loss=float(-log_expit(difference).mean()),
        bins=tuple(bins),
    )


SIZE, LEFT, TOP, BARS = 300, 60, 40, 60  # page units: the square plot, its margins, the height of the counts below it
BLUE, GREY = "#2a6fb0", "#888"


def reliability_svg(report: PairReport, title: str) -> str:
    """A whole SVG file: share right over stated confidence with Wilson intervals, the counts of the bins below."""

    def at(stated: float, right: float) -> tuple[float, float]:
        return LEFT + SIZE * (stated - 0.5) * 2, TOP + SIZE * (1 - right)

    parts = [f'<rect x="{LEFT}" y="{TOP}" width="{SIZE}" height="{SIZE}" fill="none" stroke="{GREY}"/>']
    (x1, y1), (x2, y2) = at(0.5, 0.5), at(1, 1)
    parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{GREY}" stroke-dasharray="4 4"/>')
    for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        parts.append(_text(at(tick, 0)[0], TOP + SIZE + 15, f"{tick:g}", "middle"))
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(LEFT - 6, at(0.5, tick)[1] + 4, f"{tick:g}", "end"))
    for part in report.bins:
        x, y = at(part.stated, part.right)
        top, bottom = at(0.5, part.right_high)[1], at(0.5, part.right_low)[1]
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{BLUE}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{BLUE}"/>')
    parts += _counts(report.bins)
    middle = LEFT + SIZE / 2
    parts.append(_text(middle, TOP + SIZE + 32, "stated confidence", "middle"))
    parts.append(_text(middle, 16, title, "middle", "bold"))
    parts.append(_text(middle, 31, _summary(report), "middle"))
    height = TOP + SIZE + BARS + 60
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + SIZE + 30} {height}" font-family="sans-serif"'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    side = TOP + SIZE / 2
    turned = f'<text x="18" y="{side}" text-anchor="middle" transform="rotate(-90 18 {side})">share right</text>'
    return "\n".join([f'{head} font-size="12">', ground, turned, *parts, "</svg>\n"])


def _summary(report: PairReport) -> str:
    return (
        f"{report.pairs:,} held-out pairs, accuracy {report.accuracy:.3f} "
        f"[{report.accuracy_low:.3f}, {report.accuracy_high:.3f}], ECE {report.ece:.3f}"
    )


def _counts(bins: Sequence[Bin]) -> list[str]:
    highest = max(part.pairs for part in bins)
    ground, wide = TOP + SIZE + 40 + BARS, SIZE / BINS
    parts = []
    for part in bins:
        tall = BARS * part.pairs / highest
        x = LEFT + SIZE * (part.low - 0.5) * 2
        box = f'x="{x + 1:.1f}" y="{ground - tall:.1f}" width="{wide - 2:.1f}" height="{tall:.1f}"'
        parts.append(f'<rect {box} fill="{GREY}"/>')
        parts.append(_text(x + wide / 2, ground + 13, f"{part.pairs}", "middle"))
    return parts


def _text(x: float, y: float, text: str, anchor: str, weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {place}>{escape(text)}</text>"
