"""How time and memory grow: exact and near dedup and the rewritten arm, from 10,000 to 1,000,000 documents.

    python -m benchmarks.growth [--corpus ../shared/data/corpus/reddit.jsonl.zst] [--sizes 10000 100000 1000000]

Prints a table, the exponent of time over size, and writes docs/results/growth.svg. The documents are those of
`benchmarks.synthetic_corpus` (about 2 KB each); the whole command is measured, start-up included.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.process import Cost, run
from benchmarks.synthetic_corpus import make_documents, sentences, write

REPO = Path(__file__).resolve().parent.parent
OUT = REPO / "benchmarks" / "out" / "growth"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)


@dataclass(frozen=True)
class Point:
    documents: int
    cost: Cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpus", default=str(REPO.parent / "shared/data/corpus/reddit.jsonl.zst"))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--normalise", action="store_true", help="repair texts too, as a real job does")
    args = parser.parse_args()
    pool = sentences(args.corpus)
    measure(pool, 2000, args.normalise)  # compiles the kernels
    points = []
    for size in args.sizes:
        points.append(measure(pool, size, args.normalise))
        print_row(points[-1])
    print(f"\ntime grows as n^{exponent(points):.2f} between {points[0].documents:,} and {points[-1].documents:,}")
    (REPO / "docs/results/growth.svg").write_text(plot(points), encoding="utf-8")


def measure(pool: list[str], size: int, normalise: bool) -> Point:
    """One run over `size` documents."""
    shutil.rmtree(OUT, ignore_errors=True)
    write(make_documents(pool, size, seed=0), OUT / "input")
    job = OUT / "job.yaml"
    job.write_text(curate_job(OUT / "input", OUT / "runs", normalise))
    cost = run([sys.executable, "-m", "curation", "curate", str(job), "--quiet"])
    return Point(size, cost)


def curate_job(documents: Path, output: Path, normalise: bool) -> str:
    """The job file: exact and near dedup and the rewritten arm alone."""
    return (
        f"kind: curate\ninput: ['{documents}/*.parquet']\noutput: {output}\narms: [dedup_only]\n"
        f"normalise: {str(normalise).lower()}\n"
    )


def print_row(point: Point) -> None:
    if point.documents == SIZES[0]:
        print("| documents | wall s | documents/s | processor s | peak MB |\n|---:|---:|---:|---:|---:|")
    cost = point.cost
    print(
        f"| {point.documents:,} | {cost.wall_s:.1f} | {point.documents / cost.wall_s:,.0f} | {cost.cpu_s:.1f} | "
        f"{cost.peak_mb:,.0f} |",
        flush=True,
    )


def exponent(points: list[Point]) -> float:
    """Slope of log wall time over log size, least squares; start-up makes small sizes look slower than they are."""
    sizes = np.log([point.documents for point in points])
    slope, _ = np.polyfit(sizes, np.log([point.cost.wall_s for point in points]), 1)
    return float(slope)


def plot(points: list[Point]) -> str:
    """Two log-log panels: time, with the line of slope 1.1, and memory, with the limit of 4 GB."""
    panels = (
        ("wall time, s", [point.cost.wall_s for point in points], None),
        ("peak memory, MB", [point.cost.peak_mb for point in points], 4000.0),
    )
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 300" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="760" height="300" fill="white"/>')
    for index, (title, values, limit) in enumerate(panels):
        parts += _panel(60 + 380 * index, title, [point.documents for point in points], values, limit)
    return "\n".join([*parts, "</svg>\n"])


def _panel(left: int, title: str, sizes: list[int], values: list[float], limit: float | None) -> list[str]:
    width, top, height = 280, 30, 220
    low, high = min(values) / 2, max([*values, limit or 0.0]) * 2

    def x(size: float) -> float:
        return left + width * (np.log(size) - np.log(sizes[0])) / max(np.log(sizes[-1]) - np.log(sizes[0]), 1e-9)

    def y(value: float) -> float:
        return top + height * (1 - (np.log(value) - np.log(low)) / (np.log(high) - np.log(low)))

    parts = [f'<text x="{left}" y="18" font-weight="bold">{title}</text>']
    parts.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
    if limit is not None:
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y(limit):.1f}" y2="{y(limit):.1f}" stroke="#c33"/>')
    else:
        last = values[-1]
        first = last * (sizes[0] / sizes[-1]) ** 1.1
        start = max(first, low)
        begin = sizes[-1] * (start / last) ** (1 / 1.1)
        parts.append(
            f'<line x1="{x(begin):.1f}" y1="{y(start):.1f}" x2="{x(sizes[-1]):.1f}" y2="{y(last):.1f}" '
            'stroke="#bbb" stroke-dasharray="4"/>'
        )
    points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in zip(sizes, values, strict=True))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#246" stroke-width="2"/>')
    for size, value in zip(sizes, values, strict=True):
        parts.append(f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="#246"/>')
        parts.append(f'<text x="{x(size):.1f}" y="{y(value) - 8:.1f}" text-anchor="middle">{value:,.0f}</text>')
        parts.append(f'<text x="{x(size):.1f}" y="{top + height + 16}" text-anchor="middle">{size // 1000:,}k</text>')
    return parts


if __name__ == "__main__":
    main()
