"""Small plots as self-contained SVG text: a page, frames, lines and marks in data coordinates. No scripts, no fonts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


def page(width: int, height: int, parts: Sequence[str]) -> str:
    """A whole SVG file on a white ground."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
    return "\n".join([f'{head}font-size="12">', f'<rect width="{width}" height="{height}" fill="white"/>', *parts,
                      "</svg>\n"])  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """A square over [0, 1] x [0, 1] at (left, top), `size` wide and high, in page units."""

    left: float
    top: float
    size: float

    def at(self, point: Point) -> str:
        """`x,y` of a point in page units."""
        return f"{self.left + self.size * point[0]:.1f},{self.top + self.size * (1 - point[1]):.1f}"

    def frame(self, title: str, across: str, up: str) -> list[str]:
        """The frame with its title, the names of both axes and ticks at quarters."""
        bottom, middle = self.top + self.size, self.left + self.size / 2
        height, side = self.top + self.size / 2, self.left - 34
        turn = f'transform="rotate(-90 {side} {height})"'
        box = f'width="{self.size}" height="{self.size}" fill="none" stroke="#999"'
        parts = [
            f'<text x="{self.left}" y="{self.top - 10}" font-weight="bold">{escape(title)}</text>',
            f'<rect x="{self.left}" y="{self.top}" {box}/>',
            f'<text x="{middle}" y="{bottom + 32}" text-anchor="middle">{escape(across)}</text>',
            f'<text x="{side}" y="{height}" text-anchor="middle" {turn}>{escape(up)}</text>',
        ]
        for tick in (0, 0.25, 0.5, 0.75, 1):
            x, y = self.left + self.size * tick, bottom - self.size * tick
            parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" fill="#555">{tick:g}</text>')
            parts.append(f'<text x="{self.left - 5}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{tick:g}</text>')
        return parts

    def line(self, points: Sequence[Point], colour: str, dashes: str = "") -> str:
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        joined = " ".join(self.at(point) for point in points)
        return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'

    def mark(self, point: Point, low: float, high: float, colour: str, radius: float = 3) -> list[str]:
        """A dot with a vertical bar from `low` to `high`."""
        x, y = self.at(point).split(",")
        top, bottom = (self.at((point[0], value)).split(",")[1] for value in (high, low))
        return [
            f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" stroke="{colour}"/>',
            f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{colour}"/>',
        ]

    def label(self, row: int, text: str, colour: str) -> str:
        """A line of the legend, from the lower right corner up."""
        x, y = self.left + self.size - 8, self.top + self.size - 10 - 16 * row
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="end" fill="{colour}">{escape(text)}</text>'
