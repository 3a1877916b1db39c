"""HTML extraction side by side on gold pages: precision, recall, F1 and pages per second of each extractor.

    python benchmarks/extraction.py ../shared/data/formats/trafilatura

Each gold page has strings that belong to its text and strings that do not (navigation, advertising, comments). A
string that belongs and is there is a true positive; one that does not and is there is a false positive. White space
is collapsed on both sides. Needs `pip install resiliparse` beside the base install. Pages are decoded once, before
the clock starts; each extractor runs three times over all pages and the run with the least processor time counts.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trafilatura
import zstandard
from resiliparse.extract.html2text import extract_plain_text

from curation.sources.html import decode

REPEATS = 3

Extract = Callable[[str], str]


def variants() -> dict[str, Extract]:
    """Every setting worth comparing, the shipped ones marked with a star."""

    def of_trafilatura(**settings: Any) -> Extract:
        return lambda page: trafilatura.extract(page, include_comments=False, **settings) or ""

    def of_resiliparse(**settings: Any) -> Extract:
        return lambda page: str(extract_plain_text(page, alt_texts=False, **settings))

    return {
        "trafilatura, fast *": of_trafilatura(fast=True),
        "trafilatura, fast, favour precision": of_trafilatura(fast=True, favor_precision=True),
        "trafilatura, default": of_trafilatura(),
        "trafilatura, favour precision": of_trafilatura(favor_precision=True),
        "trafilatura, favour recall": of_trafilatura(favor_recall=True),
        "resiliparse, main content, no comments *": of_resiliparse(main_content=True, comments=False),
        "resiliparse, main content": of_resiliparse(main_content=True),
        "resiliparse, all text": of_resiliparse(main_content=False),
    }


def gold(folder: Path) -> list[tuple[str, list[str], list[str]]]:
    """(page source, strings that must appear, strings that must not) of each gold page."""
    cases = json.loads((folder / "evaldata.json").read_text(encoding="utf-8"))
    packed = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader((folder / "pages.tar.zst").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(packed.read())) as tar:
        pages = {Path(member.name).name: _content(tar, member) for member in tar if member.isfile()}
    return [(decode(pages[case["file"]]), case["with"], case["without"]) for case in cases.values()]


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None
    return stream.read()


def measure(extract: Extract, pages: list[tuple[str, list[str], list[str]]]) -> dict[str, float]:
    """Precision, recall, F1, accuracy, empty pages and pages per second."""
    seconds = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        texts = [extract(page) for page, _, _ in pages]
        seconds = min(seconds, time.process_time() - start)
    found = missed = false = absent = 0
    for text, (_, wanted, unwanted) in zip(texts, pages, strict=True):
        flat = " ".join(text.split())
        hits = sum(" ".join(each.split()) in flat for each in wanted)
        noise = sum(" ".join(each.split()) in flat for each in unwanted)
        found, missed = found + hits, missed + len(wanted) - hits
        false, absent = false + noise, absent + len(unwanted) - noise
    precision, recall = found / (found + false), found / (found + missed)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "accuracy": (found + absent) / (found + missed + false + absent),
        "empty": sum(not text.strip() for text in texts),
        "pages_per_s": len(pages) / seconds,
    }


def main(folder: str) -> None:
    """Print the table."""
    pages = gold(Path(folder))
    wanted, unwanted = sum(len(w) for _, w, _ in pages), sum(len(u) for _, _, u in pages)
    print(f"{len(pages)} pages, {wanted} strings that belong, {unwanted} that do not\n")
    print("| extractor | precision | recall | F1 | accuracy | empty pages | pages/s |")
    print("|---|---|---|---|---|---|---|")
    for name, extract in variants().items():
        row = measure(extract, pages)
        print(
            f"| {name} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['accuracy']:.3f}"
            f" | {row['empty']:.0f} | {row['pages_per_s']:.0f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/formats/trafilatura")
