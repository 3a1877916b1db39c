"""Small plots as SVG text, drawn with CSS classes so that they follow the page's light or dark colours. No scripts.

Each function returns one `<svg>` or HTML fragment; every label is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

Numbers = Sequence[float] | npt.NDArray[np.float64] | npt.NDArray[np.int64]
HEIGHT = 110
LEFT, BOTTOM, TOP = 8, 22, 6


def histogram(
    everything: Numbers, chosen: Numbers, ticks: Sequence[tuple[float, str]], title: str, log: bool = False
) -> str:
    """Bars of `chosen` in front of bars of `everything`, over bins of equal width.

    Args:
        ticks: (position in bins, label) on the horizontal axis.
        log: heights by log10(1 + n): rare bins stay visible.
    """
    width = 340
    size = [math.log10(1 + v) if log else float(v) for v in everything]
    front = [math.log10(1 + v) if log else float(v) for v in chosen]
    highest = max([*size, *front, 1e-9])
    step = (width - 2 * LEFT) / len(size)
    room = HEIGHT - BOTTOM - TOP
    bars = []
    for at, (back, mine) in enumerate(zip(size, front, strict=True)):
        for kind, value in (("all", back), ("arm", mine)):
            if value > 0:
                tall = room * value / highest
                bars.append(
                    f'<rect class="{kind}" x="{LEFT + at * step:.1f}" y="{TOP + room - tall:.1f}" '
                    f'width="{max(step - 1, 0.5):.1f}" height="{tall:.1f}"/>'
                )
    marks = "".join(_tick(LEFT + at * step, label) for at, label in ticks)
    return _svg(width, HEIGHT, title, "".join(bars) + _baseline(width) + marks)


def curve(points: Sequence[tuple[float, float]], threshold: float, title: str) -> str:
    """A line over [0, 1] x [0, 1] with a vertical line at `threshold`."""
    width, room = 340, HEIGHT - BOTTOM - TOP

    def at(x: float, y: float) -> str:
        return f"{LEFT + x * (width - 2 * LEFT):.1f},{TOP + room * (1 - y):.1f}"

    line = " ".join(at(x, y) for x, y in points)
    x = LEFT + threshold * (width - 2 * LEFT)
    marks = "".join(_tick(LEFT + v * (width - 2 * LEFT), f"{v:g}") for v in (0, 0.25, 0.5, 0.75, 1))
    rule = f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return _svg(width, HEIGHT, title, f'<polyline class="line" points="{line}"/>{rule}{_baseline(width)}{marks}')


def ratios(rows: Sequence[tuple[str, float | None, float | None, float | None]], title: str) -> str:
    """Ratios with intervals on a log axis from 1/8 to 8, a line at 1; what lies beyond ends in an arrow's place.

    Args:
        rows: (label, ratio, low, high); None where there is no number.
    """
    label_width, plot, line = 250, 420, 20
    height = TOP + line * len(rows) + BOTTOM

    def x(value: float) -> float:
        bounded = min(max(value, 1 / 8), 8.0)
        return label_width + plot * (math.log2(bounded) + 3) / 6

    parts = [f'<line class="rule" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>']
    for number, (label, ratio, low, high) in enumerate(rows):
        y = TOP + line * number + line / 2
        parts.append(f'<text x="{label_width - 8}" y="{y + 4:.1f}" class="end">{escape(label)}</text>')
        if ratio is None:
            parts.append(f'<text x="{x(1) + 6:.1f}" y="{y + 4:.1f}">no removals in the reference</text>')
            continue
        left, right = x(low if low is not None else 1 / 8), x(high if high is not None else 8)
        beyond = low is not None and low > 1
        kind = "over" if beyond else "under" if high is not None and high < 1 else "even"
        parts.append(f'<line class="{kind}" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="{kind}" cx="{x(ratio):.1f}" cy="{y:.1f}" r="4"/>')
        text = f"{ratio:.2f}"
        parts.append(f'<text x="{label_width + plot + 12}" y="{y + 4:.1f}">{text}</text>')
    names = {-3: "1/8", -2: "1/4", -1: "1/2", 0: "1", 1: "2", 2: "4", 3: "8"}
    parts += [_tick(x(2.0**power), name, height) for power, name in names.items()]
    return _svg(label_width + plot + 60, height, title, "".join(parts), "wide")


def stacked(parts: Sequence[tuple[str, int]], total: int) -> str:
    """One bar cut into verdicts, as HTML."""
    cells = "".join(
        f'<span class="{kind}" style="width:{100 * count / total:.3f}%" title="{kind} {count:,}"></span>'
        for kind, count in parts
        if count and total
    )
    return f'<span class="stack">{cells}</span>'


def bar(count: int, largest: int, kind: str = "drop") -> str:
    """One bar of a table cell, as HTML."""
    share = 100 * count / largest if largest else 0
    return f'<span class="bar"><span class="{kind}" style="width:{share:.2f}%"></span></span>'


def _tick(x: float, label: str, height: int = HEIGHT) -> str:
    return (
        f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{height - BOTTOM}" y2="{height - BOTTOM + 4}"/>'
        f'<text x="{x:.1f}" y="{height - 5}" class="mid">{escape(label)}</text>'
    )


def _baseline(width: int) -> str:
    return f'<line class="axis" x1="{LEFT}" x2="{width - LEFT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'


def _svg(width: int, height: int, title: str, inner: str, kind: str = "plot") -> str:
    label = escape(title, quote=True)
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{inner}</svg>'
