"""Figures of the experiment's report as SVG text: intervals row by row, and curves of several arms. No scripts.

Text keeps its size on a phone: what has to be read stands in HTML beside a figure, and curves are 340 units wide, about
the width of a phone's screen. Every label is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 30
ROW_WIDTH, ROW_HEIGHT = 320, 30
STYLES = 8  # colours and dashes defined in `report_css`; a ninth arm shares the first's

Point = tuple[float, float, float, float]  # x, mean, lowest, highest


def interval_row(
    effect: float, low: float | None, high: float | None, margin: float | None, kind: str, title: str
) -> str:
    """One interval about a zero line in the middle; each row has a scale of its own. Right is better.

    Args:
        effect, low, high: the gain and its bounds; a bound of None is open.
        margin: drawn as a dashed line on the side of the loss.
        kind: `over` (better), `under` (worse) or `even`, which sets the colour.
    """
    ends = [abs(value) for value in (effect, low, high, margin) if value is not None and math.isfinite(value)]
    reach = 1.15 * max([*ends, 1e-12])

    def x(value: float | None, otherwise: float) -> float:
        at = otherwise if value is None or not math.isfinite(value) else value
        return ROW_WIDTH * (0.5 + 0.5 * min(max(at / reach, -1.0), 1.0))

    middle = ROW_HEIGHT / 2
    parts = [f'<line class="zero" x1="{ROW_WIDTH / 2}" x2="{ROW_WIDTH / 2}" y1="2" y2="{ROW_HEIGHT - 2}"/>']
    if margin is not None:
        at = x(-margin, 0)
        parts.append(f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{ROW_HEIGHT - 4}"/>')
    first, last = x(low, -reach), x(high, reach)
    parts.append(f'<line class="{kind} whisker" x1="{first:.1f}" x2="{last:.1f}" y1="{middle}" y2="{middle}"/>')
    for bound, at in ((low, first), (high, last)):
        if bound is not None and math.isfinite(bound):
            parts.append(f'<line class="{kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{middle - 4}" y2="{middle + 4}"/>')
    parts.append(f'<circle class="{kind}" cx="{x(effect, 0):.1f}" cy="{middle}" r="5"/>')
    return _svg(ROW_WIDTH, ROW_HEIGHT, title, "".join(parts), "forest")


def curves(lines: Mapping[str, Sequence[Sequence[Point]]], x_unit: str, title: str, order: Sequence[str]) -> str:
    """Lines of several arms, each with a band from the lowest to the highest seed.

    The x-axis is logarithmic (of 1 + x over its least positive value) where x spans more than a factor of 16.

    Args:
        order: arms in the order that gives each its colour, the same in every figure.
    """
    every = [point for several in lines.values() for points in several for point in points]
    if not every:
        return ""
    place = _axis([point[0] for point in every])
    bottom, top = min(point[2] for point in every), max(point[3] for point in every)
    room = top - bottom

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - bottom) / room if room else 0.5)

    parts = [_frame([point[0] for point in every], place, bottom, top, x_unit)]
    for arm, points in [(arm, points) for arm, several in lines.items() for points in several]:
        style = order.index(arm) % STYLES if arm in order else 0
        band = [f"{place(p[0]):.1f},{y(p[3]):.1f}" for p in points]
        band += [f"{place(p[0]):.1f},{y(p[2]):.1f}" for p in reversed(points)]
        parts.append(f'<polygon class="band s{style}" points="{" ".join(band)}"/>')
        dots = " ".join(f"{place(p[0]):.1f},{y(p[1]):.1f}" for p in points)
        parts.append(f'<polyline class="series s{style}" points="{dots}"/>')
        parts += [f'<circle class="s{style}" cx="{place(p[0]):.1f}" cy="{y(p[1]):.1f}" r="2.5"/>' for p in points]
    return _svg(WIDTH, HEIGHT, title, "".join(parts), "plot")


def legend(arms: Sequence[str], order: Sequence[str]) -> str:
    """The arms with their colours, as HTML."""
    keys = "".join(
        f'<span class="key"><i class="s{order.index(arm) % STYLES}"></i>{escape(arm)}</span>'
        for arm in arms
        if arm in order
    )
    return f"<p>{keys}</p>"


def short(value: float) -> str:
    """A number for an axis: three digits, two below a thousandth, whole numbers in full."""
    if value == int(value) and abs(value) < 1e6:
        return f"{value:g}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.2g}"


class _axis:  # noqa: N801 (called like the function it is)
    """x → position, on a scale that suits the values."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low, self.high = min(values), max(values)
        positive = [value for value in values if value > 0]
        self.unit = min(positive) if positive else 1.0
        self.log = self.low >= 0 and self.high / self.unit > 16

    def __call__(self, value: float) -> float:
        low, high, at = (self._scaled(v) for v in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def _scaled(self, value: float) -> float:
        return math.log1p(value / self.unit) if self.log else value


def _frame(values: Sequence[float], place: _axis, bottom: float, top: float, x_unit: str) -> str:
    """Axes, ticks at measured x that do not touch each other, the lowest and highest value, and the unit."""
    floor = HEIGHT - BOTTOM
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>']
    taken = -math.inf
    distinct = sorted(set(values))
    for value in distinct:
        at = place(value)
        if at - taken < 40 and value != distinct[-1]:
            continue
        if value == distinct[-1] and at - taken < 40 and taken > -math.inf:
            break
        taken = at
        anchor = "end" if at > WIDTH - 24 else "mid"
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 4}"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 15}" class="{anchor}">{short(value)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 3}" class="mid">{escape(x_unit)}</text>')
    labels = ((top, TOP + 8.0), (bottom, float(floor))) if top > bottom else ((top, (TOP + floor) / 2 + 4),)
    parts += [f'<text x="{LEFT - 6}" y="{y:g}" class="end">{short(value)}</text>' for value, y in labels]
    return "".join(parts)


def _svg(width: int, height: int, title: str, inner: str, kind: str) -> str:
    label = escape(title, quote=True)
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{inner}</svg>'
